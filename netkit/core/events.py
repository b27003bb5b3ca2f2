"""What the core reports to an observer. The core itself is silent: it never writes a line."""

from collections.abc import Callable
from typing import Any, NamedTuple

from netkit.core.address import Endpoint

Observer = Callable[[Any], None]


class Resolved(NamedTuple):
    """A name was looked up."""

    host: str
    addresses: tuple[str, ...]
    seconds: float


class Trying(NamedTuple):
    """An address is being dialled."""

    address: str


class Missed(NamedTuple):
    """An address did not answer, or not kindly."""

    address: str
    reason: str
    seconds: float


class Connected(NamedTuple):
    """A connection stands; ``target`` is what was asked for, ``peer`` the address that answered."""

    target: str
    peer: Endpoint
    local: Endpoint
    seconds: float


class Secured(NamedTuple):
    """A TLS handshake is done. The peer's certificate has ``names`` and dates where it was verified."""

    protocol: str
    cipher: str
    alpn: str | None
    names: tuple[str, ...]
    not_before: str | None
    not_after: str | None


class Listening(NamedTuple):
    """Clients can come. ``beside`` a TCP server it is the same port for UDP."""

    local: Endpoint
    protocol: str = "tcp"
    beside: bool = False


class Retrying(NamedTuple):
    """A target is not there yet and will be dialled again."""

    reason: str
    seconds: float


class Opened(NamedTuple):
    """A socket is ready to send datagrams. Nothing was sent yet, so nobody knows whether there is a peer."""

    target: str
    peer: Endpoint
    local: Endpoint


class Dropped(NamedTuple):
    """Datagrams came faster than they were read, and the kernel dropped ``number`` of them, or at least so many."""

    number: int
    at_least: bool


class Ignored(NamedTuple):
    """A datagram was left unread or unanswered on purpose."""

    peer: Endpoint
    reason: str


class Carried(NamedTuple):
    """What sockets have sent and received as datagrams, told once, at their end."""

    datagrams_received: int
    bytes_received: int
    datagrams_sent: int
    bytes_sent: int
    seconds: float


class Accepted(NamedTuple):
    """A client came."""

    peer: Endpoint


class Denied(NamedTuple):
    """A client was turned away."""

    peer: Endpoint
    reason: str


class Cut(NamedTuple):
    """A client was reset by a server that could not go on with it."""

    peer: Endpoint
    reason: str


class Paused(NamedTuple):
    """The system has no room for something at the moment; it is tried again."""

    action: str
    reason: str


class Answered(NamedTuple):
    """An HTTP server answered: the head of its answer is here. ``size`` is that of the body, if it is known."""

    url: str
    status: int
    reason: str
    size: int | None
    kind: str | None


class Redirected(NamedTuple):
    """An HTTP server sent us on."""

    url: str
    status: int
    location: str


class InputLeft(NamedTuple):
    """The peer ended, and our input, still open, was left unread."""

    grace: float


class Unanswered(NamedTuple):
    """The peer ended without a byte after our half-close. Some servers take that for a client that left."""


class Closed(NamedTuple):
    """A connection ended. ``reason`` is empty where both sides ended as they should."""

    name: str
    peer: Endpoint
    bytes_received: int
    bytes_sent: int
    bytes_acknowledged: int
    seconds: float
    reason: str


def span(seconds: float) -> str:
    """Return a length of time for a person: ``0.4 ms``, ``12 ms``, ``2 s``, ``1.2 s``."""
    number, unit = (seconds * 1000, "ms") if seconds < 1 else (seconds, "s")
    text = f"{number:.1f}" if number < 10 or unit == "s" else f"{number:.0f}"
    return f"{text.removesuffix('.0')} {unit}"


def ignore(event: Any) -> None:
    """Observe nothing."""
