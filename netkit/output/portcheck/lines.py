"""The results of a port check as lines, a port each, with tabs between their cells."""

from collections import Counter
from collections.abc import Sequence

from netkit.core.errors import Failure
from netkit.output.console import DEFAULT_VIEW, STDERR, View
from netkit.output.escape import painted
from netkit.output.portcheck.writer import Writer, detail, time_of
from netkit.services.portcheck import check
from netkit.services.portcheck.check import COLLAPSE_AFTER, OPEN, ProbeResult, Result, Summary
from netkit.services.portcheck.targets import Target

_COLOURS = {
    OPEN: "green",
    **dict.fromkeys((check.CLOSED, check.UNREACHABLE), "red"),
    **dict.fromkeys((check.FILTERED, check.SILENT), "yellow"),
    check.UNKNOWN: "magenta",
}


def colour(probe: ProbeResult) -> str:
    """The colour of a state; open is green where that is as wanted."""
    return "yellow" if probe.state == OPEN and probe.exit else _COLOURS[probe.state]


class Lines(Writer):
    """A line for each port as it is known, tab-separated.

    Unless ``each_port`` is wanted, those of a host that share a state wait for the end, where more than
    ``COLLAPSE_AFTER`` are summed up instead; open ones never wait.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        any_port: bool,
        each_port: bool = False,
        chains: bool = False,
        view: View = DEFAULT_VIEW,
    ) -> None:
        super().__init__(targets, any_port=any_port, chains=chains)
        self.view = view
        self._large = {target.place for target in targets if len(target.ports) > COLLAPSE_AFTER and not each_port}
        self._held: dict[tuple[str, str], list[Result]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def write(self, result: Result) -> str:
        if result.host not in self._large or result.probe.state == OPEN:
            return self.line(result)
        kind = result.host, result.probe.state
        self._counts[kind] += 1
        if self._counts[kind] <= COLLAPSE_AFTER:
            self._held.setdefault(kind, []).append(result)
        return ""

    def end(self, failure: Failure | None) -> str:
        shown: list[str] = []
        for (host, state), count in self._counts.items():
            if count <= COLLAPSE_AFTER:
                shown += map(self.line, self._held[host, state])
            else:
                self.summed_up.append(f"{host}: {count} ports {state}")
        return "".join(shown)

    def line(self, result: Result) -> str:
        """The line of a port, and the certificates that came."""
        probe = result.probe
        state = painted(probe.state, colour(probe)) if self.view.color == "always" else probe.state
        port = f"{result.port}/{result.protocol}" if result.port else "-"
        cells = (result.host, port, probe.address or "-", state, time_of(result), detail(result))
        return "\t".join(cells) + "\n" + self.chain(result)

    async def show(self, summary: Summary) -> None:
        if self.view.moving_after is not None:
            from netkit.output.terminal.progress import show_check

            await show_check(summary, self.view.moving_after, coloured=self.view.coloured(STDERR))
