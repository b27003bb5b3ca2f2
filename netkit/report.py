"""What is told about a run: its events as lines for a person or as fields for JSON, and its totals. It says nothing."""

import time
from collections import deque
from typing import Any, NamedTuple

from netkit.core import events
from netkit.core.address import Endpoint
from netkit.core.errors import Failure
from netkit.core.events import Observer, span
from netkit.core.flow import Transfer

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_RECENT, _SOON = 3.0, 0.05  # s that a rate is taken over, at most and at least
_LONGEST = 100 * 3600  # s left: beyond that it is a guess


def size(count: int, *, short: bool = False) -> str:
    """Return a number of bytes for a person: ``3 B``, ``1.5 MiB``; ``short`` has at most four digits: ``430 MiB``."""
    number, unit = float(count), 0
    while number >= 1024 and unit < len(_SIZE_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    if unit == 0:
        return f"{count} B"
    return f"{number:.0f} {_SIZE_UNITS[unit]}" if short and number >= 9.95 else f"{number:.1f} {_SIZE_UNITS[unit]}"


def sentence(event: Any, verbose: int) -> str | None:
    """Return the event as a line for a person who asked for so much; None if it is not for them."""
    match event:
        case events.Listening(local, protocol, beside):
            return f"listening on {local}" + (f"/{protocol}" if beside else "")
        case events.Paused(action, reason):
            return f"cannot {action} for now: {reason}"
        case events.Cut(peer, reason):
            return f"connection from {peer} reset: {reason}"
        case events.Resolved(host, addresses, seconds) if verbose:
            return f"resolved {host} to {', '.join(addresses)} in {span(seconds)}"
        case events.Trying(address) if verbose > 1:
            return f"trying {address}"
        case events.Missed(address, reason, seconds) if verbose > 1:
            return f"no connection to {address}: {reason}, after {span(seconds)}"
        case events.Retrying(reason, seconds) if verbose > 1:
            return f"{reason}; again in {span(seconds)}"
        case events.Connected(_, peer, local, seconds) if verbose:
            ours = f" from {local}" if local.path is None else ""
            return f"connected to {peer}{ours} after {span(seconds)}"
        case events.Secured() if verbose:
            alpn = f", ALPN {event.alpn}" if event.alpn else ""
            dates = f", certificate of {', '.join(event.names)}, {event.not_before} to {event.not_after}"
            return f"secured by {event.protocol} with {event.cipher}{alpn}{dates if event.not_after else ''}"
        case events.Accepted(peer) if verbose:
            return f"connection from {peer}"
        case events.Denied(peer, reason) if verbose:
            return f"connection from {peer} denied: {reason}"
        case events.Opened(_, peer, local) if verbose:
            return f"sending to {peer} from {local}"
        case events.Dropped(number, at_least):
            many = f"at least {number}" if at_least else f"{number}"
            return f"the kernel dropped {many} datagrams: they came faster than they were read"
        case events.Ignored(peer, reason) if verbose:
            return f"datagram from {peer} ignored: {reason}"
        case events.Carried() if verbose:
            received = f"{_many(event.datagrams_received)} ({size(event.bytes_received)}) received"
            sent = f"{_many(event.datagrams_sent)} ({size(event.bytes_sent)}) sent"
            return f"closed after {span(event.seconds)}: {received}, {sent}"
        case events.Answered(_, status, reason, length, kind) if verbose:
            about = ", ".join(filter(None, (None if length is None else size(length), kind)))
            return f"answered {f'{status} {reason}'.rstrip()}{about and ': '}{about}"
        case events.Redirected(_, status, location) if verbose:
            return f"redirected by {status} to {location}"
        case events.InputLeft(grace) if verbose:
            return f"the peer ended; input was idle for {span(grace)} and is left unread"
        case events.Closed() if verbose:
            moved = f"{size(event.bytes_received)} received, {size(event.bytes_sent)} sent"
            end = f", {event.reason}" if event.reason else ""
            return f"{event.name} closed after {span(event.seconds)}: {moved}{end}"
    return None


def fields(event: Any, verbose: int) -> tuple[str, dict[str, Any]] | None:
    """Return the event's name and fields for JSON; None if nobody asked for it."""
    match event:
        case events.Listening(local, protocol, _):
            return "listening", _ends(protocol, local=local)
        case events.Paused(action, reason):
            return "paused", {"reason": f"cannot {action}: {reason}"}
        case events.Cut(peer, reason):
            return "cut", {**_ends(peer=peer), "reason": reason}
        case events.Resolved(host, addresses, seconds):
            return "resolved", {"host": host, "addresses": addresses, "time_ms": _ms(seconds)}
        case events.Trying(address) if verbose > 1:
            return "trying", {"address": address}
        case events.Missed(address, reason, seconds) if verbose > 1:
            return "missed", {"address": address, "reason": reason, "time_ms": _ms(seconds)}
        case events.Retrying(reason, seconds) if verbose > 1:
            return "retrying", {"reason": reason, "time_ms": _ms(seconds)}
        case events.Connected(target, peer, local, seconds):
            return "connected", {"target": target, **_ends(peer=peer, local=local), "time_ms": _ms(seconds)}
        case events.Secured():
            return "secured", {**event._asdict(), "names": event.names or None}
        case events.Accepted(peer):
            return "accepted", _ends(peer=peer)
        case events.Denied(peer, reason):
            return "denied", {**_ends(peer=peer), "reason": reason}
        case events.Opened(target, peer, local):
            return "opened", {"target": target, **_ends("udp", peer=peer, local=local)}
        case events.Dropped(number, _):
            return "dropped", {"datagrams_dropped_min": number}
        case events.Ignored(peer, reason):
            return "ignored", {**_ends("udp", peer=peer), "reason": reason}
        case events.Carried():
            return "closed", {"duration_ms": _ms(event.seconds), "protocol": "udp", **_counts(event)}
        case events.Answered():
            return "answered", {
                "target": event.url,
                "status": event.status,
                "reason": event.reason or None,
                "size_bytes": event.size,
                "content_type": event.kind,
            }
        case events.Redirected(url, status, location):
            return "redirected", {"target": url, "status": status, "location": location}
        case events.InputLeft(grace):
            return "input_left", {"duration_ms": _ms(grace)}
        case events.Unanswered():
            return "unanswered", {}
        case events.Closed():
            return "closed", {
                **_ends(peer=event.peer),
                "duration_ms": _ms(event.seconds),
                "bytes_sent": event.bytes_sent,
                "bytes_acknowledged": event.bytes_acknowledged,
                "bytes_received": event.bytes_received,
                "reason": event.reason or None,
            }
    return None


def failed(failure: Failure) -> dict[str, Any]:
    """Return the fields of a failure for JSON."""
    return {
        "reason": failure.reason,
        "exit_code": int(failure.exit),
        "error": {"kind": failure.exit.name.lower(), "message": str(failure), "errno": failure.errno},
    }


class Moved(NamedTuple):
    """What there is to say of a transfer: the ``share`` of 1 that is done, None where nobody knows, and words.

    ``clock`` is the time left where the share is known, otherwise the time since it began.
    """

    share: float | None
    amount: str
    rate: str
    clock: str


class Pace:
    """How fast a transfer that began at ``begun``, in seconds of any clock, has gone in the last few seconds."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._samples: deque[tuple[float, int]] = deque()

    def said(self, transfer: Transfer, at: float) -> Moved:
        """Note how far it is now, and return what there is to say."""
        samples = self._samples
        if not samples:
            samples.append((self._begun, transfer.before))
        samples.append((at, transfer.moved))
        while len(samples) > 2 and samples[1][0] <= at - _RECENT:
            samples.popleft()
        since, moved = samples[0]
        rate = max(transfer.moved - moved, 0) / (at - since) if at - since >= _SOON else 0.0
        done, total = transfer.moved, transfer.total
        amount, speed = size(done, short=True), size(int(rate), short=True) + "/s"
        if total is None:
            return Moved(None, amount, speed, _clock(at - self._begun))
        left = max(total - done, 0)
        share = min(done / total, 1.0) if total else 1.0
        clock = _clock(left / rate) if left and rate and left / rate < _LONGEST else "-:--" if left else _clock(0)
        return Moved(share, f"{amount}/{size(total, short=True)}", speed, clock)


def _clock(seconds: float) -> str:
    """Return ``m:ss``, or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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
        """Return ``observe`` with what it is told counted on the way."""

        def count(event: Any) -> None:
            match event:
                case events.Listening(_, protocol, _):
                    self._protocols.add(protocol)
                case events.Connected(target, peer, local, _):
                    self._about = {"target": target, **_ends(peer=peer, local=local)}
                case events.Opened(target, peer, local):
                    self._about = {"target": target, **_ends("udp", peer=peer, local=local)}
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
                case events.Dropped(number, _):
                    self._dropped = number
            observe(event)

        return count

    def fields(self, exit_code: int) -> dict[str, Any]:
        """Return the totals for JSON."""
        told = {**self._about, "duration_ms": _ms(time.monotonic() - self._begun)}
        if self._protocols != {"udp"}:
            told["connections"] = self._connections
            told["bytes_acknowledged"] = self._acknowledged
        if "udp" in self._protocols:
            told["datagrams_sent"] = self._datagrams_sent
            told["datagrams_received"] = self._datagrams_received
            told["datagrams_dropped_min"] = self._dropped
        return {**told, "bytes_sent": self._sent, "bytes_received": self._received, "exit_code": exit_code}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _counts(event: events.Carried) -> dict[str, int]:
    counted = event._asdict()
    del counted["seconds"]
    return counted


def _many(number: int) -> str:
    return "1 datagram" if number == 1 else f"{number} datagrams"


def _ends(protocol: str = "tcp", /, **ends: Endpoint) -> dict[str, Any]:
    """Return address and port of each end, and what they are ends of. A unix socket's address is its ``unix:PATH``."""
    fields: dict[str, Any] = {}
    for name, end in ends.items():
        fields[f"{name}_address"] = end.host or str(end)
        fields[f"{name}_port"] = None if end.path is not None else end.port
        if end.path is None:
            fields["family"] = "ipv6" if ":" in (end.host or "") else "ipv4"
        fields["protocol"] = protocol if end.path is None else "unix"
    return fields
