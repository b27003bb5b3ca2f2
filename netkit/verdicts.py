"""How verdicts on ports are written: lines for people and scripts, JSON, TAP, JUnit's XML and GitHub's annotations.

What a peer said is written in printable ASCII, and cannot begin a line or end one.
"""

import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from netkit.core.address import Target
from netkit.core.errors import Exit, Failure
from netkit.core.events import Secured
from netkit.core.kernel import Group, now
from netkit.core.record import octets, record
from netkit.core.services import name_of
from netkit.options import Talk, View
from netkit.services.answers import Put, answering
from netkit.services.ports import CLOSED, FILTERED, OPEN, SILENT, SUMMED, UNKNOWN, UNREACHABLE, Checker, Result, Tally
from netkit.shell import command_name, printable, say

Screen = Callable[[Tally], Coroutine[Any, Any, None]]
"""Shows how far a check is, until it is cancelled."""

_COLOURS = {OPEN: 32, CLOSED: 31, FILTERED: 33, SILENT: 33, UNREACHABLE: 31, UNKNOWN: 35}  # SGR: ECMA-48


def detail(result: Result) -> str:
    """Return what there is to say beside the state: reason, TLS, what the peer said, or the name of the service."""
    finding = result.finding
    about = printable(", ".join(filter(None, (finding.reason, finding.secured and _secured(finding.secured)))))
    if finding.data is not None:
        said = printable(finding.data.decode("utf-8", "surrogateescape").rstrip("\r\n"))
        return f"{about}: {said}" if about else said
    return about or name_of(result.port, result.protocol) or ""


def _secured(event: Secured) -> str:
    return f"{event.protocol}, certificate until {event.not_after}" if event.not_after else event.protocol


def milliseconds(result: Result) -> str:
    """Return how long the port took to answer, or not to."""
    seconds = result.finding.seconds
    return "-" if seconds is None else f"{seconds * 1000:.1f}"


class Writer:
    """Says what there is to write when a verdict is known, and when all are: nothing.

    ``summed`` holds lines on what was left out for being the same many times over.
    """

    def __init__(self, targets: Sequence[Target], *, any: bool) -> None:
        self.total = sum(len(target.ports) for target in targets)
        self.any = any
        self.summed: list[str] = []

    def begin(self) -> str:
        """Return what comes first."""
        return ""

    def write(self, result: Result) -> str:
        """Return what a verdict adds."""
        return ""

    def end(self, failure: Failure | None) -> str:
        """Return what comes last; ``failure`` is that of the whole check."""
        return ""


class Lines(Writer):
    """One line per port, tab-separated."""

    def __init__(
        self, targets: Sequence[Target], *, any: bool = False, all: bool = False, coloured: bool = False
    ) -> None:
        super().__init__(targets, any=any)
        self._coloured = coloured
        self._many = {target.host or "localhost" for target in targets if len(target.ports) > SUMMED and not all}
        self._held: dict[tuple[str, str], list[Result]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def write(self, result: Result) -> str:
        """Return the line, unless there may be too many of its kind."""
        if result.host not in self._many or result.finding.state == OPEN:
            return self.line(result)
        kind = result.host, result.finding.state
        self._counts[kind] = self._counts.get(kind, 0) + 1
        held = self._held.setdefault(kind, [])
        if self._counts[kind] <= SUMMED + 1:
            held.append(result)
        return ""

    def end(self, failure: Failure | None) -> str:
        """Return the lines that were held back, but for those that are summed up."""
        shown = []
        for (host, state), held in self._held.items():
            count = self._counts[host, state]
            if count <= SUMMED:
                shown += [self.line(result) for result in held]
            else:
                self.summed.append(f"{host}: {count} ports {state}")
        return "".join(shown)

    def line(self, result: Result) -> str:
        """Return the line of a port."""
        finding = result.finding
        port = f"{result.port}/{result.protocol}"
        state = f"\x1b[{_COLOURS[finding.state]}m{finding.state}\x1b[m" if self._coloured else finding.state
        fields = result.host, port, finding.address or "-", state, milliseconds(result), detail(result)
        return "\t".join(fields) + "\n"


class Json(Writer):
    """JSON Lines."""

    def write(self, result: Result) -> str:
        """Return the object of a port."""
        finding = result.finding
        fields = {
            "host": result.host,
            "port": result.port,
            "protocol": result.protocol,
            "address": finding.address,
            "family": finding.address and ("ipv6" if ":" in finding.address else "ipv4"),
            "state": finding.state,
            "time_ms": None if finding.seconds is None else round(finding.seconds * 1000, 3),
            "reason": finding.reason or None,
            "service": name_of(result.port, result.protocol),
            "exit_code": int(finding.exit),
            "tls": finding.secured and {key: value for key, value in finding.secured._asdict().items() if value},
            **(octets(finding.data) if finding.data is not None else {}),
        }
        return record("port", "portcheck", **fields) + "\n"


class Tap(Writer):
    """The Test Anything Protocol, version 13: a test per port, or one if any port will do."""

    def begin(self) -> str:
        """Return version and plan."""
        self._number = 0
        return f"TAP version 13\n1..{1 if self.any else self.total}\n"

    def write(self, result: Result) -> str:
        """Return a test, or a remark."""
        title = f"{result.host}:{result.port}/{result.protocol} {result.finding.state}"
        if self.any:
            return f"# {title} {detail(result)}".rstrip() + "\n"
        self._number += 1
        if result.finding.exit is Exit.OK:
            return f"ok {self._number} - {title}\n"
        lines = [f"not ok {self._number} - {title}", "  ---", f"  message: {_quoted(detail(result))}"]
        if result.finding.address is not None:
            lines.append(f"  address: {_quoted(result.finding.address)}")
        if result.finding.seconds is not None:
            lines.append(f"  time_ms: {milliseconds(result)}")
        return "\n".join([*lines, "  ...\n"])

    def end(self, failure: Failure | None) -> str:
        """Return the one test, if there is but one."""
        if not self.any:
            return ""
        return f"not ok 1 - {printable(failure.action)}\n" if failure else "ok 1 - a port is as wanted\n"


class Junit(Writer):
    """XML as JUnit's users know it: one suite, a case per port, or one if any port will do."""

    def begin(self) -> str:
        """Return nothing: the counts come first, and are known last."""
        self._cases: list[str] = []
        self._failed = 0
        return ""

    def write(self, result: Result) -> str:
        """Keep the case."""
        finding = result.finding
        name = _escaped(f"{result.host}:{result.port}/{result.protocol}")
        case = f'  <testcase classname="netkit.portcheck" name="{name}" time="{finding.seconds or 0:.6f}"'
        if finding.exit is Exit.OK:
            self._cases.append(f"{case}/>\n")
        elif self.any:
            self._cases.append(f"{case}><skipped/></testcase>\n")
        else:
            self._failed += 1
            where = f" ({finding.address})" if finding.address else ""
            message = _escaped(f"{finding.state}: {detail(result)}{where}")
            self._cases.append(f'{case}><failure type="{finding.state}" message="{message}"/></testcase>\n')
        return ""

    def end(self, failure: Failure | None) -> str:
        """Return the whole."""
        if self.any and failure:
            self._failed = 1
            message = _escaped(printable(str(failure)))
            case = '  <testcase classname="netkit.portcheck" name="any" time="0">'
            self._cases.append(f'{case}<failure type="any" message="{message}"/></testcase>\n')
        skipped = sum("<skipped/>" in case for case in self._cases)
        counts = f'tests="{len(self._cases)}" failures="{self._failed}" errors="0" skipped="{skipped}"'
        head = f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="netkit portcheck" {counts}>\n'
        return head + "".join(self._cases) + "</testsuite>\n"


class Github(Lines):
    """Lines, and for each port that is not as wanted an annotation as GitHub's runners read it."""

    def write(self, result: Result) -> str:
        """Return the line, or the annotation."""
        return self.line(result)

    def line(self, result: Result) -> str:
        """See write."""
        if result.finding.exit is Exit.OK or self.any:
            return _defused(super().line(result))
        title = f"{result.host}:{result.port}/{result.protocol} {result.finding.state}"
        return _annotation(title, detail(result))

    def end(self, failure: Failure | None) -> str:
        """Return the one annotation, if there is but one."""
        return _annotation(failure.action, printable(str(failure))) if self.any and failure else ""


def _quoted(text: str) -> str:
    """Return printable text as a string of JSON, which is YAML too."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    """Return printable text as the value of an attribute of XML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _defused(text: str) -> str:
    """Return a line in which a runner finds no command: the older ones may stand anywhere in it."""
    return text.replace("##[", "#\\x23[")


def _annotation(title: str, text: str) -> str:
    """Return an error for GitHub, escaped as its toolkit escapes."""
    text = _defused(text).replace("%", "%25")
    title = _defused(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::error title={title}::{text or title}\n"


REPORTS: dict[str, type[Writer]] = {"json": Json, "tap": Tap, "junit": Junit, "github": Github}


def writing(
    form: str, targets: Sequence[Target], view: View, talk: Talk, *, any: bool, all: bool
) -> tuple[Writer, "Screen | None"]:
    """Return what writes the verdicts, and what shows them on a terminal while they come."""
    after = view.moving_after()
    if form in REPORTS:
        return REPORTS[form](targets, any=any), None
    if talk.quiet:
        return Writer(targets, any=any), None
    if os.isatty(1):
        from netkit.view import PortTable

        table = PortTable(targets, any=any, all=all, coloured=view.coloured(1), after=after)
        return table, table.show
    lines = Lines(targets, any=any, all=all, coloured=view.coloured(1) and view.color == "always")
    if after is None:
        return lines, None
    from netkit.view import progress

    return lines, lambda tally: progress(tally, after, coloured=view.coloured(2))


async def tell(
    checker: Checker,
    targets: Sequence[Target],
    tally: Tally,
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
            tally.note(result)
            put(writer.write(result))
            if tally.enough:
                checker.stop()

        put(writer.begin())
        async with Group() as group:
            if screen is not None:
                group.start(screen(tally))
            if wait:
                await checker.wait(targets, wait, interval, note)
            else:
                await checker.run(targets, note)
            group.cancel()
        failure = tally.failure(now() - begun, waited=bool(wait))
        put(writer.end(failure))
        return failure

    failure = await answering(work)
    for line in writer.summed:
        say(f"{command_name()}: {line}")
    if failure is not None:
        raise failure
