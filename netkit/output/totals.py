"""Totals of a run, for --stats."""

import time
from collections import Counter
from typing import Any

from netkit.core import events
from netkit.core.events import CoreEvent, Observer
from netkit.core.units import milliseconds
from netkit.output.jsonl import ends_of


class Totals:
    """Counts the connections, datagrams and bytes of a run.

    The ``protocol`` given, and those of Listening events, decide which counts there are. ``ended_first`` is reported
    only if there was a single connection.
    """

    def __init__(self, protocol: str | None = None) -> None:
        self._begun = time.monotonic()
        self._protocols = {protocol} if protocol else set()
        self._converses = False  # in datagrams, which counts as a connection
        self._counts: Counter[str] = Counter()
        self._about: dict[str, Any] = {}
        self._times: Counter[str] = Counter()  # s of each stage
        self._ended_first = ""

    def watching(self, observe: Observer) -> Observer:
        """Wrap ``observe`` to count the events that it gets."""

        def count(event: CoreEvent) -> None:
            match event:
                case events.Listening():
                    self._converses = event.converses
                    self._protocols.add("tcp" if event.converses else event.protocol)
                case events.Connected():
                    self._about = {"target": event.target, **ends_of(peer=event.peer, local=event.local)}
                case events.Opened():
                    self._converses = True
                    self._about = {"target": event.target, **ends_of("udp", peer=event.peer, local=event.local)}
                case events.Closed() | events.Carried():
                    counted = {name: n for name, n in event.values().items() if name.startswith(("bytes", "datagrams"))}
                    self._counts.update(counted, connections=isinstance(event, events.Closed))
                    if isinstance(event, events.Closed):
                        self._ended_first = event.ended_first or self._ended_first
                case events.Timed():
                    self._times.update({name: s for name, s in event.values().items() if isinstance(s, float)})
                case events.Released():
                    self._counts["associations"] += 1
                case events.Dropped():  # a running total
                    self._counts["datagrams_dropped_min"] = event.datagrams_dropped_min
            observe(event)

        return count

    def fields(self, exit_code: int) -> dict[str, Any]:
        """The totals so far, for JSON."""
        names = ["bytes_sent", "bytes_received"]
        if "udp" in self._protocols:
            names = ["datagrams_sent", "datagrams_received", "datagrams_dropped_min", *names]
        elif self._converses:
            names = ["datagrams_dropped_min", *names]
        if self._protocols != {"udp"}:
            names = ["connections", "bytes_acknowledged", *names]
        if self._counts["associations"]:
            names = ["associations", *names]
        counts = {name: self._counts[name] for name in names}
        duration = milliseconds(time.monotonic() - self._begun)
        times = {f"{name}_ms": milliseconds(seconds) for name, seconds in self._times.items()}
        ended = {"ended_first": self._ended_first} if self._ended_first and self._counts["connections"] == 1 else {}
        return {**self._about, "duration_ms": duration, **times, **counts, **ended, "exit_code": exit_code}
