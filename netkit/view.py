"""What moves or is drawn on a terminal: tables and progress. The only file that imports rich.

Foreign text reaches rich escaped, and as Text, so that nothing in it is markup.
"""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from netkit.core.address import Target
from netkit.core.errors import Failure
from netkit.core.events import span
from netkit.core.kernel import now, sleep
from netkit.listing import HEADS, RIGHT, STATE, cells
from netkit.services.names import Answer
from netkit.services.ports import CLOSED, FILTERED, OPEN, SILENT, UNKNOWN, UNREACHABLE, Result, Tally
from netkit.services.sockets import Owned, is_listening
from netkit.shell import printable
from netkit.verdicts import Lines, detail

_FRAME = 0.1  # s between two pictures
_PIECE = 100  # rows of a long table that are drawn at once, some 50 ms
_COLOURS = {OPEN: "green", CLOSED: "red", UNREACHABLE: "red", FILTERED: "yellow", SILENT: "yellow", UNKNOWN: "magenta"}


def console(file: TextIO, *, coloured: bool) -> Console:
    """Return a terminal that colours as we decide, and guesses nothing."""
    return Console(file=file, force_terminal=True, no_color=not coloured, highlight=False, emoji=False, markup=False)


def table(*heads: str, right: Sequence[str] = ()) -> Table:
    """Return a table without lines, its last column folded if it must."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        drawn.add_column(Text(head), justify="right" if head in right else "left", overflow="fold")
    return drawn


def drawn(what: RenderableType, *, coloured: bool) -> str:
    """Return it as the text that draws it on stdout's terminal."""
    screen = console(sys.stdout, coloured=coloured)
    with screen.capture() as capture:
        screen.print(what)
    return capture.get()


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
        return drawn(self._table(), coloured=self._colour) if self._rows else ""

    def _table(self) -> Table:
        made = table("TARGET", "ADDRESS", "STATE", "TIME", "DETAIL", right=["TIME"])
        for result in sorted(self._rows, key=lambda result: (self._places[result.host], result.port)):
            finding = result.finding
            made.add_row(
                Text(str(result)),
                Text(finding.address or "-"),
                Text(finding.state, style=_COLOURS[finding.state]),
                Text("-" if finding.seconds is None else span(finding.seconds)),
                Text(detail(result)),
            )
        return made

    async def show(self, tally: Tally) -> None:
        """Draw the table as it is, again and again."""
        if self._after is not None:
            begun = now()
            screen = console(sys.stdout, coloured=self._colour)
            await _animate(screen, self._after, lambda: Group(self._table(), _bar(tally, now() - begun)))


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
    widths = _widths([HEADS, *rows], console(sys.stdout, coloured=coloured).width)
    for at in range(0, len(found), _PIECE):
        piece = _socket_table(found[at : at + _PIECE], rows[at : at + _PIECE], widths, headed=not at)
        yield drawn(piece, coloured=coloured)


async def watch_sockets(look: Callable[[], Sequence[Owned]], every: float, *, coloured: bool) -> None:
    """Draw what ``look`` finds on stdout's terminal, now and then every so many seconds, until cancelled."""
    screen = console(sys.stdout, coloured=coloured)
    await animate(1, lambda: _fitting(look(), screen), coloured=coloured, every=every, kept=True)


def _fitting(found: Sequence[Owned], screen: Console) -> RenderableType:
    """Return as much of the table as there are lines for on the screen, and below it how much more there is."""
    room = max(1, screen.height - 2)  # a line for what is left out, and one for the cursor
    rows = [*map(cells, found[:room])]
    widths = _widths([HEADS, *rows], screen.width)
    heights = itertools.accumulate(_height(row, widths) for row in (HEADS, *rows))
    shown = max(0, sum(height <= room for height in heights) - 1)
    rest = len(found) - shown
    more = Text(f"and {rest:,} more" if rest else "")
    return Group(_socket_table(found[:shown], rows[:shown], widths), more)


def _socket_table(
    found: Sequence[Owned], rows: Sequence[Sequence[str]], widths: Sequence[int], *, headed: bool = True
) -> Table:
    made = table(*HEADS, right=RIGHT)
    made.padding = (0, 1, 0, 0)
    made.show_header = headed
    for column, width in zip(made.columns, widths, strict=True):
        column.width = width
    for owned, row in zip(found, rows, strict=True):
        texts = [*map(Text, row)]
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


def _height(row: Sequence[str], widths: Sequence[int]) -> int:
    return max(-(-len(cell) // width) for cell, width in zip(row, widths, strict=True))


async def animate(
    fd: int,
    picture: Callable[[], RenderableType],
    *,
    coloured: bool,
    after: float = 0.0,
    every: float = _FRAME,
    kept: bool = False,
) -> None:
    """Draw what ``picture`` returns on a terminal, after some seconds and then every so many, until cancelled.

    ``kept`` leaves the last picture there.
    """
    await sleep(after)
    screen = console(sys.stdout if fd == 1 else sys.stderr, coloured=coloured)
    with Live(
        picture(), console=screen, auto_refresh=False, transient=not kept, redirect_stdout=False, redirect_stderr=False
    ) as live:
        while True:
            live.update(picture(), refresh=True)
            await sleep(every)


async def progress(tally: Tally, after: float, *, coloured: bool) -> None:
    """Show on stderr how far a check is, after so many seconds."""
    begun = now()
    await _animate(console(sys.stderr, coloured=coloured), after, lambda: _bar(tally, now() - begun))


async def _animate(screen: Console, after: float, picture: Callable[[], RenderableType]) -> None:
    await sleep(after)
    with Live(
        picture(), console=screen, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as live:
        while True:
            await sleep(_FRAME)
            live.update(picture(), refresh=True)


def _bar(tally: Tally, seconds: float) -> Table:
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row(
        ProgressBar(tally.total, tally.known, width=30),
        Text(f"{tally.known:,} of {tally.total:,} ports, {tally.open:,} open"),
        Text(f"{int(seconds) // 60}:{int(seconds) % 60:02}"),
    )
    return row
