"""How verdicts on ports are written: lines for people and scripts, JSON, TAP, JUnit's XML and GitHub's annotations.

What a peer said is written in printable ASCII, and cannot begin a line or end one.
"""

import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from netkit.core.address import Target
from netkit.core.errors import Failure
from netkit.core.kernel import Group, now
from netkit.output import console
from netkit.output.console import Verbosity, View, say
from netkit.output.github import Github
from netkit.output.junit import Junit
from netkit.output.port_writer import Json, Lines, Writer
from netkit.output.stdout import Put, answering
from netkit.output.tap import Tap
from netkit.services.portcheck.check import Result, Summary
from netkit.services.portcheck.scan import Checker

Screen = Callable[[Summary], Coroutine[Any, Any, None]]
"""Shows how far a check is, until it is cancelled."""


REPORTS: dict[str, type[Writer]] = {"json": Json, "tap": Tap, "junit": Junit, "github": Github}


def writing(
    form: str, targets: Sequence[Target], view: View, talk: Verbosity, *, any: bool, all: bool
) -> tuple[Writer, "Screen | None"]:
    """Return what writes the verdicts, and what shows them on a terminal while they come."""
    after = view.moving_after
    if form in REPORTS:
        return REPORTS[form](targets, any=any), None
    if talk.quiet:
        return Writer(targets, any=any), None
    if os.isatty(1):
        from netkit.output.terminal.portcheck import PortTable

        table = PortTable(targets, any=any, all=all, coloured=view.coloured(1), after=after)
        return table, table.show
    lines = Lines(targets, any=any, all=all, coloured=view.coloured(1) and view.color == "always")
    if after is None:
        return lines, None
    from netkit.output.terminal.progress import progress

    return lines, lambda summary: progress(summary, after, coloured=view.coloured(2))


async def tell(
    checker: Checker,
    targets: Sequence[Target],
    summary: Summary,
    writer: Writer,
    wait: float | None,
    interval: float | None,
    screen: "Screen | None",
) -> None:
    """Check the targets, for at most ``wait`` seconds again and again, and write each verdict as it comes.

    Raises Failure for ports that are not as wanted, once all is written.
    """
    begun = now()

    async def work(put: Put) -> Failure | None:
        def note(result: Result) -> None:
            summary.note(result)
            put(writer.write(result))
            if summary.enough:
                checker.stop()

        put(writer.begin())
        async with Group() as group:
            if screen is not None:
                group.start_soon(screen(summary))
            if wait:
                await checker.wait(targets, wait, interval, note)
            else:
                await checker.run(targets, note)
            group.cancel()
        failure = summary.failure(now() - begun, waited=bool(wait))
        put(writer.end(failure))
        return failure

    failure = await answering(work)
    for line in writer.summed:
        say(f"{console.program}: {line}")
    if failure is not None:
        raise failure
