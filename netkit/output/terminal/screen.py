"""A picture on a terminal, redrawn regularly and without blocking."""

import io
import os
import signal
import termios
import time
from collections.abc import Callable

from rich.console import Console, RenderableType

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import sleep
from netkit.core.stdio import FileStream
from netkit.output import console
from netkit.output.console import STDERR, terminal_size

_FRAME = 0.1  # s between two pictures
_LFLAG = 3  # index into what tcgetattr returns
_WIPE = b"\r\x1b[J"  # ED: ECMA-48
_TRIES, _PAUSE = 10, 0.01  # attempts at the end to write to a terminal that takes nothing, and s between two


def rows(what: RenderableType, fd: int, *, coloured: bool) -> list[str]:
    """The lines, with escape sequences, that draw ``what`` at the present width of the terminal ``fd``."""
    here = terminal_size(fd)
    screen = Console(
        file=io.StringIO(),  # rich writes to its file, if only an empty string
        width=here.columns,
        height=here.lines,
        force_terminal=True,
        color_system="auto" if coloured else None,  # without one nothing is bold or dim either
        no_color=not coloured,
        highlight=False,
        emoji=False,
        markup=False,
    )
    with screen.capture() as capture:
        screen.print(what)
    return capture.get().removesuffix("\n").split("\n")


class _Screen:
    """A picture on a terminal, written without blocking: while a ``_rest`` is unwritten, pictures are skipped.

    The cursor is left at the picture's upper left, so erasing from there on removes it, even if the terminal was
    resized. While we are in the background, nothing is drawn.
    """

    def __init__(self, fd: int, *, coloured: bool, kept: bool) -> None:
        self._fd = fd
        self._kept = kept
        self._coloured = coloured
        self._draws = console.draws(fd)
        self._own = os.dup(fd)
        self._terminal = FileStream(-1, self._own)
        self._rest = b""  # of the output, not written yet
        self._drawn = False  # whether a picture is shown once ``_rest`` is written
        self._picture: RenderableType | None = None
        if console.same_terminal(fd, STDERR):
            console.before_line = self.wiped
        self._stops = not kept and signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL
        if self._stops:
            signal.signal(signal.SIGTSTP, self._stop)

    def draw(self, picture: RenderableType) -> None:
        """Replace the last picture by this one, cut to the screen. An empty one takes no line."""
        self._push()
        if self._rest or not self._may_draw():
            return
        self._picture = picture
        shown = rows(picture, self._fd, coloured=self._coloured)
        if shown == [""]:
            self._rest = self.wiped()
            self._push()
            return
        room = terminal_size(self._fd).lines
        if len(shown) > room:
            shown[room - 1 :] = [f"and {len(shown) - room + 1:,} more"]
        if self._draws:
            self._put("\n".join(shown) + "\r" + (f"\x1b[{len(shown) - 1}A" if len(shown) > 1 else ""), drawn=True)

    def wiped(self) -> bytes:
        """Return the bytes that erase the picture, which the caller must write before other output."""
        text = self._rest + (_WIPE if self._drawn else b"")
        self._rest, self._drawn = b"", False
        return text if self._may_draw() else b""

    def leave(self) -> None:
        """Erase the picture, or draw the last one whole. What cannot be written now is written with the next line."""
        if self._kept and self._picture is not None:
            self._put("\n".join(rows(self._picture, self._fd, coloured=self._coloured)) + "\n", drawn=False)
        else:
            self._rest = self.wiped()
        tries = _TRIES
        while self._rest and tries:
            left = len(self._rest)
            self._push()
            if len(self._rest) == left:
                tries -= 1
                time.sleep(_PAUSE)

    def close(self) -> None:
        if self._stops:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        self._terminal.close()
        os.close(self._own)

    def _stop(self, number: int, _: object) -> None:
        """Erase the picture before Ctrl-Z stops us, as the terminal is the shell's then; the next is drawn after."""
        self._rest = self.wiped()
        self._push()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stop)

    def _may_draw(self) -> bool:
        """Whether the terminal is ours. A picture that is kept is a result, and is drawn anyway."""
        return self._kept or _is_in_front(self._fd)

    def _put(self, text: str, *, drawn: bool) -> None:
        self._rest += (_WIPE if self._draws else b"") + text.encode()
        self._drawn = drawn
        self._push()

    def _push(self) -> None:
        try:
            while self._rest:
                self._rest = self._rest[self._terminal.take(memoryview(self._rest)) :]
        except BlockingIOError:
            pass
        except OSError as error:  # the terminal has gone
            self._rest = b""
            if self._kept:
                raise Failure(Exit.WRITE, "write to stdout", error) from error


def _is_in_front(fd: int) -> bool:
    """Whether the terminal is ours: we are not a background job, and no pager in our job reads single keys."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp() and bool(termios.tcgetattr(fd)[_LFLAG] & termios.ICANON)
    except (OSError, termios.error):  # not our controlling terminal
        return True


async def animate(
    fd: int,
    picture: Callable[[], RenderableType],
    *,
    coloured: bool,
    after: float = 0.0,
    every: float = _FRAME,
    kept: bool = False,
) -> None:
    """Draw ``picture()`` on the terminal ``fd`` after ``after`` seconds, and then every ``every`` s, until cancelled.

    At the end the picture is erased. With ``kept``, for a result on stdout, the last one stays, uncut, and a terminal
    that has gone raises Failure WRITE. A terminal that takes nothing blocks no task. Lines that ``console`` writes to
    it come between two pictures. There can be only one picture at a time.
    """
    await sleep(after)
    try:
        screen = _Screen(fd, coloured=coloured, kept=kept)
    except OSError as error:  # no descriptor is free: go on without a picture
        if kept:
            raise Failure(Exit.WRITE, "write to stdout", error) from error
        return
    try:
        try:
            while True:
                screen.draw(picture())
                await sleep(every)
        finally:
            screen.leave()
    finally:
        screen.close()
