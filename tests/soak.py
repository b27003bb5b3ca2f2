"""``python -m tests.soak [SECONDS]`` runs servers under misbehaving clients, and checks for leaks afterwards.

For SECONDS (default: 600) clients of each server connect, reset, flood it without reading, half-close briefly and for
long, send urgent data, and begin handshakes that never end. A table shows what each server holds at the start, during
the load and after; stderr shows the progress. Exits 1 if ``_REST`` seconds after the load a server still has more
descriptors, processes or threads than at the start, grew by more than ``_GROWTH`` in the second half (in the first
half buffers grow to their size, which the allocator keeps), or uses CPU without clients.
"""

import contextlib
import os
import random
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.measure import NETKIT
from tests.support import peers
from tests.support.certificates import Pki
from tests.support.processes import children, cpu_seconds, descriptors, memory

_HOST = "127.83.79.75"  # an address of loopback that nothing else uses
_REST = 150.0  # s: an association of the datagram relay lasts 60, and FIN-WAIT-2 of a half-closed connection, too
_IDLE = 5.0  # s over which the CPU of an idle server is measured
_MAX_IDLE = 0.01  # of one processor
_GROWTH = 16.0  # MiB: more than by chance simultaneous floods make, and less than a leak in thousands of clients
_GLANCE = 0.5  # s between two samples
_TELL = 15.0  # s between two lines of progress
_BREATH = 0.005  # s between two clients of a thread
_PATIENCE = 2.0  # s
_LINGERING = 40  # clients of each server that stay connected
_THREADS = 2  # with clients, for each server


class Held(NamedTuple):
    """What a server holds: descriptors, child processes, threads, and MiB of memory."""

    descriptors: int
    processes: int
    threads: int
    memory: float


class Server:
    """A running server of netkit, the ``counts`` of its clients by kind, and the clients that stay connected."""

    def __init__(self, name: str, *arguments: str, datagrams: bool = False, tls: bool = False) -> None:
        self.name = name
        self.datagrams, self.tls = datagrams, tls
        self.counts: Counter[str] = Counter()
        self.lingering: deque[socket.socket] = deque()
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen([*NETKIT, *arguments], stdin=pipe, stdout=null, stderr=pipe)
        assert self.process.stdin is not None and self.process.stderr is not None
        os.set_blocking(self.process.stdin.fileno(), False)  # writing must not wait for a client
        self.port = int(self.process.stderr.readline().rpartition(b":")[2])
        threading.Thread(target=deque, args=(self.process.stderr, 0), daemon=True).start()  # reads and drops the rest

    def held(self) -> Held:
        """Return what the server holds now."""
        pid = self.process.pid
        threads = len(os.listdir(f"/proc/{pid}/task"))
        return Held(descriptors(pid), len(children(pid)), threads, memory(pid) / (1 << 20))

    def stay(self, client: socket.socket) -> None:
        """Keep a client connected, and close the oldest one if there are too many."""
        self.lingering.append(client)
        if len(self.lingering) > _LINGERING:
            self.lingering.popleft().close()

    def leave(self) -> None:
        """Close all clients that stay connected."""
        while self.lingering:
            self.lingering.popleft().close()


# -- clients

Visit = Callable[[Server], None]


def _client(server: Server) -> socket.socket:
    sock = socket.create_connection((_HOST, server.port), _PATIENCE)
    if not server.tls:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(sock)
    except OSError:
        sock.close()
        raise


def connect(server: Server) -> None:
    """Send data, receive an answer, and close."""
    with _client(server) as sock:
        sock.sendall(b"hello\n" * random.randint(1, 2000))
        if server.name != "listen --keep":
            sock.recv(4096)


def reset(server: Server) -> None:
    """Send data, and reset."""
    sock = _client(server)
    sock.sendall(b"hello\n")
    peers.reset(sock)


def flood(server: Server) -> None:
    """Send as much as the server takes without reading the answers, then reset or close."""
    sock = _client(server)
    sock.setblocking(False)
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 16 << 20 and select.select([], [sock], [], _BREATH)[1]:
            sent += sock.send(bytes(65536))
    random.choice((peers.reset, socket.socket.close))(sock)


def half_close(server: Server) -> None:
    """Send data, half-close, and read to the end."""
    with _client(server) as sock:
        sock.sendall(b"hello\n" * 100)
        sock.shutdown(socket.SHUT_WR)
        while not server.tls and sock.recv(65536):
            pass


def stay_half_closed(server: Server) -> None:
    """Half-close, and stay connected."""
    sock = _client(server)
    sock.sendall(b"hello\n")
    sock.shutdown(socket.SHUT_WR)
    server.stay(sock)


def urgent(server: Server) -> None:
    """Send urgent data between ordinary data."""
    with socket.create_connection((_HOST, server.port), _PATIENCE) as sock:
        sock.sendall(b"before")
        sock.send(b"!", socket.MSG_OOB)
        sock.sendall(b"after\n")
        sock.recv(4096)


def never_shake_hands(server: Server) -> None:
    """Begin a handshake, or only connect, and stay connected."""
    sock = socket.create_connection((_HOST, server.port), _PATIENCE)
    sock.sendall(b"\x16\x03\x01\x02\x00\x01"[: random.randint(0, 6)])
    server.stay(sock)


def datagrams(server: Server) -> None:
    """Send datagrams from a new port, one of them empty, and receive an answer or close before."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(_GLANCE)
        sock.connect((_HOST, server.port))
        for size in (1, 0, 1400, 65507):
            sock.send(bytes(size))
        if random.random() < 0.5:
            sock.recv(65536)


def _visits(server: Server) -> list[Visit]:
    if server.datagrams:
        return [datagrams]
    if server.tls:
        return [connect, reset, flood, half_close, never_shake_hands]
    visits = [connect, reset, flood, stay_half_closed, urgent]
    return visits if server.name == "listen --keep" else [*visits, half_close]


def _visit_until(stop: threading.Event, server: Server) -> None:
    """Run clients of a server until ``stop`` is set; their errors do not matter."""
    visits = _visits(server)
    while not stop.wait(_BREATH):
        visit = random.choice(visits)
        server.counts[visit.__name__] += 1
        with contextlib.suppress(OSError):
            visit(server)
        if server.name == "listen --keep":
            with contextlib.suppress(OSError):
                assert server.process.stdin is not None
                os.write(server.process.stdin.fileno(), b"to all\n" * 100)


# -- the soak


@contextlib.contextmanager
def _servers() -> Iterator[list[Server]]:
    """Start all servers, and kill them after the block."""
    found: list[Server] = []
    with tempfile.TemporaryDirectory() as folder:
        pair = Pki(Path(folder)).good
        try:
            found.append(echo := Server("echo", "echo", f"{_HOST}:0"))
            found.append(udp := Server("udp-serve", "udp-serve", f"{_HOST}:0", "--reply-with", "echo", datagrams=True))
            found.append(Server("listen --exec", "listen", f"{_HOST}:0", "-k", "--exec", "cat"))
            found.append(Server("listen --keep", "listen", f"{_HOST}:0", "-k"))
            found.append(Server("relay", "relay", f"{_HOST}:0", f"{_HOST}:{echo.port}"))
            words = ("relay", f"{_HOST}:0", f"{_HOST}:{udp.port}", "--udp")
            found.append(Server("relay --udp", *words, datagrams=True))
            found.append(Server("echo tls:", "echo", f"tls:{_HOST}:0", *pair.options(), tls=True))
            yield found
        finally:
            for server in found:
                server.leave()
                server.process.kill()
                server.process.wait()


def _glances(seconds: float, doing: Callable[[], str]) -> Iterator[None]:
    """Yield every ``_GLANCE`` seconds for this time, and print progress every ``_TELL`` seconds."""
    pause = threading.Event()
    begun = told = time.monotonic()
    while (now := time.monotonic()) < begun + seconds:
        if now >= told + _TELL:
            told = now
            print(f"{now - begun:.0f} s of {seconds:.0f}: {doing()}", file=sys.stderr, flush=True)
        yield
        pause.wait(_GLANCE)


def _load(servers: list[Server], seconds: float) -> dict[str, Held]:
    """Run clients for this time, and return the most that each server held meanwhile."""
    stop = threading.Event()
    crowd = [threading.Thread(target=_visit_until, args=(stop, server)) for server in servers for _ in range(_THREADS)]
    for thread in crowd:
        thread.start()
    most = {server.name: server.held() for server in servers}
    for _ in _glances(seconds, lambda: f"{sum(server.counts.total() for server in servers)} clients so far"):
        for server in servers:
            most[server.name] = Held(*map(max, most[server.name], server.held()))
    stop.set()
    for thread in crowd:
        thread.join()
    for server in servers:
        server.leave()
    return most


def _resting(servers: list[Server], wanted: dict[str, Held]) -> dict[str, Held]:
    """Wait until no server has more descriptors, processes and threads than wanted, and return what they hold."""
    held: dict[str, Held] = {}
    busy = list(wanted)
    for _ in _glances(_REST, lambda: f"waiting for {', '.join(busy)} to come to rest"):
        held = {server.name: server.held() for server in servers}
        busy[:] = [name for name in held if _more(held[name], wanted[name])]
        if not busy:
            break
    return held


def _more(held: Held, wanted: Held) -> bool:
    """Whether more is held than wanted, apart from memory."""
    return any(now > then for now, then in zip(held[:3], wanted[:3], strict=True))


def _idle(servers: list[Server]) -> dict[str, float]:
    """Return the share of a processor that each server uses without clients."""
    used = {server.name: cpu_seconds(server.process.pid) for server in servers}
    threading.Event().wait(_IDLE)
    return {server.name: (cpu_seconds(server.process.pid) - used[server.name]) / _IDLE for server in servers}


def show(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    table = [list(heads), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print(f"\n{title}")
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  " + "  ".join([first.ljust(widths[0]), *cells]))


def main(seconds: float) -> int:
    """Run the load, print the table, and return the exit code."""
    with _servers() as servers:
        start = {server.name: server.held() for server in servers}
        first = _load(servers, seconds / 2)
        middle = _resting(servers, start)
        second = _load(servers, seconds / 2)
        after = _resting(servers, start)
        idle = _idle(servers)
        rows, bad = [], []
        for server in servers:
            name = server.name
            grown = after[name].memory - middle[name].memory > _GROWTH
            if _more(after[name], start[name]) or grown or idle[name] > _MAX_IDLE:
                bad.append(name)
            most = Held(*map(max, first[name], second[name]))
            counts = [" ".join(str(look[part]) for look in (start[name], most, after[name])) for part in range(3)]
            sizes = " ".join(f"{look.memory:.1f}" for look in (start[name], middle[name], most, after[name]))
            rows.append([name, str(server.counts.total()), *counts, sizes, f"{idle[name]:.1%}"])
        heads = ["server", "clients", "descriptors", "processes", "threads", "memory, MiB", "idle CPU"]
        show(f"at the start, at most during {seconds:.0f} s, and after; memory after the first half too", heads, rows)
        print("all are back at rest" if not bad else f"not back at rest: {', '.join(bad)}")
        for server in servers:
            print(f"  {server.name}: " + ", ".join(f"{count} {name}" for name, count in server.counts.most_common()))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else 600.0))
