"""The table of sockets on a terminal."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from netkit.output.columns import widths
from netkit.output.console import STDOUT, terminal_size
from netkit.output.socket_rows import HEADS, RIGHT, STATE, cells
from netkit.output.terminal.screen import animate
from netkit.output.terminal.tables import drawn, paragraph, table
from netkit.services.sockets import Owned, is_listening

_ENDS, _NAMES = ("LOCAL", "PEER"), ("USER", "PROCESS")
_WHOLE, _PART = 21, 8  # columns: of an IPv4 address with its port, and the least for names


def socket_tables(found: Sequence[Owned], *, coloured: bool) -> Iterator[str]:
    """The text of the table of sockets, some rows at a time."""
    rows = [*map(cells, found)]
    room = terminal_size(STDOUT).columns
    columns = _fitted([HEADS, *rows], room)

    def picture(part: slice, headed: bool) -> RenderableType:
        some = found[part], rows[part]
        return Group(*_paragraphs(*some, room)) if columns is None else _socket_table(*some, columns, headed=headed)

    return drawn(picture, len(found), coloured=coloured)


async def watch_sockets(look: Callable[[], Sequence[Owned]], every: float, *, coloured: bool) -> None:
    """Draw what ``look`` returns on stdout's terminal, now and every ``every`` seconds, until cancelled."""
    await animate(STDOUT, lambda: _fitting(look()), coloured=coloured, every=every, kept=True)


def _fitting(found: Sequence[Owned]) -> RenderableType:
    """As much of the table as fits the screen, and the number of sockets left out."""
    here = terminal_size(STDOUT)
    room = max(1, here.lines - 2)  # a line for what is left out, and one for the cursor
    rows = [*map(cells, found[:room])]
    columns = _fitted([HEADS, *rows], here.columns)
    parts: list[RenderableType]
    if columns is None:
        paragraphs = _paragraphs(found[:room], rows, here.columns)
        shown = _fitting_in(room, (text.plain.count("\n") + 1 for text in paragraphs))
        parts = [*paragraphs[:shown]]
    else:
        shown = max(0, _fitting_in(room, (_height(row, columns) for row in (HEADS, *rows))) - 1)
        parts = [_socket_table(found[:shown], rows[:shown], columns)]
    rest = len(found) - shown
    return Group(*parts, *([Text(f"and {rest:,} more")] if rest else []))


def _fitting_in(room: int, heights: Iterable[int]) -> int:
    """How many of the first ``heights`` fit into ``room`` lines."""
    return sum(height <= room for height in itertools.accumulate(heights))


def _paragraphs(found: Sequence[Owned], rows: Sequence[Sequence[str]], room: int) -> list[Text]:
    """A paragraph for each socket, for terminals that are too narrow for a table. Empty queues are left out."""
    made = []
    for owned, row in zip(found, rows, strict=True):
        texts = [
            Text(f"{head.lower()} {cell}" if head in RIGHT else cell)
            for head, cell in zip(HEADS, row, strict=True)
            if head not in RIGHT or cell not in ("0", "-")
        ]
        texts[STATE - len(HEADS)].style = _style(owned)
        made.append(paragraph(texts, room))
    return made


def _style(owned: Owned) -> str:
    return "green" if is_listening(owned.socket) else ""


def _socket_table(
    found: Sequence[Owned], rows: Sequence[Sequence[str]], columns: Sequence[int], *, headed: bool = True
) -> Table:
    texts = [[Text(_folded(cell, width)) for cell, width in zip(row, columns, strict=True)] for row in rows]
    for owned, row in zip(found, texts, strict=True):
        row[STATE].stylize(_style(owned))
    made = table(HEADS, texts, right=RIGHT)
    made.padding = (0, 1, 0, 0)
    made.show_header = headed
    for column, width in zip(made.columns, columns, strict=True):
        column.width = width
    return made


def _fitted(rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """The widths of the columns, each with a space after it, to fit ``room``. The widest are folded first.

    Returns None if not even ``_least`` fits.
    """
    columns = widths(rows)
    least = [_least(column) for column in zip(*rows, strict=True)]
    if sum(least) + len(least) > room:
        return None
    while sum(columns) + len(columns) > room and columns != least:
        foldable = (number for number in range(len(columns)) if columns[number] > least[number])
        columns[max(foldable, key=columns.__getitem__)] -= 1
    return columns


def _least(column: Sequence[str]) -> int:
    """The least width to which a column may be folded. Its first cell is its head."""
    lengths = [*map(len, column)]
    if column[0] in _ENDS:
        return max(length for length in lengths if length <= _WHOLE)
    return min(max(lengths), _PART) if column[0] in _NAMES else max(lengths)


def _folded(cell: str, width: int) -> str:
    """A cell broken at exactly ``width``; rich would break it at a space."""
    return "\n".join(cell[at : at + width] for at in range(0, len(cell), width))


def _height(row: Sequence[str], columns: Sequence[int]) -> int:
    return max(-(-len(cell) // width) for cell, width in zip(row, columns, strict=True))
