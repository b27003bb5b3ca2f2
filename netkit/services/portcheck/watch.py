"""The state of each target during --wait: its last result, the number of tries, and the events for changes."""

import re
from collections import Counter

from netkit.core.errors import Exit
from netkit.core.events import Changed, Observer
from netkit.core.kernel import now
from netkit.services.portcheck.check import OPEN, Group, ProbeResult, Result, Summary

NOT_READY = "not ready"
_TIME = re.compile(r"[0-9.]+ m?s\b")  # ignored when two reasons are compared

_Key = int | tuple[int, str, int | None]


class Row:
    """The state of a target, or of a port if all ports are wanted.

    ``state`` is "" until something is known. ``since`` is when it was tried last, and ``ready`` when it became as
    wanted (None: not yet), by the kernel's clock.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.state = self.reason = self.address = ""
        self.since = 0.0
        self.ready: float | None = None
        self._size = size  # ports of which one is enough
        self._results = 0
        self._latest: dict[tuple[str, int | None], tuple[str, str]] = {}  # the last state and reason of each port
        self._states: Counter[str] = Counter()  # in ``_latest``
        self._reasons: Counter[str] = Counter()
        self._told: object = None

    @property
    def tries(self) -> int:
        """How often it was tried; for several ports, how often all of them were."""
        return -(-self._results // self._size)

    def note(self, result: Result) -> bool:
        """Note the result of a try; return whether the state has changed, so that an event is due."""
        self._results += 1
        self.since = now()
        if self.ready is not None:
            return False
        probe = result.probe
        if probe.exit is Exit.OK:
            self.ready, self.state, self.reason = self.since, probe.state, ""
            return True
        self._count((result.host, result.port), _state_of(probe), probe.reason)
        if len(self._latest) < self._size:
            return False
        self.state = next(iter(self._states)) if len(self._states) == 1 else NOT_READY
        self.reason = ", ".join(f"{count} {state}" for state, count in self._states.items())
        if len(self._states) == len(self._reasons) == 1:
            [self.reason] = self._reasons
        mark: object = frozenset(self._states)
        if self._size == 1:
            self.address = probe.address if probe.address not in (None, result.host) else ""
            mark = self.state, _TIME.sub("", self.reason)
        before, self._told = self._told, mark
        return before != mark

    def _count(self, port: tuple[str, int | None], state: str, reason: str) -> None:
        """Count the state and the reason of a port, in place of its last ones. There may be many ports."""
        last = self._latest.get(port, (None, None))
        self._latest[port] = state, reason
        for counts, new, old in ((self._states, state, last[0]), (self._reasons, reason, last[1])):
            counts[new] += 1
            if old is not None:
                counts[old] -= 1
                if not counts[old]:
                    del counts[old]


def _state_of(probe: ProbeResult) -> str:
    return NOT_READY if probe.state == OPEN and probe.exit is not Exit.CONNECT else probe.state


class Watch:
    """The rows of a check with --wait, from ``begun`` until ``until`` (kernel's clock); reports ``Changed``.

    There is a row for each target, or, if all ports are wanted, for each port that was tried.
    """

    def __init__(self, summary: Summary, wait: float, observe: Observer) -> None:
        self.summary = summary
        self.begun = now()
        self.until = self.begun + wait
        self.rows: dict[_Key, Row] = {}
        self._observe = observe
        if not summary.all_ports:
            self.rows = {number: Row(str(each), each.size) for number, each in enumerate(summary.targets)}

    def tried(self, result: Result) -> None:
        """Note the result of a try, and report a change."""
        key = self._key(result)
        if key not in self.rows:
            self.rows[key] = Row(str(result), 1)
        row = self.rows[key]
        if row.note(result):
            seconds = now() - self.begun
            self._observe(Changed(row.name, row.state, row.ready is not None, row.reason, row.tries, seconds))

    def why(self, missed: Result | Group) -> str:
        """Why a port or a target is not ready, and how often it was tried, for the failure."""
        row = self.rows.get(missed.number if isinstance(missed, Group) else self._key(missed))
        if row is None or not row.tries:
            return "not tried"
        return f"{row.reason or row.state or 'no answer'}, {row.tries} {'try' if row.tries == 1 else 'tries'}"

    def _key(self, result: Result) -> _Key:
        return (result.number, result.host, result.port) if self.summary.all_ports else result.number
