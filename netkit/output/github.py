"""The results of a port check as annotations of GitHub Actions."""

from netkit.core.errors import Exit, Failure
from netkit.output.escape import printable
from netkit.output.port_writer import Lines, detail
from netkit.services.portcheck.check import Result


class Github(Lines):
    """Lines, and for each port that is not as wanted an annotation as GitHub's runners read it."""

    def write(self, result: Result) -> str:
        """Return the line, or the annotation."""
        return self.line(result)

    def line(self, result: Result) -> str:
        """See write."""
        if result.probe.exit is Exit.OK or self.any:
            return _defused(super().line(result))
        title = f"{result.host}:{result.port}/{result.protocol} {result.probe.state}"
        return _annotation(title, detail(result))

    def end(self, failure: Failure | None) -> str:
        """Return the one annotation, if there is but one."""
        return _annotation(failure.action, printable(str(failure))) if self.any and failure else ""


def _defused(text: str) -> str:
    """Return a line in which a runner finds no command: the older ones may stand anywhere in it."""
    return text.replace("##[", "#\\x23[")


def _annotation(title: str, text: str) -> str:
    """Return an error for GitHub, escaped as its toolkit escapes."""
    text = _defused(text).replace("%", "%25")
    title = _defused(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::error title={title}::{text or title}\n"
