"""The results of a port check as lines, one for each port, with tabs between their cells."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from netkit.core.errors import Failure
from netkit.output.console import DEFAULT_VIEW, STDERR, View
from netkit.output.escape import painted, printable
from netkit.output.portcheck.writer import Writer, colour, detail, time_of
from netkit.services.portcheck.check import COLLAPSE_AFTER, OPEN, Result, Summary

if TYPE_CHECKING:
    from netkit.services.portcheck.watch import Watch


class Lines(Writer):
    """A tab-separated line for each port as its result comes.

    Of a target with more than ``COLLAPSE_AFTER`` ports, only open ones are written at once, unless ``each_port``. At
    the end, a state that more than ``COLLAPSE_AFTER`` ports share is summed up.
    """

    def __init__(
        self, summary: Summary, *, each_port: bool = False, chains: bool = False, view: View = DEFAULT_VIEW
    ) -> None:
        super().__init__(summary, chains=chains)
        self.view = view
        self.shows = view.moving_after is not None
        numbered = enumerate(summary.targets)
        self._large = {number for number, target in numbered if target.size > COLLAPSE_AFTER and not each_port}
        self._held: dict[tuple[int, str], list[Result]] = {}
        self._counts: Counter[tuple[int, str]] = Counter()

    def write(self, result: Result) -> str:
        if result.number not in self._large or result.probe.state == OPEN:
            return self.line(result)
        kind = result.number, result.probe.state
        self._counts[kind] += 1
        if self._counts[kind] <= COLLAPSE_AFTER:
            self._held.setdefault(kind, []).append(result)
        return ""

    def end(self, failure: Failure | None) -> Iterator[str]:
        for (number, state), count in self._counts.items():
            if count <= COLLAPSE_AFTER:
                yield from map(self.line, self._held[number, state])
            else:
                self.summed_up.append(f"{self.summary.targets[number].place}: {count} ports {state}")

    def line(self, result: Result) -> str:
        """The line of a port, and its certificates if they are wanted."""
        probe = result.probe
        state = painted(probe.state, colour(probe)) if self.view.color == "always" else probe.state
        port = f"{result.port}/{result.protocol}" if result.port else "-"
        cells = (printable(result.host), port, probe.address or "-", state, time_of(result), detail(result))
        return "\t".join(cells) + "\n" + self.chain(result)

    async def show(self, watch: "Watch | None") -> None:
        if self.view.moving_after is None:
            return
        coloured = self.view.coloured(STDERR)
        if watch is not None:
            from netkit.output.terminal.board import show_board

            await show_board(watch, self.view.moving_after, coloured=coloured)
        else:
            from netkit.output.terminal.progress import show_check

            await show_check(self.summary, self.view.moving_after, coloured=coloured)
