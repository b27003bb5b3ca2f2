"""Streams over TCP, unix sockets, files and memory: the common contract, and what is particular to each."""

import errno
import fcntl
import os
import pty
import socket
import struct
import termios
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from netkit.core import kernel
from netkit.core.connection import acknowledged
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group, Poll, deadline, now, sleep
from netkit.core.socket_stream import SocketStream
from netkit.core.stdio import FileStream
from netkit.core.stream import LARGEST_READ, SMALLEST_READ, Stream, raw_source
from tests import memory
from tests.contract import (
    CONNECTED,
    EVERY,
    OWNING,
    RESETTING,
    Check,
    MakePair,
    check_stream,
    pattern,
    read_all,
    send_without_end,
    until_held_back,
)
from tests.support import PATIENCE, reset
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


@asynccontextmanager
async def pipes() -> AsyncIterator[tuple[Stream, Stream]]:
    """Two pipes, as between a program and its parent."""
    there, back = os.pipe(), os.pipe()
    a, b = FileStream(back[0], there[1]), FileStream(there[0], back[1])
    try:
        yield a, b
    finally:
        a.close()
        b.close()
        for fd in (*there, *back):
            os.close(fd)


@asynccontextmanager
async def sockets_as_files() -> AsyncIterator[tuple[Stream, Stream]]:
    """One socket as both stdin and stdout, as from inetd."""
    one, other = socket.socketpair()
    a, b = FileStream(one.fileno(), one.fileno()), FileStream(other.fileno(), other.fileno())
    with one, other:
        yield a, b
        a.close()
        b.close()


TRANSPORTS: list[tuple[MakePair, tuple[Check, ...]]] = [
    (tcp4, EVERY + CONNECTED + OWNING + RESETTING),
    (tcp6, EVERY + CONNECTED + OWNING + RESETTING),
    (unix, EVERY + CONNECTED + OWNING),
    (in_memory, EVERY + CONNECTED + OWNING + RESETTING),
    (pipes, EVERY),
    (sockets_as_files, EVERY),
]


@pytest.mark.parametrize(
    ("make_pair", "check"),
    [
        pytest.param(
            make_pair,
            check,
            id=f"{make_pair.__name__}-{check.__name__}",  # type: ignore[attr-defined]
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
    with deadline(now() + PATIENCE):
        while not condition():
            await sleep(0.001)


def test_after_a_reset_the_count_of_unacknowledged_bytes_is_right() -> None:
    """Bytes that the peer's kernel had received before the reset count as delivered, all others do not."""

    async def main() -> None:
        async with streams_of(tcp_sockets()) as (a, b):
            async with Group() as group:
                group.start_soon(send_without_end(a))
                await until_held_back(a)
                group.cancel()
            await until(lambda: a.unacknowledged() == a.counts.sent - queued(b))
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

    kernel.run(main())


def test_the_end_itself_counts_as_no_byte() -> None:
    """Our FIN is not counted among the unacknowledged bytes, before or after a reset."""

    async def main() -> None:
        async with streams_of(tcp_sockets()) as (a, b):
            async with Group() as group:
                group.start_soon(send_without_end(a))
                await until_held_back(a)
                group.cancel()
            await until(lambda: a.unacknowledged() == a.counts.sent - queued(b))
            before = a.unacknowledged()
            assert before
            await a.send_eof()
            assert a.unacknowledged() == before
            b.abort()
            with pytest.raises(Failure):
                await a.recv()
            assert a.unacknowledged() == before

    kernel.run(main())


def test_after_a_reset_with_everything_acknowledged_nothing_counts_as_lost() -> None:
    """If the peer resets after it acknowledged everything, no byte counts as lost, even if we had sent our end."""

    async def main() -> None:
        for ended in (False, True):
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

    kernel.run(main())


def test_what_came_before_a_reset_is_still_read() -> None:
    """If sending fails because of a reset, data that the peer sent before can still be received."""

    async def main() -> None:
        async with streams_of(tcp_sockets()) as (a, b):
            await b.send(b"no, because")
            await until(lambda: queued(a) == 11)
            b.abort()
            with pytest.raises(Failure):
                await send_without_end(a)
            assert await a.recv() == b"no, because"

    kernel.run(main())


def test_a_failure_names_the_stream_and_the_reason() -> None:
    """The message says what was being done, with which peer, and why it failed."""

    async def main() -> None:
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

    kernel.run(main())


def test_reads_grow_with_the_flood_and_shrink_after_it() -> None:
    """The first read is small, and later ones grow up to the limit."""

    async def main() -> None:
        async with streams_of(tcp_sockets()) as (a, b), Group() as group:
            group.start_soon(send_without_end(a))
            sizes = []
            for _ in range(6):
                await until_held_back(a)
                sizes.append(len(await b.recv()))
            group.cancel()
        assert sizes[0] == SMALLEST_READ
        assert max(sizes) == LARGEST_READ

    kernel.run(main())


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


async def written(sink: int, data: bytes) -> FileStream:
    """Write to a descriptor through a ``FileStream``."""
    with opened(os.devnull, os.O_RDONLY) as null:
        stream = FileStream(null, sink)
        try:
            await stream.send(data)
        finally:
            stream.close()
    return stream


def test_a_regular_file_is_read_to_its_end_and_written_whole(tmp_path: Path) -> None:
    """Regular files, which epoll refuses, can be read and written, and the end is reported repeatedly."""
    data = pattern(MEGABYTE)
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.write_bytes(data)

    async def main() -> None:
        with opened(source, os.O_RDONLY) as read, opened(sink, os.O_WRONLY | os.O_CREAT) as write:
            stream = FileStream(read, write)
            copied = await read_all(stream)
            await stream.send(copied)
            assert await stream.recv() == b""
            assert stream.counts.received == stream.counts.sent == len(data)
            stream.close()

    kernel.run(main())
    assert sink.read_bytes() == data


def test_an_appended_file_keeps_what_it_had(tmp_path: Path) -> None:
    """A file that was opened for appending is appended to."""
    path = tmp_path / "log"
    path.write_bytes(b"before ")
    with opened(path, os.O_WRONLY | os.O_APPEND) as sink:
        kernel.run(written(sink, b"after"))
    assert path.read_bytes() == b"before after"


def test_dev_null_is_empty_and_takes_everything() -> None:
    """/dev/null is always at its end, and accepts all data."""

    async def main() -> None:
        with opened(os.devnull, os.O_RDWR) as null:
            stream = FileStream(null, null)
            assert [await stream.recv(), await stream.recv()] == [b"", b""]
            await stream.send(bytes(MEGABYTE))
            await stream.send_eof()
            assert stream.counts.sent == MEGABYTE
            stream.close()

    kernel.run(main())


def test_a_full_device_is_a_write_failure() -> None:
    """If the device is full, writing fails with the reason."""
    with opened("/dev/full", os.O_WRONLY) as full, pytest.raises(Failure) as caught:
        kernel.run(written(full, b"x"))
    assert caught.value.exit is Exit.WRITE
    assert str(caught.value) == "cannot write to stdout: no space left on device"


def test_a_descriptor_that_is_not_for_writing_is_a_write_failure() -> None:
    """Writing to a descriptor that was opened for reading fails."""
    with opened(os.devnull, os.O_RDONLY) as null, pytest.raises(Failure) as caught:
        kernel.run(written(null, b"x"))
    assert caught.value.exit is Exit.WRITE


@pytest.mark.parametrize(
    ("path", "flags", "code"),
    [
        pytest.param(os.sep, os.O_RDONLY, errno.EISDIR, id="directory"),
        pytest.param(os.devnull, os.O_WRONLY, errno.EBADF, id="write-only"),
    ],
)
def test_what_cannot_be_read_is_a_read_failure(path: str, flags: int, code: int) -> None:
    """A source that cannot be read fails, and does not look like an empty one."""

    async def main() -> None:
        with opened(path, flags) as source:
            stream = FileStream(source, source)
            try:
                await stream.recv()
            finally:
                stream.close()

    with pytest.raises(Failure) as caught:
        kernel.run(main())
    assert caught.value.exit is Exit.READ
    assert caught.value.errno == code


def test_a_pipe_whose_reader_left_is_a_write_failure() -> None:
    """EPIPE on our own output is a failure of writing, not of sending."""
    with pipe() as (reader, writer), pytest.raises(Failure) as caught:
        reader.close()
        kernel.run(written(writer.fileno(), b"x"))
    assert caught.value.exit is Exit.WRITE
    assert caught.value.errno == errno.EPIPE


def flags_of(fds: tuple[int, ...]) -> list[int]:
    """Return the file status flags of descriptors."""
    return [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in fds]


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_the_flags_of_the_descriptors_never_change(kind: str) -> None:
    """The flags of the descriptors, which other processes may share, are not changed while we use them."""

    def ends() -> tuple[int, int]:
        if kind == "pipe":
            return os.pipe()
        if kind == "terminal":
            master, slave = pty.openpty()
            tty.setraw(slave)
            return master, slave
        one, other = socket.socketpair()
        return one.detach(), other.detach()

    async def main() -> None:
        stream = FileStream(source, sink)
        async with Group() as group:
            group.start_soon(send_without_end(stream))
            await until_held_back(stream)
            assert flags_of(fds) == before
            group.cancel()
        stream.close()
        assert flags_of(fds) == before

    reader, sink = ends()
    source, feeder = ends()
    fds = (reader, sink, source, feeder)
    before = flags_of(fds)
    try:
        assert not any(flags & os.O_NONBLOCK for flags in before)
        kernel.run(main())
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_descriptors_that_do_not_block_are_taken_as_they_are(kind: str) -> None:
    """Descriptors that already have O_NONBLOCK, as a shared terminal may, work as well."""

    def ends() -> tuple[int, int]:
        if kind == "pipe":
            return os.pipe()
        one, other = socket.socketpair()
        return one.detach(), other.detach()

    async def main() -> None:
        stream = FileStream(reader, writer)
        async with Group() as group:
            group.start_soon(stream.send(data))
            received = b""
            while len(received) < len(data):
                received += await stream.recv()
            assert received == data
        stream.close()

    data = pattern(MEGABYTE)
    reader, writer = ends()
    try:
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        kernel.run(main())
    finally:
        os.close(reader)
        os.close(writer)


def test_a_terminal_gets_every_byte() -> None:
    """A terminal gets much more data than it buffers, as fast as it is read."""
    data = pattern(300_000)

    async def main() -> bytes:
        with terminal() as (master, slave):
            ours, screen = FileStream(slave, slave), FileStream(master, slave)
            async with Group() as group:
                group.start_soon(ours.send(data))
                seen = b""
                while len(seen) < len(data):
                    seen += await screen.recv()
            ours.close()
            screen.close()
            return seen

    assert kernel.run(main()) == data


class CountingClock(kernel.Clock):
    """The real clock, which also counts the turns of the loop."""

    def __init__(self) -> None:
        self.rounds = 0

    def wait(self, poll: Poll, timeout: float | None) -> list[tuple[int, int]]:
        self.rounds += 1
        return super().wait(poll, timeout)


def test_a_stopped_terminal_is_waited_for_and_not_spun_on() -> None:
    """While a terminal is stopped the sender waits without spinning, and it goes on when the terminal is started."""
    clock = CountingClock()

    async def main() -> None:
        with terminal() as (master, slave):
            stream = FileStream(slave, slave)
            termios.tcflow(slave, termios.TCOOFF)
            async with Group() as group:
                group.start_soon(stream.send(b"x" * 100))
                begun = clock.rounds
                await sleep(0.3)
                assert clock.rounds - begun < 100
                os.set_blocking(master, False)
                with pytest.raises(BlockingIOError):
                    os.read(master, 100)
                termios.tcflow(slave, termios.TCOON)
                await until(lambda: stream.counts.sent == 100)
                assert os.read(master, 200) == b"x" * 100
            stream.close()

    kernel.run(main(), clock=clock)


def test_nobody_reads_a_pipe_any_more() -> None:
    """``reader_left`` waits while the pipe has a reader, and then fails as a write would."""

    async def main() -> None:
        with pipe() as (reader, writer), opened(os.devnull, os.O_RDONLY) as null:
            stream = FileStream(null, writer.fileno())
            async with Group() as group:
                watching = group.start_soon(stream.reader_left())
                await stream.send(b"unread")
                for _ in range(10):
                    await sleep(0)
                assert not watching.finished.is_set()
                reader.close()

    with pytest.raises(Failure) as caught:
        kernel.run(main())
    assert caught.value.exit is Exit.WRITE
    assert caught.value.errno == errno.EPIPE


def test_a_fifo_open_both_ways_still_has_its_reader(tmp_path: Path) -> None:
    """Unread data in a FIFO that is open for reading and writing does not count as a reader that left."""
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def main() -> None:
        with opened(path, os.O_RDWR) as fifo, opened(os.devnull, os.O_RDONLY) as null:
            stream = FileStream(null, fifo)
            async with Group() as group:
                group.start_soon(stream.reader_left())
                await stream.send(b"unread")
                for _ in range(10):
                    await sleep(0)
                assert os.read(fifo, 100) == b"unread"
                group.cancel()
            stream.close()

    kernel.run(main())


def test_only_a_pipe_can_tell_that_its_reader_left(tmp_path: Path) -> None:
    """For anything but a pipe ``reader_left`` returns at once."""

    async def main() -> None:
        with opened(tmp_path / "file", os.O_RDWR | os.O_CREAT) as file:
            await FileStream(file, file).reader_left()

    kernel.run(main())


def test_our_own_end_is_no_reader_that_left() -> None:
    """After ``send_eof`` or ``close`` on our side, ``reader_left`` returns without a failure."""

    async def main() -> None:
        for end in (FileStream.send_eof, close):
            with pipe() as (_, writer), opened(os.devnull, os.O_RDONLY) as null:
                stream = FileStream(null, writer.fileno())
                async with Group() as group:
                    group.start_soon(stream.reader_left())
                    await sleep(0)
                    await sleep(0)
                    await end(stream)
                stream.close()

    async def close(stream: FileStream) -> None:
        stream.close()

    kernel.run(main())


def test_the_end_of_a_pipe_reaches_its_reader_and_keeps_the_number() -> None:
    """After our end the reader gets the end, and the descriptor is still open, so that its number is not reused."""

    async def main() -> None:
        with pipe() as (reader, writer), opened(os.devnull, os.O_RDONLY) as null:
            stream = FileStream(null, writer.fileno())
            await stream.send(b"last words")
            await stream.send_eof()
            assert reader.read(100) == b"last words"
            assert reader.read(100) == b""
            assert os.fstat(writer.fileno()).st_rdev == os.stat(os.devnull).st_rdev
            await stream.send_eof()
            stream.close()

    kernel.run(main())


def test_the_end_of_a_file_or_a_socket_reaches_its_reader(tmp_path: Path) -> None:
    """A socket is shut down for writing; a terminal is not changed."""

    async def main() -> None:
        one, other = socket.socketpair()
        with one, other, opened(os.devnull, os.O_RDONLY) as null:
            stream = FileStream(null, one.fileno())
            await stream.send(b"x")
            await stream.send_eof()
            assert other.recv(10) == b"x"
            assert other.recv(10) == b""
            other.send(b"y")
            assert one.recv(10) == b"y"
            stream.close()
        with terminal() as (master, slave):
            stream = FileStream(slave, slave)
            await stream.send_eof()
            await stream.send(b"still there")
            assert os.read(master, 100) == b"still there"
            stream.close()

    kernel.run(main())


def test_closing_lets_go_of_what_was_opened_beside() -> None:
    """``close`` closes the stream's own descriptors, but not those of the caller."""

    async def main() -> None:
        with terminal() as (_, slave), pipe() as (_, writer):
            one, other = socket.socketpair()
            with one, other:
                before = os.listdir("/proc/self/fd")
                for fd in (slave, writer.fileno(), one.fileno()):
                    stream = FileStream(fd, fd)
                    await stream.send(b"x")
                    stream.close()
                    os.fstat(fd)
                assert os.listdir("/proc/self/fd") == before

    kernel.run(main())


def test_a_closed_file_stream_writes_into_nobody_elses_file(tmp_path: Path) -> None:
    """After ``close`` nothing is written to a new file with the number of the terminal's own descriptor."""

    async def main() -> None:
        with terminal() as (_, slave):
            stream = FileStream(slave, slave)
            await stream.send(b"x")
            stream.close()
            with opened(tmp_path / "file", os.O_WRONLY | os.O_CREAT):
                try:
                    await stream.send(b"astray")
                except OSError:
                    pass
                stream.close()

    kernel.run(main())
    assert (tmp_path / "file").read_bytes() == b""


def test_a_blocked_sink_stops_no_other_task() -> None:
    """A full pipe does not block the loop, so that a deadline can end the wait."""

    async def main() -> None:
        with pipe() as (_, writer), opened(os.devnull, os.O_RDONLY) as null:
            stream = FileStream(null, writer.fileno())
            with pytest.raises(kernel.DeadlineExceeded), deadline(now() + 0.05):
                await stream.send(bytes(MEGABYTE))
            stream.close()
            assert stream.counts.sent == fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)

    kernel.run(main())


@pytest.mark.parametrize("names", [("stdin", "stdout"), ("upload", "download")])
def test_failures_name_the_file(names: tuple[str, str]) -> None:
    """Messages use the names given for source and sink."""

    async def main() -> None:
        with opened(os.sep, os.O_RDONLY) as source, opened("/dev/full", os.O_WRONLY) as sink:
            stream = FileStream(source, sink, source_name=names[0], sink_name=names[1])
            with pytest.raises(Failure, match=f"^cannot read {names[0]}: is a directory$"):
                await stream.recv()
            with pytest.raises(Failure, match=f"^cannot write to {names[1]}: no space left on device$"):
                await stream.send(b"x")
            stream.close()

    kernel.run(main())
