"""The results of a port check for programs: JSON Lines, TAP, JUnit's XML, annotations of GitHub Actions."""

from collections.abc import Iterator
from typing import Any

from netkit.core.errors import Exit, Failure
from netkit.core.port_names import name_of
from netkit.core.units import milliseconds
from netkit.output.escape import printable
from netkit.output.jsonl import family_name, octets, record
from netkit.output.portcheck.lines import Lines
from netkit.output.portcheck.writer import Writer, detail, port_name, time_of
from netkit.services.portcheck.check import ProbeResult, Result, Summary

_ANY = "a port is as wanted"


class Json(Writer):
    """An object for each port as its result comes."""

    def write(self, result: Result) -> str:
        probe = result.probe
        fields = {
            "target": str(result),
            "host": result.host,
            "port": result.port,
            "protocol": result.protocol,
            "address": probe.address,
            "family": probe.address and family_name(probe.address),
            "state": probe.state,
            "time_ms": None if probe.seconds is None else milliseconds(probe.seconds),
            "reason": probe.reason or None,
            "service": name_of(result.port, result.protocol) if result.port else None,
            "ready": probe.ready,
            "exit_code": int(probe.exit),
            "tls": self._tls(probe),
            **(octets(probe.data) if probe.data is not None else {}),
        }
        return record("port", "portcheck", **fields) + "\n"

    def _tls(self, probe: ProbeResult) -> dict[str, Any] | None:
        """What the handshake agreed on, and the certificate, valid or not; None if there is neither."""
        if not (probe.secured or probe.certificates):
            return None
        from netkit.core.x509 import read
        from netkit.output import certificate

        agreed = probe.secured.values() if probe.secured else {}
        fields = {**agreed, "certificates": None}
        if probe.certificates:
            fields |= certificate.fields(read(probe.certificates[0]))
        if self.chains:
            fields["chain"] = [certificate.pem(each) for each in probe.certificates]
        return {name: value for name, value in fields.items() if value is not None}


class Tap(Writer):
    """The Test Anything Protocol, version 13: a test for each port, and one for each group that needs one good port."""

    def begin(self) -> str:
        self._number = 0
        return f"TAP version 13\n1..{1 if self.summary.any_port else self.summary.expected}\n"

    def write(self, result: Result) -> str:
        probe = result.probe
        title = f"{port_name(result)} {probe.state}"
        if self.summary.has_choice(result):
            return f"# {title} {detail(result)}".rstrip() + "\n"
        if probe.exit is Exit.OK:
            return self._test("ok", title)
        lines = [self._test("not ok", title) + "  ---", f"  message: {_quoted(detail(result))}"]
        if probe.address is not None:
            lines.append(f"  address: {_quoted(probe.address)}")
        if probe.seconds is not None:
            lines.append(f"  time_ms: {time_of(result)}")
        return "\n".join([*lines, "  ...\n"])

    def end(self, failure: Failure | None) -> Iterator[str]:
        if self.summary.any_port:
            yield self._test("not ok", printable(failure.action)) if failure else self._test("ok", _ANY)
            return
        for group in self.summary.groups():
            yield self._test("ok" if group.met else "not ok", f"{printable(str(group))}: {_ANY}")

    def _test(self, outcome: str, title: str) -> str:
        self._number += 1
        escaped = title.replace("\\", "\\\\").replace("#", "\\#")  # "# TODO" in a name would make a failure a success
        return f"{outcome} {self._number} - {escaped}\n"


def _quoted(text: str) -> str:
    """Printable text as a string of JSON, which is YAML too."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Junit(Writer):
    """One suite with a case for each port, and one for each group in which no port is as wanted.

    All is written at the end, as the counts at its beginning are known last.
    """

    def begin(self) -> str:
        self._cases: list[str] = []
        self._failed = self._skipped = 0
        return ""

    def write(self, result: Result) -> str:
        probe = result.probe
        name, time = port_name(result), f"{probe.seconds or 0:.6f}"
        if probe.exit is Exit.OK:
            self._add(name, time, "")
        elif self.summary.has_choice(result):
            self._skipped += 1
            self._add(name, time, "<skipped/>")
        else:
            where = f" ({probe.address})" if probe.address else ""
            self._fail(name, time, probe.state, f"{probe.state}: {detail(result)}{where}")
        return ""

    def end(self, failure: Failure | None) -> Iterator[str]:
        if self.summary.any_port and failure:
            self._fail("any", "0", "any", printable(str(failure)))
        elif not self.summary.any_port:
            for name, text in _missed_groups(self.summary):
                self._fail(name, "0", "any", text)
        counts = f'tests="{len(self._cases)}" failures="{self._failed}" errors="0" skipped="{self._skipped}"'
        yield f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="netkit portcheck" {counts}>\n'
        yield "".join(self._cases)
        yield "</testsuite>\n"

    def _fail(self, name: str, time: str, kind: str, message: str) -> None:
        self._failed += 1
        self._add(name, time, f'<failure type="{kind}" message="{_escaped(message)}"/>')

    def _add(self, name: str, time: str, outcome: str) -> None:
        case = f'  <testcase classname="netkit.portcheck" name="{_escaped(name)}" time="{time}"'
        self._cases.append(f"{case}>{outcome}</testcase>\n" if outcome else f"{case}/>\n")


def _missed_groups(summary: Summary) -> Iterator[tuple[str, str]]:
    """The name and the message of each target of several ports of which none is as wanted."""
    for group in summary.groups():
        if not group.met:
            yield printable(str(group)), printable(f"no port is as wanted{group.reason and ': '}{group.reason}")


def _escaped(text: str) -> str:
    """Printable text as the value of an attribute. xml.sax.saxutils would do, but loads http.client and ssl."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


class Github(Lines):
    """Lines, and an annotation for GitHub's runners for each port that is not as wanted."""

    def write(self, result: Result) -> str:
        if result.probe.exit is Exit.OK or self.summary.has_choice(result):
            return _defused(self.line(result))
        return _annotation(f"{port_name(result)} {result.probe.state}", detail(result))

    def end(self, failure: Failure | None) -> Iterator[str]:
        if not self.summary.any_port:
            yield from (_annotation(name, text) for name, text in _missed_groups(self.summary))
        elif failure:
            yield _annotation(failure.action, printable(str(failure)))


def _defused(text: str) -> str:
    """A line in which a runner finds no command. Old-style commands work anywhere in a line."""
    return text.replace("##[", "#\\x23[")


def _annotation(title: str, text: str) -> str:
    """An error for GitHub, escaped as its toolkit escapes."""
    text = _defused(text).replace("%", "%25")
    title = _defused(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::error title={title}::{text or title}\n"
