"""Echo servers with 1 to 9,900 clients, each with one 64-byte message under way, and the cost of a client."""

import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.benchmarks.bulk import Argv
from tests.benchmarks.measure import NETKIT, C, Figures, Scale, Work, available, compare, program, start
from tests.support.partners import await_listener
from tests.support.peers import free_port
from tests.support.processes import cpu_seconds, memory

SIZE = 64  # bytes of a message
SERVERS: dict[str, Argv] = {
    "netkit": lambda port: [*NETKIT, "echo", "-q", f"127.0.0.1:{port}", "--max-conns", "20000"],
    C: lambda port: [program("minimal") or "", "echo", port],
    "socat": lambda port: ["socat", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=1024", "PIPE"],
}
CLIENTS = (1, 50, 1_000, 9_900)
MAX_FORKS = 1_000  # most clients of socat, which forks for each


@contextmanager
def running(argv: list[str], port: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server until the block ends, and wait first until it listens."""
    server = start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        await_listener(f"tcp:{port}", server)
        yield server
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            server.wait()


def exchanged(server: "subprocess.Popen[bytes]", port: str, clients: int, messages: int, *, forks: bool) -> Figures:
    """Exchange messages with this number of clients. If the server ``forks``, its own CPU and memory say nothing."""
    before = memory(server.pid)
    load = start([program("load") or "", port, str(clients), str(SIZE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert load.stdin is not None and load.stdout is not None
    connecting = float(load.stdout.readline())
    taken = memory(server.pid) - before
    since = cpu_seconds(server.pid)
    load.stdin.write(b"%d\n" % messages)
    load.stdin.flush()
    seconds = float(load.stdout.readline())
    used = cpu_seconds(server.pid) - since
    load.stdin.close()
    load.wait()
    figures = {"messages/s": messages / seconds, "connecting s": connecting}
    if not forks:
        figures |= {"server's CPU µs/message": used / messages * 1e6, "KiB/client": taken / clients / 1024}
    return figures


def once(tool: str, clients: int, messages: int) -> Figures:
    """Measure one server with its clients."""
    port = str(free_port())
    with running(SERVERS[tool](port), port) as server:
        return exchanged(server, port, clients, max(messages, clients * 2), forks=tool == "socat")


def measure(scale: Scale) -> Iterator[Work]:
    """Measure each number of clients."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if not program("load"):
        return
    for clients in CLIENTS:
        if clients + 100 < hard:
            tools = [tool for tool in available(SERVERS) if tool != "socat" or clients <= MAX_FORKS]
            runs = {tool: partial(once, tool, clients, scale.messages) for tool in tools}
            title = f"echo of {SIZE}-byte messages, {clients:,} client{'s' * (clients > 1)}"
            yield compare(title, scale.rounds, runs, more=True)
