"""Tables on a terminal, drawn by rich.

Foreign text reaches it escaped, and as Text, so that nothing in it is markup.
"""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from netkit.output.terminal.screen import STDOUT, rows
from netkit.services.portcheck.check import CLOSED, FILTERED, OPEN, SILENT, UNKNOWN, UNREACHABLE

COLOURS = {OPEN: "green", CLOSED: "red", UNREACHABLE: "red", FILTERED: "yellow", SILENT: "yellow", UNKNOWN: "magenta"}


def table(*heads: str, right: Sequence[str] = ()) -> Table:
    """Return a table without lines, its last column folded if it must."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        drawn.add_column(Text(head), justify="right" if head in right else "left", overflow="fold")
    return drawn


def drawn(what: RenderableType, *, coloured: bool) -> str:
    """Return it as the text that draws it on stdout's terminal."""
    return "".join(row + "\n" for row in rows(what, STDOUT, coloured=coloured))
