"""Streams over TCP, unix sockets, files and memory: the common contract, and what is particular to each."""

import errno
import fcntl
import os
import pty
import socket
import struct
import termios
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from netkit.core import kernel
from netkit.core.connection import acknowledged
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group, deadline, now, sleep
from netkit.core.socket_stream import SocketStream
from netkit.core.splice import enlarge
from netkit.core.stdio import FileStream
from netkit.core.stream import LARGEST_READ, SMALLEST_READ, Stream, raw_source
from tests import memory
from tests.clock import in_real_time, on_kernel
from tests.contract import (
    EVERY,
    TCP,
    UNIX,
    Check,
    MakePair,
    check_stream,
    pattern,
    read_all,
    read_exactly,
    send_without_end,
    until_held_back,
)
from tests.support import read_all as receive_all
from tests.support import reset
from tests.support.peers import tcp_sockets
from tests.support.streams import streams_of

# -- pairs


def tcp4() -> Any:
    """A TCP connection over IPv4."""
    return streams_of(tcp_sockets())


def tcp6() -> Any:
    """A TCP connection over IPv6."""
    return streams_of(tcp_sockets("::1"))


def unix() -> Any:
    """A pair of unix sockets."""
    return streams_of(socket.socketpair())


@asynccontextmanager
async def in_memory() -> AsyncIterator[tuple[Stream, Stream]]:
    """A connection in memory."""
    yield memory.pair()


@contextmanager
def files(source: int, sink: int) -> Iterator[FileStream]:
    """A stream of two descriptors, of which -1 is none; it is closed at the end."""
    stream = FileStream(source, sink)
    try:
        yield stream
    finally:
        stream.close()


@asynccontextmanager
async def pipes() -> AsyncIterator[tuple[Stream, Stream]]:
    """Two pipes, as between a program and its parent."""
    there, back = os.pipe(), os.pipe()
    try:
        with files(back[0], there[1]) as a, files(there[0], back[1]) as b:
            yield a, b
    finally:
        for fd in (*there, *back):
            os.close(fd)


@asynccontextmanager
async def sockets_as_files() -> AsyncIterator[tuple[Stream, Stream]]:
    """One socket as both stdin and stdout, as from inetd."""
    one, other = socket.socketpair()
    with one, other, files(one.fileno(), one.fileno()) as a, files(other.fileno(), other.fileno()) as b:
        yield a, b


TRANSPORTS: list[tuple[MakePair, tuple[Check, ...]]] = [
    (tcp4, TCP),
    (tcp6, TCP),
    (unix, UNIX),
    (in_memory, TCP),
    (pipes, EVERY),
    (sockets_as_files, EVERY),
]


@pytest.mark.parametrize(
    ("make_pair", "check"),
    [
        pytest.param(
            make_pair,
            check,
            id=f"{make_pair.__name__}-{check.__name__}",
            marks=[pytest.mark.ipv6] if make_pair is tcp6 else [],
        )
        for make_pair, checks in TRANSPORTS
        for check in checks
    ],
)
def test_contract(make_pair: MakePair, check: Check) -> None:
    """Every kind of stream keeps the contract."""
    check_stream(make_pair, check)


# -- TCP


def queued(stream: Stream) -> int:
    """Return how many received bytes of a socket are still unread."""
    end = raw_source(stream)
    assert end is not None
    return int(struct.unpack("i", fcntl.ioctl(end.fd, termios.FIONREAD, b"\0\0\0\0"))[0])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the system does in its own time, such as a delayed acknowledgement."""
    while not condition():
        await sleep(0.001)


async def fill(a: Any, b: Any) -> None:
    """Send to a peer that does not read, until its buffers are full and it has acknowledged what is in them."""
    async with Group() as group:
        group.start_soon(send_without_end(a))
        await until_held_back(a)
        group.cancel()
    await until(lambda: a.unacknowledged() == a.counts.sent - queued(b))


@in_real_time
async def test_after_a_reset_the_count_of_unacknowledged_bytes_is_right() -> None:
    """Bytes that the peer's kernel had received before the reset count as delivered, all others do not."""
    async with streams_of(tcp_sockets()) as (a, b):
        await fill(a, b)
        delivered = queued(b)
        assert 0 < delivered < a.counts.sent
        b.abort()
        with pytest.raises(Failure):
            await a.recv()
        assert a.counts.sent - a.unacknowledged() == delivered
        with pytest.raises(Failure) as caught:
            a.raise_if_reset()
        assert caught.value.exit is Exit.RECV
        with pytest.raises(Failure):
            await acknowledged(a)


@in_real_time
async def test_the_end_itself_counts_as_no_byte() -> None:
    """Our FIN is not counted among the unacknowledged bytes, before or after a reset."""
    async with streams_of(tcp_sockets()) as (a, b):
        await fill(a, b)
        before = a.unacknowledged()
        assert before
        await a.send_eof()
        assert a.unacknowledged() == before
        b.abort()
        with pytest.raises(Failure):
            await a.recv()
        assert a.unacknowledged() == before


@pytest.mark.parametrize("ended", [False, True])
@in_real_time
async def test_after_a_reset_with_everything_acknowledged_nothing_counts_as_lost(ended: bool) -> None:
    """If the peer resets after it acknowledged everything, no byte counts as lost, even if we had sent our end."""
    async with streams_of(tcp_sockets()) as (a, b):
        await a.send(b"all of it")
        await b.recv()
        if ended:
            await a.send_eof()
            assert await b.recv() == b""
        await acknowledged(a)
        b.abort()
        with pytest.raises(Failure) as caught:
            await a.recv()
        assert caught.value.errno == errno.ECONNRESET
        assert a.unacknowledged() == 0


CLOSE = 7  # net/tcp_states.h


class Interleaved(SocketStream):
    """A stream that calls ``then`` right after ``unacknowledged``."""

    then: Callable[[], None] | None = None

    def unacknowledged(self) -> int:
        count = super().unacknowledged()
        then, self.then = self.then, None
        if then is not None:
            then()
        return count


@in_real_time
async def test_the_last_acknowledgement_amid_a_check_is_no_reset() -> None:
    """If the peer, which ended first, acknowledges our last bytes during ``raise_if_reset``, that is no reset.

    The last acknowledgement closes the socket if both sides have ended.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listener.getsockname())
        ours, _ = listener.accept()
        peer.shutdown(socket.SHUT_WR)
        stream = Interleaved(ours, "peer")

        def take_all() -> None:
            receive_all(peer)
            while ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != CLOSE:
                pass

        try:
            assert await stream.recv() == b""
            stream.counts.add_sent(ours.send(bytes(1_000_000)))  # more than the peer can buffer
            await stream.send_eof()
            assert stream.unacknowledged()
            stream.then = take_all
            stream.raise_if_reset()
        finally:
            stream.close()


@in_real_time
async def test_what_came_before_a_reset_is_still_read() -> None:
    """If sending fails because of a reset, data that the peer sent before can still be received."""
    async with streams_of(tcp_sockets()) as (a, b):
        await b.send(b"no, because")
        await until(lambda: queued(a) == 11)
        b.abort()
        with pytest.raises(Failure):
            await send_without_end(a)
        assert await a.recv() == b"no, because"


@in_real_time
async def test_a_reset_that_connecting_has_told_is_the_reason_of_later_failures() -> None:
    """After connect(2) has returned the reset, the system says only that there is no connection."""
    stream = SocketStream(socket.socket(), "db:1", reset=errno.ECONNRESET)
    for call in (stream.recv, lambda: stream.send(b"x")):
        with pytest.raises(Failure) as caught:
            await call()
        assert (caught.value.errno, caught.value.reason) == (errno.ECONNRESET, "connection reset by peer")
    stream.close()


@in_real_time
async def test_a_failure_names_the_stream_and_the_reason() -> None:
    """The message says what was being done, with which peer, and why it failed."""
    client, served = tcp_sockets()
    stream = SocketStream(client, "db:5432")
    reset(served)
    with pytest.raises(Failure, match=r"^cannot receive from db:5432: connection reset by peer$"):
        await stream.recv()
    with pytest.raises(Failure, match=r"^cannot send to db:5432: broken pipe$"):
        await stream.send(b"x")
    with pytest.raises(Failure, match=r"^cannot send the end to db:5432: "):
        await stream.send_eof()
    stream.close()


@pytest.mark.parametrize(("make_pair", "largest"), [(tcp4, LARGEST_READ), (pipes, 64 * 1024)])  # a pipe holds 64 KiB
@in_real_time
async def test_reads_grow_with_the_flood_and_shrink_after_it(make_pair: MakePair, largest: int) -> None:
    """The first read is small, later ones grow up to the limit, and one that gets little makes the next small again."""
    async with make_pair() as (a, b):
        sizes = []
        async with Group() as group:
            group.start_soon(send_without_end(a))
            for _ in range(6):
                await until_held_back(a)
                sizes.append(len(await b.recv()))
            group.cancel()
        assert (sizes[0], max(sizes)) == (SMALLEST_READ, largest)
        await read_exactly(b, a.counts.sent - b.counts.received)
        await a.send(b"x")
        assert await b.recv() == b"x"
        await a.send(bytes(40_000))
        await until(lambda: queued(b) == 40_000)
        assert len(await b.recv()) == SMALLEST_READ


@in_real_time
async def test_reads_of_one_size_are_taken_whole_from_a_pipe() -> None:
    """After ``read_in`` each read asks for so much, which the pipe can hold."""
    with pipe() as (reader, _):
        enlarge(reader.fileno())
        if fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ) < MEGABYTE:
            pytest.skip("this system lets us enlarge no pipe")
    async with pipes() as (a, b), Group() as group:
        b.read_in(200_000)
        group.start_soon(a.send(bytes(500_000)))
        await until_held_back(a)
        assert len(await b.recv()) == len(await b.recv()) == 200_000
        assert len(await b.recv()) == 100_000


# -- files

MEGABYTE = 1 << 20


@contextmanager
def opened(path: str | Path, flags: int) -> Iterator[int]:
    """Open a file, and close it at the end."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Yield the two ends of a pipe; a test may close either of them earlier."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as read, open(writer, "wb", buffering=0) as write:
        yield read, write


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal in raw mode: what is written to one end can be read from the other."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


@contextmanager
def two_ends(kind: str) -> Iterator[tuple[int, int]]:
    """The descriptors of two ends of a pipe, a unix socket or a terminal: from the second bytes go to the first."""
    if kind == "terminal":
        with terminal() as ends:
            yield ends
    elif kind == "pipe":
        with pipe() as (reader, writer):
            yield reader.fileno(), writer.fileno()
    else:
        one, other = socket.socketpair()
        with one, other:
            yield one.fileno(), other.fileno()


@in_real_time
async def test_a_regular_file_is_read_to_its_end_and_written_whole(tmp_path: Path) -> None:
    """Regular files, which epoll refuses, can be read and written, and the end is reported repeatedly."""
    data = pattern(MEGABYTE)
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.write_bytes(data)
    with (
        opened(source, os.O_RDONLY) as read,
        opened(sink, os.O_WRONLY | os.O_CREAT) as write,
        files(read, write) as stream,
    ):
        await stream.send(await read_all(stream))
        assert await stream.recv() == b""
        assert stream.counts.received == stream.counts.sent == len(data)
    assert sink.read_bytes() == data


@in_real_time
async def test_an_appended_file_keeps_what_it_had(tmp_path: Path) -> None:
    """A file that was opened for appending is appended to."""
    path = tmp_path / "log"
    path.write_bytes(b"before ")
    with opened(path, os.O_WRONLY | os.O_APPEND) as sink, files(-1, sink) as stream:
        await stream.send(b"after")
    assert path.read_bytes() == b"before after"


@in_real_time
async def test_dev_null_is_empty_and_takes_everything() -> None:
    """/dev/null is always at its end, and accepts all data."""
    with opened(os.devnull, os.O_RDWR) as null, files(null, null) as stream:
        assert [await stream.recv(), await stream.recv()] == [b"", b""]
        await stream.send(bytes(MEGABYTE))
        await stream.send_eof()
        assert stream.counts.sent == MEGABYTE


@pytest.mark.parametrize(
    ("path", "flags", "reason"),
    [("/dev/full", os.O_WRONLY, "no space left on device"), (os.devnull, os.O_RDONLY, "bad file descriptor")],
    ids=["full", "read-only"],
)
@in_real_time
async def test_what_cannot_be_written_is_a_write_failure(path: str, flags: int, reason: str) -> None:
    """A full device, or a descriptor that is not for writing, fails with the reason."""
    with opened(path, flags) as sink, files(-1, sink) as stream, pytest.raises(Failure) as caught:
        await stream.send(b"x")
    assert caught.value.exit is Exit.WRITE
    assert str(caught.value) == f"cannot write to stdout: {reason}"


@pytest.mark.parametrize(
    ("path", "flags", "code"),
    [
        pytest.param(os.sep, os.O_RDONLY, errno.EISDIR, id="directory"),
        pytest.param(os.devnull, os.O_WRONLY, errno.EBADF, id="write-only"),
    ],
)
@in_real_time
async def test_what_cannot_be_read_is_a_read_failure(path: str, flags: int, code: int) -> None:
    """A source that cannot be read fails, and does not look like an empty one."""
    with opened(path, flags) as source, files(source, -1) as stream, pytest.raises(Failure) as caught:
        await stream.recv()
    assert caught.value.exit is Exit.READ
    assert caught.value.errno == code


@in_real_time
async def test_a_pipe_whose_reader_left_is_a_write_failure() -> None:
    """EPIPE on our own output is a failure of writing, not of sending."""
    with pipe() as (reader, writer), files(-1, writer.fileno()) as stream, pytest.raises(Failure) as caught:
        reader.close()
        await stream.send(b"x")
    assert caught.value.exit is Exit.WRITE
    assert caught.value.errno == errno.EPIPE


def flags_of(*fds: int) -> list[int]:
    """Return the file status flags of descriptors."""
    return [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in fds]


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
@in_real_time
async def test_the_flags_of_the_descriptors_never_change(kind: str) -> None:
    """The flags of the descriptors, which other processes may share, are not changed while we use them."""
    with two_ends(kind) as (reader, sink), two_ends(kind) as (source, feeder):
        fds = reader, sink, source, feeder
        before = flags_of(*fds)
        assert not any(flags & os.O_NONBLOCK for flags in before)
        with files(source, sink) as stream:
            async with Group() as group:
                group.start_soon(send_without_end(stream))
                await until_held_back(stream)
                assert flags_of(*fds) == before
                group.cancel()
        assert flags_of(*fds) == before


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
@on_kernel
async def test_a_full_sink_goes_on_without_a_pause(kind: str, blocking: bool) -> None:
    """As soon as there is room again more is written, also if the descriptors have O_NONBLOCK, as shared ones may."""
    data = pattern(MEGABYTE)
    with two_ends(kind) as ends:
        for fd in ends:
            os.set_blocking(fd, blocking)
        with files(*ends) as stream:
            async with Group() as group:
                group.start_soon(stream.send(data))
                assert await read_exactly(stream, len(data)) == data
    assert now() == 0


@in_real_time
async def test_a_terminal_gets_every_byte() -> None:
    """A terminal gets much more data than it buffers, as fast as it is read."""
    data = pattern(300_000)
    with terminal() as (master, slave), files(slave, slave) as ours, files(master, -1) as screen:
        async with Group() as group:
            group.start_soon(ours.send(data))
            assert await read_exactly(screen, len(data)) == data


@on_kernel
async def test_a_stopped_terminal_is_waited_for_and_not_spun_on() -> None:
    """While a terminal is stopped the sender waits without spinning, and it goes on when the terminal is started."""
    with terminal() as (master, slave), files(slave, slave) as stream:
        termios.tcflow(slave, termios.TCOOFF)
        async with Group() as group:
            group.start_soon(stream.send(b"x" * 100))
            await sleep(1)
            os.set_blocking(master, False)
            with pytest.raises(BlockingIOError):
                os.read(master, 100)
            termios.tcflow(slave, termios.TCOON)
        os.set_blocking(master, True)
        assert os.read(master, 200) == b"x" * 100


class Full(FileStream):
    """Takes nothing within the first second, although it polls as writable, as some full terminals do."""

    def take(self, data: memoryview) -> int:
        if now() < 1:
            raise BlockingIOError
        return super().take(data)


@on_kernel
async def test_a_sink_that_polls_as_writable_and_takes_nothing_is_not_spun_on() -> None:
    """It is tried again after pauses."""
    with pipe() as (reader, writer):
        await Full(-1, writer.fileno()).send(b"at last")
        assert reader.read(10) == b"at last"


@in_real_time
async def test_nobody_reads_a_pipe_any_more() -> None:
    """``reader_left`` waits while the pipe has a reader, and then fails as a write would."""
    with pipe() as (reader, writer), pytest.raises(Failure) as caught:
        stream = FileStream(-1, writer.fileno())
        async with Group() as group:
            watching = group.start_soon(stream.reader_left())
            await stream.send(b"unread")
            for _ in range(10):
                await sleep(0)
            assert not watching.finished.is_set()
            reader.close()
    assert caught.value.exit is Exit.WRITE
    assert caught.value.errno == errno.EPIPE


@in_real_time
async def test_a_fifo_open_both_ways_still_has_its_reader(tmp_path: Path) -> None:
    """Unread data in a FIFO that is open for reading and writing does not count as a reader that left."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with opened(path, os.O_RDWR) as fifo, files(-1, fifo) as stream:
        async with Group() as group:
            group.start_soon(stream.reader_left())
            await stream.send(b"unread")
            for _ in range(10):
                await sleep(0)
            assert os.read(fifo, 100) == b"unread"
            group.cancel()


@in_real_time
async def test_only_a_pipe_can_tell_that_its_reader_left(tmp_path: Path) -> None:
    """For anything but a pipe ``reader_left`` returns at once."""
    with opened(tmp_path / "file", os.O_RDWR | os.O_CREAT) as file:
        await FileStream(file, file).reader_left()


async def close(stream: FileStream) -> None:
    """Close a stream."""
    stream.close()


@pytest.mark.parametrize("end", [FileStream.send_eof, close])
@in_real_time
async def test_our_own_end_is_no_reader_that_left(end: Callable[[FileStream], Awaitable[None]]) -> None:
    """After ``send_eof`` or ``close`` on our side, ``reader_left`` returns without a failure."""
    with pipe() as (_, writer), files(-1, writer.fileno()) as stream:
        async with Group() as group:
            group.start_soon(stream.reader_left())
            await sleep(0)
            await sleep(0)
            await end(stream)


@in_real_time
async def test_the_end_of_a_pipe_reaches_its_reader_and_keeps_the_number() -> None:
    """After our end the reader gets the end, and the descriptor is still open, so that its number is not reused."""
    with pipe() as (reader, writer), files(-1, writer.fileno()) as stream:
        await stream.send(b"last words")
        await stream.send_eof()
        assert reader.read(100) == b"last words"
        assert reader.read(100) == b""
        assert os.fstat(writer.fileno()).st_rdev == os.stat(os.devnull).st_rdev
        await stream.send_eof()


@in_real_time
async def test_the_end_of_a_socket_reaches_its_reader() -> None:
    """A socket is shut down for writing alone."""
    one, other = socket.socketpair()
    with one, other, files(-1, one.fileno()) as stream:
        await stream.send(b"x")
        await stream.send_eof()
        assert other.recv(10) == b"x"
        assert other.recv(10) == b""
        other.send(b"y")
        assert one.recv(10) == b"y"


@in_real_time
async def test_an_end_that_nobody_can_get_is_no_failure() -> None:
    """Where stdout is closed, or a socket without a peer, there is nothing to end."""
    with socket.socket() as alone:
        for sink in (-1, alone.fileno()):
            with files(-1, sink) as stream:
                await stream.send_eof()


@in_real_time
async def test_our_end_changes_no_terminal() -> None:
    """A terminal can be written to after ``send_eof``."""
    with terminal() as (master, slave), files(slave, slave) as stream:
        await stream.send_eof()
        await stream.send(b"still there")
        assert os.read(master, 100) == b"still there"


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
@in_real_time
async def test_closing_lets_go_of_what_was_opened_beside(kind: str) -> None:
    """``close`` closes the stream's own descriptors, but not those of the caller."""
    with two_ends(kind) as (_, fd):
        before = os.listdir("/proc/self/fd")
        with files(fd, fd) as stream:
            await stream.send(b"x")
        os.fstat(fd)
        assert os.listdir("/proc/self/fd") == before


@in_real_time
async def test_a_closed_file_stream_writes_into_nobody_elses_file(tmp_path: Path) -> None:
    """After ``close`` nothing is written to a new file with the number of the terminal's own descriptor."""
    with terminal() as (_, slave), files(slave, slave) as stream:
        await stream.send(b"x")
        stream.close()
        with opened(tmp_path / "file", os.O_WRONLY | os.O_CREAT):
            try:
                await stream.send(b"astray")
            except OSError:
                pass
            stream.close()
    assert (tmp_path / "file").read_bytes() == b""


@in_real_time
async def test_a_blocked_sink_stops_no_other_task() -> None:
    """A full pipe does not block the loop, so that a deadline can end the wait."""
    with pipe() as (_, writer), files(-1, writer.fileno()) as stream:
        with pytest.raises(kernel.DeadlineExceeded), deadline(now() + 0.05):
            await stream.send(bytes(MEGABYTE))
        assert stream.counts.sent == fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)


@pytest.mark.parametrize("names", [("stdin", "stdout"), ("upload", "download")])
@in_real_time
async def test_failures_name_the_file(names: tuple[str, str]) -> None:
    """Messages use the names given for source and sink."""
    with opened(os.sep, os.O_RDONLY) as source, opened("/dev/full", os.O_WRONLY) as sink:
        stream = FileStream(source, sink, source_name=names[0], sink_name=names[1])
        with pytest.raises(Failure, match=f"^cannot read {names[0]}: is a directory$"):
            await stream.recv()
        with pytest.raises(Failure, match=f"^cannot write to {names[1]}: no space left on device$"):
            await stream.send(b"x")
        stream.close()
