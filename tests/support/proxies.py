"""Proxies as their clients meet them: scripted ones, for what goes wrong too, and other people's."""

import socket
from collections.abc import Callable, Sequence
from typing import Any

from tests.support.peers import drip, receive

TARGET = "target.test:9"  # a name that only a proxy could look up

# What a client of SOCKS 5 says (RFC 1928, RFC 1929), and a server.
GREETING, GREETING_WITH_PASSWORD = b"\5\1\0", b"\5\2\0\2"
REQUEST = b"\5\1\0\3\x0btarget.test\0\x09"
NO_AUTHENTICATION, BY_PASSWORD = b"\5\0", b"\5\2"
GRANTED = b"\5\0\0\1\x7f\0\0\1\0\x50"
# And one of SOCKS 4a.
REQUEST_4A = b"\4\1\0\x09\0\0\0\xff\0target.test\0"
GRANTED_4 = b"\0\x5a" + bytes(6)

Step = tuple[bytes, bytes]
"""What is asked, and what is answered."""

SOCKS5: Sequence[Step] = ((GREETING, NO_AUTHENTICATION), (REQUEST, GRANTED))
SOCKS4A: Sequence[Step] = ((REQUEST_4A, GRANTED_4),)


def http(answer: bytes) -> Sequence[Step]:
    """The dialogue of CONNECT; what is asked is the head, whatever its fields."""
    return ((b"\r\n\r\n", answer),)


def shout(sock: socket.socket) -> None:
    """The target: the five bytes that it gets come back in upper case."""
    sock.sendall(receive(sock, 5).upper())


def scripted(
    steps: Sequence[Step], then: Callable[[socket.socket], Any] = shout, *, gap: float | None = None
) -> Callable[[socket.socket], list[bytes]]:
    """The behaviour of a peer: answer each request, byte by byte if there is a ``gap`` (s), and go on as ``then``.

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
    """Read the head of a request, byte by byte, so that nothing behind it is taken."""
    came = b""
    while not came.endswith(b"\r\n\r\n") and (byte := sock.recv(1)):
        came += byte
    return came
