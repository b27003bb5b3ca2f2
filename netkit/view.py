"""What moves or is drawn on a terminal: tables and progress. The only file that imports rich.

Foreign text reaches rich escaped, and as Text, so that nothing in it is markup.
"""

import heapq
import io
import itertools
import os
import termios
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from netkit import shell
from netkit.core.address import Target
from netkit.core.errors import Exit, Failure
from netkit.core.events import span
from netkit.core.flow import Transfer
from netkit.core.kernel import now, sleep
from netkit.core.stream import FileStream
from netkit.listing import HEADS, RIGHT, STATE, cells
from netkit.report import Moved, Pace
from netkit.services.names import Answer
from netkit.services.ports import CLOSED, FILTERED, OPEN, SILENT, UNKNOWN, UNREACHABLE, Result, Tally
from netkit.services.sockets import Owned, is_listening
from netkit.shell import printable
from netkit.verdicts import Lines, detail

_NONE, _STDOUT, _STDERR = -1, 1, 2
_FRAME = 0.1  # s between two pictures
_LFLAG = 3  # of what tcgetattr returns
_WIPE = b"\r\x1b[J"  # ED: ECMA-48
_TRIES, _PAUSE = 10, 0.01  # how often, and after how many seconds, a terminal that takes nothing is tried at the end
_PIECE = 100  # rows of a long table that are drawn at once, some 50 ms
_BAR, _SHORTEST_BAR = 40, 5  # columns
_COLOURS = {OPEN: "green", CLOSED: "red", UNREACHABLE: "red", FILTERED: "yellow", SILENT: "yellow", UNKNOWN: "magenta"}


def rows(what: RenderableType, fd: int, *, coloured: bool) -> list[str]:
    """Return the rows that draw it on the terminal ``fd``, as wide as that is now, coloured as we decide."""
    here = size(fd)
    screen = Console(
        file=io.StringIO(),  # the terminal itself would be written to, even if only with nothing
        width=here.columns,
        height=here.lines,
        force_terminal=True,
        no_color=not coloured,
        highlight=False,
        emoji=False,
        markup=False,
    )
    with screen.capture() as capture:
        screen.print(what)
    return capture.get().removesuffix("\n").split("\n")


def size(fd: int) -> os.terminal_size:
    """Return how large the terminal ``fd`` is at the moment."""
    try:
        columns, lines = os.get_terminal_size(fd)
    except OSError:
        columns = lines = 0
    return os.terminal_size((columns or 80, lines or 24))  # some terminals do not know


def table(*heads: str, right: Sequence[str] = ()) -> Table:
    """Return a table without lines, its last column folded if it must."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        drawn.add_column(Text(head), justify="right" if head in right else "left", overflow="fold")
    return drawn


def drawn(what: RenderableType, *, coloured: bool) -> str:
    """Return it as the text that draws it on stdout's terminal."""
    return "".join(row + "\n" for row in rows(what, _STDOUT, coloured=coloured))


class PortTable(Lines):
    """The verdicts as a table, in the order of the targets; while they come it grows, after ``after`` seconds."""

    def __init__(self, targets: Sequence[Target], *, any: bool, all: bool, coloured: bool, after: float | None) -> None:
        super().__init__(targets, any=any, all=all)
        self._targets = targets
        self._places = {target.host or "localhost": place for place, target in enumerate(targets)}
        self._rows: list[Result] = []
        self._colour = coloured
        self._after = after

    def line(self, result: Result) -> str:
        """Add a row; what is written is the table, at the end."""
        self._rows.append(result)
        return ""

    def end(self, failure: Failure | None) -> str:
        """Return the table."""
        super().end(failure)
        if not self._rows:
            return ""
        return drawn(self._table(sorted(self._rows, key=self._place)), coloured=self._colour)

    def _table(self, results: Sequence[Result]) -> Table:
        made = table("TARGET", "ADDRESS", "STATE", "TIME", "DETAIL", right=["TIME"])
        for result in results:
            finding = result.finding
            made.add_row(
                Text(str(result)),
                Text(finding.address or "-"),
                Text(finding.state, style=_COLOURS[finding.state]),
                Text("-" if finding.seconds is None else span(finding.seconds)),
                Text(detail(result)),
            )
        return made

    def _place(self, result: Result) -> tuple[int, int]:
        return self._places[result.host], result.port

    async def show(self, tally: Tally) -> None:
        """Draw the table as it is, again and again, as many rows as there is room for."""
        if self._after is None:
            return
        begun = now()

        def picture() -> RenderableType:
            most = max(size(_STDOUT).lines - 3, 1)  # beside the heads, the bar and how many more there are
            shown = self._table(heapq.nsmallest(most, self._rows, key=self._place))
            more = len(self._rows) - most
            return Group(shown, *([Text(f"and {more:,} more")] if more > 0 else []), _bar(tally, now() - begun))

        await animate(_STDOUT, picture, coloured=self._colour, after=self._after)


def answer_table(answers: Sequence[Answer], *, coloured: bool) -> str:
    """Return the table of answers to look-ups as the text that draws it."""
    heads = ["NAME", "ANSWER", "CANONICAL NAME", "TIME"]
    asked = any(answer.server for answer in answers)
    made = table(*heads, *(["SERVER"] if asked else []), right=["TIME"])
    for answer in answers:
        for value in answer.values:
            cells = [answer.name or value.kind, value.text, answer.canonical or "", span(answer.seconds)]
            cells += [f"{answer.server or ''} {answer.protocol or ''}"] if asked else []
            made.add_row(*(Text(printable(cell)) for cell in cells))
    return drawn(made, coloured=coloured)


def socket_tables(found: Sequence[Owned], *, coloured: bool) -> Iterator[str]:
    """Yield the table of sockets, a piece at a time, as the text that draws it."""
    rows = [*map(cells, found)]
    widths = _widths([HEADS, *rows], size(_STDOUT).columns)
    for at in range(0, len(found), _PIECE):
        piece = _socket_table(found[at : at + _PIECE], rows[at : at + _PIECE], widths, headed=not at)
        yield drawn(piece, coloured=coloured)


async def watch_sockets(look: Callable[[], Sequence[Owned]], every: float, *, coloured: bool) -> None:
    """Draw what ``look`` finds on stdout's terminal, now and then every so many seconds, until cancelled."""
    await animate(_STDOUT, lambda: _fitting(look()), coloured=coloured, every=every, kept=True)


def _fitting(found: Sequence[Owned]) -> RenderableType:
    """Return as much of the table as there are lines for on the screen, and below it how much more there is."""
    room = max(1, size(_STDOUT).lines - 2)  # a line for what is left out, and one for the cursor
    rows = [*map(cells, found[:room])]
    widths = _widths([HEADS, *rows], size(_STDOUT).columns)
    heights = itertools.accumulate(_height(row, widths) for row in (HEADS, *rows))
    shown = max(0, sum(height <= room for height in heights) - 1)
    rest = len(found) - shown
    return Group(_socket_table(found[:shown], rows[:shown], widths), *([Text(f"and {rest:,} more")] if rest else []))


def _socket_table(
    found: Sequence[Owned], rows: Sequence[Sequence[str]], widths: Sequence[int], *, headed: bool = True
) -> Table:
    made = table(*HEADS, right=RIGHT)
    made.padding = (0, 1, 0, 0)
    made.show_header = headed
    for column, width in zip(made.columns, widths, strict=True):
        column.width = width
    for owned, row in zip(found, rows, strict=True):
        texts = [Text(_folded(cell, width)) for cell, width in zip(row, widths, strict=True)]
        if is_listening(owned.socket):
            texts[STATE].stylize("green")
        made.add_row(*texts)
    return made


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the widths of columns that fit, with a space behind each: the widest are the first to be folded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + len(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _folded(cell: str, width: int) -> str:
    """Return the lines of a cell, cut where the column ends: rich would look for a space before."""
    return "\n".join(cell[at : at + width] for at in range(0, len(cell), width))


def _height(row: Sequence[str], widths: Sequence[int]) -> int:
    return max(-(-len(cell) // width) for cell, width in zip(row, widths, strict=True))


async def progress(tally: Tally, after: float, *, coloured: bool) -> None:
    """Show on stderr how far a check is, after so many seconds."""
    begun = now()
    await animate(_STDERR, lambda: _bar(tally, now() - begun), coloured=coloured, after=after)


class _Screen:
    """A picture on a terminal, which takes what it takes at once: while there is a ``rest``, pictures are skipped.

    The cursor is left at the upper left, so erasing from there on wipes it, whatever became of the rows below. In the
    background nothing is drawn: the terminal is another's.
    """

    def __init__(self, fd: int, *, coloured: bool, kept: bool) -> None:
        self._fd = fd
        self._kept = kept
        self._coloured = coloured
        self._draws = shell.draws(fd)
        self._own = os.dup(fd)
        self._terminal = FileStream(_NONE, self._own)
        self._rest = b""  # of what was to be written
        self._drawn = False  # whether a picture stands once that is
        self._picture: RenderableType | None = None
        if shell.same_terminal(fd, _STDERR):
            shell.before_line = self.wiped

    def draw(self, picture: RenderableType) -> None:
        """Draw it in place of what is there, cut to the screen; an empty one takes no room at all."""
        self._push()
        if self._rest or not self._may_draw():
            return
        self._picture = picture
        shown = rows(picture, self._fd, coloured=self._coloured)
        if shown == [""]:
            self._rest = self.wiped()
            self._push()
            return
        most = size(self._fd).lines
        if len(shown) > most:
            shown[most - 1 :] = [f"and {len(shown) - most + 1:,} more"]
        if self._draws:
            self._put("\n".join(shown) + "\r" + (f"\x1b[{len(shown) - 1}A" if len(shown) > 1 else ""), drawn=True)

    def wiped(self) -> bytes:
        """Return what the terminal is to get before anything else, and take that for written."""
        text = self._rest + (_WIPE if self._drawn else b"")
        self._rest, self._drawn = b"", False
        return text if self._may_draw() else b""

    def leave(self) -> None:
        """Wipe the picture, or draw the last one whole; what the terminal does not take comes before the next line."""
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
        """Let go of the terminal."""
        self._terminal.close()
        os.close(self._own)

    def _may_draw(self) -> bool:
        """Whether the terminal is ours. A picture that is kept is an answer, and is there anyway."""
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
        except OSError as error:  # it was hung up
            self._rest = b""
            if self._kept:
                raise Failure(Exit.WRITE, "write to stdout", error) from error


def _is_in_front(fd: int) -> bool:
    """Whether the terminal is ours: we are no job in its background, and no pager beside us reads it key by key."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp() and bool(termios.tcgetattr(fd)[_LFLAG] & termios.ICANON)
    except (OSError, termios.error):  # it controls nobody, or others
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
    """Draw ``picture()`` on the terminal ``fd`` after so many seconds, and then again and again, until cancelled.

    At the end it is wiped, or with ``kept``, for an answer on stdout, the last one is left, whole; raises Failure WRITE
    then if the terminal has gone. A terminal that takes nothing holds up nothing
    but its pictures, and lines that shell writes to it come whole, between two of them. One picture at a time.
    """
    await sleep(after)
    try:
        screen = _Screen(fd, coloured=coloured, kept=kept)
    except OSError as error:  # no descriptor is left: others need them more than a picture
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


async def transfers(moving: Callable[[], Sequence[Transfer]], begun: float, *, coloured: bool) -> None:
    """Show on stderr how far transfers are, a row for each, until cancelled. ``begun`` is by the kernel's clock."""
    paces: defaultdict[str, Pace] = defaultdict(lambda: Pace(begun))

    def picture() -> RenderableType:
        each = [(transfer.name, paces[transfer.name].said(transfer, now())) for transfer in moving()]
        longest = max((len(name) for name, _ in each), default=0)
        return Group(*(_moved(name.ljust(longest), said, size(_STDERR).columns) for name, said in each))

    await animate(_STDERR, picture, coloured=coloured)


def _moved(name: str, said: Moved, columns: int) -> RenderableType:
    """Return a row that fits: the bar takes what is left; where that is too little, what matters least goes first."""
    cells = {"amount": said.amount.rjust(7), "rate": said.rate.rjust(9), "clock": said.clock}
    if said.share is not None:
        cells = {"share": f"{int(said.share * 100):3}%", **cells}
    room = columns - len(name) - 1
    for least in ("amount", "clock", "rate") if said.share is not None else ("clock", "rate"):
        if len("  ".join(cells.values())) > room:
            del cells[least]
    words = "  ".join(cells.values())
    row = Table.grid(padding=(0, 1, 0, 0))
    drawn = [Text(printable(name), no_wrap=True), Text(words, no_wrap=True)]
    bar = min(room - len(words) - 1, _BAR)
    if said.share is None or bar < _SHORTEST_BAR:
        row.add_row(*drawn)
    else:
        row.add_row(drawn[0], ProgressBar(1.0, said.share, width=bar), drawn[1])
    return row


def _bar(tally: Tally, seconds: float) -> Table:
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row(
        ProgressBar(tally.total, tally.known, width=30),
        Text(f"{tally.known:,} of {tally.total:,} ports, {tally.open:,} open"),
        Text(f"{int(seconds) // 60}:{int(seconds) % 60:02}"),
    )
    return row
