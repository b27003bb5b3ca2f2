"""Rows of cells as lines: in columns for a person, separated by tabs for a program."""

import os
from collections.abc import Collection, Iterator, Sequence

from netkit.output.console import STDOUT, terminal_size
from netkit.output.escape import printable

_GAP = "  "
_READABLE = 8  # columns that words need


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, at least one, for stdout, without the last newline. Their cells are made printable."""
    shown = [[printable(cell) for cell in row] for row in rows]
    if os.isatty(STDOUT):
        return "\n".join(_lines(aligned(shown), terminal_size(STDOUT).columns))
    return "\n".join(map("\t".join, shown))


def _lines(rows: Sequence[Sequence[str]], room: int) -> Iterator[str]:
    """Rows whose cells are aligned, the last cell folded between words to its own column if there is room for that."""
    from textwrap import wrap

    for *first, last in rows:
        margin = sum(map(len, first)) + len(_GAP) * len(first)
        left = room - margin
        folded = wrap(last, left, break_long_words=False, break_on_hyphens=False) if left >= _READABLE else [last]
        yield _GAP.join((*first, ("\n" + " " * margin).join(folded))).rstrip()


def aligned(rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> list[list[str]]:
    """The cells, padded to the width of their column, on the left if its head is in ``right``; the last is as it is."""
    padded = [
        [cell.rjust(width) if column[0] in right else cell.ljust(width) for cell in column]
        for column, width in zip(zip(*rows, strict=True), [*widths(rows)[:-1], 0], strict=True)
    ]
    return [list(row) for row in zip(*padded, strict=True)]


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """How wide the widest cell of each column is."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
