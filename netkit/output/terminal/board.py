"""The board of ``portcheck --wait`` on a terminal: a row for each target, erased at the end."""

from collections.abc import Sequence
from itertools import islice
from math import ceil

from rich.console import Group, RenderableType
from rich.text import Text

from netkit.core.kernel import now
from netkit.core.units import duration
from netkit.output.columns import widths as column_widths
from netkit.output.console import STDERR, terminal_size
from netkit.output.escape import printable
from netkit.output.portcheck.writer import COLOURS
from netkit.output.terminal.screen import animate
from netkit.services.portcheck.check import OPEN
from netkit.services.portcheck.watch import NOT_READY, Row, Watch

_EVERY = 0.2  # s between two pictures
_INDENT, _GAP = 2, 2  # columns
_SHORTEST_REASON = 12  # columns
_REASON = 2  # the number of its cell
_COLOURS = {**COLOURS, **dict.fromkeys((OPEN, NOT_READY), "yellow")}  # open, but not ready: it should be closed


async def show_board(watch: Watch, after: float, *, coloured: bool) -> None:
    """Show the state of the targets on stderr, from ``after`` seconds on, until cancelled."""
    await animate(STDERR, lambda: board(watch), coloured=coloured, after=after, every=_EVERY)


def board(watch: Watch) -> RenderableType:
    """A head, and a row for each target, cut to the terminal. If there is no room for all, ready ones go first."""
    columns, lines = terminal_size(STDERR)
    room = max(lines - 2, 1)
    rows = list(watch.rows.values()) if len(watch.rows) <= room else _first(watch, room - 1)
    more = len(watch.rows) - len(rows)
    many = "1 target" if watch.summary.expected == 1 else f"{watch.summary.expected:,} targets"
    texts = [Text(f"waiting for {many}, {ceil(max(watch.until - now(), 0))} s left")]
    texts += _table(rows, watch, columns)
    texts += [Text(f"  and {more:,} more", style="dim")] if more else []
    for text in texts:
        text.no_wrap = True
        text.truncate(columns, overflow="ellipsis")
    return Group(*texts)


def _first(watch: Watch, room: int) -> list[Row]:
    """At most ``room`` rows, those that are not ready first."""
    in_turn = (row for ready in (False, True) for row in watch.rows.values() if (row.ready is not None) is ready)
    return list(islice(in_turn, room))


def _table(rows: Sequence[Row], watch: Watch, columns: int) -> list[Text]:
    """The rows, aligned. If they are too wide, the times and then the tries are left out, and reasons are cut."""
    if not rows:
        return []
    cells = [_cells(row, watch) for row in rows]
    names, states, reasons, tries, times = column_widths(cells)
    names = min(names, columns // 2)
    rest = columns - _INDENT - names - _GAP - states
    widths = [tries, times]
    while widths and rest - sum(_GAP + width for width in widths) < min(_GAP + reasons, _GAP + _SHORTEST_REASON):
        widths.pop()
    reasons = min(reasons, rest - _GAP - sum(_GAP + width for width in widths))
    return [
        _line(row, found, [names, states, max(reasons, 0), *widths]) for row, found in zip(rows, cells, strict=True)
    ]


def _cells(row: Row, watch: Watch) -> list[str]:
    """The cells of a row: name, state, reason, tries, and when the last result came."""
    if row.ready is not None:
        state = "ready" if row.state == OPEN else row.state
        return [printable(row.name), state, f"after {duration(row.ready - watch.begun)}", "", ""]
    if not row.state:
        return [printable(row.name), "trying", "", "", ""]
    where = f" ({row.address})" if row.address else ""
    ago = f"{now() - row.since:.1f} s ago"
    return [printable(row.name), row.state, printable(row.reason + where), f"try {row.tries}", ago]


def _line(row: Row, cells: Sequence[str], widths: Sequence[int]) -> Text:
    line = Text(" " * _INDENT, style="dim" if row.ready is not None else "")
    for number, (cell, width) in enumerate(zip(cells, widths, strict=False)):
        if number == _REASON and len(cell) > width and row.ready is None:
            cell = printable(row.reason)  # rather than with half of an address
        text = Text(cell, style=_COLOURS.get(cell, "") if number == 1 else "")
        text.truncate(width, overflow="ellipsis", pad=True)
        line.append(text).append(" " * _GAP)
    line.rstrip()
    return line
