"""How the results of a port check are written: the interface of writers, plain lines and JSON.

What a peer said is written in printable ASCII, and cannot begin a line or end one.
"""

from collections.abc import Sequence

from netkit.core.address import Target
from netkit.core.errors import Failure
from netkit.core.events import Secured
from netkit.core.port_names import name_of
from netkit.output.escape import printable
from netkit.output.jsonl import octets, record
from netkit.services.portcheck.check import (
    CLOSED,
    COLLAPSE_AFTER,
    FILTERED,
    OPEN,
    SILENT,
    UNKNOWN,
    UNREACHABLE,
    Result,
)

_COLOURS = {OPEN: 32, CLOSED: 31, FILTERED: 33, SILENT: 33, UNREACHABLE: 31, UNKNOWN: 35}  # SGR: ECMA-48


def detail(result: Result) -> str:
    """Return what there is to say beside the state: reason, TLS, what the peer said, or the name of the service."""
    probe = result.probe
    about = printable(", ".join(filter(None, (probe.reason, _secured(probe.secured)))))
    if probe.data is not None:
        said = printable(probe.data.decode("utf-8", "surrogateescape").rstrip("\r\n"))
        return f"{about}: {said}" if about else said
    return about or name_of(result.port, result.protocol) or ""


def _secured(event: Secured | None) -> str:
    if event is None:
        return ""
    return f"{event.protocol}, certificate until {event.not_after}" if event.not_after else event.protocol


def milliseconds(result: Result) -> str:
    """Return how long the port took to answer, or not to."""
    seconds = result.probe.seconds
    return "-" if seconds is None else f"{seconds * 1000:.1f}"


class Writer:
    """Says what there is to write when a verdict is known, and when all are: nothing.

    ``summed`` holds lines on what was left out for being the same many times over.
    """

    def __init__(self, targets: Sequence[Target], *, any: bool) -> None:
        self.total = sum(len(target.ports) for target in targets)
        self.any = any
        self.summed: list[str] = []

    def begin(self) -> str:
        """Return what comes first."""
        return ""

    def write(self, result: Result) -> str:
        """Return what a verdict adds."""
        return ""

    def end(self, failure: Failure | None) -> str:
        """Return what comes last; ``failure`` is that of the whole check."""
        return ""


class Lines(Writer):
    """One line per port, tab-separated."""

    def __init__(
        self, targets: Sequence[Target], *, any: bool = False, all: bool = False, coloured: bool = False
    ) -> None:
        super().__init__(targets, any=any)
        self._coloured = coloured
        self._many = {
            target.host or "localhost" for target in targets if len(target.ports) > COLLAPSE_AFTER and not all
        }
        self._held: dict[tuple[str, str], list[Result]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def write(self, result: Result) -> str:
        """Return the line, unless there may be too many of its kind."""
        if result.host not in self._many or result.probe.state == OPEN:
            return self.line(result)
        kind = result.host, result.probe.state
        self._counts[kind] = self._counts.get(kind, 0) + 1
        held = self._held.setdefault(kind, [])
        if self._counts[kind] <= COLLAPSE_AFTER + 1:
            held.append(result)
        return ""

    def end(self, failure: Failure | None) -> str:
        """Return the lines that were held back, but for those that are summed up."""
        shown = []
        for (host, state), held in self._held.items():
            count = self._counts[host, state]
            if count <= COLLAPSE_AFTER:
                shown += [self.line(result) for result in held]
            else:
                self.summed.append(f"{host}: {count} ports {state}")
        return "".join(shown)

    def line(self, result: Result) -> str:
        """Return the line of a port."""
        probe = result.probe
        port = f"{result.port}/{result.protocol}"
        state = f"\x1b[{_COLOURS[probe.state]}m{probe.state}\x1b[m" if self._coloured else probe.state
        fields = result.host, port, probe.address or "-", state, milliseconds(result), detail(result)
        return "\t".join(fields) + "\n"


class Json(Writer):
    """JSON Lines."""

    def write(self, result: Result) -> str:
        """Return the object of a port."""
        probe = result.probe
        fields = {
            "host": result.host,
            "port": result.port,
            "protocol": result.protocol,
            "address": probe.address,
            "family": probe.address and ("ipv6" if ":" in probe.address else "ipv4"),
            "state": probe.state,
            "time_ms": None if probe.seconds is None else round(probe.seconds * 1000, 3),
            "reason": probe.reason or None,
            "service": name_of(result.port, result.protocol),
            "exit_code": int(probe.exit),
            "tls": probe.secured and {key: value for key, value in probe.secured.values().items() if value},
            **(octets(probe.data) if probe.data is not None else {}),
        }
        return record("port", "portcheck", **fields) + "\n"
