"""The queued writer to stderr: nothing waits for its reader, dropped messages are counted, and order is kept."""

import contextlib
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from netkit.core.kernel import Group, checkpoint
from netkit.output import console
from netkit.output.stderr import StderrWriter
from tests.clock import run
from tests.support.terminals import pipe_in_place_of

FULL = 1 << 16  # bytes that the queue holds


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the program's name in messages, which an earlier test in this process may have changed."""
    monkeypatch.setattr(console, "program", "netkit")


@contextlib.contextmanager
def reader_of_stderr(*, full: bool = False) -> Iterator[int]:
    """Replace stderr by a pipe of one page, and yield its reading end."""
    with pipe_in_place_of(2) as ours:
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
        if full:
            os.write(2, bytes(4096))
        yield ours


@contextlib.asynccontextmanager
async def draining(*, patiently: bool = False) -> AsyncIterator[StderrWriter]:
    """A writer that reports dropped messages as text, and is drained by a task until the block ends."""
    stderr = StderrWriter(lambda number: console.dropped(number, json=False))
    async with Group() as group:
        group.start_soon(stderr.drain())
        yield stderr
        group.cancel()
    stderr.finish(patiently=patiently)


async def read(fd: int, until: bytes) -> bytes:
    """Read until these bytes, while other tasks run."""
    data = b""
    os.set_blocking(fd, False)
    while not data or not data.endswith(until):
        with contextlib.suppress(BlockingIOError):
            data += os.read(fd, 65536)
        await checkpoint()
    return data


def test_what_is_not_taken_comes_later_and_in_order() -> None:
    """Lines that do not fit the pipe are queued, and written in order when there is room."""
    lines = [b"%05d\n" % number for number in range(2000)]

    async def main() -> None:
        async with draining() as stderr:
            for line in lines:
                stderr.write(line)
            assert await read(fd, lines[-1]) == b"".join(lines)

    with reader_of_stderr() as fd:
        run(main())


@pytest.mark.parametrize("number, said", [(1, b"1 message dropped"), (7, b"7 messages dropped")])
def test_what_is_dropped_is_counted(number: int, said: bytes) -> None:
    """When the queue is full, lines are dropped; their number is printed after the queued ones and before the next."""

    async def main() -> None:
        async with draining() as stderr:
            stderr.write(b"x" * (FULL - 1) + b"\n")
            for _ in range(number):
                stderr.write(b"lost\n")
            text = await read(fd, b"took no more\n")
            assert text.lstrip(b"\0") == b"x" * (FULL - 1) + b"\nnetkit: " + said + b": stderr took no more\n"
            stderr.write(b"next\n")
            assert await read(fd, b"next\n") == b"next\n"

    with reader_of_stderr(full=True) as fd:
        run(main())


def test_a_dump_waits_for_its_reader_but_not_for_ever() -> None:
    """``write_when_read`` waits a second for a blocked reader, and then not again until the reader continues."""

    async def main() -> None:
        async with draining() as stderr:
            for text in (b"kept\n", b"lost\n", b"lost\n"):
                await stderr.write_when_read(text)
            text = await read(fd, b"took no more\n")
            assert text.lstrip(b"\0") == b"kept\nnetkit: 2 messages dropped: stderr took no more\n"
            await stderr.write_when_read(b"next\n")
            assert await read(fd, b"next\n") == b"next\n"

    with reader_of_stderr(full=True) as fd:
        run(main())


def test_what_waits_at_the_end_is_written_once() -> None:
    """``finish`` writes the rest of the queue, from where ``drain`` stopped, also within a line."""
    text = b"".join(b"%06d\n" % number for number in range(3000))
    came: list[bytes] = []
    rest: list[bytes] = []

    def read_rest() -> None:
        os.set_blocking(fd, True)
        while sum(map(len, rest)) < len(text) - len(came[0]):
            rest.append(os.read(fd, 65536))

    async def main() -> None:
        async with draining(patiently=True) as stderr:
            stderr.write(text)
            came.append(await read(fd, b""))
            reader.start()

    with reader_of_stderr() as fd:
        reader = threading.Thread(target=read_rest)
        run(main())
        reader.join()
        assert b"".join(rest) == text[len(came[0]) :]
        assert text.startswith(came[0])


def test_a_stderr_that_fails_takes_no_more() -> None:
    """If the reader of stderr has gone, writing is no failure."""

    async def main() -> None:
        async with draining(patiently=True) as stderr:
            for _ in range(3):
                stderr.write(b"lost\n")
                await stderr.write_when_read(b"lost\n")
                await checkpoint()

    with reader_of_stderr() as fd:
        os.close(fd)
        run(main())


def test_a_stderr_that_fails_within_a_line() -> None:
    """If the reader leaves when a part of a line has been written, that is no failure either."""

    async def main() -> None:
        async with draining(patiently=True) as stderr:
            stderr.write(bytes(4 * 4096))
            assert len(await read(fd, b"")) == 4096
            for _ in range(10):
                await checkpoint()
            os.close(fd)
            for _ in range(10):
                await checkpoint()
            stderr.write(b"lost\n")

    with reader_of_stderr() as fd:
        run(main())
