"""The results of a port check as a table on a terminal."""

import heapq
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from netkit.core.address import Target
from netkit.core.errors import Failure
from netkit.core.kernel import now
from netkit.core.units import duration
from netkit.output.port_writer import Lines, detail
from netkit.output.terminal.progress import bar
from netkit.output.terminal.screen import STDOUT, animate, size
from netkit.output.terminal.tables import COLOURS, drawn, table
from netkit.services.portcheck.check import Result, Summary


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
        if not self._rows:
            return ""
        return drawn(self._table(sorted(self._rows, key=self._place)), coloured=self._colour)

    def _table(self, results: Sequence[Result]) -> Table:
        made = table("TARGET", "ADDRESS", "STATE", "TIME", "DETAIL", right=["TIME"])
        for result in results:
            probe = result.probe
            made.add_row(
                Text(str(result)),
                Text(probe.address or "-"),
                Text(probe.state, style=COLOURS[probe.state]),
                Text("-" if probe.seconds is None else duration(probe.seconds)),
                Text(detail(result)),
            )
        return made

    def _place(self, result: Result) -> tuple[int, int]:
        return self._places[result.host], result.port

    async def show(self, summary: Summary) -> None:
        """Draw the table as it is, again and again, as many rows as there is room for."""
        if self._after is None:
            return
        begun = now()

        def picture() -> RenderableType:
            most = max(size(STDOUT).lines - 3, 1)  # beside the heads, the bar and how many more there are
            shown = self._table(heapq.nsmallest(most, self._rows, key=self._place))
            more = len(self._rows) - most
            return Group(shown, *([Text(f"and {more:,} more")] if more > 0 else []), bar(summary, now() - begun))

        await animate(STDOUT, picture, coloured=self._colour, after=self._after)
