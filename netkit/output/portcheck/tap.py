"""The results of a port check in the Test Anything Protocol."""

from netkit.core.errors import Exit, Failure
from netkit.output.escape import printable
from netkit.output.portcheck.writer import Writer, detail, port_name, time_of
from netkit.services.portcheck.check import Result


class Tap(Writer):
    """The Test Anything Protocol, version 13: a test for each port, or a single one if any port will do."""

    def begin(self) -> str:
        self._number = 0
        return f"TAP version 13\n1..{1 if self.any_port else self.total}\n"

    def write(self, result: Result) -> str:
        probe = result.probe
        title = f"{port_name(result)} {probe.state}"
        if self.any_port:
            return f"# {title} {detail(result)}".rstrip() + "\n"
        self._number += 1
        if probe.exit is Exit.OK:
            return f"ok {self._number} - {title}\n"
        lines = [f"not ok {self._number} - {title}", "  ---", f"  message: {_quoted(detail(result))}"]
        if probe.address is not None:
            lines.append(f"  address: {_quoted(probe.address)}")
        if probe.seconds is not None:
            lines.append(f"  time_ms: {time_of(result)}")
        return "\n".join([*lines, "  ...\n"])

    def end(self, failure: Failure | None) -> str:
        if not self.any_port:
            return ""
        return f"not ok 1 - {printable(failure.action)}\n" if failure else "ok 1 - a port is as wanted\n"


def _quoted(text: str) -> str:
    """Printable text as a string of JSON, which is YAML too."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
