"""The results of a port check as annotations of GitHub Actions."""

from netkit.core.errors import Exit, Failure
from netkit.output.escape import printable
from netkit.output.portcheck.lines import Lines
from netkit.output.portcheck.writer import detail, port_name
from netkit.services.portcheck.check import Result


class Github(Lines):
    """Lines, and for each port that is not as wanted an annotation as GitHub's runners read it."""

    def write(self, result: Result) -> str:
        if result.probe.exit is Exit.OK or self.any_port:
            return _defused(self.line(result))
        return _annotation(f"{port_name(result)} {result.probe.state}", detail(result))

    def end(self, failure: Failure | None) -> str:
        return _annotation(failure.action, printable(str(failure))) if self.any_port and failure else ""


def _defused(text: str) -> str:
    """A line in which a runner finds no command: the older ones may stand anywhere in it."""
    return text.replace("##[", "#\\x23[")


def _annotation(title: str, text: str) -> str:
    """An error for GitHub, escaped as its toolkit escapes."""
    text = _defused(text).replace("%", "%25")
    title = _defused(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::error title={title}::{text or title}\n"
