"""1 GiB through a relay, from a file into /dev/null: netkit, socat and ncat in the middle, netkit at both ends."""

import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import IO

from tests.benchmarks.bulk import CLIENTS, ROUNDS, SERVERS, SIZE, await_listener, free_port
from tests.benchmarks.measure import NETKIT, Cost, available, medians, show, start, timed

Relay = Callable[[str, str], list[str]]
"""Returns what to run for a port to listen on and one to connect to."""

RELAYS: dict[str, Relay] = {
    "netkit": lambda near, far: [*NETKIT, "relay", "-q", f"127.0.0.1:{near}", f"127.0.0.1:{far}", "--once"],
    "socat": lambda near, far: [
        *("socat", "-b", "262144", f"TCP-LISTEN:{near},bind=127.0.0.1,reuseaddr", f"TCP:127.0.0.1:{far}")
    ],
    "ncat": lambda near, far: ["ncat", "-l", "127.0.0.1", near, "--sh-exec", f"exec ncat 127.0.0.1 {far}"],
}


def transfer(relay: Relay, data: IO[bytes]) -> dict[str, Cost]:
    """Send the file once; return what it took until the receiver ended, and what the relay cost."""
    near, far = free_port(), free_port()
    data.seek(0)
    receiver = start(SERVERS["netkit"](far), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    await_listener(far)
    middle = start(relay(near, far), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    await_listener(near)
    since = time.perf_counter()
    sender = start(CLIENTS["netkit"](near), stdin=data, stdout=subprocess.DEVNULL)
    costs = {"receive": timed(receiver, since), "relay": timed(middle, since)}
    timed(sender, since)
    return costs


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryFile() as data:
        for _ in range(SIZE >> 20):
            data.write(bytes(1 << 20))
        data.flush()

        def run(tool: str) -> Callable[[], dict[str, Cost]]:
            return lambda: transfer(RELAYS[tool], data)

        results = medians(ROUNDS, {tool: run(tool) for tool in available(RELAYS)})
    best = results["netkit"]["receive"].wall
    rows = [
        (tool, f"{cost['receive'].wall:.2f}", f"{cost['receive'].wall / best:.2f}", f"{cost['relay'].cpu:.2f}")
        for tool, cost in results.items()
    ]
    heads = ("", "wall s", "ratio to netkit", "CPU s of the relay")
    show(f"1 GiB file -> TCP -> relay -> TCP -> /dev/null, medians of {ROUNDS}, interleaved", heads, rows)
