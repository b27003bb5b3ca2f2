"""Terminals and pipes: what is written to them, and what a terminal displays."""

import array
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import termios
from collections.abc import Iterator, Mapping
from typing import Any

import pyte

from tests.support.processes import Running, netkit, running, sound

COLUMNS, ROWS = 100, 30
MOMENT = 0.02  # s within which the kernel passes output to the other end of a terminal

STOP, GO = b"\x13", b"\x11"  # Ctrl-S, Ctrl-Q
_LOOKS = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")  # variables that change how output looks


@contextlib.contextmanager
def pipes() -> Iterator[tuple[int, int, int, int]]:
    """Yield the reading and the writing end of two pipes."""
    ends = (*os.pipe(), *os.pipe())
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@contextlib.contextmanager
def pipe_in_place_of(standard: int) -> Iterator[int]:
    """Replace stdout or stderr by a pipe; yield its reading end, which the block may close."""
    ours, theirs = os.pipe()
    kept = os.dup(standard)
    os.dup2(theirs, standard)
    os.close(theirs)
    try:
        yield ours
    finally:
        os.dup2(kept, standard)
        os.close(kept)
        with contextlib.suppress(OSError):
            os.close(ours)


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Open a terminal of COLUMNS by ROWS; yield our end and the one for a program."""
    ours, theirs = pty.openpty()
    resize(theirs, COLUMNS)
    try:
        yield ours, theirs
    finally:
        for fd in (ours, theirs):
            if os.isatty(fd):  # not if it was closed and its number is used for another file
                os.close(fd)


def resize(fd: int, columns: int, rows: int = ROWS) -> None:
    """Set the size of a terminal."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_until_hung_up(fd: int) -> bytes:
    """Return what is written to a terminal until no process has it open."""
    data = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(fd, 65536):
            data += chunk
    return data


def taken(fd: int) -> bytes:
    """Return what was written to a terminal and not read yet. select(2) waits for what the kernel still passes on."""
    data = b""
    while select.select([fd], [], [], 0)[0]:
        data += os.read(fd, 65536)
    return data


def held(fd: int) -> int:
    """Return how many unread bytes a pipe, or a socket, holds."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def stop(ours: int, theirs: int) -> None:
    """Press Ctrl-S, and return once the terminal takes no more output."""
    os.write(ours, STOP)
    while select.select([], [theirs], [], 0)[1]:
        os.sched_yield()


class Shown:
    """An emulated terminal, to see what it displays."""

    def __init__(self, columns: int = COLUMNS, rows: int = ROWS) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)

    def lines(self, data: bytes) -> list[str]:
        """Write ``data``, and return all lines up to the last that is not empty."""
        self._stream.feed(data)
        assert not self.screen.cursor.hidden
        above = ["".join(row[x].data for x in range(self.screen.columns)) for row in self.screen.history.top]
        return "\n".join(line.rstrip() for line in (*above, *self.screen.display)).rstrip().splitlines()


class Watched:
    """A process on a terminal: ``data`` is what was read from it so far, ``lines`` what a person sees there.

    ``theirs`` is the process's end of the terminal, which is also open here until ``end``.
    """

    def __init__(self, process: Running, ours: int, theirs: int, shown: Shown) -> None:
        self.process = process
        self.ours = ours
        self.theirs = theirs
        self.data = b""
        self.lines: list[str] = []
        self._shown = shown

    def read(self) -> list[str]:
        """Wait for more output, and return the lines on the screen."""
        self._note(os.read(self.ours, 65536))
        return self.lines

    def until(self, pattern: str) -> str:
        """Wait for a line on the screen that ``pattern`` matches somewhere, and return it."""
        while True:
            for line in self.lines:
                if re.search(pattern, line):
                    return line
            self.read()

    def written(self, text: bytes, times: int = 1) -> None:
        """Wait until ``text`` was written so many times."""
        while self.data.count(text) < times:
            self.read()

    def end(self) -> list[str]:
        """Wait for the end, and return the lines on the screen."""
        with contextlib.suppress(OSError):
            os.close(self.theirs)
        self._note(read_until_hung_up(self.ours))
        return self.lines

    def _note(self, data: bytes) -> None:
        self.data += data
        self.lines = self._shown.lines(data)


@contextlib.contextmanager
def watched(
    *args: str, columns: int = COLUMNS, rows: int = ROWS, env: Mapping[str, str] | None = None, **how: Any
) -> Iterator[Watched]:
    """Run netkit on a terminal beside the test. ``how`` is as for ``running``, such as a stream that is elsewhere."""
    clean = {name: value for name, value in os.environ.items() if name not in _LOOKS}
    with terminal() as (ours, theirs):
        resize(theirs, columns, rows)
        how = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **how}
        with running(*args, env={**clean, "TERM": "xterm", **(env or {})}, **how) as process:
            yield Watched(process, ours, theirs, Shown(columns, rows))


def on_terminal(*args: str, **how: Any) -> tuple[int, bytes]:
    """Run netkit as ``watched`` does, to its end; return its exit code and the terminal's output."""
    with watched(*args, **how) as netkit:
        os.close(netkit.theirs)
        data = read_until_hung_up(netkit.ours)
        return netkit.process.wait(), data


def text_on_terminal(*args: str, input: bytes = b"") -> str:
    """Run netkit with only stdout on a terminal, check that it succeeds, and return its output there."""
    with terminal() as (ours, theirs):
        sound(netkit(*args, input=input, stdout=theirs), 0)
        return os.read(ours, 65536).decode().replace("\r\n", "\n")
