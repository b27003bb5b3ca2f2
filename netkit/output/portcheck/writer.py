"""The interface of the formats of a port check, and the texts that they share.

Foreign text is printable ASCII, and is never at the beginning of a line.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from netkit.core.errors import Failure
from netkit.core.port_names import name_of
from netkit.output.escape import printable
from netkit.services.portcheck import check
from netkit.services.portcheck.check import OPEN, ProbeResult, Result, Summary

if TYPE_CHECKING:
    from netkit.services.portcheck.watch import Watch

COLOURS = {
    OPEN: "green",
    **dict.fromkeys((check.CLOSED, check.UNREACHABLE), "red"),
    **dict.fromkeys((check.FILTERED, check.SILENT), "yellow"),
    check.UNKNOWN: "magenta",
}


class Writer:
    """Returns the text to write at the beginning, for each result, and at the end. This one writes nothing.

    With ``chains``, the peers' certificates are written. After all of ``end``, ``summed_up`` has the lines that stand
    for many results in the same state. ``shows`` says that ``show`` draws on stderr, and ``names_all`` that the reader
    of stderr also sees stdout, so the failure need not name the ports.
    """

    shows = names_all = False

    def __init__(self, summary: Summary, *, chains: bool = False) -> None:
        self.summary = summary
        self.chains = chains
        self.summed_up: list[str] = []

    def begin(self) -> str:
        """The text before all results."""
        return ""

    def write(self, result: Result) -> str:
        """The text for a result."""
        return ""

    def end(self, failure: Failure | None) -> Iterator[str]:
        """The text after all results, in pieces that are quickly made; ``failure`` is that of the whole check."""
        return iter(())

    def chain(self, result: Result) -> str:
        """The peer's certificates in PEM, if they are wanted."""
        if not (self.chains and result.probe.certificates):
            return ""
        from netkit.core.x509 import read
        from netkit.output.certificate import chain

        return chain(map(read, result.probe.certificates))

    async def show(self, watch: "Watch | None") -> None:
        """Show the progress of the check, or of the wait, on a terminal, until cancelled."""


def colour(probe: ProbeResult) -> str:
    """The colour of a state. Open is yellow if it is not as wanted."""
    return "yellow" if probe.state == OPEN and probe.exit else COLOURS[probe.state]


def port_name(result: Result) -> str:
    """The port of a result: ``db:5432/tcp``, ``tls:[::1]:443/tcp``, or the target as typed if that says more."""
    return printable(result.word) or f"{result}/{result.protocol}"


def detail(result: Result) -> str:
    """The text beside the state: reason, TLS, what the peer sent, or the name of the service."""
    probe = result.probe
    about = printable(", ".join(filter(None, (probe.verdict, *_secured(probe)))))
    if probe.data is not None:
        said = printable(probe.data.decode("utf-8", "surrogateescape").rstrip("\r\n"))
        return f"{about}: {said}" if about else said
    return about or (name_of(result.port, result.protocol) if result.port else None) or ""


def _secured(probe: ProbeResult) -> Iterator[str]:
    """The version of TLS, and the certificate as a sentence."""
    if probe.secured is not None:
        yield probe.secured.protocol
    if probe.certificates:
        from netkit.core.x509 import read
        from netkit.output.certificate import sentence

        yield sentence(read(probe.certificates[0]))


def time_of(result: Result) -> str:
    """The duration of the check of a port, in milliseconds, or "-"."""
    seconds = result.probe.seconds
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
