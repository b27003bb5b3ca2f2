"""1 GiB through TLS, from a file into /dev/null; each tool is client and server of itself."""

import tempfile
from pathlib import Path

import trustme

from tests.benchmarks.bulk import Argv, compare
from tests.benchmarks.measure import NETKIT


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        ca, cert, key, both = (str(Path(folder) / name) for name in ("ca.pem", "cert.pem", "key.pem", "both.pem"))
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        authority.cert_pem.write_to_path(ca)
        issued.cert_chain_pems[0].write_to_path(cert)
        issued.private_key_pem.write_to_path(key)
        issued.private_key_and_cert_chain_pem.write_to_path(both)
        clients: dict[str, Argv] = {
            "netkit": lambda port: [*NETKIT, "connect", f"tls:127.0.0.1:{port}", "--cafile", ca],
            "ncat": lambda port: ["ncat", "--ssl", "--send-only", "127.0.0.1", port],
            "socat": lambda port: ["socat", "-u", "-b", "262144", "-", f"OPENSSL:127.0.0.1:{port},cafile={ca}"],
        }
        listening = f"bind=127.0.0.1,reuseaddr,cert={both},verify=0"
        servers: dict[str, Argv] = {
            "netkit": lambda port: [*NETKIT, "listen", "-q", f"tls:{port}", "--cert", cert, "--key", key],
            "ncat": lambda port: [
                *("ncat", "-l", "--ssl", "--ssl-cert", cert, "--ssl-key", key, "--recv-only", "127.0.0.1", port)
            ],
            "socat": lambda port: ["socat", "-u", "-b", "262144", f"OPENSSL-LISTEN:{port},{listening}", "-"],
        }
        compare("file -> TLS -> /dev/null", clients, servers, piped=False)
