"""A TLS peer that controls when each record is sent."""

import functools
import socket
import ssl
from collections.abc import Callable
from typing import Any

from tests.support.processes import PATIENCE


class Cut(Exception):
    """The peer ended without close_notify."""


class Secured:
    """One end of TLS over a blocking socket. It can half-close, detects a cut, and sends each record when told to.

    ``ciphertext`` counts the bytes received from the socket.
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
        """Do the handshake. If it fails, the alert is sent."""
        try:
            self._until_done(self.tls.do_handshake)
        finally:
            self.flush()
        return self

    def recv(self) -> bytes:
        """Return the next data, or b"" after close_notify. Raises Cut for an end without it."""
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
        """Read exactly ``count`` bytes."""
        data = b""
        while len(data) < count:
            data += self._until_done(functools.partial(self.tls.read, count - len(data)))
        return data

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self.tls.write(data)
        self.flush()

    def end(self) -> None:
        """Send close_notify. The caller must have read all data received."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # the peer's has not come yet
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
    """Return a behaviour for ``peer`` (see tests.support) that does the handshake first.

    It returns what ``behaviour`` returns, or the error of the handshake or the stream.
    """

    def behave(sock: socket.socket) -> Any:
        try:
            return behaviour(Secured(sock, context).do_handshake())
        except (ssl.SSLError, Cut) as error:
            return error

    return behave


def dialled(port: int, context: ssl.SSLContext, host: str = "127.0.0.1", name: str = "localhost") -> Secured:
    """Connect and do the handshake. The caller closes ``sock``."""
    sock = socket.create_connection((host, port), PATIENCE)
    try:
        return Secured(sock, context, name).do_handshake()
    except BaseException:
        sock.close()
        raise
