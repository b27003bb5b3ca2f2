"""The writers to stdout: they keep the order, wait for the reader, and fail when it closes the pipe."""

import errno
import fcntl
import os
import threading
from collections.abc import Iterator

import pytest

from netkit.core import kernel
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group, checkpoint
from netkit.core.sync import Event
from netkit.output import console
from netkit.output.stdout import stdout_writer
from tests.clock import run
from tests.support.terminals import pipe_in_place_of

LARGE = "x" * (1 << 20)  # more than a pipe holds


def read_all(fd: int, size: int) -> bytes:
    """Read ``size`` bytes, or to the end."""
    data = b""
    while len(data) < size and (chunk := os.read(fd, size - len(data))):
        data += chunk
    return data


def test_text_comes_in_its_order_and_whole() -> None:
    """``write`` queues text at once, and all of it is written in order when the block ends."""

    async def main() -> None:
        async with stdout_writer() as stdout:
            for number in range(1000):
                stdout.write(f"{number}\n")
                if not number % 100:
                    await checkpoint()

    with pipe_in_place_of(1) as fd:
        run(main())
        wanted = "".join(f"{number}\n" for number in range(1000)).encode()
        assert read_all(fd, len(wanted)) == wanted


def test_other_tasks_run_between_pieces() -> None:
    """``write_each`` writes pieces in order, and between two of them it can be cancelled, as by a signal."""
    made: list[str] = []

    def pieces() -> Iterator[str]:
        for number in range(3):
            made.append(f"{number}\n")
            yield made[-1]

    async def main(*, stops: bool) -> None:
        async with stdout_writer() as stdout, Group() as group:
            group.start_soon(stdout.write_each(pieces()))
            while stops and not made:
                await checkpoint()
            if stops:
                group.cancel()

    with pipe_in_place_of(1) as fd:
        run(main(stops=False))
        assert read_all(fd, 6) == b"0\n1\n2\n"
        made.clear()
        run(main(stops=True))
        assert made == ["0\n"]


def test_a_reader_is_waited_for() -> None:
    """``flush`` waits until the reader has made room for all text."""

    async def main() -> None:
        async with stdout_writer() as stdout, Group() as group:
            stdout.write(LARGE)
            flushing = group.start_soon(stdout.flush())
            for _ in range(10):
                await checkpoint()
            assert not flushing.finished.is_set()
            reader.start()
            await flushing.finished.wait()
            await stdout.flush()

    with pipe_in_place_of(1) as fd:
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(read_all(fd, len(LARGE))))
        kernel.run(main())
        reader.join()
    assert found == [LARGE.encode()]


def test_there_is_no_room_while_a_reader_is_behind() -> None:
    """``room`` waits while too much text is queued."""

    async def main() -> None:
        async with stdout_writer() as stdout, Group() as group:
            stdout.write("x")
            await stdout.room()
            for _ in range(2):
                stdout.write(LARGE)
            waiting = group.start_soon(stdout.room())
            for _ in range(10):
                await checkpoint()
            assert not waiting.finished.is_set()
            reader.start()
            await waiting.finished.wait()

    with pipe_in_place_of(1) as fd:
        reader = threading.Thread(target=lambda: found.append(read_all(fd, 2 * len(LARGE) + 1)))
        found: list[bytes] = []
        kernel.run(main())
        reader.join()
    assert found == [b"x" + 2 * LARGE.encode()]


@pytest.mark.parametrize("text", ["", LARGE], ids=["idle", "full"])
def test_a_reader_that_leaves_ends_the_block(text: str) -> None:
    """When the reader closes the pipe the block is cancelled, whether or not text is queued."""
    ended = []

    async def main() -> None:
        async with stdout_writer() as stdout:
            stdout.write(text)
            await checkpoint()
            os.close(fd)
            try:
                await Event().wait()
            finally:
                ended.append(True)

    with pipe_in_place_of(1) as fd, pytest.raises(Failure) as failed:
        run(main())
    assert (failed.value.exit, failed.value.errno, ended) == (Exit.WRITE, errno.EPIPE, [True])


def test_a_failure_of_the_block_is_its_own() -> None:
    """A failure within the block is raised at once, without waiting for the reader."""

    async def main() -> None:
        async with stdout_writer() as stdout:
            stdout.write(LARGE)
            raise Failure(Exit.READ, "do it", "it cannot be done")

    with pipe_in_place_of(1), pytest.raises(Failure, match="it cannot be done"):
        run(main())


def test_an_answer_waits_for_a_stdout_that_would_not_block() -> None:
    """``console.write`` writes all text even if another process has made the shared stdout non-blocking."""
    found: list[bytes] = []
    with pipe_in_place_of(1) as fd:
        fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_NONBLOCK)
        reader = threading.Thread(target=lambda: found.append(read_all(fd, len(LARGE))))
        reader.start()
        console.write(LARGE)
        reader.join()
    assert found == [LARGE.encode()]


def test_an_answer_that_nobody_reads_is_a_failure() -> None:
    """``console.write`` raises a Failure if the reader has closed the pipe."""
    with pipe_in_place_of(1) as fd:
        os.close(fd)
        with pytest.raises(Failure, match="cannot write to stdout: broken pipe"):
            console.write("x")
