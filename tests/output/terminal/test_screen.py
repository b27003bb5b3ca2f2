"""Animated pictures on a terminal: complete or erased, and never mixed with other output."""

import contextlib
import os
import select
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rich.console import RenderableType
from rich.text import Text

from netkit.core.kernel import Group, sleep
from netkit.output import console
from netkit.output.terminal.screen import animate
from tests.clock import run
from tests.support.terminals import (
    COLUMNS,
    GO,
    MOMENT,
    ROWS,
    Shown,
    on_terminal,
    resize,
    stop,
    taken,
    terminal,
    watched,
)

WAITING = ("portcheck", "127.0.0.1:1", "--wait", "1h", "--progress")


def in_a_shell(line: str) -> list[str]:
    """The words that run a command as "$@" of a line of a shell with job control, for which it has the terminal."""
    return ["setsid", "--ctty", "sh", "-mc", line, "sh"]


def drawing(
    theirs: int, picture: Callable[[], RenderableType], script: Callable[[], Awaitable[None]], **options: Any
) -> None:
    """Draw ``picture`` with virtual time while ``script`` runs."""

    async def main() -> None:
        async with Group() as group:
            group.start_soon(animate(theirs, picture, coloured=False, **options))
            await script()
            group.cancel()

    run(main())


def test_a_picture_comes_after_a_while_and_leaves_nothing() -> None:
    """The first picture is drawn after a delay, each replaces the last, and the last is erased."""
    seen: list[list[str]] = []
    shown = Shown()
    numbers = iter(range(100))

    with terminal() as (ours, theirs):

        async def script() -> None:
            for pause in (0.45, 0.1, 0.1):
                await sleep(pause)
                seen.append(shown.lines(taken(ours)))

        os.write(theirs, b"before\n")
        drawing(theirs, lambda: Text(f"picture {next(numbers)}\nof two rows"), script, after=0.5)
        assert shown.lines(taken(ours)) == ["before"]
    assert seen == [["before"], ["before", "picture 0", "of two rows"], ["before", "picture 1", "of two rows"]]
    assert (shown.screen.cursor.x, shown.screen.cursor.y) == (0, 1)


def test_a_picture_that_is_empty_writes_nothing() -> None:
    """An empty picture writes nothing, not even to erase a line of others; one that becomes empty is erased."""
    pictures = iter(["", "", "there", "", ""])
    with terminal() as (ours, theirs):
        os.write(theirs, b"begun")
        assert taken(ours) == b"begun"

        async def script() -> None:
            await sleep(0.15)
            assert taken(ours) == b""
            await sleep(0.3)

        drawing(theirs, lambda: Text(next(pictures)), script)
        data = taken(ours)
    assert b"there" in data
    assert Shown().lines(data) == []
    assert data.endswith(b"\x1b[J") and data.count(b"\x1b[J") == 2


@pytest.mark.parametrize("kept", [False, True])
def test_a_picture_larger_than_the_screen(kept: bool) -> None:
    """A picture larger than the screen is cut, with the number of missing rows; a last one to keep is complete."""
    rows = [f"row {number}" for number in range(ROWS + 20)]
    shown = Shown()
    with terminal() as (ours, theirs):

        async def script() -> None:
            await sleep(0.35)
            lines = shown.lines(taken(ours))
            assert lines == [*rows[: ROWS - 1], "and 21 more"]

        drawing(theirs, lambda: Text("\n".join(rows)), script, kept=kept)
        assert shown.lines(taken(ours)) == (rows if kept else [])


def test_a_picture_is_as_wide_as_the_terminal_is_now() -> None:
    """When the terminal is resized, the next frame has the new width."""
    shown = Shown()
    with terminal() as (ours, theirs):

        async def script() -> None:
            await sleep(0.05)
            assert shown.lines(taken(ours)) == ["x" * COLUMNS, "x" * (200 - COLUMNS)]
            resize(theirs, 40)
            await sleep(0.1)
            assert shown.lines(taken(ours)) == ["x" * 40] * 5

        drawing(theirs, lambda: Text("x" * 200), script)


@pytest.mark.parametrize("kept", [False, True])
def test_a_stopped_terminal_skips_pictures(kept: bool) -> None:
    """Frames for a stopped terminal are skipped without waiting; when it continues it gets a complete one."""
    shown = Shown()
    frames = 0

    def picture() -> Text:
        nonlocal frames
        frames += 1
        return Text(f"frame {frames}")

    with terminal() as (ours, theirs):

        async def script() -> None:
            await sleep(0.05)
            assert shown.lines(taken(ours)) == ["frame 1"]
            stop(ours, theirs)
            await sleep(1)
            assert frames > 10
            assert taken(ours) == b""
            os.write(ours, GO)
            while not select.select([], [theirs], [], 0)[1]:
                os.sched_yield()
            await sleep(0.2)
            assert shown.lines(taken(ours)) == [f"frame {frames}"]

        drawing(theirs, picture, script, kept=kept)
        assert shown.lines(taken(ours)) == ([f"frame {frames}"] if kept else [])


def test_a_terminal_that_nobody_reads() -> None:
    """If a terminal fills up within a picture, the picture is completed once there is room."""
    numbers = iter(range(10_000))
    shown = Shown()
    with terminal() as (ours, theirs):

        async def script() -> None:
            for _ in range(3):
                await sleep(10)
                while select.select([], [theirs], [], 0)[1]:  # the system still passes bytes on, and so makes room
                    await sleep(0.2)
                while select.select([ours], [], [], MOMENT)[0]:
                    data = os.read(ours, 4096)
                    shown.lines(data)
                await sleep(0.2)
                lines = shown.lines(taken(ours))
                assert len(lines) == 20 and len(set(lines)) == 1, lines

        def picture() -> Text:
            number = next(numbers)
            return Text("\n".join([f"{number:050}"] * 20))

        drawing(theirs, picture, script)
        assert shown.lines(taken(ours)) == []


def test_what_a_full_terminal_is_owed_comes_before_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partly written picture is completed and erased together with the next line."""
    monkeypatch.setattr(console, "same_terminal", lambda one, other: True)
    monkeypatch.setattr(console, "before_line", bytes)
    shown = Shown()
    with terminal() as (ours, theirs):

        async def script() -> None:
            await sleep(10)
            while select.select([], [theirs], [], MOMENT)[1]:  # the terminal is not full yet
                await sleep(1)

        drawing(theirs, lambda: Text("\n".join(["y" * 50] * 20)), script)
        assert shown.lines(taken(ours)) != []
        os.write(theirs, console.before_line() + b"line\n")
        assert shown.lines(taken(ours)) == ["line"]
        assert console.before_line() == b""


@pytest.mark.parametrize("kept", [False, True])
def test_a_dumb_terminal_gets_the_last_alone(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without escape sequences gets none, and only the last picture, if that is kept."""
    monkeypatch.setenv("TERM", "dumb")
    numbers = iter(range(100))
    with terminal() as (ours, theirs):
        drawing(theirs, lambda: Text(f"picture {next(numbers)}"), lambda: sleep(0.25), kept=kept)
        assert taken(ours) == (b"picture 2\r\n" if kept else b"")


@pytest.mark.parametrize("fd", [1, 2])
def test_a_line_has_nothing_of_the_picture(fd: int) -> None:
    """A line replaces the picture, without remains of it, and the picture continues below."""
    shown = Shown()
    standard = [os.dup(1), os.dup(2)]
    with terminal() as (ours, theirs):

        async def script() -> None:
            await sleep(0.05)
            console.say("first")
            console.say("second")
            lines.append(shown.lines(taken(ours)))
            await sleep(0.1)
            lines.append(shown.lines(taken(ours)))

        lines: list[list[str]] = []
        try:
            os.dup2(theirs, 1)
            os.dup2(theirs, 2)
            drawing(fd, lambda: Text("x" * 90 + "\n" + "y" * 90), script)
        finally:
            os.dup2(standard[0], 1)
            os.dup2(standard[1], 2)
            os.close(standard[0])
            os.close(standard[1])
        assert lines == [["first", "second"], ["first", "second", "x" * 90, "y" * 90]]
        assert shown.lines(taken(ours)) == ["first", "second"]


def test_lines_and_pictures_do_not_tear() -> None:
    """If messages of -vv and the table share a terminal, each line is intact, without remains of a picture between."""
    args = ["portcheck", "localhost:1,2", "-4", "--wait", "2s", "--interval", "25ms", "-vv", "--progress"]
    with watched(*args, columns=400) as netkit:  # wider than any line
        lines = netkit.end()
        assert netkit.process.wait() == 28
    assert b"waiting for 1 target, " in netkit.data
    said = [line for line in lines if line.startswith(("netkit portcheck: resolved", "netkit portcheck: localhost:1"))]
    assert len(said) > 10
    assert all(line.endswith((" ms", " s")) for line in said)
    rest = [line.split()[0] for line in lines if line not in said]
    assert rest == ["TARGET", "localhost:1", "localhost:2", "netkit"]


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "unread"])
def test_signals_end_it_at_once(stopped: bool) -> None:
    """SIGTERM ends netkit at once even if the terminal is stopped or full."""
    with watched(*WAITING) as netkit:
        netkit.until("waiting for 1 target")
        if stopped:
            stop(netkit.ours, netkit.theirs)
        else:
            os.set_blocking(netkit.theirs, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(netkit.theirs, b"z" * 100)
        netkit.process.signal(signal.SIGTERM)
        assert netkit.process.wait(5) == -signal.SIGTERM


def test_a_job_that_is_stopped_leaves_no_picture() -> None:
    """Ctrl-Z erases the picture, and it is drawn again in the foreground."""
    with watched(*WAITING, wrapper=in_a_shell('"$@"; echo stopped; fg >&-')) as job:
        job.until("waiting for 1 target")
        os.write(job.ours, b"\x1a")
        job.until("stopped")
        assert not any("waiting for" in line for line in job.lines)
        job.until("waiting for 1 target")
        os.write(job.ours, b"\x03")
        job.end()


def test_nothing_is_drawn_from_the_background() -> None:
    """A job in the background draws nothing on the terminal, except for its last line."""
    args = ("portcheck", "127.0.0.1:1", "--wait", "300ms", "--progress")
    code, data = on_terminal(*args, wrapper=in_a_shell('"$@" & wait $!; exit $?'))
    assert code == 28
    assert b"waiting for" not in data and b"\x1b[J" not in data
