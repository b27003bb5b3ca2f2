"""Bulk data over loopback, from a file to /dev/null and from a pipe to a pipe; each tool is client and server."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import IO

from tests.benchmarks.data import fitting, in_words, zeros
from tests.benchmarks.measure import NETKIT, C, Figures, Scale, Work, available, compare, program, start, timed
from tests.support.partners import await_listener
from tests.support.peers import free_port

Argv = Callable[[str], list[str]]
"""What to run for a port."""

CLIENTS: dict[str, Argv] = {
    "netkit": lambda port: [*NETKIT, "connect", "127.0.0.1", port],
    C: lambda port: [program("minimal") or "", "send", port],
    "socat": lambda port: ["socat", "-u", "-b", "262144", "-", f"TCP:127.0.0.1:{port}"],
    "nc": lambda port: ["nc", "-N", "127.0.0.1", port],
    "ncat": lambda port: ["ncat", "--send-only", "127.0.0.1", port],
}
SERVERS: dict[str, Argv] = {
    "netkit": lambda port: [*NETKIT, "listen", "-q", f"127.0.0.1:{port}"],
    C: lambda port: [program("minimal") or "", "receive", port],
    "socat": lambda port: ["socat", "-u", "-b", "262144", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr", "-"],
    "nc": lambda port: ["nc", "-l", "127.0.0.1", port],
    "ncat": lambda port: ["ncat", "-l", "--recv-only", "127.0.0.1", port],
}


def transfer(client: Argv, server: Argv, data: IO[bytes], piped: bool) -> Figures:
    """Send the file once, and return the time and CPU of both ends, and of cat for the pipes."""
    port = str(free_port())
    data.seek(0)
    cats = []
    source: IO[bytes] | None = data
    sink: IO[bytes] | int | None = subprocess.DEVNULL
    if piped:
        drain = start(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        feed = start(["cat"], stdin=data, stdout=subprocess.PIPE)
        cats = [drain, feed]
        sink, source = drain.stdin, feed.stdout
    receiver = start(server(port), stdin=subprocess.DEVNULL, stdout=sink)
    await_listener(f"tcp:{port}", receiver)
    since = time.perf_counter()
    sender = start(client(port), stdin=source, stdout=subprocess.DEVNULL)
    for cat in cats:
        for pipe in (cat.stdin, cat.stdout):
            if pipe is not None:
                pipe.close()
    # ncat's sender ends TLS without close_notify, which its receiver may report as a failure.
    codes = (0, 1) if server(port)[0] == "ncat" else (0,)
    sent, received = timed(sender, since), timed(receiver, since, codes)
    costs = [sent, received, *(timed(cat, since) for cat in reversed(cats))]
    return {"wall s": max(cost.wall for cost in costs), "CPU s": sum(cost.cpu for cost in costs)}


def between(
    title: str,
    rounds: int,
    size: int,
    ends: tuple[Mapping[str, Argv], Mapping[str, Argv]],
    *,
    piped: bool = False,
) -> Work:
    """Compare the tools, each as client and server."""
    clients, servers = ends
    with zeros(size) as data:
        runs = {tool: partial(transfer, clients[tool], servers[tool], data, piped) for tool in available(clients)}
        return compare(title, rounds, runs)


def measure(scale: Scale) -> Iterator[Work]:
    """Measure 1 MiB, where start-up takes most of the time, and bulk data."""
    ends = CLIENTS, SERVERS
    yield between("1 MiB, file to TCP to /dev/null", scale.rounds * 3, 1 << 20, ends)
    size = fitting(scale.bulk)
    yield between(f"{in_words(size)}, file to TCP to /dev/null", scale.rounds, size, ends)
    yield between(f"{in_words(size)}, pipe to TCP to pipe", scale.rounds, size, ends, piped=True)
