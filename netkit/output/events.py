"""What is told about a run: its events as lines for a person or as fields for JSON, and its totals. It says nothing."""

from collections.abc import Callable
from typing import Any

from netkit.core import events
from netkit.core.address import Endpoint
from netkit.core.events import Observer, span
from netkit.output import console
from netkit.output.console import Verbosity
from netkit.output.units import size


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
            return "listening", ends_of(protocol, local=local)
        case events.Paused(action, reason):
            return "paused", {"reason": f"cannot {action}: {reason}"}
        case events.Cut(peer, reason):
            return "cut", {**ends_of(peer=peer), "reason": reason}
        case events.Resolved(host, addresses, seconds):
            return "resolved", {"host": host, "addresses": addresses, "time_ms": milliseconds(seconds)}
        case events.Trying(address) if verbose > 1:
            return "trying", {"address": address}
        case events.Missed(address, reason, seconds) if verbose > 1:
            return "missed", {"address": address, "reason": reason, "time_ms": milliseconds(seconds)}
        case events.Retrying(reason, seconds) if verbose > 1:
            return "retrying", {"reason": reason, "time_ms": milliseconds(seconds)}
        case events.Connected(target, peer, local, seconds):
            return "connected", {"target": target, **ends_of(peer=peer, local=local), "time_ms": milliseconds(seconds)}
        case events.Secured():
            return "secured", {**event._asdict(), "names": event.names or None}
        case events.Accepted(peer):
            return "accepted", ends_of(peer=peer)
        case events.Denied(peer, reason):
            return "denied", {**ends_of(peer=peer), "reason": reason}
        case events.Opened(target, peer, local):
            return "opened", {"target": target, **ends_of("udp", peer=peer, local=local)}
        case events.Dropped(number, _):
            return "dropped", {"datagrams_dropped_min": number}
        case events.Ignored(peer, reason):
            return "ignored", {**ends_of("udp", peer=peer), "reason": reason}
        case events.Carried():
            return "closed", {"duration_ms": milliseconds(event.seconds), "protocol": "udp", **_counts(event)}
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
            return "input_left", {"duration_ms": milliseconds(grace)}
        case events.Unanswered():
            return "unanswered", {}
        case events.Closed():
            return "closed", {
                **ends_of(peer=event.peer),
                "duration_ms": milliseconds(event.seconds),
                "bytes_sent": event.bytes_sent,
                "bytes_acknowledged": event.bytes_acknowledged,
                "bytes_received": event.bytes_received,
                "reason": event.reason or None,
            }
    return None


def milliseconds(seconds: float) -> float:
    """Milliseconds as JSON has them, to the microsecond."""
    return round(seconds * 1000, 3)


def _counts(event: events.Carried) -> dict[str, int]:
    counted = event._asdict()
    del counted["seconds"]
    return counted


def _many(number: int) -> str:
    return "1 datagram" if number == 1 else f"{number} datagrams"


def ends_of(protocol: str = "tcp", /, **ends: Endpoint) -> dict[str, Any]:
    """Return address and port of each end, and what they are ends of. A unix socket's address is its ``unix:PATH``."""
    fields: dict[str, Any] = {}
    for name, end in ends.items():
        fields[f"{name}_address"] = end.host or str(end)
        fields[f"{name}_port"] = None if end.path is not None else end.port
        if end.path is None:
            fields["family"] = "ipv6" if ":" in (end.host or "") else "ipv4"
        fields["protocol"] = protocol if end.path is None else "unix"
    return fields


def observer(verbosity: Verbosity, count: Callable[[Observer], Observer] | None = None) -> Observer:
    """The observer that says as much, through ``count`` if something counts what it is told."""

    def in_json(event: Any) -> None:
        if found := fields(event, verbosity.verbose):
            name, values = found
            console.emit(name, **values)

    def in_words(event: Any) -> None:
        if line := sentence(event, verbosity.verbose):
            console.say(f"{console.program}: {line}")
        elif isinstance(event, events.Unanswered):
            console.hint("nothing came back; a server that drops clients which half-close may want --no-shutdown")

    observe = events.ignore if verbosity.quiet else in_json if verbosity.json else in_words
    return count(observe) if count else observe
