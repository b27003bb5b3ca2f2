"""A connected TCP or unix socket as a Connection: acknowledgements, keepalive probes and resets included."""

import errno
import fcntl
import os
import socket
import struct
import sys

from netkit.core.address import Endpoint, from_socket
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import hung_up, notify_closing, readable, writable
from netkit.core.stream import SMALLEST_READ, Counts, RawEnd, next_size

UNKNOWN = Endpoint()

_SIOCOUTQ = 0x5411  # linux/sockios.h

_TCP_CLOSE = 7  # the state after a reset: net/tcp_states.h

_TCP_KEEPALIVE = 0x10  # Darwin's TCP_KEEPIDLE: netinet/tcp.h

# Keepalive for a peer that has half-closed: s of silence, s between probes, lost probes until it counts as gone. If it
# has closed, its system answers with a reset once it has dropped the connection (tcp_fin_timeout, 60 s). With just 3
# lost probes, a network outage of 20 s ended the connection.
_PROBE = (1, 5, 12)

_RESETS = (errno.ECONNRESET, errno.EPIPE)  # the error of a reset before the peer's end, and after it


class SocketStream:
    """A connected TCP or unix socket, which it owns and makes non-blocking.

    ``peer`` is the peer's address, as far as it is known, and the default of ``name``. ``reset`` is the errno of a
    reset that the system has reported already and does not report again: ``recv`` raises it after the data received.
    """

    __slots__ = (
        "_ended", "_fd", "_is_tcp", "_name", "_probed", "_reached", "_reset", "_size", "_sock", "_unread", "counts",
        "peer",
    )  # fmt: skip

    def __init__(
        self, sock: socket.socket, name: str | None = None, *, peer: Endpoint = UNKNOWN, reset: int = 0
    ) -> None:
        sock.setblocking(False)
        self._name = name
        self.counts = Counts()
        self.peer = peer
        self._reached: Endpoint | None = None
        self._sock = sock
        self._fd = sock.fileno()
        self._size = SMALLEST_READ
        self._ended = False
        self._reset = reset
        self._unread = b""
        self._probed = False
        self._is_tcp = sock.family != socket.AF_UNIX
        if self._is_tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages are sent at once
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # urgent data is received with the rest

    @property
    def name(self) -> str:
        return str(self.peer) if self._name is None else self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def local(self) -> Endpoint:
        return from_socket(self._sock.getsockname())

    @property
    def reached(self) -> Endpoint:
        return self.local if self._reached is None else self._reached

    def present(self, peer: Endpoint, reached: Endpoint) -> None:
        """Set the addresses that a proxy has told: ``peer``, its client, who connected to ``reached``."""
        self.name, self.peer, self._reached = str(peer), peer, reached

    def raw_source(self) -> RawEnd | None:
        """The socket; None if ``recv`` has more than it: bytes given back by ``unread``, or a known reset."""
        if self._reset or self._unread:
            return None
        return RawEnd(self._fd, self.counts, self._recv_failure, call=self._sock.recv)

    def raw_sink(self) -> RawEnd | None:
        return RawEnd(self._fd, self.counts, self._send_failure, call=self._sock.send)

    async def shutdown(self) -> None:
        await self.send_eof()

    def keep_alive(self, idle: float) -> None:
        seconds = max(1, round(idle))
        self._keep_alive(seconds, max(1, seconds // 3), 3)

    def probe(self) -> None:
        if self._is_tcp:
            try:
                self._keep_alive(*_PROBE)
                self._probed = True
            except OSError:
                pass  # without keepalive, a peer that has left is just not noticed

    def _keep_alive(self, idle: int, interval: int, lost: int) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", _TCP_KEEPALIVE), idle)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, lost)

    async def peer_left(self) -> None:
        await hung_up(self._fd)
        self.raise_if_reset()

    def unread(self, data: bytes) -> None:
        """Give back bytes that were received: ``recv`` returns them next, before all others."""
        self._unread = data + self._unread
        self.counts.received -= len(data)

    async def recv(self) -> bytes:
        if self._unread:
            data, self._unread = self._unread, b""
            self.counts.add_received(len(data))
            return data
        while True:
            try:
                await readable(self._fd)
                data = self._sock.recv(self._size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._recv_failure(error) from error
            if not data and self._reset:
                raise self._recv_failure(OSError(self._reset, os.strerror(self._reset)))
            self._size = next_size(self._size, len(data))
            self.counts.add_received(len(data))
            return data

    async def send(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                try:
                    taken = self._sock.send(rest)
                except BlockingIOError:
                    await writable(self._fd)
                    continue
                self.counts.add_sent(taken)
                rest = rest[taken:]
        except OSError as error:
            raise self._send_failure(error) from error

    async def send_eof(self) -> None:
        """Half-close. A second call has no effect."""
        if self._ended:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Failure(Exit.SEND, f"send the end to {self.name}", error) from error
        self._ended = True

    def unacknowledged(self) -> int:
        """The bytes in the send queue; 0 for a unix socket, where what the system has taken is delivered."""
        if not self._is_tcp or self._fd < 0:
            return 0
        queued = _unacknowledged(self._sock)
        # Our FIN counts as one byte. And ``counts`` begin after the handshakes of layers, whose bytes come first.
        return min(queued - 1 if self._ended and queued else queued, self.counts.sent)

    def raise_if_reset(self) -> None:
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code and not self._is_leaving(code):
            self._reset = code
        if not self._reset and self._is_tcp and _info(self._sock)[0] == _TCP_CLOSE and self.unacknowledged():
            self._reset = errno.ECONNRESET
        if self._reset:
            raise self._recv_failure(OSError(self._reset, os.strerror(self._reset)))

    def _is_leaving(self, code: int) -> bool:
        """Whether a reset only answers our probe, with all our bytes acknowledged: the peer half-closed, then left."""
        return self._probed and code in _RESETS and _info(self._sock)[3] > 0 and not self.unacknowledged()

    def close(self) -> None:
        if self._fd >= 0:
            notify_closing(self._fd)
            self._fd = -1  # the number may be used again at once
            self._unread = b""
            self._sock.close()

    def abort(self) -> None:
        if self._is_tcp and self._fd >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _recv_failure(self, error: OSError) -> Failure:
        return Failure(Exit.RECV, f"receive from {self.name}", self._cause(error))

    def _send_failure(self, error: OSError) -> Failure:
        if error.errno in _RESETS and not self._reset:
            self._reset = error.errno
        return Failure(Exit.SEND, f"send to {self.name}", self._cause(error))

    def _cause(self, error: OSError) -> OSError:
        """The reset that is known already, in place of an error that only tells that there is no connection."""
        if self._reset and error.errno in (errno.EPIPE, errno.ENOTCONN):
            return OSError(self._reset, os.strerror(self._reset))
        return error


def _unacknowledged(sock: socket.socket) -> int:
    """How many bytes of the send queue, sent or not, the peer has not acknowledged; our FIN counts as one."""
    if sys.platform == "linux":
        answer = fcntl.ioctl(sock.fileno(), _SIOCOUTQ, b"\0\0\0\0")
        return int(struct.unpack("i", answer)[0])
    return sock.getsockopt(socket.SOL_SOCKET, 0x1024)  # SO_NWRITE: Darwin's sys/socket.h


def _info(sock: socket.socket) -> bytes:
    """The first 4 bytes of TCP_INFO (linux/tcp.h): [0] is the state, [3] the number of unanswered probes."""
    option = getattr(socket, "TCP_INFO", None)
    return bytes(4) if option is None else sock.getsockopt(socket.IPPROTO_TCP, option, 4)
