"""Connecting to many addresses in turn to see whether somebody listens there, with few system calls."""

import errno
import os
import socket
import sys
from collections.abc import Callable

from netkit.core.address import Endpoint
from netkit.core.dial import is_self
from netkit.core.kernel import deadline, notify_closing, now, writable
from netkit.core.lookup import Address
from netkit.core.policy import FULL
from netkit.core.socket_stream import SocketStream

# The system has no room for another socket at the moment; nothing has been learnt of the port.
SCARCE = frozenset((*FULL, errno.EAGAIN))
_LINUX = sys.platform == "linux"
_TYPE = int(socket.SOCK_STREAM)
_REFUSED = os.strerror(errno.ECONNREFUSED)
_PENDING = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)


class TcpProber:
    """Connects to one address after the other. It owns sockets between two calls; ``close`` lets go of them.

    ``waiting`` is called before it waits for an answer, so that somebody else can ask meanwhile.

    On Linux a socket whose connection was refused can be connected anew, and a second connect(2) tells how the first
    one went: over loopback that is all a closed port takes.
    """

    def __init__(self, waiting: Callable[[], None]) -> None:
        self._waiting = waiting
        self._kept: socket.SocketType | None = None
        self._begun: tuple[socket.SocketType, int] | None = None  # and what connect(2) said

    def refuses(self, address: Address) -> bool:
        """Begin to connect, and say whether that was refused at once; if not, ``connect`` goes on with it.

        Raises OSError as the system does.
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
        """Go on to connect to what did not refuse; the caller closes the stream.

        Raises OSError as the system does, DeadlineExceeded after ``timeout``. A connection with ourselves, to which a
        port of the ephemeral range leads that nobody listens on, is refused.
        """
        assert self._begun is not None
        (sock, code), self._begun = self._begun, None
        try:
            if code in _PENDING:
                self._waiting()
                with deadline(now() + timeout):
                    await writable(sock.fileno())
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            # A reset comes after the handshake only: somebody listened.
            if code not in (0, errno.EISCONN, errno.ECONNRESET, errno.EPIPE):
                raise OSError(code, os.strerror(code))
            found = socket.socket(fileno=sock.fileno())
        except BaseException:
            notify_closing(sock.fileno())
            sock.close()
            raise
        sock.detach()
        peer = Endpoint(address.host, address.sockaddr[1])
        stream = SocketStream(found, str(peer), peer=peer, reset=code if code != errno.EISCONN else 0)
        if is_self(found):
            stream.abort()  # by FIN it would keep the port busy for a minute
            raise ConnectionRefusedError(errno.ECONNREFUSED, _REFUSED)
        return stream

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
