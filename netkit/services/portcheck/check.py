"""What is asked of ports, what was found out about each, and what that comes to for a script."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from netkit.core.address import Endpoint
from netkit.core.errors import PORT_PRECEDENCE, Exit, Failure
from netkit.core.events import Secured
from netkit.core.search import Pattern
from netkit.core.units import duration
from netkit.services.portcheck.targets import Target

OPEN, CLOSED, FILTERED, UNREACHABLE, UNKNOWN = "open", "closed", "filtered", "unreachable", "unknown"
SILENT = "open|filtered"  # over UDP: no answer may mean either
# Of the addresses of a host the one that counts: a port is closed only if all of them say so.
_RANK = (OPEN, FILTERED, SILENT, UNREACHABLE, UNKNOWN, CLOSED)
COLLAPSE_AFTER = 25  # ports of a host that may share a state before it is summed up
_MAX_NAMED = 10  # ports that a failure names
_ACTIONS = {Exit.CERT: "trust {}", Exit.TLS: "secure the connection to {}"}  # where a port is open, and not as wanted


class Check(NamedTuple):
    """What is asked of each port, and what is wanted: open, unless ``closed``.

    ``timeout`` seconds bound each look-up, each attempt, and each wait for an answer. ``payload`` is what a UDP port is
    sent, or what a TCP port is told before its answer is expected. A certificate is to be good for ``expires`` seconds.
    A URL is asked for with ``fields`` beside ours, and is to answer with one of the ``statuses``, if any are named.
    ``greeted`` is whether servers greet before TLS, and not again.
    """

    timeout: float = 3.0
    closed: bool = False
    payload: bytes = b""
    expect: Pattern | None = None
    banner: bool = False
    settle: float | None = None
    expires: float | None = None
    family: int = 0
    fields: tuple[tuple[str, bytes], ...] = ()
    statuses: tuple[int, ...] = ()
    greeted: bool = False

    @property
    def converses(self) -> bool:
        """Whether an open connection is more than closed again."""
        return self.expect is not None or self.banner or self.settle is not None


class ProbeResult(NamedTuple):
    """What was found out at one address, or for a port at all of them; ``exit`` is OK if that is as wanted.

    ``data`` is what the port sent, for a banner. ``secured`` is there if a TLS handshake was done, ``certificates``, in
    DER, if the port has shown some, whatever they are. ``hint`` is what to try about the reason. ``ready`` is what the
    service itself says, None where it was not asked.
    """

    state: str
    reason: str
    exit: Exit
    address: str | None = None
    seconds: float | None = None
    data: bytes | None = None
    secured: Secured | None = None
    certificates: tuple[bytes, ...] = ()
    hint: str = ""
    ready: bool | None = None

    @property
    def verdict(self) -> str:
        """The reason, behind what the service says of itself if it was asked."""
        if self.ready is None:
            return self.reason
        return ": ".join(filter(None, ("ready" if self.ready else "not ready", self.reason)))

    @property
    def brief(self) -> str:
        """The state, and the reason where the state alone is none."""
        return f"{self.state}: {self.verdict}" if self.state in (OPEN, UNKNOWN) and self.verdict else self.state


def combined(probes: Sequence[ProbeResult]) -> ProbeResult:
    """The one of several addresses' results that counts, with the reasons of all."""
    chosen = min(probes, key=lambda probe: _RANK.index(probe.state))
    reasons: dict[str, list[str]] = {}
    for probe in probes:
        reasons.setdefault(probe.reason, []).append(probe.address or "")
    if len(reasons) == 1:
        return chosen
    return chosen._replace(reason="; ".join(f"{', '.join(hosts)}: {reason}" for reason, hosts in reasons.items()))


class Result(NamedTuple):
    """The result for a port, or for a unix socket, which has none. ``host`` is never empty."""

    host: str
    port: int | None
    protocol: str
    probe: ProbeResult
    tls: bool = False
    word: str = ""

    def __str__(self) -> str:
        """The target as it is typed."""
        return self.word or str(Endpoint(self.host, self.port or 0, tls=self.tls))


Report = Callable[[Result], None]


class Summary:
    """Counts of a check: of ``total`` ports those that are ``known``, ``open`` and ``good``, which is as wanted."""

    def __init__(self, check: Check, targets: Sequence[Target], *, any_port: bool) -> None:
        self.total = sum(len(target.ports) for target in targets)
        self.known = self.open = self.good = 0
        self._wanted = CLOSED if check.closed else OPEN
        self._any_port = any_port  # one is enough
        self._exits: set[Exit] = set()
        self._bad: list[Result] = []  # the first of them
        self._bad_states: dict[str, int] = {}

    @property
    def enough(self) -> bool:
        """Whether nothing that is still to come can change the outcome."""
        return self._any_port and self.good > 0

    def note(self, result: Result) -> None:
        probe = result.probe
        self.known += 1
        self.open += probe.state == OPEN
        if probe.exit is Exit.OK:
            self.good += 1
            return
        self._exits.add(probe.exit)
        self._bad_states[probe.state] = self._bad_states.get(probe.state, 0) + 1
        if len(self._bad) <= _MAX_NAMED:
            self._bad.append(result)

    def failure(self, seconds: float, *, waited: bool = False) -> Failure | None:
        """What is not as wanted after so many seconds, None if all is well; ``waited`` is until time ran out."""
        if self.good == self.total or self.enough:
            return None
        exit = Exit.TIMEOUT if waited else min(self._exits, key=PORT_PRECEDENCE.index)
        after = f"after {duration(seconds)}"
        hint = self._hint(exit, waited)
        if self.total == 1:
            [result] = self._bad
            hint = result.probe.hint or hint
            wanted = self._wanted if result.probe.ready is None else "ready"
            action = _ACTIONS.get(result.probe.exit, "find {} " + wanted).format(result)
            reason = result.probe.reason or f"it is {result.probe.state}"
            reason = f"still {reason}" if waited else reason
            detail = ", ".join(filter(None, (result.probe.address, after)))
        else:
            action = f"find {'any of' if self._any_port else 'all'} {self.total} ports {self._wanted}"
            reason = f"{self.good or 'none'} as wanted {after}"
            detail = ", ".join(f"{result} {result.probe.brief}" for result in self._bad)
            if len(self._bad) > _MAX_NAMED:
                detail = ", ".join(f"{count} {state}" for state, count in self._bad_states.items())
        return Failure(exit, action, reason, detail=detail, hint=hint)

    def _hint(self, exit: Exit, waited: bool) -> str:
        if waited or self._wanted == CLOSED:
            return ""
        if exit is Exit.CONNECT:
            return "not there yet? --wait 30s keeps trying"
        return "a firewall may drop packets; -w waits longer" if exit is Exit.TIMEOUT else ""
