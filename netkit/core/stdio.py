"""Two descriptors of the caller, such as stdin and stdout, as a Stream; and the lines of stdin."""

import errno
import fcntl
import os
import select
import socket
import stat
from collections.abc import AsyncIterator, Callable

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import notify_closing, readable, sleep, writable
from netkit.core.splice import enlarge
from netkit.core.stream import LARGEST_READ, SMALLEST_READ, Counts, RawEnd, next_size

_STDERR = 2

_FULL_TTY_PAUSE = 0.01  # s until a stopped terminal is tried again

_PTMX = os.makedev(5, 2)  # Documentation/admin-guide/devices.txt of Linux


class FileStream:
    """A descriptor to read and one to write, as one stream: terminals, pipes, files or sockets.

    They belong to the caller and may be shared with other processes: O_NONBLOCK is not set on them, and ``close``
    leaves them open. ``send_eof`` of a pipe or file replaces the sink by /dev/null, so that the reader sees its end. It
    shuts a socket down.
    """

    def __init__(self, source: int, sink: int, *, source_name: str = "stdin", sink_name: str = "stdout") -> None:
        self.name = " and ".join(name for fd, name in ((source, source_name), (sink, sink_name)) if fd >= 0)
        self.counts = Counts()
        self._source = source
        self._source_name = source_name
        self._ended = False
        self._sink = sink
        self._sink_name = sink_name
        self._size = SMALLEST_READ
        self._steady = False  # whether every read asks for the same size
        self._buffer = bytearray()
        self._read: Callable[[int], bytes] | None = None
        self._write: Callable[[memoryview], int] | None = None
        self._write_fd = sink
        self._closers: list[Callable[[], None]] = []

    def raw_source(self) -> RawEnd | None:
        return RawEnd(self._source, self.counts, self._recv_failure)

    def raw_sink(self) -> RawEnd | None:
        return RawEnd(self._sink, self.counts, self._send_failure)

    async def recv(self) -> bytes:
        while not self._ended:
            try:
                await readable(self._source)
                data = (self._read or self._choose_reader())(self._size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._recv_failure(error) from error
            if not self._steady:
                self._size = next_size(self._size, len(data))
            self.counts.add_received(len(data))
            self._ended = not data  # a terminal can be read on after its ^D
            return data
        return b""

    def read_in(self, size: int) -> None:
        """From now on read up to ``size`` bytes at a time, and enlarge a pipe, so that it can hold them."""
        self._size, self._steady = size, True
        if stat.S_ISFIFO(os.fstat(self._source).st_mode):
            enlarge(self._source)

    async def send(self, data: bytes) -> None:
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
                self.counts.add_sent(taken)
                rest = rest[taken:]
        except OSError as error:
            raise self._send_failure(error) from error

    def take(self, data: memoryview) -> int:
        """Write as much as possible without blocking, and return how many bytes; raise BlockingIOError if none."""
        return (self._write or self._choose_writer())(data)

    async def send_eof(self) -> None:
        try:
            kind = os.fstat(self._sink).st_mode
            if stat.S_ISSOCK(kind):
                # Messages may still follow on a socket that is also stderr, as under systemd, unless it is a client's.
                if not _is_same(self._sink, _STDERR) or _is_same(self._sink, self._source):
                    self._as_socket(self._sink).shutdown(socket.SHUT_WR)
            elif stat.S_ISFIFO(kind) or stat.S_ISREG(kind):
                self._end_sink()
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EBADF):
                raise self._send_failure(error) from error

    def _end_sink(self) -> None:
        try:
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:  # no descriptor is free: the reader sees the end when we exit
            return
        try:
            last = os.dup(self._sink)
        except OSError:
            os.close(null)
            return
        notify_closing(self._sink)
        os.dup2(null, self._sink)
        os.close(null)
        os.close(last)  # not by dup2, which hides errors: some file systems report a full disk only at close(2)

    async def reader_left(self) -> None:
        """Wait until the reader of our output has left, then raise Failure. Returns at once unless it is a pipe."""
        if _is_pipe_end(self._sink):
            try:
                await readable(self._sink)  # a pipe's writing end is "readable" only when its reader has gone
            except OSError:  # ended by us
                return
            raise self._send_failure(OSError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def close(self) -> None:
        """Close what was opened for the two descriptors, which stay open themselves."""
        for fd in (self._source, self._sink):
            notify_closing(fd)
        while self._closers:
            self._closers.pop()()
        self._source = self._sink = self._write_fd = -1
        self._read = self._write = None  # methods of this object: breaks the reference cycle

    def abort(self) -> None:
        """Close: a file has no reset."""
        self.close()

    def _choose_reader(self) -> Callable[[int], bytes]:
        """Choose how to read without blocking. (After poll another process may have read what was there.)"""
        kind = os.fstat(self._source).st_mode
        if stat.S_ISSOCK(kind):
            sock = self._as_socket(self._source)
            least = 0 if sock.type == socket.SOCK_STREAM else LARGEST_READ  # the rest of a datagram would be lost
            self._read = lambda size: sock.recv(max(size, least), socket.MSG_DONTWAIT)
        elif stat.S_ISFIFO(kind) and hasattr(os, "RWF_NOWAIT"):
            self._read = self._read_pipe
        elif os.isatty(self._source) and (fd := self._reopen(self._source, os.O_RDONLY)) is not None:
            self._read = lambda size: os.read(fd, size)
        else:
            self._read = lambda size: os.read(self._source, size)
        return self._read

    def _read_pipe(self, size: int) -> bytes:
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        room = memoryview(self._buffer)[:size]
        try:
            return bytes(room[: os.preadv(self._source, [room], -1, os.RWF_NOWAIT)])
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._read = lambda size: os.read(self._source, size)
            raise BlockingIOError from error

    def _choose_writer(self) -> Callable[[memoryview], int]:
        """Choose how to write without blocking, and without changing the flags of the descriptor."""
        kind = os.fstat(self._sink).st_mode
        if stat.S_ISSOCK(kind):
            sock = self._as_socket(self._sink)
            self._write = lambda data: sock.send(data, socket.MSG_DONTWAIT)
        elif stat.S_ISFIFO(kind):
            self._write = self._write_pipe if hasattr(os, "RWF_NOWAIT") else self._write_little
        elif os.isatty(self._sink):
            fd = self._reopen(self._sink, os.O_WRONLY)
            self._write = self._write_little if fd is None else self._write_file
            self._write_fd = self._sink if fd is None else fd
        else:
            self._write = self._write_file
        return self._write

    def _as_socket(self, fd: int) -> socket.socket:
        sock = socket.socket(fileno=os.dup(fd))
        self._closers.append(sock.close)
        return sock

    def _reopen(self, terminal: int, mode: int) -> int | None:
        """Open a terminal a second time, with O_NONBLOCK; None if the system refuses."""
        if os.fstat(terminal).st_rdev == _PTMX:  # every open(2) of it makes another terminal
            return None
        try:
            fd = os.open(f"/proc/self/fd/{terminal}", mode | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return None

        def let_go() -> None:
            notify_closing(fd)
            os.close(fd)

        self._closers.append(let_go)
        return fd

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
        """Write at most PIPE_BUF bytes, which a descriptor that polls as writable takes without blocking: pipe(7)."""
        poll = select.poll()
        poll.register(self._sink, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self._sink, data[: select.PIPE_BUF])

    def _recv_failure(self, error: OSError) -> Failure:
        return Failure(Exit.READ, f"read {self._source_name}", error)

    def _send_failure(self, error: OSError) -> Failure:
        return Failure(Exit.WRITE, f"write to {self._sink_name}", error)


async def iter_lines(what: str, most: int) -> AsyncIterator[str]:
    """Yield the lines of standard input as they come, stripped of white space.

    ``what`` is what the lines have, for messages. Raises Failure READ, also if one is longer than ``most`` bytes.
    """

    def check(line: bytes) -> None:
        if len(line) > most:
            raise Failure(Exit.READ, f"read {what} from stdin", f"a line is longer than {most} bytes")

    stdin = FileStream(0, -1)
    rest = b""
    try:
        while data := await stdin.recv():
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                check(line)
                yield line.decode("utf-8", "surrogateescape").strip()
            check(rest)
        if rest:
            yield rest.decode("utf-8", "surrogateescape").strip()
    finally:
        stdin.close()


def _is_pipe_end(fd: int) -> bool:
    """Whether ``fd`` is the writing end of a pipe, and not a FIFO that was opened for reading and writing."""
    try:
        one_way = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        return one_way and stat.S_ISFIFO(os.fstat(fd).st_mode)
    except (OSError, ValueError):  # closed
        return False


def _is_same(one: int, other: int) -> bool:
    """Whether two descriptors are of the same file or socket."""
    try:
        return os.path.sameopenfile(one, other)
    except OSError:  # closed
        return False
