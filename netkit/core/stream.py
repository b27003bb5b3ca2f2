"""A stream carries bytes both ways and ends each way on its own. TCP, unix sockets and files are streams.

Whoever opened a stream closes it. A stream says what failed as a Failure: READ and WRITE for this process's own
files, RECV and SEND for a peer.
"""

import errno
import fcntl
import os
import select
import socket
import stat
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from netkit.core.address import Endpoint, from_socket
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import closing, now, readable, sleep, writable

UNKNOWN = Endpoint()
SMALLEST_READ = 16 * 1024
# Always reading much makes an echo up to 3 times slower.
LARGEST_READ = 256 * 1024
# malloc maps fresh memory for large reads and gives it back, page by page, until it has once freed a block that was
# larger (M_MMAP_THRESHOLD, mallopt(3)). Here is one; a GiB through TLS then costs a third less in the kernel.
bytearray(4 << 20)

_SIOCOUTQ = 0x5411  # linux/sockios.h
_TCP_CLOSE = 7  # the state after a reset: net/tcp_states.h
_FULL_TTY_PAUSE = 0.01
_PTMX = os.makedev(5, 2)  # Documentation/admin-guide/devices.txt of Linux
_TCP_KEEPALIVE = 0x10  # Darwin's TCP_KEEPIDLE: netinet/tcp.h


class Stream(Protocol):
    """What flows between two ends.

    ``name`` is for messages.
    """

    name: str

    @property
    def sent(self) -> int:
        """Bytes that ``send`` has passed on."""

    @property
    def received(self) -> int:
        """Bytes that ``recv`` has returned."""

    @property
    def moved_at(self) -> float:
        """The kernel's clock when some last moved, either way."""

    @property
    def raw_source(self) -> int | None:
        """A descriptor from which the kernel may take what ``recv`` would, or None: bytes pass through our hands."""

    @property
    def raw_sink(self) -> int | None:
        """A descriptor to which the kernel may give what ``send`` would, or None."""

    async def recv(self) -> bytes:
        """Wait for bytes and return what is there; b"" is the end, again and again."""

    async def send(self, data: bytes) -> None:
        """Return when all of ``data`` has been taken over; ``sent`` counts what was, also when this fails."""

    async def send_eof(self) -> None:
        """Say that nothing more will be sent. Receiving goes on."""

    def count_received(self, count: int) -> None:
        """Note bytes that left ``raw_source`` or came by ``recv``."""

    def count_sent(self, count: int) -> None:
        """Note bytes that went into ``raw_sink`` or by ``send``."""

    def recv_failure(self, error: OSError) -> Failure:
        """Return what an error of receiving means."""

    def send_failure(self, error: OSError) -> Failure:
        """Return what an error of sending means."""

    def unacknowledged(self) -> int:
        """Return how many of the ``sent`` bytes the peer has not acknowledged yet. Works after a reset."""

    def check(self) -> None:
        """Raise Failure if the connection has been reset, though no call has said so yet."""

    def close(self) -> None:
        """Let go of the stream; who waits in it is woken. Closing twice is nothing."""

    def abort(self) -> None:
        """Close so that the peer sees a reset, and cannot take what it got for the whole.

        Unix sockets know no reset: there the peer sees one only if it had sent what we did not read.
        """


class Connection(Stream, Protocol):
    """A stream to another end on a network; ``peer`` is its address, as far as it is known."""

    @property
    def peer(self) -> Endpoint:
        """The other end."""

    @property
    def local(self) -> Endpoint:
        """Our end."""

    def keep_alive(self, idle: float) -> None:
        """Let the system probe a TCP peer that was silent for ``idle`` seconds; three probes lost are a dead peer."""

    async def leave(self) -> None:
        """Send our end if that is still to be sent, so that closing is no cut."""


Secure = Callable[[Connection], Awaitable[Connection]]
"""Takes a connection through a handshake and returns it secured. The caller closes, whatever happens."""


class Counted:
    """The part of a stream that counts: ``name``, ``sent``, ``received`` and ``moved_at``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent = 0
        self.received = 0
        self.moved_at = now()

    def count_received(self, count: int) -> None:
        """See Stream."""
        self.received += count
        self.moved_at = now()

    def count_sent(self, count: int) -> None:
        """See Stream."""
        self.sent += count
        self.moved_at = now()


class SocketStream(Counted):
    """A connected TCP or unix socket, which it makes non-blocking and owns.

    ``peer`` is the address of the other end, as far as it is known. ``reset`` is an error that the socket has told
    already, and will not tell again: it follows what was received.
    """

    def __init__(self, sock: socket.socket, name: str, *, peer: Endpoint = UNKNOWN, reset: int = 0) -> None:
        super().__init__(name)
        sock.setblocking(False)
        self._peer = peer
        self._sock = sock
        self._fd = sock.fileno()
        self._size = SMALLEST_READ
        self._ended = False
        self._reset = reset
        self._is_tcp = sock.family != socket.AF_UNIX
        if self._is_tcp:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a partial line goes out at once
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # urgent data is data: lose no byte of it

    @property
    def raw_source(self) -> int | None:
        """The socket, unless a reset that it told already is still to be reported."""
        return None if self._reset else self._fd

    @property
    def raw_sink(self) -> int | None:
        """The socket."""
        return self._fd

    @property
    def peer(self) -> Endpoint:
        """See Connection."""
        return self._peer

    @property
    def local(self) -> Endpoint:
        """See Connection."""
        return from_socket(self._sock.getsockname())

    async def leave(self) -> None:
        """See Connection."""
        await self.send_eof()

    def keep_alive(self, idle: float) -> None:
        """See Connection."""
        seconds = max(1, round(idle))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", _TCP_KEEPALIVE), seconds)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 3))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    async def recv(self) -> bytes:
        """See Stream."""
        while True:
            try:
                await readable(self._fd)
                data = self._sock.recv(self._size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self.recv_failure(error) from error
            if not data and self._reset:
                raise self.recv_failure(OSError(self._reset, os.strerror(self._reset)))
            self._size = _next_size(self._size, len(data))
            self.count_received(len(data))
            return data

    async def send(self, data: bytes) -> None:
        """See Stream."""
        rest = memoryview(data)
        try:
            while rest:
                try:
                    taken = self._sock.send(rest)
                except BlockingIOError:
                    await writable(self._fd)
                    continue
                self.count_sent(taken)
                rest = rest[taken:]
        except OSError as error:
            raise self.send_failure(error) from error

    async def send_eof(self) -> None:
        """See Stream. Ending twice is nothing."""
        if self._ended:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Failure(Exit.SEND, f"send the end to {self.name}", error) from error
        self._ended = True

    def unacknowledged(self) -> int:
        """See Stream. For a unix socket what the kernel took is delivered."""
        if not self._is_tcp:
            return 0
        queued = _unacknowledged(self._sock)
        # Our FIN has a sequence number too, the last one.
        return queued - 1 if self._ended and queued else queued

    def check(self) -> None:
        """See Stream."""
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or self._reset
        if not code and self._is_tcp and _is_dead(self._sock) and self.unacknowledged():
            code = errno.ECONNRESET
        if code:
            raise self.recv_failure(OSError(code, os.strerror(code)))

    def close(self) -> None:
        """See Stream."""
        if self._fd >= 0:
            closing(self._fd)
            self._fd = -1  # the number may be another's at once
            self._sock.close()

    def abort(self) -> None:
        """See Stream."""
        if self._is_tcp and self._fd >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def recv_failure(self, error: OSError) -> Failure:
        """See Stream."""
        return Failure(Exit.RECV, f"receive from {self.name}", error)

    def send_failure(self, error: OSError) -> Failure:
        """See Stream."""
        return Failure(Exit.SEND, f"send to {self.name}", error)


class Wrapped:
    """A connection that hands everything to the one it wraps; its children change what they are for."""

    def __init__(self, stream: Connection) -> None:
        self._stream = stream
        self.name = stream.name

    @property
    def sent(self) -> int:
        """See Stream."""
        return self._stream.sent

    @property
    def received(self) -> int:
        """See Stream."""
        return self._stream.received

    @property
    def moved_at(self) -> float:
        """See Stream."""
        return self._stream.moved_at

    @property
    def raw_source(self) -> int | None:
        """See Stream."""
        return self._stream.raw_source

    @property
    def raw_sink(self) -> int | None:
        """See Stream."""
        return self._stream.raw_sink

    @property
    def peer(self) -> Endpoint:
        """See Connection."""
        return self._stream.peer

    @property
    def local(self) -> Endpoint:
        """See Connection."""
        return self._stream.local

    def keep_alive(self, idle: float) -> None:
        """See Connection."""
        self._stream.keep_alive(idle)

    async def leave(self) -> None:
        """See Connection."""
        await self._stream.leave()

    async def recv(self) -> bytes:
        """See Stream."""
        return await self._stream.recv()

    async def send(self, data: bytes) -> None:
        """See Stream."""
        await self._stream.send(data)

    async def send_eof(self) -> None:
        """See Stream."""
        await self._stream.send_eof()

    def count_received(self, count: int) -> None:
        """See Stream."""
        self._stream.count_received(count)

    def count_sent(self, count: int) -> None:
        """See Stream."""
        self._stream.count_sent(count)

    def recv_failure(self, error: OSError) -> Failure:
        """See Stream."""
        return self._stream.recv_failure(error)

    def send_failure(self, error: OSError) -> Failure:
        """See Stream."""
        return self._stream.send_failure(error)

    def unacknowledged(self) -> int:
        """See Stream."""
        return self._stream.unacknowledged()

    def check(self) -> None:
        """See Stream."""
        self._stream.check()

    def close(self) -> None:
        """See Stream."""
        self._stream.close()

    def abort(self) -> None:
        """See Stream."""
        self._stream.abort()


class FileStream(Counted):
    """Two descriptors as one stream, one to read and one to write: a terminal, pipes, files.

    They belong to the caller and may be shared with other processes: their flags are left as they are, and ``close``
    leaves them open. ``send_eof`` puts /dev/null in the place of the one that is written, so that its reader goes on.
    """

    def __init__(self, source: int, sink: int, *, source_name: str = "stdin", sink_name: str = "stdout") -> None:
        super().__init__(f"{source_name} and {sink_name}")
        self._source = source
        self._source_name = source_name
        self._ended = False
        self._sink = sink
        self._sink_name = sink_name
        self._size = SMALLEST_READ
        self._write: Callable[[memoryview], int] | None = None
        self._write_fd = sink
        self._closers: list[Callable[[], None]] = []

    @property
    def raw_source(self) -> int | None:
        """The descriptor that is read."""
        return self._source

    @property
    def raw_sink(self) -> int | None:
        """The descriptor that is written."""
        return self._sink

    async def recv(self) -> bytes:
        """See Stream."""
        while not self._ended:
            try:
                await readable(self._source)
                data = os.read(self._source, self._size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self.recv_failure(error) from error
            self._size = _next_size(self._size, len(data))
            self.count_received(len(data))
            self._ended = not data  # a terminal would go on after its ^D
            return data
        return b""

    async def send(self, data: bytes) -> None:
        """See Stream."""
        rest = memoryview(data)
        waited = False
        try:
            while rest:
                try:
                    taken = self.take(rest)
                except BlockingIOError:
                    if waited:  # a stopped terminal polls as writable and takes nothing
                        await sleep(_FULL_TTY_PAUSE)
                    await writable(self._write_fd)
                    waited = True
                    continue
                waited = False
                self.count_sent(taken)
                rest = rest[taken:]
        except OSError as error:
            raise self.send_failure(error) from error

    def take(self, data: memoryview) -> int:
        """Write what the sink takes at once, and return how many bytes that is; raise BlockingIOError if none."""
        return (self._write or self._choose_writer())(data)

    async def send_eof(self) -> None:
        """See Stream."""
        try:
            kind = os.fstat(self._sink).st_mode
            if stat.S_ISSOCK(kind):
                self._as_socket().shutdown(socket.SHUT_WR)
            elif stat.S_ISFIFO(kind) or stat.S_ISREG(kind):
                self._end_sink()
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EBADF):
                raise self.send_failure(error) from error

    def _end_sink(self) -> None:
        try:
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:  # no descriptor is left: its reader sees the end when we exit
            return
        try:
            last = os.dup(self._sink)
        except OSError:
            os.close(null)
            return
        closing(self._sink)
        os.dup2(null, self._sink)
        os.close(null)
        os.close(last)  # some file systems tell only now that the disk is full

    async def reader_left(self) -> None:
        """Wait until nobody reads what we write, then raise Failure. Only a pipe can tell."""
        if _is_pipe_end(self._sink):
            try:
                await readable(self._sink)  # a pipe's writing end is "readable" only when its reader has gone
            except OSError:  # ended by us
                return
            raise self.send_failure(OSError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def unacknowledged(self) -> int:
        """See Stream: what a file took is delivered."""
        return 0

    def check(self) -> None:
        """See Stream: a file knows no reset."""

    def close(self) -> None:
        """Let go of what was opened beside the two descriptors, which stay open."""
        for fd in (self._source, self._sink):
            closing(fd)
        while self._closers:
            self._closers.pop()()
        self._source = self._sink = self._write_fd = -1

    def abort(self) -> None:
        """Close: nothing stronger can be said to a file."""
        self.close()

    def _choose_writer(self) -> Callable[[memoryview], int]:
        """Find how to write without blocking the other direction, and without touching the descriptor's flags."""
        kind = os.fstat(self._sink).st_mode
        if stat.S_ISSOCK(kind):
            sock = self._as_socket()
            self._write = lambda data: sock.send(data, socket.MSG_DONTWAIT)
        elif stat.S_ISFIFO(kind):
            self._write = self._write_pipe if hasattr(os, "RWF_NOWAIT") else self._write_little
        elif os.isatty(self._sink):
            self._write = self._write_file if self._reopen() else self._write_little
        else:
            self._write = self._write_file
        return self._write

    def _as_socket(self) -> socket.socket:
        sock = socket.socket(fileno=os.dup(self._sink))
        self._closers.append(sock.close)
        return sock

    def _reopen(self) -> bool:
        """Open the terminal anew, without blocking; False where the system does not let us."""
        if os.fstat(self._sink).st_rdev == _PTMX:  # opened anew, this would be another terminal
            return False
        try:
            fd = os.open(f"/proc/self/fd/{self._sink}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return False
        self._write_fd = fd

        def let_go() -> None:
            closing(fd)
            os.close(fd)

        self._closers.append(let_go)
        return True

    def _write_file(self, data: memoryview) -> int:
        return os.write(self._write_fd, data)

    def _write_pipe(self, data: memoryview) -> int:
        try:
            return os.pwritev(self._sink, [data], -1, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._write = self._write_little
            raise BlockingIOError from error

    def _write_little(self, data: memoryview) -> int:
        """Write no more than what a descriptor that polls as writable takes without blocking."""
        poll = select.poll()
        poll.register(self._sink, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self._sink, data[: select.PIPE_BUF])

    def recv_failure(self, error: OSError) -> Failure:
        """See Stream."""
        return Failure(Exit.READ, f"read {self._source_name}", error)

    def send_failure(self, error: OSError) -> Failure:
        """See Stream."""
        return Failure(Exit.WRITE, f"write to {self._sink_name}", error)


def _next_size(size: int, got: int) -> int:
    """Grow by 4 while reads come back full, go back to the smallest when one comes back nearly empty."""
    if got == size:
        return min(size * 4, LARGEST_READ)
    if got * 16 < size:
        return SMALLEST_READ
    return size


def _is_pipe_end(fd: int) -> bool:
    """Whether ``fd`` is the writing end of a pipe, and no FIFO that was opened both ways."""
    try:
        one_way = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        return one_way and stat.S_ISFIFO(os.fstat(fd).st_mode)
    except (OSError, ValueError):  # closed
        return False


def _unacknowledged(sock: socket.socket) -> int:
    """Return the bytes in the send queue, sent or not, that the peer has not acknowledged."""
    if sys.platform == "linux":
        answer = fcntl.ioctl(sock.fileno(), _SIOCOUTQ, b"\0\0\0\0")
        return int(struct.unpack("i", answer)[0])
    return sock.getsockopt(socket.SOL_SOCKET, 0x1024)  # SO_NWRITE: Darwin's sys/socket.h


def _is_dead(sock: socket.socket) -> bool:
    """Whether a TCP connection is over for the kernel, so that what is unacknowledged will stay so."""
    state = getattr(socket, "TCP_INFO", None)
    return state is not None and sock.getsockopt(socket.IPPROTO_TCP, state, 1)[0] == _TCP_CLOSE
