"""The events that the core reports to an observer. It writes nothing itself."""

from collections.abc import Callable

from netkit.core.address import Endpoint
from netkit.core.record import Record


class CoreEvent(Record):
    """Something that happened."""


Observer = Callable[[CoreEvent], None]


def ignore(event: object) -> None:
    """Observe nothing."""


class Resolved(CoreEvent):
    """A name was looked up."""

    host: str
    addresses: tuple[str, ...]
    seconds: float


class Replied(CoreEvent):
    """A query has its answer, which may be empty. ``type``, ``server`` and ``protocol`` are those of a DNS query.

    They are None for the system's resolver."""

    host: str
    type: str | None
    server: str | None
    protocol: str | None
    seconds: float


class AskedAgain(CoreEvent):
    """A query got no usable answer, so it is sent again, to ``server`` over ``protocol``."""

    host: str
    reason: str
    server: str
    protocol: str


class Trying(CoreEvent):
    """An address is being dialled."""

    address: str


class Missed(CoreEvent):
    """An address did not answer, or refused."""

    address: str
    reason: str
    seconds: float


class Connected(CoreEvent):
    """A connection is open. ``target`` is what was asked for, ``peer`` the address that answered."""

    target: str
    peer: Endpoint
    local: Endpoint
    seconds: float


class Tunnelled(CoreEvent):
    """A proxy has connected us to ``target``, in the words in which it was asked."""

    proxy: str
    target: str
    seconds: float


class Forwarded(CoreEvent):
    """The request for a URL is sent to an HTTP proxy, which forwards it."""

    proxy: str
    target: str


class Secured(CoreEvent):
    """A TLS handshake has succeeded. ``certificates`` are the peer's, in DER, its own first."""

    protocol: str
    cipher: str
    alpn: str | None
    certificates: tuple[bytes, ...]


class Distrusted(CoreEvent):
    """A peer's ``certificates``, in DER, its own first, are not acceptable. The failure that follows says why."""

    certificates: tuple[bytes, ...]


class SelfSigned(CoreEvent):
    """A server has made a self-signed certificate for itself, the one of ``certificates``, in DER."""

    certificates: tuple[bytes, ...]


class Listening(CoreEvent):
    """A server accepts clients. ``beside`` is for the UDP socket with the same port as a TCP server.

    With ``converses`` the datagrams of each peer are a conversation, which counts as a connection.
    """

    local: Endpoint
    protocol: str = "tcp"
    beside: bool = False
    converses: bool = False


class Retrying(CoreEvent):
    """A target cannot be reached yet, and is dialled again in so many seconds."""

    reason: str
    seconds: float


class Waiting(CoreEvent):
    """The wait for so many targets begins; it lasts so many seconds at most."""

    targets: int
    seconds: float


class Changed(CoreEvent):
    """A target that is waited for has changed its state, so many seconds after the beginning of the wait."""

    target: str
    state: str
    ready: bool
    reason: str
    tries: int
    seconds: float


class Checked(CoreEvent):
    """A check of ports is done: how many are in which state, and how many targets are ready; ``text`` is a summary.

    A target is one port, if each is wanted by itself.
    """

    text: str
    ports: int
    states: dict[str, int]
    targets: int
    targets_ready: int
    seconds: float


class Opened(CoreEvent):
    """A socket is ready to send datagrams. Nothing was sent yet, so it is not known whether there is a peer."""

    protocol = "udp"
    target: str
    peer: Endpoint
    local: Endpoint


class Dropped(CoreEvent):
    """Datagrams came faster than they were read, and the kernel dropped so many, or ``at_least`` so many."""

    datagrams_dropped_min: int
    at_least: bool


class Ignored(CoreEvent):
    """A datagram was left unread or unanswered on purpose."""

    protocol = "udp"
    peer: Endpoint
    reason: str


class Associated(CoreEvent):
    """A relay of datagrams has opened a socket at ``local``, from which it sends what a peer sends on to ``target``."""

    protocol = "udp"
    peer: Endpoint
    target: str
    local: Endpoint


class Released(CoreEvent):
    """A relay of datagrams has closed the socket for a peer. ``reason`` is "" after silence, or if the relay ends."""

    protocol = "udp"
    peer: Endpoint
    datagrams_received: int
    datagrams_sent: int
    seconds: float
    reason: str


class Carried(CoreEvent):
    """The totals of datagram sockets, reported once, when they are closed."""

    protocol = "udp"
    datagrams_received: int
    bytes_received: int
    datagrams_sent: int
    bytes_sent: int
    seconds: float


class Accepted(CoreEvent):
    """A client came."""

    peer: Endpoint


class Proxied(CoreEvent):
    """A proxy has told the client for whom it relays a connection. Rules apply to this ``peer`` from then on."""

    proxy: str
    peer: Endpoint


class Denied(CoreEvent):
    """A client was turned away."""

    peer: Endpoint
    reason: str


class Requested(CoreEvent):
    """The client of a proxy asks for ``target``; ``scheme`` is that of the proxy's URL, such as socks5."""

    peer: Endpoint
    target: str
    scheme: str


class Cut(CoreEvent):
    """A client was reset by a server that could not go on with it."""

    peer: Endpoint
    reason: str


class ProgramLeft(CoreEvent):
    """A program was told to end and we cannot kill it, so it is left running."""

    program: str
    pid: int
    reason: str


class Paused(CoreEvent):
    """An action has to wait because a limit is reached, or the system is full. It is tried again."""

    action: str
    cause: str

    @property
    def reason(self) -> str:
        """What cannot be done, and why."""
        return f"cannot {self.action}: {self.cause}"


class Answered(CoreEvent):
    """The head of an HTTP response has come. ``size_bytes`` is that of the body, None if it is not known."""

    target: str
    status: int
    reason: str
    size_bytes: int | None
    content_type: str | None


class Redirected(CoreEvent):
    """An HTTP server answered with a redirect, which is followed."""

    target: str
    status: int
    location: str


class Timed(CoreEvent):
    """The seconds that each phase of a fetch took; None for a phase that it did not have."""

    target: str
    name: float | None
    connect: float | None
    tls: float | None
    first_byte: float | None
    body: float | None


class InputLeft(CoreEvent):
    """The peer ended while our input, of which ``bytes_sent`` were sent, is still open. No more of it is read."""

    bytes_sent: int


class InputUnread(CoreEvent):
    """The peer ended, and our input was silent for so many seconds since: no more of it is read."""

    seconds: float


class Reconnecting(CoreEvent):
    """A connection has ended before our input, so the peer is dialled again."""

    reason: str


class EndSent(CoreEvent):
    """The peer was silent for so many seconds after the end of our input, so our end was sent."""

    seconds: float


class Unanswered(CoreEvent):
    """The peer ended without an answer after our half-close, which some servers take for a client that has left."""


class WantsTls(CoreEvent):
    """The peer spoke TLS and we did not, or it probably wants TLS. ``reason`` says which, and what to try."""

    reason: str


class Closed(CoreEvent):
    """A connection ended. ``reason`` is empty where both sides ended as they should.

    ``ended_first`` is whose end came first, "local" or "peer", or "" if that was not looked at.
    """

    name: str
    peer: Endpoint
    bytes_received: int
    bytes_sent: int
    bytes_acknowledged: int
    seconds: float
    reason: str
    ended_first: str = ""
