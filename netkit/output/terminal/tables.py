"""Tables on a terminal, drawn by rich.

Foreign text reaches it escaped, and as Text, so that nothing in it is markup.
"""

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from netkit.output.console import STDOUT
from netkit.output.escape import printable
from netkit.output.terminal.screen import rows


def table(heads: Sequence[str], cells: Iterable[Sequence[str | Text]], *, right: Sequence[str] = ()) -> Table:
    """A table without lines, its last column folded if it must. Cells are made printable."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        made.add_column(Text(head), justify="right" if head in right else "left", overflow="fold")
    for row in cells:
        made.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return made


def drawn(what: RenderableType, *, coloured: bool) -> str:
    """The text that draws it on stdout's terminal."""
    return "".join(row + "\n" for row in rows(what, STDOUT, coloured=coloured))
