"""splice(2) and sendfile(2): the system's kernel moves bytes between two descriptors, without a copy in this process.

Linux only. It is an optimization: where the system refuses, the caller copies the bytes.
"""

import errno
import fcntl
import os
import select
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

from netkit.core.flow import Flow
from netkit.core.kernel import DeadlineExceeded, deadline, now, readable, sleep, writable
from netkit.core.stream import RawEnd, Stream, raw_sink, raw_source

_CHUNK = 1 << 20
_PIPE_SIZE = 1 << 20  # the most that an ordinary user may ask for: pipe(7), pipe-max-size
_PAUSE = 0.001  # s between two tries while both ends are ready and yet nothing moves
# While bulk data comes, a socket wakes us only for so many bytes, and a moment after fewer: a step costs as much as
# to move 100 KB does.
_BATCH = 256 * 1024
_MUCH = _BATCH // 4  # bytes of a step after which a batch is waited for
_MOMENT = 0.001  # s, the shortest time that epoll_wait(2) counts
_SOCKET_ERRORS = (
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.ENOBUFS,
)


Ready = Callable[[int], Awaitable[None]]
"""Waits until the source is readable; the argument is how many bytes the last step moved."""


async def move(source: Stream, sink: Stream, flow: Flow, most: int | None = None) -> None:
    """Move bytes for as long as the system's kernel can; the caller then goes on with ``recv``, also at the end.

    At most ``most`` bytes are moved (None: no limit). Raises the Failures of ``source.recv`` and ``sink.send``.
    """
    near, far = raw_source(source), raw_sink(sink)
    if sys.platform != "linux" or near is None or far is None:
        return
    if near.limit is not None:
        most = near.limit if most is None else min(most, near.limit)
    kind, target = os.fstat(near.fd).st_mode, os.fstat(far.fd).st_mode
    if stat.S_ISREG(kind) and stat.S_ISSOCK(target):
        await _direct(near, far, _sendfile, flow, most)
    elif stat.S_ISFIFO(kind) and stat.S_ISSOCK(target):
        enlarge(near.fd)
        await _direct(near, far, _splice, flow, most)
    elif stat.S_ISSOCK(kind) and stat.S_ISFIFO(target):
        enlarge(far.fd)
        with _Batches(near.fd) as ready:
            await _direct(near, far, _splice, flow, most, ready)
    elif stat.S_ISSOCK(kind) and stat.S_ISSOCK(target) and not os.get_blocking(far.fd):
        await _through_a_pipe(near, far, sink, flow, most)
    elif stat.S_ISSOCK(kind) and (stat.S_ISREG(target) or stat.S_ISCHR(target)) and not os.isatty(far.fd):
        # Not to a terminal: if it is stopped, splice(2) blocks the whole process, and signals are not handled.
        with _Batches(near.fd) as ready:
            await _through_a_pipe(near, far, sink, flow, most, ready)


class _Batches:
    """Waits until a socket is readable, and for ``_BATCH`` bytes of it while bulk data comes: SO_RCVLOWAT, socket(7).

    Not for a sink that is a socket: there the rest of a message may be what a peer waits for.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._least = 1

    def __enter__(self) -> Ready:
        return self._ready

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # it may be closed
            self._set(1)

    async def _ready(self, moved: int) -> None:
        if moved >= _MUCH:
            self._set(_BATCH)
        if self._least > 1:
            try:
                with deadline(now() + _MOMENT):
                    await readable(self._fd)
                return
            except DeadlineExceeded:
                self._set(1)
        await readable(self._fd)

    def _set(self, least: int) -> None:
        if least != self._least:
            sock = socket.socket(fileno=self._fd)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            finally:
                sock.detach()
            self._least = least


async def _direct(
    source: RawEnd,
    sink: RawEnd,
    step: Callable[[int, int, int], int],
    flow: Flow,
    most: int | None,
    ready: Ready | None = None,
) -> None:
    src, dst = source.fd, sink.fd
    stuck = False
    count = 0
    while most is None or most > 0:
        flow.wait()
        try:
            await (readable(src) if ready is None else ready(count))
            count = step(src, dst, _size(most))
        except BlockingIOError:
            flow.offer(0)  # the source is readable, so it is the sink that we wait for
            try:
                if stuck and stat.S_ISSOCK(os.fstat(src).st_mode):
                    return  # both ends are ready: urgent data, at which splice(2) stops and recv(2) does not
                if stuck:
                    await sleep(_PAUSE)
                stuck = True
                await writable(dst)
            except BaseException:
                flow.offer(_pending(src))
                raise
            continue
        except OSError as error:
            if _is_sinks(error, dst):
                flow.offer(_pending(src))
                raise sink.failure(error) from error
            if error.errno in _SOCKET_ERRORS and stat.S_ISSOCK(os.fstat(src).st_mode):
                raise source.failure(error) from error
            return  # splice is refused, or it is an error that ``recv`` will get again
        if not count:
            return
        stuck = False
        most = None if most is None else most - count
        source.counts.add_received(count)
        flow.offer(count)
        sink.counts.add_sent(count)


async def _through_a_pipe(
    source: RawEnd, sink: RawEnd, stream: Stream, flow: Flow, most: int | None, ready: Ready | None = None
) -> None:
    src, dst = source.fd, sink.fd
    count = 0
    try:
        out, into = os.pipe()
    except OSError:
        return
    try:
        enlarge(into)
        stuck = False
        while most is None or most > 0:
            flow.wait()
            try:
                await (readable(src) if ready is None else ready(count))
                count = left = _splice(src, into, _size(most))
            except BlockingIOError:
                if stuck:
                    return  # urgent data, see above
                stuck = True
                continue
            except OSError as error:
                if error.errno in _SOCKET_ERRORS:
                    raise source.failure(error) from error
                return
            if not left:
                return
            stuck = False
            most = None if most is None else most - left
            source.counts.add_received(left)
            flow.offer(left)
            while left:
                try:
                    sent = os.splice(out, dst, left)
                except BlockingIOError:  # only from a socket: a file takes all, or fails
                    await writable(dst)
                    continue
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise sink.failure(error) from error
                    await _by_hand(out, stream, left)
                    return
                sink.counts.add_sent(sent)
                left -= sent
    finally:
        os.close(out)
        os.close(into)


async def _by_hand(out: int, sink: Stream, left: int) -> None:
    """Copy what is in the pipe to a sink that splice refuses, such as a file that is appended to."""
    while left:
        data = os.read(out, left)
        left -= len(data)
        await sink.send(data)


def _pending(src: int) -> int:
    """How many bytes of the source a failed step was about to send: they count as offered, and are lost."""
    status = os.fstat(src)
    if stat.S_ISREG(status.st_mode):
        return min(max(status.st_size - os.lseek(src, 0, os.SEEK_CUR), 0), _CHUNK)
    import termios

    return int.from_bytes(fcntl.ioctl(src, termios.FIONREAD, bytes(4)), sys.byteorder)


def _size(most: int | None) -> int:
    return _CHUNK if most is None else min(most, _CHUNK)


def _splice(src: int, dst: int, size: int) -> int:
    # With NONBLOCK a pipe gives EAGAIN even if it is in blocking mode, whose flags are not ours to change.
    return os.splice(src, dst, size, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)


def _sendfile(src: int, dst: int, size: int) -> int:
    return os.sendfile(dst, src, None, size)


def enlarge(pipe: int) -> None:
    """Set the capacity of a pipe to 1 MiB, if the system allows it."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    except OSError:
        pass  # the user has many large pipes already: pipe(7), pipe-user-pages-soft


def _is_sinks(error: OSError, dst: int) -> bool:
    """Whether an error of splice(2) or sendfile(2) between two descriptors comes from the sink."""
    if stat.S_ISSOCK(os.fstat(dst).st_mode):
        return error.errno in _SOCKET_ERRORS
    poll = select.poll()
    poll.register(dst, 0)
    return error.errno == errno.EPIPE and any(events & select.POLLERR for _, events in poll.poll(0))
