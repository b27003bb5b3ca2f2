"""Scripted proxies, which may also misbehave, and the messages of SOCKS."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

from tests.support.peers import drip, read_until, receive

TARGET = "target.test:9"  # a name that only a proxy could look up

# The messages of a SOCKS 5 client (RFC 1928, RFC 1929), and of its server.
GREETING, GREETING_WITH_PASSWORD = b"\5\1\0", b"\5\2\0\2"
REQUEST = b"\5\1\0\3\x0btarget.test\0\x09"
NO_AUTHENTICATION, BY_PASSWORD = b"\5\0", b"\5\2"
GRANTED = b"\5\0\0\1\x7f\0\0\1\0\x50"
# Those of SOCKS 4a.
REQUEST_4A = b"\4\1\0\x09\0\0\0\xff\0target.test\0"
GRANTED_4 = b"\0\x5a" + bytes(6)

Step = tuple[bytes, bytes]
"""A request, and the answer to it."""

CREDENTIALS = b"\1\2me\7hunter2"
LOGIN: Sequence[Step] = ((GREETING_WITH_PASSWORD, BY_PASSWORD),)
SECURED: Sequence[Step] = (*LOGIN, (CREDENTIALS, b"\1\0"), (REQUEST, GRANTED))
SOCKS5: Sequence[Step] = ((GREETING, NO_AUTHENTICATION), (REQUEST, GRANTED))
SOCKS4A: Sequence[Step] = ((REQUEST_4A, GRANTED_4),)


OK = b"HTTP/1.1 200 OK\r\n\r\n"


def reply(answer: bytes) -> Sequence[Step]:
    """The steps of SOCKS5 with this reply to the request."""
    return ((GREETING, NO_AUTHENTICATION), (REQUEST, answer))


def http(answer: bytes) -> Sequence[Step]:
    """The steps of CONNECT. The request is a head with any fields."""
    return ((b"\r\n\r\n", answer),)


def shout(sock: socket.socket) -> None:
    """Be the target: receive five bytes and send them back in upper case."""
    sock.sendall(receive(sock, 5).upper())


def scripted(
    steps: Sequence[Step], then: Callable[[socket.socket], Any] = shout, *, gap: float | None = None
) -> Callable[[socket.socket], list[bytes]]:
    """Return a peer's behaviour: answer each request, by single bytes if there is a ``gap`` (s), and call ``then``.

    It returns the requests.
    """

    def behave(sock: socket.socket) -> list[bytes]:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asked = []
        for request, answer in steps:
            asked.append(head(sock) if request == b"\r\n\r\n" else receive(sock, len(request)))
            if gap is None:
                sock.sendall(answer)
            else:
                drip(sock, answer, gap)
        then(sock)
        return asked

    return behave


def head(sock: socket.socket) -> bytes:
    """Read the head of a request."""
    return read_until(sock, b"\r\n\r\n")
