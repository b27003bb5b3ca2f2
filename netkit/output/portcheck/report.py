"""Checks ports and writes the results to stdout, in the format that was chosen."""

import os
from collections.abc import Sequence

from netkit.core.kernel import Group, now
from netkit.output import console
from netkit.output.console import STDOUT, Verbosity, View
from netkit.output.portcheck.formats import Github, Json, Junit, Tap
from netkit.output.portcheck.lines import Lines
from netkit.output.portcheck.writer import Writer
from netkit.output.stdout import stdout_writer
from netkit.services.portcheck.check import Result, Summary
from netkit.services.portcheck.scan import Checker
from netkit.services.portcheck.targets import Target

_FORMATS: dict[str, type[Writer]] = {"json": Json, "tap": Tap, "junit": Junit, "github": Github}


def make_writer(
    form: str,
    targets: Sequence[Target],
    view: View,
    verbosity: Verbosity,
    *,
    any_port: bool,
    each_port: bool,
    chains: bool,
) -> Writer:
    """The writer of a format; ``each_port`` has a line of text, however many are the same."""
    if form in _FORMATS:
        return _FORMATS[form](targets, any_port=any_port, chains=chains)
    if verbosity.quiet:
        return Writer(targets, any_port=any_port)
    if not os.isatty(STDOUT):
        return Lines(targets, any_port=any_port, each_port=each_port, chains=chains, view=view)
    from netkit.output.terminal.portcheck import PortTable

    return PortTable(targets, any_port=any_port, each_port=each_port, chains=chains, view=view)


async def write(
    checker: Checker,
    targets: Sequence[Target],
    summary: Summary,
    writer: Writer,
    wait: float | None,
    interval: float | None,
) -> None:
    """Check the targets, for at most ``wait`` seconds again and again, and write each verdict as it comes.

    Raises Failure for ports that are not as wanted, once all is written.
    """
    begun = now()

    def note(result: Result) -> None:
        summary.note(result)
        stdout.write(writer.write(result))
        if summary.enough:
            checker.stop()

    async with stdout_writer() as stdout:
        stdout.write(writer.begin())
        async with Group() as group:
            group.start_soon(writer.show(summary))
            if wait:
                await checker.wait(targets, wait, interval, note)
            else:
                await checker.run(targets, note)
            group.cancel()
        failure = summary.failure(now() - begun, waited=bool(wait))
        stdout.write(writer.end(failure))
    for line in writer.summed_up:
        console.say(f"{console.program}: {line}")
    if failure is not None:
        raise failure
