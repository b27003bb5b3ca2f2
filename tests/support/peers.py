"""Peers in the tests' own process: servers in threads, clients, their behaviours, and waiting on sockets."""

import contextlib
import errno
import itertools
import os
import queue
import random
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.processes import PATIENCE, Running, settle

_names = itertools.count()


class Peer:
    """A server in a thread, on TCP, or a unix socket if ``host`` is its path.

    ``results`` has what each call of the behaviour returned, or the OSError it raised.
    """

    def __init__(self, behaviour: Callable[[socket.socket], Any], host: str = "127.0.0.1", port: int = 0) -> None:
        self.port, self.address = 0, host
        if host.startswith(("/", "\0")):
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(host)
            self._listener.listen(64)
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family, backlog=64)
            self.port = self._listener.getsockname()[1]
            self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._behaviour = behaviour
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                self.results.put(self._behaviour(client))
        except OSError as error:
            self.results.put(error)

    def result(self) -> Any:
        """Wait until the next behaviour ends, and return its result."""
        return self.results.get(timeout=PATIENCE)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in tuple(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in tuple(self._threads):
            thread.join(PATIENCE)
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def peer(behaviour: Callable[[socket.socket], Any], host: str = "127.0.0.1", port: int = 0) -> Iterator[Peer]:
    """Serve each client with ``behaviour`` while the block runs; the client is closed when it returns."""
    server = Peer(behaviour, host, port)
    try:
        yield server
    finally:
        server.close()


def server_socket(way: str) -> tuple[str, socket.socket]:
    """Return the address and the socket of a listener for ``connect`` or ``unix``."""
    if way == "unix":
        name = f"netkit-test-{os.getpid()}-{next(_names)}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0{name}")
        listener.listen()
        return f"unix:@{name}", listener
    listener = socket.create_server(("127.0.0.1", 0))
    return f"127.0.0.1:{listener.getsockname()[1]}", listener


@contextlib.contextmanager
def full_backlog(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Yield a port on loopback that drops every further SYN, as its backlog is full and nobody accepts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket(family))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


_given: set[int] = set()


def free_port() -> int:
    """A free port, another one in each call and in each worker of pytest-xdist.

    For a server may not have bound its port yet when the next is asked for, and nobody shall bind one that is to refuse
    connections. It is below the ephemeral ports, so that the system does not assign it soon after.
    """
    worker, workers = (os.environ.get(f"PYTEST_XDIST_WORKER{part}", "") for part in ("", "_COUNT"))
    ports = range(10_000 + int(worker[2:] or 0), 32_768, int(workers or 1))
    while True:
        port = random.SystemRandom().choice(ports)  # the default generator has the same seed in all workers
        if port in _given:
            continue
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
            tcp.bind(("", port))
            udp.bind(("", port))
            _given.add(port)
            return port


def tcp_sockets(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        served, _ = server.accept()
    for sock in (client, served):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, served


def connect(port: int, *, window: int | None = None) -> socket.socket:
    """Return a client of a server on this machine; ``window`` is the size of its receive buffer."""
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    if window is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    try:
        sock.connect(("127.0.0.1", port))
    except OSError:  # refused, or reset already
        sock.close()
        raise
    return sock


def until_reset(sock: socket.socket) -> bytes:
    """Return the data before a reset, or over TLS an end without close_notify. A clean end is an error."""
    sock.settimeout(PATIENCE)
    got = b""
    try:
        while chunk := sock.recv(65536):
            got += chunk
    except (ConnectionResetError, ssl.SSLEOFError):
        return got
    raise AssertionError(f"a clean end after {got[:80]!r}")


def is_reset(port: int, data: bytes = b"", source: str = "127.0.0.1") -> bool:
    """Whether a client is reset without receiving data, perhaps while it still connects."""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)) as client:
            client.sendall(data)
            return until_reset(client) == b""
    except (ConnectionResetError, BrokenPipeError):
        return True


@contextlib.contextmanager
def udp(host: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """Open a plain datagram socket, with a large receive buffer."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.settimeout(PATIENCE)
        sock.bind((host, port))
        yield sock


def address(sock: socket.socket) -> str:
    """The address of a socket: HOST:PORT."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def label(sock: socket.socket) -> bytes:
    """Return the label that netkit puts before a client's lines."""
    host, port = sock.getsockname()
    return f"{host}:{port}\t".encode()


def exchange(port: int, data: bytes, host: str = "127.0.0.1") -> bytes:
    """Connect, send ``data`` and our end, and return all data received."""
    with socket.create_connection((host, port), timeout=PATIENCE) as sock:
        return converse(sock, data)


def converse(sock: socket.socket, data: bytes) -> bytes:
    """Send ``data`` and our end, and at the same time read to the end; return all data received."""
    sock.settimeout(PATIENCE)
    sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
    sender.start()
    answer = read_all(sock)
    sender.join()
    return answer


def read_all(sock: socket.socket) -> bytes:
    """Return all data until the end."""
    chunks = []
    while chunk := sock.recv(1 << 18):
        chunks.append(chunk)
    return b"".join(chunks)


def receive(sock: socket.socket, count: int) -> bytes:
    """Return the next ``count`` bytes, or fewer if there are no more."""
    with sock.makefile("rb", buffering=0) as file:
        chunks = []
        while count and (chunk := file.read(count)):
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    """Return the data up to ``end``, or all if it does not come. It is read byte by byte, so that no more is read."""
    data = b""
    while not data.endswith(end) and (byte := sock.recv(1)):
        data += byte
    return data


def echo(sock: socket.socket) -> None:
    """Send back all data."""
    while data := sock.recv(65536):
        sock.sendall(data)


def send(data: bytes) -> Callable[[socket.socket], bytes]:
    """Return a behaviour that sends ``data`` and then returns what it reads until the end."""

    def behave(client: socket.socket) -> bytes:
        client.sendall(data)
        return read_all(client)

    return behave


def say_some(sock: socket.socket) -> None:
    """Send a word, which shows the test that netkit is connected, then nothing."""
    sock.sendall(b"some")
    outlast(sock)


def drip(sock: socket.socket, data: bytes, gap: float) -> None:
    """Send single bytes with pauses of ``gap`` seconds, which are real, as the clock of another process is."""
    for place in range(len(data)):
        sock.sendall(data[place : place + 1])
        select.select([], [], [], gap)


def wait_for_refusal(port: int) -> None:
    """Wait until no process listens on a port."""
    while True:
        with socket.socket() as late:
            if late.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                return


def outlast(sock: socket.socket) -> None:
    """Neither read nor send until the peer resets the connection, or both are closed, as ``Peer.close`` does."""
    poll = select.poll()
    poll.register(sock, 0)  # errors and hang-ups are always reported
    poll.poll()


def wait_for_input(sock: socket.socket) -> None:
    """Wait until data can be read, and leave it unread."""
    assert select.select([sock], [], [], PATIENCE)[0]


def is_silent(sock: socket.socket) -> bool:
    """Whether there is neither data to read now, nor the end."""
    return not select.select([sock], [], [], 0)[0]


def resent(sock: socket.socket) -> int:
    """How many segments of a TCP connection were sent again, among them a SYN that a full backlog dropped."""
    (count,) = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)  # linux/tcp.h
    return int(count)


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def jam(sock: socket.socket) -> None:
    """Read nothing until the peer of an IPv4 connection over loopback has more to send than the connection holds.

    Its system then probes our closed window (timer 4 in /proc/net/tcp). A queue alone may be acknowledged any moment.
    """
    ends = [f"{socket.inet_aton(h)[::-1].hex().upper()}:{p:04X}" for h, p in (sock.getpeername(), sock.getsockname())]
    while True:
        with open("/proc/net/tcp", encoding="ascii") as rows:
            queues = [row.split()[4:6] for row in rows if row.split()[1:3] == ends]
        if any(int(queue[:8], 16) > 100_000 and timer.startswith("04:") for queue, timer in queues):
            return
        os.sched_yield()


def push(fd: int, process: Running) -> int:
    """Write zeros until no more are taken and the process waits. Return their number.

    Fail if they are more than four connections, two on each side of netkit, and some pipes can hold.
    """
    buffers = [Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text().split()[2] for name in ("rmem", "wmem")]
    limit = 4 * sum(map(int, buffers)) + (16 << 20)
    zeros = bytes(65536)
    pushed = 0
    os.set_blocking(fd, False)
    while True:
        with contextlib.suppress(BlockingIOError):
            while True:
                pushed += os.write(fd, zeros)
                assert pushed <= limit
        settle(process)
        if not select.select([], [fd], [], 0)[1]:
            return pushed
