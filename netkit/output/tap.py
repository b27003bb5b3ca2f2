"""The results of a port check in the Test Anything Protocol."""

from netkit.core.errors import Exit, Failure
from netkit.output.escape import printable
from netkit.output.port_writer import Writer, detail, milliseconds
from netkit.services.portcheck.check import Result


class Tap(Writer):
    """The Test Anything Protocol, version 13: a test per port, or one if any port will do."""

    def begin(self) -> str:
        """Return version and plan."""
        self._number = 0
        return f"TAP version 13\n1..{1 if self.any else self.total}\n"

    def write(self, result: Result) -> str:
        """Return a test, or a remark."""
        title = f"{result.host}:{result.port}/{result.protocol} {result.probe.state}"
        if self.any:
            return f"# {title} {detail(result)}".rstrip() + "\n"
        self._number += 1
        if result.probe.exit is Exit.OK:
            return f"ok {self._number} - {title}\n"
        lines = [f"not ok {self._number} - {title}", "  ---", f"  message: {_quoted(detail(result))}"]
        if result.probe.address is not None:
            lines.append(f"  address: {_quoted(result.probe.address)}")
        if result.probe.seconds is not None:
            lines.append(f"  time_ms: {milliseconds(result)}")
        return "\n".join([*lines, "  ...\n"])

    def end(self, failure: Failure | None) -> str:
        """Return the one test, if there is but one."""
        if not self.any:
            return ""
        return f"not ok 1 - {printable(failure.action)}\n" if failure else "ok 1 - a port is as wanted\n"


def _quoted(text: str) -> str:
    """Return printable text as a string of JSON, which is YAML too."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
