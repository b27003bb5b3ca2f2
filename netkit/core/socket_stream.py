"""A connected TCP or unix socket as a stream."""

import errno
import fcntl
import os
import socket
import struct
import sys

from netkit.core.address import Endpoint, from_socket
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import notify_closing, readable, writable
from netkit.core.stream import SMALLEST_READ, Counts, RawEnd, next_size

UNKNOWN = Endpoint()

_SIOCOUTQ = 0x5411  # linux/sockios.h

_TCP_CLOSE = 7  # the state after a reset: net/tcp_states.h

_TCP_KEEPALIVE = 0x10  # Darwin's TCP_KEEPIDLE: netinet/tcp.h


class SocketStream:
    """A connected TCP or unix socket, which it makes non-blocking and owns.

    ``peer`` is the address of the other end, as far as it is known. ``reset`` is an error that the socket has told
    already, and will not tell again: it follows what was received.
    """

    def __init__(self, sock: socket.socket, name: str, *, peer: Endpoint = UNKNOWN, reset: int = 0) -> None:
        sock.setblocking(False)
        self.name = name
        self.counts = Counts()
        self.peer = peer
        self._sock = sock
        self._fd = sock.fileno()
        self._size = SMALLEST_READ
        self._ended = False
        self._reset = reset
        self._unread = b""
        self._is_tcp = sock.family != socket.AF_UNIX
        if self._is_tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a partial line goes out at once
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # urgent data is data: lose no byte of it

    @property
    def local(self) -> Endpoint:
        return from_socket(self._sock.getsockname())

    def raw_source(self) -> RawEnd | None:
        """The socket, unless ``recv`` has something of its own to say: bytes given back, or a reset told already."""
        if self._reset or self._unread:
            return None
        return RawEnd(self._fd, self.counts.add_received, self._recv_failure)

    def raw_sink(self) -> RawEnd | None:
        return RawEnd(self._fd, self.counts.add_sent, self._send_failure)

    async def shutdown(self) -> None:
        await self.send_eof()

    def keep_alive(self, idle: float) -> None:
        seconds = max(1, round(idle))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", _TCP_KEEPALIVE), seconds)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 3))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def unread(self, data: bytes) -> None:
        """Take back bytes that were received too early: ``recv`` returns them next."""
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
        """Send our end. Ending twice is nothing."""
        if self._ended:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Failure(Exit.SEND, f"send the end to {self.name}", error) from error
        self._ended = True

    def unacknowledged(self) -> int:
        """Bytes in the send queue; for a unix socket what the kernel took is delivered."""
        if not self._is_tcp:
            return 0
        queued = _unacknowledged(self._sock)
        # Our FIN has a sequence number too, the last one.
        return queued - 1 if self._ended and queued else queued

    def raise_if_reset(self) -> None:
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or self._reset
        if not code and self._is_tcp and _is_dead(self._sock) and self.unacknowledged():
            code = errno.ECONNRESET
        if code:
            raise self._recv_failure(OSError(code, os.strerror(code)))

    def close(self) -> None:
        if self._fd >= 0:
            notify_closing(self._fd)
            self._fd = -1  # the number may be another's at once
            self._unread = b""
            self._sock.close()

    def abort(self) -> None:
        if self._is_tcp and self._fd >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _recv_failure(self, error: OSError) -> Failure:
        return Failure(Exit.RECV, f"receive from {self.name}", error)

    def _send_failure(self, error: OSError) -> Failure:
        return Failure(Exit.SEND, f"send to {self.name}", error)


def _unacknowledged(sock: socket.socket) -> int:
    """The bytes in the send queue, sent or not, that the peer has not acknowledged."""
    if sys.platform == "linux":
        answer = fcntl.ioctl(sock.fileno(), _SIOCOUTQ, b"\0\0\0\0")
        return int(struct.unpack("i", answer)[0])
    return sock.getsockopt(socket.SOL_SOCKET, 0x1024)  # SO_NWRITE: Darwin's sys/socket.h


def _is_dead(sock: socket.socket) -> bool:
    """Whether a TCP connection is over for the kernel, so that what is unacknowledged will stay so."""
    state = getattr(socket, "TCP_INFO", None)
    return state is not None and sock.getsockopt(socket.IPPROTO_TCP, state, 1)[0] == _TCP_CLOSE
