"""Bulk data over TLS, from a file to /dev/null; each tool is client and server.

Two sizes are measured, as their difference is without the cost of start-up.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.bulk import Argv, between
from tests.benchmarks.data import fitting, in_words
from tests.benchmarks.measure import NETKIT, Scale, Work
from tests.support.certificates import Pki


def measure(scale: Scale) -> Iterator[Work]:
    """Measure both sizes, with one certificate for all tools."""
    with tempfile.TemporaryDirectory() as folder:
        pki = Pki(Path(folder))
        ca, (cert, key, both) = pki.ca, pki.good
        clients: dict[str, Argv] = {
            "netkit": lambda port: [*NETKIT, "connect", f"tls:127.0.0.1:{port}", "--cafile", ca, "--send-only"],
            "socat": lambda port: ["socat", "-u", "-b", "262144", "-", f"OPENSSL:127.0.0.1:{port},cafile={ca}"],
            "ncat": lambda port: ["ncat", "--ssl", "--send-only", "127.0.0.1", port],
        }
        listening = f"bind=127.0.0.1,reuseaddr,cert={both},verify=0"
        servers: dict[str, Argv] = {
            "netkit": lambda port: [*(*NETKIT, "listen", "-q", f"tls:127.0.0.1:{port}", "--cert", cert, "--key", key)],
            "socat": lambda port: ["socat", "-u", "-b", "262144", f"OPENSSL-LISTEN:{port},{listening}", "-"],
            "ncat": lambda port: [
                *("ncat", "-l", "--ssl", "--ssl-cert", cert, "--ssl-key", key, "--recv-only", "127.0.0.1", port)
            ],
        }
        for size in (fitting(scale.secured), fitting(4 * scale.secured)):
            yield between(f"{in_words(size)}, file to TLS to /dev/null", scale.rounds, size, (clients, servers))
