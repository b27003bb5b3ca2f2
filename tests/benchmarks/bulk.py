"""1 GiB over loopback: a file into /dev/null, and a pipe into a pipe; each tool is client and server of itself."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import IO

from tests.benchmarks.measure import NETKIT, Cost, available, medians, show, start, timed

SIZE = 1 << 30
ROUNDS = 3

Argv = Callable[[str], list[str]]
"""Returns what to run for a port."""

CLIENTS: dict[str, Argv] = {
    "netkit": lambda port: [*NETKIT, "connect", "127.0.0.1", port],
    "nc": lambda port: ["nc", "-N", "127.0.0.1", port],
    "ncat": lambda port: ["ncat", "--send-only", "127.0.0.1", port],
    "socat": lambda port: ["socat", "-u", "-b", "262144", "-", f"TCP:127.0.0.1:{port}"],
}
SERVERS: dict[str, Argv] = {
    "netkit": lambda port: [*NETKIT, "listen", "-q", port],
    "nc": lambda port: ["nc", "-l", "127.0.0.1", port],
    "ncat": lambda port: ["ncat", "-l", "--recv-only", "127.0.0.1", port],
    "socat": lambda port: ["socat", "-u", "-b", "262144", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr", "-"],
}


def free_port() -> str:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def await_listener(port: str) -> None:
    """Return once somebody listens, without connecting: a one-shot server would take that for its client."""
    wanted = f":{int(port):04X}"
    while True:
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(table, encoding="ascii") as rows:
                for row in rows:
                    fields = row.split()
                    if fields[1].endswith(wanted) and fields[3] == "0A":
                        return


def transfer(client: Argv, server: Argv, data: IO[bytes], piped: bool) -> dict[str, Cost]:
    """Send the file once; return what both ends cost."""
    port = free_port()
    data.seek(0)
    ends = []
    if piped:
        drain = start(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        feed = start(["cat"], stdin=data, stdout=subprocess.PIPE)
        ends = [drain, feed]
        sink, source = drain.stdin, feed.stdout
    else:
        sink, source = subprocess.DEVNULL, data  # type: ignore[assignment]
    receiver = start(server(port), stdin=subprocess.DEVNULL, stdout=sink)
    await_listener(port)
    since = time.perf_counter()
    sender = start(client(port), stdin=source, stdout=subprocess.DEVNULL)
    for end in ends:
        for pipe in (end.stdin, end.stdout):
            if pipe is not None:
                pipe.close()
    # ncat's sender leaves TLS without close_notify, and its receiver may call that a failure.
    codes = (0, 1) if server(port)[0] == "ncat" else (0,)
    costs = {"send": timed(sender, since), "receive": timed(receiver, since, codes)}
    for end in ends:
        end.wait()
    return costs


def compare(title: str, clients: dict[str, Argv], servers: dict[str, Argv], piped: bool) -> None:
    """Let each tool be client and server of itself, in turn, and print the table."""
    with tempfile.TemporaryFile() as data:
        for _ in range(SIZE >> 20):
            data.write(bytes(1 << 20))
        data.flush()

        def run(tool: str) -> Callable[[], dict[str, Cost]]:
            return lambda: transfer(clients[tool], servers[tool], data, piped)

        results = medians(ROUNDS, {tool: run(tool) for tool in available(clients)})
    best = results["netkit"]["receive"].wall
    rows = [
        (
            tool,
            f"{roles['receive'].wall:.2f}",
            f"{roles['receive'].wall / best:.2f}",
            f"{roles['send'].cpu:.2f}",
            f"{roles['receive'].cpu:.2f}",
        )
        for tool, roles in results.items()
    ]
    heads = ("", "wall s", "ratio to netkit", "CPU s sending", "CPU s receiving")
    show(f"1 GiB {title}, medians of {ROUNDS}, interleaved", heads, rows)


def main() -> None:
    """Measure and print."""
    compare("file -> TCP -> /dev/null", CLIENTS, SERVERS, piped=False)
    compare("pipe -> TCP -> pipe", CLIENTS, SERVERS, piped=True)
