"""The interface of the formats of a port check, and what their words have in common.

What a peer said is written in printable ASCII, and cannot begin a line or end one.
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
    """The text to write at the beginning, with each verdict, and when all are known. This one writes nothing.

    With ``chains`` the certificates are written that came. ``summed_up`` has lines, complete with the end, on verdicts
    that were left out for being the same many times over. ``shows`` says that ``show`` draws something on stderr, and
    ``names_all`` that whoever reads stderr has what is not as wanted in front of them.
    """

    shows = names_all = False

    def __init__(self, summary: Summary, *, chains: bool = False) -> None:
        self.summary = summary
        self.chains = chains
        self.summed_up: list[str] = []

    def begin(self) -> str:
        """What comes first."""
        return ""

    def write(self, result: Result) -> str:
        """What a verdict adds."""
        return ""

    def end(self, failure: Failure | None) -> str:
        """What comes last; ``failure`` is that of the whole check."""
        return ""

    def chain(self, result: Result) -> str:
        """The certificates that came in PEM, if they are wanted."""
        if not (self.chains and result.probe.certificates):
            return ""
        from netkit.core.x509 import read
        from netkit.output.certificate import chain

        return chain(map(read, result.probe.certificates))

    async def show(self, watch: "Watch | None") -> None:
        """Show on a terminal how far the check is, or what is waited for, until cancelled."""


def colour(probe: ProbeResult) -> str:
    """The colour of a state; open is green where that is as wanted."""
    return "yellow" if probe.state == OPEN and probe.exit else COLOURS[probe.state]


def port_name(result: Result) -> str:
    """The port of a result: ``db:5432/tcp``, or the target as it is typed where that says more."""
    return result.word or f"{result.host}:{result.port}/{result.protocol}"


def detail(result: Result) -> str:
    """What there is to say beside the state: reason, TLS, what the peer said, or the name of the service."""
    probe = result.probe
    about = printable(", ".join(filter(None, (probe.verdict, *_secured(probe)))))
    if probe.data is not None:
        said = printable(probe.data.decode("utf-8", "surrogateescape").rstrip("\r\n"))
        return f"{about}: {said}" if about else said
    return about or (name_of(result.port, result.protocol) if result.port else None) or ""


def _secured(probe: ProbeResult) -> Iterator[str]:
    """The version of TLS, and whose certificate it is."""
    if probe.secured is not None:
        yield probe.secured.protocol
    if probe.certificates:
        from netkit.core.x509 import read
        from netkit.output.certificate import sentence

        yield sentence(read(probe.certificates[0]))


def time_of(result: Result) -> str:
    """How long a port took to answer, or not to, in milliseconds."""
    seconds = result.probe.seconds
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
