"""Checks ports and writes the results to stdout, in the format that was chosen."""

import os
from typing import TYPE_CHECKING

from netkit.core.events import Waiting, ignore
from netkit.core.kernel import Group, now
from netkit.output import console
from netkit.output.console import STDOUT, Verbosity, View
from netkit.output.portcheck.formats import Github, Json, Junit, Tap
from netkit.output.portcheck.lines import Lines
from netkit.output.portcheck.writer import Writer
from netkit.output.stdout import stdout_writer
from netkit.services.portcheck.check import Result, Summary
from netkit.services.portcheck.scan import Checker

if TYPE_CHECKING:
    from netkit.services.portcheck.watch import Watch

_FORMATS: dict[str, type[Writer]] = {"json": Json, "tap": Tap, "junit": Junit, "github": Github}


def make_writer(
    form: str, summary: Summary, view: View, verbosity: Verbosity, *, each_port: bool, chains: bool
) -> Writer:
    """The writer for a format. With ``each_port``, lines of ports in the same state are not summed up."""
    if form in _FORMATS:
        return _FORMATS[form](summary, chains=chains)
    if verbosity.quiet:
        return Writer(summary)
    if not os.isatty(STDOUT):
        return Lines(summary, each_port=each_port, chains=chains, view=view)
    from netkit.output.terminal.portcheck import PortTable

    return PortTable(summary, each_port=each_port, chains=chains, view=view)


async def write(
    checker: Checker, summary: Summary, writer: Writer, verbosity: Verbosity, wait: float | None, interval: float | None
) -> None:
    """Check the targets, repeatedly for at most ``wait`` seconds if given, and write each result as it comes.

    Raises Failure if ports are not as wanted, once all is written.
    """
    begun = now()
    watch = _watch(checker, summary, writer, verbosity, wait) if wait else None

    def note(result: Result) -> None:
        summary.note(result)
        if text := writer.write(result):
            stdout.write(text)
        if summary.enough:
            checker.stop()

    async with stdout_writer() as stdout:
        stdout.write(writer.begin())
        async with Group() as group:
            group.start_soon(writer.show(watch))
            if watch is None:
                await checker.run(summary.targets, note, stdout.room)
            else:
                until, settled = watch.until, summary.settled
                await checker.wait(summary.targets, until, interval, note, tried=watch.tried, settled=settled)
            group.cancel()
        seconds = now() - begun
        failure = summary.failure(seconds, watch.why if watch else None, named=not writer.names_all)
        await stdout.write_each(writer.end(failure))
    for line in writer.summed_up if len(summary.targets) > 1 else ():
        console.say(f"{console.program}: {line}")
    told = verbosity.json or (failure is None and (watch or summary.looks_around or writer.summed_up))
    if told:
        checker.observe(summary.checked(seconds, waited=watch is not None))
    if failure is not None:
        raise failure


def _watch(checker: Checker, summary: Summary, writer: Writer, verbosity: Verbosity, wait: float) -> "Watch":
    """The watch of a check with ``wait``. It reports changes as events unless the board shows them."""
    from netkit.services.portcheck.watch import Watch

    observe = checker.observe if verbosity.json or not writer.shows else ignore
    observe(Waiting(summary.expected, wait))
    return Watch(summary, wait, observe)
