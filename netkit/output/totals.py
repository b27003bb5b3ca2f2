"""Totals of a run, for --stats."""

import re
import time
from collections import Counter
from typing import Any

from netkit.core import events
from netkit.core.events import CoreEvent, Observer
from netkit.core.units import milliseconds
from netkit.output.jsonl import ends_of

_ENDED_FIRST = re.compile("(input|program|peer) ended first")  # as the reason of the end of a conversation says it


class Totals:
    """What a run came to, from its beginning to now: connections, datagrams, and the bytes of both.

    Which of the two there can be is what it was told, or what it then listens for. Who ended first is told of a single
    conversation that came to its end.
    """

    def __init__(self, protocol: str | None = None) -> None:
        self._begun = time.monotonic()
        self._protocols = {protocol} if protocol else set()
        self._counts: Counter[str] = Counter()
        self._about: dict[str, Any] = {}
        self._times: Counter[str] = Counter()  # s of each stage
        self._ended_first = ""

    def watching(self, observe: Observer) -> Observer:
        """``observe`` with what it is told counted on the way."""

        def count(event: CoreEvent) -> None:
            match event:
                case events.Listening():
                    self._protocols.add("tcp" if event.local.udp else event.protocol)  # a conversation has an end
                case events.Connected():
                    self._about = {"target": event.target, **ends_of(peer=event.peer, local=event.local)}
                case events.Opened():
                    self._about = {"target": event.target, **ends_of("udp", peer=event.peer, local=event.local)}
                case events.Closed() | events.Carried():
                    counted = {name: n for name, n in event.values().items() if name.startswith(("bytes", "datagrams"))}
                    self._counts.update(counted, connections=isinstance(event, events.Closed))
                    if isinstance(event, events.Closed) and (found := _ENDED_FIRST.match(event.reason)):
                        self._ended_first = "peer" if found[1] == "peer" else "local"
                case events.Timed():
                    self._times.update({name: s for name, s in event.values().items() if isinstance(s, float)})
                case events.Associated():
                    self._counts["associations"] += 1
                case events.Dropped():  # so many until now
                    self._counts["datagrams_dropped_min"] = event.datagrams_dropped_min
            observe(event)

        return count

    def fields(self, exit_code: int) -> dict[str, Any]:
        """The totals for JSON."""
        names = ["bytes_sent", "bytes_received"]
        if "udp" in self._protocols:
            names = ["datagrams_sent", "datagrams_received", "datagrams_dropped_min", *names]
        if self._protocols != {"udp"}:
            names = ["connections", "bytes_acknowledged", *names]
        if self._counts["associations"]:
            names = ["associations", *names]
        counts = {name: self._counts[name] for name in names}
        duration = milliseconds(time.monotonic() - self._begun)
        times = {f"{name}_ms": milliseconds(seconds) for name, seconds in self._times.items()}
        ended = {"ended_first": self._ended_first} if self._ended_first and self._counts["connections"] == 1 else {}
        return {**self._about, "duration_ms": duration, **times, **counts, **ended, "exit_code": exit_code}
