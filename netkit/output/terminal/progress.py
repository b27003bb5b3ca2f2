"""Progress of transfers and of port checks on a terminal."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from netkit.core.flow import Transfer
from netkit.core.kernel import now
from netkit.output.console import STDERR, terminal_size
from netkit.output.escape import printable
from netkit.output.rate import ProgressLine, RateMeter
from netkit.output.terminal.screen import animate
from netkit.services.portcheck.check import OPEN, Summary

_BAR, _SHORTEST_BAR, _CHECK_BAR = 40, 5, 30  # columns


async def show_transfers(moving: Callable[[], Sequence[Transfer]], begun: float, *, coloured: bool) -> None:
    """Show transfers on stderr, a row for each, until cancelled. ``begun`` is a time of the kernel's clock."""
    meters: defaultdict[str, RateMeter] = defaultdict(lambda: RateMeter(begun))

    def picture() -> RenderableType:
        lines = [(transfer.name, meters[transfer.name].sample(transfer, now())) for transfer in moving()]
        longest = max((len(name) for name, _ in lines), default=0)
        columns = terminal_size(STDERR).columns
        return Group(*(transfer_row(name.ljust(longest), line, columns) for name, line in lines))

    await animate(STDERR, picture, coloured=coloured)


def transfer_row(name: str, line: ProgressLine, columns: int) -> RenderableType:
    """A row of at most ``columns``: the bar gets what the words leave; if need be, the least important go."""
    cells = {"amount": line.amount.rjust(7), "rate": line.rate.rjust(9), "clock": line.clock}
    if line.share is not None:
        cells = {"share": f"{int(line.share * 100):3}%", **cells}
    room = columns - len(name) - 1
    for least in ("amount", "clock", "rate") if line.share is not None else ("clock", "rate"):
        if len("  ".join(cells.values())) > room:
            del cells[least]
    words = "  ".join(cells.values())
    row = Table.grid(padding=(0, 1, 0, 0))
    texts = [Text(printable(name), no_wrap=True), Text(words, no_wrap=True)]
    width = min(room - len(words) - 1, _BAR)
    if line.share is None or width < _SHORTEST_BAR:
        row.add_row(*texts)
    else:
        row.add_row(texts[0], _bar(1.0, line.share, width), texts[1])
    return row


def _bar(total: float, done: float, width: int) -> ProgressBar:
    """A bar in colours that are distinct on dark and on light terminals."""
    return ProgressBar(total, done, width, style="dim", complete_style="green", finished_style="green")


async def show_check(summary: Summary, after: float, *, coloured: bool) -> None:
    """Show the progress of a port check on stderr, from ``after`` seconds on, until cancelled."""
    begun = now()

    def picture() -> RenderableType:
        return check_bar(summary, now() - begun, terminal_size(STDERR).columns)

    await animate(STDERR, picture, coloured=coloured, after=after)


def check_bar(summary: Summary, seconds: float, columns: int) -> RenderableType:
    """The number of checked and open ports and the time, in at most ``columns``, with a bar if it fits."""
    done = summary.states.total()
    known, total, opened = f"{done:,}", f"{summary.total:,}", f"{summary.states[OPEN]:,} open"
    clock = f"{int(seconds) // 60}:{int(seconds) % 60:02}"
    long, short = f"{known} of {total} ports, {opened}", f"{known}/{total}, {opened}"
    row = Table.grid(padding=(0, 2, 0, 0))
    for words in (f"{long}  {clock}", f"{short}  {clock}"):
        width = min(columns - len(words) - 2, _CHECK_BAR)
        if width >= _SHORTEST_BAR:
            row.add_row(_bar(summary.total, done, width), Text(words, no_wrap=True))
            return row
    fitting = (words for words in (f"{short}  {clock}", short, known) if len(words) <= columns)
    return Text(next(fitting, ""), no_wrap=True)
