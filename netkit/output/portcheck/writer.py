"""The interface of the formats of a port check, and what their words have in common.

What a peer said is written in printable ASCII, and cannot begin a line or end one.
"""

from collections.abc import Iterator, Sequence

from netkit.core.errors import Failure
from netkit.core.port_names import name_of
from netkit.output.escape import printable
from netkit.services.portcheck.check import ProbeResult, Result, Summary
from netkit.services.portcheck.targets import Target


class Writer:
    """The text to write at the beginning, with each verdict, and when all are known. This one writes nothing.

    With ``any_port`` a single port as wanted is success, with ``chains`` the certificates are written that came.
    ``summed_up`` has lines, complete with the end, on verdicts
    that were left out for being the same many times over.
    """

    def __init__(self, targets: Sequence[Target], *, any_port: bool, chains: bool = False) -> None:
        self.total = sum(len(target.ports) for target in targets)
        self.any_port = any_port
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

    async def show(self, summary: Summary) -> None:
        """Show on a terminal how far the check is, until cancelled."""


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
