"""The settings of a port check, the result for each port, and the summary, which decides about failure."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from netkit.core.address import Endpoint
from netkit.core.errors import PORT_PRECEDENCE, Exit, Failure
from netkit.core.events import Checked, Secured
from netkit.core.search import Pattern
from netkit.core.units import duration
from netkit.services.portcheck.targets import Target

OPEN, CLOSED, FILTERED, UNREACHABLE, UNKNOWN = "open", "closed", "filtered", "unreachable", "unknown"
SILENT = "open|filtered"  # over UDP: no answer may mean either
# The state that counts for a host with several addresses, in order of precedence: closed only if all of them are.
_RANK = (OPEN, FILTERED, SILENT, UNREACHABLE, UNKNOWN, CLOSED)
COLLAPSE_AFTER = 25  # ports of a host that may share a state before it is summed up
_MAX_NAMED = 10  # ports that a failure names
_ACTIONS = {Exit.CERT: "trust {}", Exit.TLS: "secure the connection to {}"}  # for a port that is open, but not ready


class Check(NamedTuple):
    """How each port is checked. It must be open, or with ``closed`` closed.

    ``timeout`` limits each look-up, each attempt, and each wait for an answer, in seconds. ``payload`` is sent to a UDP
    port, or to a TCP port before an answer is expected. ``expect`` must match the answer. A connection must stay open
    for ``settle`` seconds, a certificate be valid for ``expires`` seconds. An HTTP request has ``fields`` added to
    ours, and its status must be one of ``statuses``, if any. ``greeted``: servers greet before TLS, and not again.
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
        """Whether more is done with an open connection than to close it."""
        return self.expect is not None or self.banner or self.settle is not None


class ProbeResult(NamedTuple):
    """The result for a port at one address, or combined for all addresses. ``exit`` is OK if it is as wanted.

    ``seconds`` is how long it took. ``data`` is what the port sent, for the banner. ``secured`` is set after a
    successful TLS handshake, ``certificates``, in DER, if the port has sent some, acceptable or not. ``hint`` is what
    to try. ``ready`` is the answer of a readiness probe, None if there was none. ``absent``: this machine itself does
    not have the address, ::1, as it is without IPv6.
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
    absent: bool = False

    @property
    def verdict(self) -> str:
        """The reason, after "ready" or "not ready" if the service was probed."""
        if self.ready is None:
            return self.reason
        return ": ".join(filter(None, ("ready" if self.ready else "not ready", self.reason)))


def combined(probes: Sequence[ProbeResult]) -> ProbeResult:
    """Combine the results for several addresses: the one that counts, with the reasons of all that there are."""
    probes = [probe for probe in probes if not probe.absent] or probes
    chosen = min(probes, key=lambda probe: _RANK.index(probe.state))
    reasons: dict[str, list[str]] = {}
    for probe in probes:
        reasons.setdefault(probe.reason, []).append(probe.address or "")
    if len(reasons) == 1:
        return chosen
    return chosen._replace(reason="; ".join(f"{', '.join(hosts)}: {reason}" for reason, hosts in reasons.items()))


class Result(NamedTuple):
    """The result for a port, or for a unix socket, whose ``port`` is None. ``host`` is never empty.

    ``number`` is the index of its target.
    """

    host: str
    port: int | None
    protocol: str
    probe: ProbeResult
    tls: bool = False
    word: str = ""
    number: int = 0

    def __str__(self) -> str:
        """The target as it could be typed."""
        return self.word or str(Endpoint(self.host, self.port or 0, tls=self.tls))

    def missed(self) -> tuple[str, str]:
        """Name and reason, for the list of ports that are not as wanted."""
        return str(self), self.probe.verdict or self.probe.state


Report = Callable[[Result], None]


class Group:
    """A target with several ports, or a network, of which one port is enough; ``met`` once one is as wanted."""

    def __init__(self, number: int, target: Target) -> None:
        self.number = number
        self._target = target
        self.met = False
        self.exits: set[Exit] = set()
        self.reason = ""  # of an open port that is not as wanted

    def __str__(self) -> str:
        return str(self._target)

    def missed(self) -> tuple[str, str]:
        """Name and reason, if known, for the list of targets that are not as wanted."""
        return str(self), self.reason


Why = Callable[[Result | Group], str]


class Summary:
    """Counts the results of a check, which are passed to ``note``, and decides whether it has failed.

    Each target must be as wanted: at least one of its ports. With ``all_ports``, or in a check for closed ports, every
    port must be; with ``any_port`` one port of all targets is enough. ``states`` has the number of ports in each state,
    of ``total`` ports.
    """

    def __init__(
        self, check: Check, targets: Sequence[Target], *, any_port: bool = False, all_ports: bool = False
    ) -> None:
        self.targets = targets
        self.any_port = any_port
        self.wanted = CLOSED if check.closed else OPEN
        self.all_ports = all_ports or (check.closed and not any_port)
        self.total = sum(target.size for target in targets)
        self.states: Counter[str] = Counter()
        self.met = 0  # how many of the ``expected`` are as wanted
        self.expected = self.total if self.all_ports else len(targets)
        self._groups = {
            number: Group(number, target)
            for number, target in enumerate(targets)
            if target.size > 1 and not self.all_ports
        }
        self._exits: set[Exit] = set()
        self._missing: list[Result] = []  # the first ports that are not as wanted, without those of groups
        self._failing: list[Result] = []  # the first of these that have the wanted state
        self._number_failing = 0

    @property
    def enough(self) -> bool:
        """Whether no further result can change the outcome."""
        return self.any_port and self.met > 0

    @property
    def looks_around(self) -> bool:
        """Whether the check explores which ports are open, as targets have several ports."""
        return bool(self._groups) and not self.any_port

    def has_choice(self, result: Result) -> bool:
        """Whether another port can take the place of this one."""
        return self.any_port or result.number in self._groups

    def settled(self, number: int) -> bool:
        """Whether the target with this index has several ports, of which one is as wanted."""
        return number in self._groups and self._groups[number].met

    def groups(self) -> Iterator[Group]:
        """The targets of which one port is enough, in order."""
        return iter(self._groups.values())

    def note(self, result: Result) -> None:
        """Count the result of a port. Call it once for each port."""
        probe = result.probe
        self.states[probe.state] += 1
        group = self._groups.get(result.number)
        if probe.exit is Exit.OK:
            if group is None or not group.met:
                self.met += 1
            if group is not None:
                group.met = True
        elif group is not None:
            group.exits.add(probe.exit)
            if probe.state == OPEN:
                group.reason = probe.verdict
        else:
            self._exits.add(probe.exit)
            if len(self._missing) < _MAX_NAMED:
                self._missing.append(result)
            if probe.state == self.wanted:
                self._number_failing += 1
                if len(self._failing) < _MAX_NAMED:
                    self._failing.append(result)

    def checked(self, seconds: float, *, waited: bool) -> Checked:
        """The event with the counts; ``waited`` is whether ports were checked repeatedly (--wait)."""
        if waited:
            ready = "closed" if self.wanted == CLOSED else "ready"
            text = f"{self.met} of {self.expected} {ready} after {duration(seconds)}"
        else:
            others = ", ".join(f"{count} {state}" for state, count in self.states.items() if state != self.wanted)
            text = f"{self.states[self.wanted]} of {self.total} {self.wanted} in {duration(seconds)}"
            text += f" ({others})" if others else ""
        return Checked(text, self.total, self.states, self.expected, self.met, seconds)

    def failure(self, seconds: float, why: Why | None = None, *, named: bool = True) -> Failure | None:
        """The failure of the check after so many seconds, None if all is as wanted.

        It names the ports that are not as wanted: all if ``named``, else only those that have the wanted state, but
        fail otherwise. After --wait, ``why`` returns why a port or a target is not ready.
        """
        if self.met >= (1 if self.any_port else self.expected):
            return None
        missed = [group for group in self._groups.values() if not group.met]
        exits = self._exits.union(*(group.exits for group in missed))
        exit = Exit.TIMEOUT if why else min(exits, key=PORT_PRECEDENCE.index)
        if self.total == 1 and why is None:
            return self._failure_of(self._missing[0], exit, seconds)
        action = f"find {'any of' if self.any_port else 'all'} {self.total} ports {self.wanted}"
        hint = self._hint(exit) if why is None else ""
        return NotAsWanted(exit, action, self._sentence(seconds, missed, why, named=named), hint=hint)

    def _failure_of(self, result: Result, exit: Exit, seconds: float) -> Failure:
        wanted = self.wanted if result.probe.ready is None else "ready"
        action = _ACTIONS.get(result.probe.exit, "find {} " + wanted).format(result)
        reason = result.probe.reason or f"it is {result.probe.state}"
        detail = ", ".join(filter(None, (result.probe.address, f"after {duration(seconds)}")))
        return Failure(exit, action, reason, detail=detail, hint=result.probe.hint or self._hint(exit))

    def _sentence(self, seconds: float, missed: Sequence[Group], why: Why | None, *, named: bool) -> str:
        """The counts, and the names of the first 10 ports or targets that are not as wanted."""
        said = self.checked(seconds, waited=why is not None).text
        missing, number = self._missing, self.expected - self.met
        if why is None and not named:
            missing, missed = self._failing, [group for group in missed if group.reason]
            number = self._number_failing + len(missed)
        many: list[Result | Group] = sorted([*missing, *missed], key=lambda each: each.number)
        if not many or (why is None and len(missed) == len(many) == 1 and not missed[0].reason):
            return said
        names = []
        for each in many[:_MAX_NAMED]:
            name, reason = each.missed()
            reason = why(each) if why else reason
            names.append(f"{name} ({reason})" if reason else name)
        more = number - len(names)
        rest = [f"and {more} more"] if more > 0 and not self.any_port else []
        what = "as wanted" if why is None else "closed" if self.wanted == CLOSED else "ready"
        return f"{said}; not {what}: {', '.join(names + rest)}"

    def _hint(self, exit: Exit) -> str:
        if self.wanted == CLOSED:
            return ""
        if exit is Exit.CONNECT:
            return "" if self.looks_around else "not there yet? --wait 30s keeps trying"
        return "a firewall may drop packets; -w waits longer" if exit is Exit.TIMEOUT else ""


class NotAsWanted(Failure):
    """The failure of a check of several ports. Its text is the summary."""

    def __str__(self) -> str:
        return self.reason
