"""Rows of cells as lines: in columns on a terminal, separated by tabs elsewhere."""

import os
from collections.abc import Collection, Iterator, Sequence, Sized

from netkit.output.console import STDOUT, terminal_size
from netkit.output.escape import printable

_GAP = "  "
_READABLE = 8  # columns: text is not wrapped to less


def table(rows: Sequence[Sequence[str]]) -> str:
    """One or more rows as text for stdout, without the last newline. Cells are made printable."""
    shown = [[printable(cell) for cell in row] for row in rows]
    if os.isatty(STDOUT):
        return "\n".join(_lines(aligned(shown), terminal_size(STDOUT).columns))
    return "\n".join(map("\t".join, shown))


def _lines(rows: Sequence[Sequence[str]], room: int) -> Iterator[str]:
    """Aligned rows as lines. The last cell is wrapped between words, within its column, if there is room for that."""
    from textwrap import wrap

    for *first, last in rows:
        margin = sum(map(len, first)) + len(_GAP) * len(first)
        left = room - margin
        folded = wrap(last, left, break_long_words=False, break_on_hyphens=False) if left >= _READABLE else [last]
        yield _GAP.join((*first, ("\n" + " " * margin).join(folded))).rstrip()


def aligned(rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> list[list[str]]:
    """The cells padded on the right, or on the left if their head is in ``right``; the last column is not padded."""
    padded = [
        [cell.rjust(width) if column[0] in right else cell.ljust(width) for cell in column]
        for column, width in zip(zip(*rows, strict=True), [*widths(rows)[:-1], 0], strict=True)
    ]
    return [list(row) for row in zip(*padded, strict=True)]


def widths(rows: Sequence[Sequence[Sized]]) -> list[int]:
    """The width of the widest cell of each column."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
