"""A web server with scripted answers, over persistent connections."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from tests.support.peers import peer
from tests.support.processes import Finished, netkit, sound

Answer = bytes | Callable[[socket.socket], object]


class Got(NamedTuple):
    """A request: its first line, its fields by name in lower case, its body, and the number of its connection."""

    line: str
    fields: dict[str, str]
    body: bytes
    connection: int


class Site:
    """A server. ``got`` are the requests so far, ``connections`` is their number of connections."""

    def __init__(self, answers: Iterator[Answer]) -> None:
        self.got: list[Got] = []
        self.connections = 0
        self.port = 0
        self._answers = answers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def behave(self, sock: socket.socket) -> None:
        """Answer each request of a connection. An answer that is a function is the last; then it is closed."""
        self.connections += 1
        number = self.connections
        with sock.makefile("rb") as file:
            while request := _read(file, number):
                self.got.append(request)
                answer = next(self._answers)
                if callable(answer):
                    answer(sock)
                    return
                sock.sendall(answer)


def _read(file: BinaryIO, number: int) -> Got | None:
    line = file.readline().decode().strip()
    if not line:
        return None
    rows = iter(lambda: file.readline().decode("latin-1").rstrip("\r\n"), "")
    fields = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
    body = file.read(int(fields.get("content-length", 0)))
    if fields.get("transfer-encoding") == "chunked":
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
    return Got(line, fields, body, number)


@contextlib.contextmanager
def site(*answers: Answer, port: int = 0) -> Iterator[Site]:
    """Serve these answers in order, one for each request, whatever it is."""
    served = Site(iter(answers))
    with peer(served.behave, port=port) as server:
        served.port = server.port
        yield served


def answer(body: bytes = b"", status: str = "200 OK", length: int | None = None, **fields: str) -> bytes:
    """An answer. ``length`` is its Content-Length, by default that of ``body``."""
    about = {"Content-Length": str(len(body) if length is None else length), **fields}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in about.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def fetch(*args: str, code: int = 0, **popen: object) -> Finished:
    """Run fetch to its end, and check its exit code."""
    done = sound(netkit("fetch", *args, **popen), code)  # type: ignore[arg-type]
    if code == 0:
        assert done.err == ""
    return done
