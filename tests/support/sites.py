"""A web server with scripted answers."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from tests.support.peers import peer
from tests.support.processes import Finished, netkit, sound

Answer = bytes | Callable[[socket.socket], object]


class Got(NamedTuple):
    """A request: its first line, its fields by name in lower case, its body, the number of its connection.

    ``raw`` is its head and body as received, unless the body came in chunks.
    """

    line: str
    fields: dict[str, str]
    body: bytes
    connection: int
    raw: bytes


class Site:
    """A server. ``got`` are the requests so far, ``connections`` is their number of connections.

    ``pages`` are the answers by path, if there are any; for another path the answer is a 404. ``certificates`` has
    what each client showed, over TLS.
    """

    def __init__(self, answers: Iterator[Answer], *, stays: bool, context: ssl.SSLContext | None) -> None:
        self.got: list[Got] = []
        self.connections = 0
        self.certificates: list[Any] = []
        self.pages: dict[str, Answer] = {}
        self.address = ""
        self.port = 0
        self._answers = answers
        self._stays = stays
        self._context = context

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://{self.address}"

    @property
    def conditions(self) -> list[tuple[str | None, str | None]]:
        """Range and If-Range of each request."""
        return [(got.fields.get("range"), got.fields.get("if-range")) for got in self.got]

    def behave(self, sock: socket.socket) -> None:
        """Answer requests. An answer that is a function is the last of its connection, and ends it as it likes."""
        self.connections += 1
        number = self.connections
        secured = self._context.wrap_socket(sock, server_side=True) if self._context else None
        with secured or sock as client, client.makefile("rb") as file:
            if secured is not None:
                self.certificates.append(secured.getpeercert())
            while request := _read(file, number):
                self.got.append(request)
                answer = self._next(request)
                if callable(answer):
                    answer(client)
                    return
                client.sendall(answer)
                if not self._stays:
                    break
            if secured is not None:
                secured.unwrap()

    def _next(self, request: Got) -> Answer:
        if self.pages:
            return self.pages.get(request.line.split()[1], LOST)
        return next(self._answers)


def _read(file: BinaryIO, number: int) -> Got | None:
    head = b""
    for row in file:
        head += row
        if row == b"\r\n":
            break
    else:
        return None
    line, *rows = head.decode("latin-1").split("\r\n")[:-2]
    fields = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
    body = file.read(int(fields.get("content-length", 0)))
    if fields.get("transfer-encoding") == "chunked":
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
    return Got(line, fields, body, number, head + body)


@contextlib.contextmanager
def site(
    *answers: Answer,
    pages: dict[str, Answer] | None = None,
    stays: bool = False,
    host: str = "127.0.0.1",
    port: int = 0,
    context: ssl.SSLContext | None = None,
) -> Iterator[Site]:
    """Serve these answers in order, one for each request, or those of ``pages``, by its path.

    A connection ends after its first answer, or if the server ``stays``, once the client closes it. ``host`` may be the
    path of a unix socket.
    """
    served = Site(iter(answers), stays=stays, context=context)
    served.pages = pages or {}
    with peer(served.behave, host, port) as server:
        served.address, served.port = server.address, server.port
        yield served


def answer(body: bytes = b"", status: str = "200 OK", length: int | None = None, **fields: str) -> bytes:
    """An answer. ``length`` is its Content-Length, by default that of ``body``."""
    about = {"Content-Length": str(len(body) if length is None else length), **fields}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in about.items()), "", ""]
    return "\r\n".join(lines).encode() + body


LOST = answer(b"lost", "404 Not Found")


def redirect(location: str | bytes, status: int = 302) -> bytes:
    """An answer that redirects to ``location``."""
    where = location.encode() if isinstance(location, str) else location
    return b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 5\r\n\r\nmoved" % (status, where)


def fetch(*args: str, code: int = 0, **popen: object) -> Finished:
    """Run fetch to its end, and check its exit code."""
    done = sound(netkit("fetch", *args, **popen), code)  # type: ignore[arg-type]
    if code == 0:
        assert done.err == ""
    return done
