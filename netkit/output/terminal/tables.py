"""Tables on a terminal, drawn by rich.

Foreign text is made printable and passed as Text, so that rich finds no markup in it.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from netkit.output.columns import widths
from netkit.output.console import STDOUT
from netkit.output.escape import printable
from netkit.output.terminal import screen

_GAP, _INDENT = 2, 2  # columns
_READABLE = 20  # columns: sentences are not wrapped to less
_PIECE = 100  # rows that are drawn at once, which takes some 50 ms

Picture = Callable[[slice, bool], RenderableType]  # of these rows of a table, with its heads or without
WHOLE = slice(None)


def fitted(
    heads: Sequence[str], cells: Iterable[Sequence[str | Text]], room: int, *, wrapped: str, right: Sequence[str] = ()
) -> Picture:
    """A table that fits ``room`` columns. Only its column ``wrapped`` is wrapped between words, if need be.

    If that leaves too little for it, each row becomes a paragraph. A cell that is a str is made printable.
    """
    rows = [[cell if isinstance(cell, Text) else printable(cell) for cell in row] for row in cells]
    natural = widths([heads, *rows])
    at = heads.index(wrapped)
    left = room - (sum(natural) - natural[at]) - _GAP * (len(heads) - 1)
    words = (len(word) for row in rows for word in str(row[at]).split())
    unbroken = max((length for length in words if length <= room - _INDENT), default=0)
    narrow = left < min(natural[at], max(_READABLE, unbroken))
    if natural[at] > left:
        natural[at] = max(left - _GAP, 1)  # rich 13.3 counts a gap behind the last column, too

    def picture(part: slice, headed: bool) -> RenderableType:
        texts = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows[part]]
        if narrow:
            return Group(*(paragraph(row, room) for row in texts))
        made = table(heads, texts, right=right)
        made.show_header = headed
        for column, width in zip(made.columns, natural, strict=True):
            column.min_width = column.max_width = width
        return made

    return picture


def paragraph(cells: Iterable[Text], room: int) -> Text:
    """The cells that are not empty or "-", one after the other, with line breaks between cells if possible."""
    lines: list[Text] = []
    full = True
    for cell in cells:
        if cell.plain.strip() in ("", "-"):
            continue
        if not full and len(lines[-1]) + _GAP + len(cell) <= room:
            lines[-1].append(" " * _GAP).append(cell)
            continue
        indent = " " * _INDENT
        first = indent if lines else ""
        width = max(room, _INDENT + 1)
        pieces = textwrap.wrap(
            cell.plain, width, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
        )
        lines += [Text(piece, style=cell.style) for piece in pieces]
        full = len(pieces) > 1
    return Text("\n").join(lines)


def table(heads: Sequence[str], cells: Iterable[Sequence[Text]], *, right: Sequence[str] = ()) -> Table:
    """A table without lines. Columns are folded if need be."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        made.add_column(Text(head), justify="right" if head in right else "left", overflow="fold")
    for row in cells:
        made.add_row(*row)
    return made


def drawn(picture: Picture, count: int, *, coloured: bool) -> Iterator[str]:
    """Yield the text that draws a table of ``count`` rows on stdout's terminal, some rows at a time."""
    for at in range(0, count, _PIECE):
        piece = picture(slice(at, at + _PIECE), not at)
        yield "".join(line + "\n" for line in screen.rows(piece, STDOUT, coloured=coloured))
