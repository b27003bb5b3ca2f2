"""The table of sockets on a terminal."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from netkit.output.columns import widths
from netkit.output.console import STDOUT
from netkit.output.socket_rows import HEADS, RIGHT, STATE, cells
from netkit.output.terminal.screen import animate, terminal_size
from netkit.output.terminal.tables import drawn, table
from netkit.services.sockets import Owned, is_listening

_ENDS, _NAMES = ("LOCAL", "PEER"), ("USER", "PROCESS")
_WHOLE, _PART = 21, 8  # columns: of an address of IPv4 with its port, and what is left of names at least
_PIECE = 100  # rows of a long table that are drawn at once, some 50 ms


def socket_tables(found: Sequence[Owned], *, coloured: bool) -> Iterator[str]:
    """Yield the table of sockets, a piece at a time, as the text that draws it."""
    rows = [*map(cells, found)]
    columns = _fitted([HEADS, *rows], terminal_size(STDOUT).columns)
    for at in range(0, len(found), _PIECE):
        piece = _socket_table(found[at : at + _PIECE], rows[at : at + _PIECE], columns, headed=not at)
        yield drawn(piece, coloured=coloured)


async def watch_sockets(look: Callable[[], Sequence[Owned]], every: float, *, coloured: bool) -> None:
    """Draw what ``look`` finds on stdout's terminal, now and then every so many seconds, until cancelled."""
    await animate(STDOUT, lambda: _fitting(look()), coloured=coloured, every=every, kept=True)


def _fitting(found: Sequence[Owned]) -> RenderableType:
    """As much of the table as there are lines for on the screen, and below it how much more there is."""
    room = max(1, terminal_size(STDOUT).lines - 2)  # a line for what is left out, and one for the cursor
    rows = [*map(cells, found[:room])]
    columns = _fitted([HEADS, *rows], terminal_size(STDOUT).columns)
    heights = itertools.accumulate(_height(row, columns) for row in (HEADS, *rows))
    shown = max(0, sum(height <= room for height in heights) - 1)
    rest = len(found) - shown
    return Group(_socket_table(found[:shown], rows[:shown], columns), *([Text(f"and {rest:,} more")] if rest else []))


def _socket_table(
    found: Sequence[Owned], rows: Sequence[Sequence[str]], columns: Sequence[int], *, headed: bool = True
) -> Table:
    texts = [[Text(_folded(cell, width)) for cell, width in zip(row, columns, strict=True)] for row in rows]
    for owned, row in zip(found, texts, strict=True):
        if is_listening(owned.socket):
            row[STATE].stylize("green")
    made = table(HEADS, texts, right=RIGHT)
    made.padding = (0, 1, 0, 0)
    made.show_header = headed
    for column, width in zip(made.columns, columns, strict=True):
        column.width = width
    return made


def _fitted(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """The widths of columns that fit, with a space behind each: the widest are the first to be folded.

    Where there is room for what matters most, that is not folded at all.
    """
    columns = widths(rows)
    least = [_least(column) for column in zip(*rows, strict=True)]
    if sum(least) + len(least) > room:
        least = [1] * len(columns)
    while sum(columns) + len(columns) > room and columns != least:
        foldable = (number for number in range(len(columns)) if columns[number] > least[number])
        columns[max(foldable, key=columns.__getitem__)] -= 1
    return columns


def _least(column: Sequence[str]) -> int:
    """How wide a column, whose first cell is its head, is at least where there is room."""
    lengths = [*map(len, column)]
    if column[0] in _ENDS:
        return max(length for length in lengths if length <= _WHOLE)
    return min(max(lengths), _PART) if column[0] in _NAMES else max(lengths)


def _folded(cell: str, width: int) -> str:
    """The lines of a cell, cut where the column ends: rich would look for a space before."""
    return "\n".join(cell[at : at + width] for at in range(0, len(cell), width))


def _height(row: Sequence[str], columns: Sequence[int]) -> int:
    return max(-(-len(cell) // width) for cell, width in zip(row, columns, strict=True))
