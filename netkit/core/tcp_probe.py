"""Checking many ports in turn by connect(2), with few system calls for each."""

import errno
import os
import socket
import sys
from collections.abc import Callable

from netkit.core.address import Endpoint
from netkit.core.dial import refuse_self
from netkit.core.kernel import deadline, notify_closing, now, writable
from netkit.core.lookup import Address
from netkit.core.policy import FULL
from netkit.core.socket_stream import SocketStream

# Errors that tell of a lack of sockets or local ports, and nothing about the port that was checked.
SCARCE = frozenset((*FULL, errno.EAGAIN))
_LINUX = sys.platform == "linux"
_TYPE = int(socket.SOCK_STREAM)
_PENDING = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)


class TcpProber:
    """Connects to one address after the other. It keeps sockets between two calls; ``close`` closes them.

    ``waiting`` is called before it waits for an answer, so that another prober can be started meanwhile.

    On Linux a socket can be used again after a refusal, and a second connect(2) returns the result of the first. So a
    closed port of loopback takes two system calls.
    """

    def __init__(self, waiting: Callable[[], None]) -> None:
        self._waiting = waiting
        self._kept: socket.SocketType | None = None
        self._begun: tuple[socket.SocketType, int] | None = None  # and what connect(2) said

    def refuses(self, address: Address) -> bool:
        """Begin to connect; return True if that was refused at once. If not, ``connect`` must be called next.

        Raises the OSError of socket(2).
        """
        sock = self._take(address.family)
        code = sock.connect_ex(address.sockaddr)
        if _LINUX and code == errno.EINPROGRESS:
            code = sock.connect_ex(address.sockaddr)
        if _LINUX and code == errno.ECONNREFUSED:
            self._kept = sock
            return True
        self._begun = sock, code
        return False

    async def connect(self, address: Address, timeout: float) -> SocketStream:
        """Finish connecting after ``refuses`` has returned False. The caller closes the stream.

        Raises the OSError of connect(2), and DeadlineExceeded after ``timeout`` seconds. A connection with ourselves,
        which can happen at a closed port of the ephemeral range, counts as refused.
        """
        assert self._begun is not None
        (sock, code), self._begun = self._begun, None
        try:
            if code in _PENDING:
                self._waiting()
                with deadline(now() + timeout):
                    await writable(sock.fileno())
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            # A reset can only come after the handshake, so the port is open.
            if code not in (0, errno.EISCONN, errno.ECONNRESET, errno.EPIPE):
                raise OSError(code, os.strerror(code))
            refuse_self(sock)
            found = socket.socket(fileno=sock.fileno())
        except BaseException:
            notify_closing(sock.fileno())
            sock.close()
            raise
        sock.detach()
        peer = Endpoint(address.host, address.sockaddr[1])
        return SocketStream(found, str(peer), peer=peer, reset=code if code != errno.EISCONN else 0)

    def close(self) -> None:
        for sock in (self._kept, self._begun and self._begun[0]):
            if sock is not None:
                sock.close()
        self._kept = self._begun = None

    def _take(self, family: int) -> socket.SocketType:
        kept, self._kept = self._kept, None
        if kept is not None:
            if kept.family == family:
                return kept
            kept.close()
        sock = socket.SocketType(family, _TYPE)
        sock.setblocking(False)
        return sock
