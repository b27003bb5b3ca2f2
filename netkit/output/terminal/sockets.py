"""The table of sockets on a terminal."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from netkit.output.socket_rows import HEADS, RIGHT, STATE, cells
from netkit.output.terminal.screen import STDOUT, animate, size
from netkit.output.terminal.tables import drawn, table
from netkit.services.sockets import Owned, is_listening

_PIECE = 100  # rows of a long table that are drawn at once, some 50 ms


def socket_tables(found: Sequence[Owned], *, coloured: bool) -> Iterator[str]:
    """Yield the table of sockets, a piece at a time, as the text that draws it."""
    rows = [*map(cells, found)]
    widths = _widths([HEADS, *rows], size(STDOUT).columns)
    for at in range(0, len(found), _PIECE):
        piece = _socket_table(found[at : at + _PIECE], rows[at : at + _PIECE], widths, headed=not at)
        yield drawn(piece, coloured=coloured)


async def watch_sockets(look: Callable[[], Sequence[Owned]], every: float, *, coloured: bool) -> None:
    """Draw what ``look`` finds on stdout's terminal, now and then every so many seconds, until cancelled."""
    await animate(STDOUT, lambda: _fitting(look()), coloured=coloured, every=every, kept=True)


def _fitting(found: Sequence[Owned]) -> RenderableType:
    """Return as much of the table as there are lines for on the screen, and below it how much more there is."""
    room = max(1, size(STDOUT).lines - 2)  # a line for what is left out, and one for the cursor
    rows = [*map(cells, found[:room])]
    widths = _widths([HEADS, *rows], size(STDOUT).columns)
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
