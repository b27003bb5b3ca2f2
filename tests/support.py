"""What tests share: real netkit processes, real peers in threads, and no sleeping.

A process is ready when it has said so: ``Running.port`` reads the line that netkit prints after listen(2).
"""

import contextlib
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.support_fork import NETKIT, Process

PATIENCE = 20.0  # s after which a test is taken to hang


class Finished(NamedTuple):
    """What a process left: exit code (negative after a signal), stdout, stderr as text."""

    code: int
    out: bytes
    err: str


def netkit(
    *args: str,
    input: bytes | None = b"",
    timeout: float = PATIENCE,
    wrapper: Sequence[str] = (),
    real: bool = False,
    **popen: Any,
) -> Finished:
    """Run netkit to its end. ``wrapper`` is put in front, such as ``("prlimit", "--nofile=20")``.

    It is forked from one that waits, in a moment; ``real`` starts an interpreter for it, as does a wrapper.
    """
    if "stdin" in popen:
        input = None
    elif input is not None:
        popen["stdin"] = subprocess.PIPE
    popen.setdefault("stdout", subprocess.PIPE)
    popen.setdefault("stderr", subprocess.PIPE)
    with Process([*wrapper, *NETKIT, *args], real=real, **popen) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return Finished(process.returncode, out or b"", (err or b"").decode())


class Running:
    """A process that runs; ``out``, ``err`` and ``stdin`` are its pipes."""

    def __init__(self, argv: Sequence[str], **popen: Any) -> None:
        for name in ("stdin", "stdout", "stderr"):
            popen.setdefault(name, subprocess.PIPE)
        self.process = Process(argv, **popen)
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None
        if self.process.stderr is not None:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdin(self) -> Any:
        return self.process.stdin

    @property
    def out(self) -> Any:
        return self.process.stdout

    def _read(self) -> None:
        for line in self.process.stderr:  # type: ignore[union-attr]
            self._lines.put(line.decode(errors="replace"))
        self._lines.put(None)

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line on stderr that ``pattern`` is found in, and return the match."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if line is None:
                raise AssertionError(f"stderr ended without {pattern!r}: {self.said}")
            self.said.append(line)
            if found := re.search(pattern, line):
                return found

    @property
    def port(self) -> int:
        """Wait until netkit says where it listens, and return the port."""
        return int(self.line(r"listening on (?:\S*):(\d+)$")[1])

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def read_all(self) -> bytes:
        """Read stdout to its end."""
        return self.process.stdout.read()  # type: ignore[union-attr,no-any-return]

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end and return the exit code, negative after a signal."""
        return self.process.wait(timeout)

    def finish(self, timeout: float = PATIENCE) -> Finished:
        """Close stdin, read what is left and wait."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        out = self.process.stdout.read() if self.process.stdout is not None else b""
        code = self.process.wait(timeout)
        if self._reader is not None:
            self._reader.join(timeout)
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.said.append(line)
        return Finished(code, out, "".join(self.said))


@contextlib.contextmanager
def running(
    *args: str,
    wrapper: Sequence[str] = (),
    argv: Sequence[str] | None = None,
    real: bool = False,
    **popen: Any,
) -> Iterator[Running]:
    """Run netkit, or ``argv``, beside the test, and end it by its pid if it is still there; ``real`` is as above."""
    real = real or argv is not None
    process = Running(list(argv) if argv else [*wrapper, *NETKIT, *args], real=real, **popen)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.process.wait()
        for pipe in (process.process.stdin, process.process.stdout):
            if pipe is not None:
                pipe.close()
        if process._reader is not None:
            process._reader.join(PATIENCE)
            process.process.stderr.close()  # type: ignore[union-attr]


class Peer:
    """A TCP server in a thread; ``port`` is where, ``results`` what each call of the behaviour returned or raised."""

    def __init__(self, behaviour: Callable[[socket.socket], Any], host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=64)
        self.port: int = self._listener.getsockname()[1]
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
        """Wait for the next behaviour to end and return what it returned."""
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
def peer(behaviour: Callable[[socket.socket], Any], host: str = "127.0.0.1") -> Iterator[Peer]:
    """Serve each client with ``behaviour`` while the block runs; the client is closed when it returns."""
    server = Peer(behaviour, host)
    try:
        yield server
    finally:
        server.close()


def read_all(sock: socket.socket) -> bytes:
    """Read to the end."""
    chunks = []
    while chunk := sock.recv(1 << 18):
        chunks.append(chunk)
    return b"".join(chunks)


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def jam(sock: socket.socket) -> None:
    """Read nothing until the peer of an IPv4 connection over loopback has sent more than the connection holds."""
    ends = [f"{socket.inet_aton(h)[::-1].hex().upper()}:{p:04X}" for h, p in (sock.getpeername(), sock.getsockname())]
    while True:
        with open("/proc/net/tcp", encoding="ascii") as rows:
            queues = [row.split()[4] for row in rows if row.split()[1:3] == ends]
        if queues and int(queues[0].partition(":")[0], 16) > 100_000:
            return
        os.sched_yield()


def free_port() -> int:
    """Return a port that was free a moment ago, and on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def exchange(port: int, data: bytes, host: str = "127.0.0.1") -> bytes:
    """Connect, send ``data`` and our end, and return all that comes back."""
    with socket.create_connection((host, port), timeout=PATIENCE) as sock:
        sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        answer = read_all(sock)
        sender.join()
        return answer


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def died_by(code: int) -> signal.Signals | None:
    """Return the signal a process died by, if it did."""
    return signal.Signals(-code) if code < 0 else None
