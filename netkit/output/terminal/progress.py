"""Progress of transfers and of port checks on a terminal."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from netkit.core.flow import Transfer
from netkit.core.kernel import now
from netkit.output.escape import printable
from netkit.output.rate import ProgressLine, RateMeter
from netkit.output.terminal.screen import STDERR, animate, size
from netkit.services.portcheck.check import Summary

_BAR, _SHORTEST_BAR = 40, 5  # columns


async def progress(summary: Summary, after: float, *, coloured: bool) -> None:
    """Show on stderr how far a check is, after so many seconds."""
    begun = now()
    await animate(STDERR, lambda: bar(summary, now() - begun), coloured=coloured, after=after)


async def transfers(moving: Callable[[], Sequence[Transfer]], begun: float, *, coloured: bool) -> None:
    """Show on stderr how far transfers are, a row for each, until cancelled. ``begun`` is by the kernel's clock."""
    paces: defaultdict[str, RateMeter] = defaultdict(lambda: RateMeter(begun))

    def picture() -> RenderableType:
        each = [(transfer.name, paces[transfer.name].sample(transfer, now())) for transfer in moving()]
        longest = max((len(name) for name, _ in each), default=0)
        return Group(*(_moved(name.ljust(longest), said, size(STDERR).columns) for name, said in each))

    await animate(STDERR, picture, coloured=coloured)


def _moved(name: str, said: ProgressLine, columns: int) -> RenderableType:
    """Return a row that fits: the bar takes what is left; where that is too little, what matters least goes first."""
    cells = {"amount": said.amount.rjust(7), "rate": said.rate.rjust(9), "clock": said.clock}
    if said.share is not None:
        cells = {"share": f"{int(said.share * 100):3}%", **cells}
    room = columns - len(name) - 1
    for least in ("amount", "clock", "rate") if said.share is not None else ("clock", "rate"):
        if len("  ".join(cells.values())) > room:
            del cells[least]
    words = "  ".join(cells.values())
    row = Table.grid(padding=(0, 1, 0, 0))
    drawn = [Text(printable(name), no_wrap=True), Text(words, no_wrap=True)]
    bar = min(room - len(words) - 1, _BAR)
    if said.share is None or bar < _SHORTEST_BAR:
        row.add_row(*drawn)
    else:
        row.add_row(drawn[0], ProgressBar(1.0, said.share, width=bar), drawn[1])
    return row


def bar(summary: Summary, seconds: float) -> Table:
    """Draw how many ports are known, beside a bar and the time."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row(
        ProgressBar(summary.total, summary.known, width=30),
        Text(f"{summary.known:,} of {summary.total:,} ports, {summary.open:,} open"),
        Text(f"{int(seconds) // 60}:{int(seconds) % 60:02}"),
    )
    return row
