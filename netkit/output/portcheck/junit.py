"""The results of a port check as JUnit's XML."""

from netkit.core.errors import Exit, Failure
from netkit.output.escape import printable
from netkit.output.portcheck.writer import Writer, detail, port_name
from netkit.services.portcheck.check import Result


class Junit(Writer):
    """One suite with a case for each port, and one for the whole if any port will do.

    All is written at the end: the counts come first, and are known last.
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
        elif self.any_port:
            self._skipped += 1
            self._add(name, time, "<skipped/>")
        else:
            where = f" ({probe.address})" if probe.address else ""
            self._fail(name, time, probe.state, f"{probe.state}: {detail(result)}{where}")
        return ""

    def end(self, failure: Failure | None) -> str:
        if self.any_port and failure:
            self._fail("any", "0", "any", printable(str(failure)))
        counts = f'tests="{len(self._cases)}" failures="{self._failed}" errors="0" skipped="{self._skipped}"'
        head = f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="netkit portcheck" {counts}>\n'
        return head + "".join(self._cases) + "</testsuite>\n"

    def _fail(self, name: str, time: str, kind: str, message: str) -> None:
        self._failed += 1
        self._add(name, time, f'<failure type="{kind}" message="{_escaped(message)}"/>')

    def _add(self, name: str, time: str, outcome: str) -> None:
        case = f'  <testcase classname="netkit.portcheck" name="{_escaped(name)}" time="{time}"'
        self._cases.append(f"{case}>{outcome}</testcase>\n" if outcome else f"{case}/>\n")


def _escaped(text: str) -> str:
    """Printable text as the value of an attribute. xml.sax.saxutils would do, and loads http.client and ssl."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
