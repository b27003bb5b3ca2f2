"""The results of a port check as JUnit's XML."""

from netkit.core.errors import Exit, Failure
from netkit.output.escape import printable
from netkit.output.port_writer import Writer, detail
from netkit.services.portcheck.check import Result


class Junit(Writer):
    """XML as JUnit's users know it: one suite, a case per port, or one if any port will do."""

    def begin(self) -> str:
        """Return nothing: the counts come first, and are known last."""
        self._cases: list[str] = []
        self._failed = 0
        return ""

    def write(self, result: Result) -> str:
        """Keep the case."""
        probe = result.probe
        name = _escaped(f"{result.host}:{result.port}/{result.protocol}")
        case = f'  <testcase classname="netkit.portcheck" name="{name}" time="{probe.seconds or 0:.6f}"'
        if probe.exit is Exit.OK:
            self._cases.append(f"{case}/>\n")
        elif self.any:
            self._cases.append(f"{case}><skipped/></testcase>\n")
        else:
            self._failed += 1
            where = f" ({probe.address})" if probe.address else ""
            message = _escaped(f"{probe.state}: {detail(result)}{where}")
            self._cases.append(f'{case}><failure type="{probe.state}" message="{message}"/></testcase>\n')
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


def _escaped(text: str) -> str:
    """Return printable text as the value of an attribute of XML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
