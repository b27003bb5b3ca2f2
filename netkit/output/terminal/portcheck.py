"""The results of a port check as a table on a terminal."""

import heapq
from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from socket import inet_pton
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from netkit.core.address import family_of
from netkit.core.errors import Failure
from netkit.core.kernel import now
from netkit.core.units import duration
from netkit.output.console import STDERR, STDOUT, View, same_terminal, terminal_size
from netkit.output.portcheck.lines import Lines
from netkit.output.portcheck.writer import colour, detail
from netkit.output.terminal.progress import check_bar
from netkit.output.terminal.screen import animate, rows
from netkit.output.terminal.tables import WHOLE, Picture, drawn, fitted
from netkit.services.portcheck.check import Result, Summary
from netkit.services.portcheck.watch import Watch


class _Row(NamedTuple):
    """A result, its cells, and its place in the table."""

    result: Result
    cells: list[str | Text]
    place: tuple[int, bytes, int]


_PLACE = attrgetter("place")


class PortTable(Lines):
    """The results as a table, in the order of the targets. It is live during the check if progress is shown."""

    def __init__(self, summary: Summary, *, each_port: bool, chains: bool, view: View) -> None:
        super().__init__(summary, each_port=each_port, chains=chains, view=view)
        self._rows: list[_Row] = []
        self._coloured = view.coloured(STDOUT)
        self.names_all = same_terminal(STDOUT, STDERR)

    def line(self, result: Result) -> str:
        self._rows.append(_Row(result, _cells(result), self._place(result)))
        return ""

    def end(self, failure: Failure | None) -> Iterator[str]:
        yield from super().end(failure)
        self._rows.sort(key=_PLACE)
        yield from drawn(self._picture(self._rows), len(self._rows), coloured=self._coloured)
        yield from filter(None, (self.chain(row.result) for row in self._rows))

    async def show(self, watch: Watch | None) -> None:
        if self.view.moving_after is None or watch is not None:
            await super().show(watch)
            return
        begun = now()

        def picture() -> RenderableType:
            first = self._first(max(terminal_size(STDOUT).lines - 2, 1))  # without the bar and the number of the rest
            more = len(self._rows) - len(first)
            rest = [Text(f"and {more:,} more")] if more else []
            bar = check_bar(self.summary, now() - begun, terminal_size(STDOUT).columns)
            return Group(self._table(first), *rest, bar)

        await animate(STDOUT, picture, coloured=self._coloured, after=self.view.moving_after)

    def _first(self, lines: int) -> list[_Row]:
        """As many results as a table of ``lines`` lines has room for, at least one."""
        first = heapq.nsmallest(lines, self._rows, key=_PLACE)
        while len(first) > 1 and (height := len(rows(self._table(first), STDOUT, coloured=False))) > lines:
            del first[max(len(first) * lines // height, 1) :]
        return first

    def _table(self, some: Sequence[_Row]) -> RenderableType:
        return self._picture(some)(WHOLE, True)

    def _picture(self, some: Sequence[_Row]) -> Picture:
        heads, room = ("TARGET", "ADDRESS", "STATE", "TIME", "DETAIL"), terminal_size(STDOUT).columns
        return fitted(heads, (row.cells for row in some), room, wrapped="DETAIL", right=["TIME"])

    def _place(self, result: Result) -> tuple[int, bytes, int]:
        host = result.host if self.summary.targets[result.number].is_network else ""
        family = family_of(host)
        return result.number, inet_pton(family, host) if family else b"", result.port or 0


def _cells(result: Result) -> list[str | Text]:
    probe = result.probe
    time = "-" if probe.seconds is None else duration(probe.seconds)
    return [str(result), probe.address or "-", _coloured(probe.state, colour(probe)), time, detail(result)]


@lru_cache
def _coloured(state: str, colour: str) -> Text:
    return Text(state, style=colour)
