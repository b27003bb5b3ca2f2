"""What is waited for: how each target stands, how often it was tried, and what has changed."""

import re
from collections import Counter

from netkit.core.errors import Exit
from netkit.core.events import Changed, Observer
from netkit.core.kernel import now
from netkit.services.portcheck.check import OPEN, Group, ProbeResult, Result, Summary

NOT_READY = "not ready"
_TIME = re.compile(r"[0-9.]+ m?s\b")  # by which two reasons may differ that are the same

_Key = int | tuple[int, str, int | None]


class Row:
    """A target, or a port where each is wanted by itself.

    ``state`` is empty until something is known. By the kernel's clock ``since`` is when it was tried last, and
    ``ready`` when it was as wanted, None if it was not yet.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.state = self.reason = self.address = ""
        self.since = 0.0
        self.ready: float | None = None
        self._size = size  # ports of which one is enough
        self._results = 0
        self._latest: dict[tuple[str, int | None], tuple[str, str]] = {}  # where there are several
        self._told: object = None

    @property
    def tries(self) -> int:
        """How often it was tried; a range counts once all of it was."""
        return -(-self._results // self._size)

    def note(self, result: Result) -> bool:
        """Take in what one try came to; return whether that is a change worth telling."""
        self._results += 1
        self.since = now()
        if self.ready is not None:
            return False
        probe = result.probe
        if probe.exit is Exit.OK:
            self.ready, self.state, self.reason = self.since, probe.state, ""
            return True
        self.address = probe.address if probe.address not in (None, result.host) else ""
        found = _state_of(probe), probe.reason
        return self._is_new(found) if self._size == 1 else self._is_new_of_many(result, found)

    def _is_new(self, found: tuple[str, str]) -> bool:
        self.state, self.reason = found
        return self._differs((self.state, _TIME.sub("", self.reason)))

    def _is_new_of_many(self, result: Result, found: tuple[str, str]) -> bool:
        self.address = ""
        self._latest[result.host, result.port] = found
        if len(self._latest) < self._size:
            return False
        counts = Counter(state for state, _ in self._latest.values())
        reasons = {reason for _, reason in self._latest.values()}
        self.state = next(iter(counts)) if len(counts) == 1 else NOT_READY
        self.reason = ", ".join(f"{count} {state}" for state, count in counts.items())
        if len(counts) == len(reasons) == 1:
            [self.reason] = reasons
        return self._differs(frozenset(counts))

    def _differs(self, mark: object) -> bool:
        before, self._told = self._told, mark
        return before != mark


def _state_of(probe: ProbeResult) -> str:
    return NOT_READY if probe.state == OPEN and probe.exit is not Exit.CONNECT else probe.state


class Watch:
    """What is waited for, from ``begun`` until ``until`` by the kernel's clock; ``observe`` is told of each change.

    There is a row for each target or, where each port is wanted by itself, for each that was tried.
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
        """Take in what one try of a port came to."""
        key = self._key(result)
        if key not in self.rows:
            self.rows[key] = Row(str(result), 1)
        row = self.rows[key]
        if row.note(result):
            seconds = now() - self.begun
            self._observe(Changed(row.name, row.state, row.ready is not None, row.reason, row.tries, seconds))

    def why(self, missed: Result | Group) -> str:
        """Why a port, or a target of several, is not ready, and how often it was tried."""
        row = self.rows.get(missed.number if isinstance(missed, Group) else self._key(missed))
        if row is None or not row.tries:
            return "not tried"
        return f"{row.reason or row.state or 'no answer'}, {row.tries} {'try' if row.tries == 1 else 'tries'}"

    def _key(self, result: Result) -> _Key:
        return (result.number, result.host, result.port) if self.summary.all_ports else result.number
