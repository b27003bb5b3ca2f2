"""Totals of a run, for --stats."""

import time
from typing import Any

from netkit.core import events
from netkit.core.events import CoreEvent, Observer
from netkit.core.units import milliseconds
from netkit.output.events import ends_of


class Totals:
    """What a run came to, from its beginning to now: connections, datagrams, and the bytes of both.

    Which of the two there can be is what it was told, or what it then listens for.
    """

    def __init__(self, protocol: str | None = None) -> None:
        self._begun = time.monotonic()
        self._protocols = {protocol} if protocol else set()
        self._connections = 0
        self._acknowledged = 0
        self._sent = self._received = 0
        self._datagrams_sent = self._datagrams_received = self._dropped = 0
        self._about: dict[str, Any] = {}

    def watching(self, observe: Observer) -> Observer:
        """``observe`` with what it is told counted on the way."""

        def count(event: CoreEvent) -> None:
            match event:
                case events.Listening():
                    self._protocols.add(event.protocol)
                case events.Connected():
                    self._about = {"target": event.target, **ends_of(peer=event.peer, local=event.local)}
                case events.Opened():
                    self._about = {"target": event.target, **ends_of("udp", peer=event.peer, local=event.local)}
                case events.Closed():
                    self._connections += 1
                    self._sent += event.bytes_sent
                    self._acknowledged += event.bytes_acknowledged
                    self._received += event.bytes_received
                case events.Carried():
                    self._datagrams_sent += event.datagrams_sent
                    self._sent += event.bytes_sent
                    self._datagrams_received += event.datagrams_received
                    self._received += event.bytes_received
                case events.Dropped():
                    self._dropped = event.datagrams_dropped_min
            observe(event)

        return count

    def fields(self, exit_code: int) -> dict[str, Any]:
        """The totals for JSON."""
        told = {**self._about, "duration_ms": milliseconds(time.monotonic() - self._begun)}
        if self._protocols != {"udp"}:
            told["connections"] = self._connections
            told["bytes_acknowledged"] = self._acknowledged
        if "udp" in self._protocols:
            told["datagrams_sent"] = self._datagrams_sent
            told["datagrams_received"] = self._datagrams_received
            told["datagrams_dropped_min"] = self._dropped
        return {**told, "bytes_sent": self._sent, "bytes_received": self._received, "exit_code": exit_code}
