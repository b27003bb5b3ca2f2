"""A peer of TLS whose every record is ours to place."""

import functools
import socket
import ssl
from collections.abc import Callable
from typing import Any

from tests.support.processes import PATIENCE


class Cut(Exception):
    """The other side ended without close_notify."""


class Secured:
    """One end of TLS over a blocking socket: a half-close is one, a cut is told, and each record goes when we say.

    ``ciphertext`` counts what was received of the socket.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str | None = None) -> None:
        sock.settimeout(PATIENCE)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.ciphertext = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=name is None, server_hostname=name)

    def do_handshake(self) -> "Secured":
        """Go through the handshake; an alert that it ends in is sent."""
        try:
            self._until_done(self.tls.do_handshake)
        finally:
            self.flush()
        return self

    def recv(self) -> bytes:
        """Return what comes next, b"" after close_notify; raise Cut if there was none."""
        try:
            return bytes(self._until_done(lambda: self.tls.read(65536)))
        except ssl.SSLZeroReturnError:
            return b""

    def read_all(self) -> bytes:
        """Read to close_notify."""
        parts = []
        while part := self.recv():
            parts.append(part)
        return b"".join(parts)

    def read_exactly(self, count: int) -> bytes:
        """Read so many bytes."""
        data = b""
        while len(data) < count:
            data += self._until_done(functools.partial(self.tls.read, count - len(data)))
        return data

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.tls.write(data)
        self.flush()

    def end(self) -> None:
        """Send close_notify. Only for who has read all that came."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # the other's is still to come
        self.flush()

    def flush(self) -> None:
        """Send the records that are ready."""
        if data := self._outgoing.read():
            self.sock.sendall(data)

    def _until_done(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if not data:
                    raise Cut from None
                self.ciphertext += len(data)
                self._incoming.write(data)


def serving(context: ssl.SSLContext, behaviour: Callable[[Secured], Any]) -> Callable[[socket.socket], Any]:
    """Return the behaviour of a peer (see tests.support) that secures its clients first.

    What it comes to is what ``behaviour`` returns, or how the handshake or the stream failed.
    """

    def behave(sock: socket.socket) -> Any:
        try:
            return behaviour(Secured(sock, context).do_handshake())
        except (ssl.SSLError, Cut) as error:
            return error

    return behave


def dialled(port: int, context: ssl.SSLContext, host: str = "127.0.0.1", name: str = "localhost") -> Secured:
    """Connect and go through the handshake; the caller closes ``sock``."""
    sock = socket.create_connection((host, port), PATIENCE)
    try:
        return Secured(sock, context, name).do_handshake()
    except BaseException:
        sock.close()
        raise
