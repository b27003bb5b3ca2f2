"""A web server that follows a script: which answer comes next, over connections that are kept."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from tests.support.peers import peer
from tests.support.processes import Finished, netkit, sound

Answer = bytes | Callable[[socket.socket], object]


class Got(NamedTuple):
    """A request: its first line, its fields by name in lower case, its body, and which connection it came over."""

    line: str
    fields: dict[str, str]
    body: bytes
    connection: int


class Site:
    """A server; ``got`` are the requests so far, ``connections`` how many came."""

    def __init__(self, answers: Iterator[Answer]) -> None:
        self.got: list[Got] = []
        self.connections = 0
        self.port = 0
        self._answers = answers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def behave(self, sock: socket.socket) -> None:
        """Answer each request of a connection, until one is answered by a function, after which it is closed."""
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
    """Serve these answers, one for each request, whatever it asks for."""
    served = Site(iter(answers))
    with peer(served.behave, port=port) as server:
        served.port = server.port
        yield served


def answer(body: bytes = b"", status: str = "200 OK", length: int | None = None, **fields: str) -> bytes:
    """An answer; its length is that of ``body`` unless given."""
    about = {"Content-Length": str(len(body) if length is None else length), **fields}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in about.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def fetch(*args: str, code: int = 0, **popen: object) -> Finished:
    """Run fetch to its end, which has to be this one."""
    done = sound(netkit("fetch", *args, **popen), code)  # type: ignore[arg-type]
    if code == 0:
        assert done.err == ""
    return done
