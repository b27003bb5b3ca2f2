"""What the core reports to an observer. The core itself is silent: it never writes a line."""

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
    """A question about a name has its answer, which may be that there is nothing: for records of a ``type`` of a DNS
    ``server``, asked over ``protocol``; of the system's resolver where these are None."""

    host: str
    type: str | None
    server: str | None
    protocol: str | None
    seconds: float


class AskedAgain(CoreEvent):
    """A question about a name is not settled, and ``server`` is asked over ``protocol``."""

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
    """A connection stands; ``target`` is what was asked for, ``peer`` the address that answered."""

    target: str
    peer: Endpoint
    local: Endpoint
    seconds: float


class Tunnelled(CoreEvent):
    """A proxy has connected us to ``target``, as it was told that."""

    proxy: str
    target: str
    seconds: float


class Forwarded(CoreEvent):
    """An HTTP proxy is asked for a URL, in place of its server."""

    proxy: str
    target: str


class Secured(CoreEvent):
    """A TLS handshake is done. The peer's ``certificates`` in DER, its own first, are verified if that was wanted."""

    protocol: str
    cipher: str
    alpn: str | None
    certificates: tuple[bytes, ...]


class Distrusted(CoreEvent):
    """A peer's ``certificates`` in DER, its own first, are not acceptable; the failure of the handshake says why."""

    certificates: tuple[bytes, ...]


class SelfSigned(CoreEvent):
    """A server has made a certificate for itself, the one of ``certificates``, in DER."""

    certificates: tuple[bytes, ...]


class Listening(CoreEvent):
    """Clients can come. ``beside`` a TCP server it is the same port for UDP."""

    local: Endpoint
    protocol: str = "tcp"
    beside: bool = False


class Retrying(CoreEvent):
    """A target is not there yet and will be dialled again in so many seconds."""

    reason: str
    seconds: float


class Waiting(CoreEvent):
    """So many targets are waited for, for so many seconds at most."""

    targets: int
    seconds: float


class Changed(CoreEvent):
    """A target that is waited for is otherwise than before, so many seconds after the beginning."""

    target: str
    state: str
    ready: bool
    reason: str
    tries: int
    seconds: float


class Checked(CoreEvent):
    """Ports were checked: how many are in which state, and how many of the targets are as wanted; in words by ``text``.

    ``targets`` are ports where each is wanted by itself.
    """

    text: str
    ports: int
    states: dict[str, int]
    targets: int
    targets_ready: int
    seconds: float


class Opened(CoreEvent):
    """A socket is ready to send datagrams. Nothing was sent yet, so nobody knows whether there is a peer."""

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
    """A relay of datagrams has a socket for a peer, at ``local``, from which what it sends goes to ``target``."""

    protocol = "udp"
    peer: Endpoint
    target: str
    local: Endpoint


class Released(CoreEvent):
    """A relay of datagrams has let a peer go. ``reason`` is empty after silence, or where the relay ends."""

    protocol = "udp"
    peer: Endpoint
    datagrams_received: int
    datagrams_sent: int
    seconds: float
    reason: str


class Carried(CoreEvent):
    """What sockets have sent and received as datagrams, told once, at their end."""

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
    """A proxy told for whom it relays a connection: ``peer``, whose address counts from then on."""

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
    """A program that was to end, and that we cannot end, goes on by itself."""

    program: str
    pid: int
    reason: str


class Paused(CoreEvent):
    """There is no room for something at the moment; it is tried again."""

    action: str
    cause: str

    @property
    def reason(self) -> str:
        """What cannot be done, and why."""
        return f"cannot {self.action}: {self.cause}"


class Answered(CoreEvent):
    """An HTTP server answered: the head of its answer is here. The size is that of the body, if it is known."""

    target: str
    status: int
    reason: str
    size_bytes: int | None
    content_type: str | None


class Redirected(CoreEvent):
    """An HTTP server sent us on."""

    target: str
    status: int
    location: str


class Timed(CoreEvent):
    """Where the time of a fetch went: the seconds of its look-ups, and so on, None for what there was none of."""

    target: str
    name: float | None
    connect: float | None
    tls: float | None
    first_byte: float | None
    body: float | None


class InputLeft(CoreEvent):
    """The peer ended, and our input, of which ``bytes_sent`` were sent, is still open: no more of it is read."""

    bytes_sent: int


class InputUnread(CoreEvent):
    """The peer ended, and what may still come from our input, silent for so long, is left unread."""

    seconds: float


class Reconnecting(CoreEvent):
    """A connection is over while our input is not, and the peer is dialled again."""

    reason: str


class EndSent(CoreEvent):
    """Nothing came for so long after the end of our input, so our end was sent."""

    seconds: float


class Unanswered(CoreEvent):
    """The peer ended without a byte after our half-close. Some servers take that for a client that left."""


class WantsTls(CoreEvent):
    """The peer spoke TLS and we did not, or is likely to want it: the ``reason``, and what to try."""

    reason: str


class Closed(CoreEvent):
    """A connection ended. ``reason`` is empty where both sides ended as they should."""

    name: str
    peer: Endpoint
    bytes_received: int
    bytes_sent: int
    bytes_acknowledged: int
    seconds: float
    reason: str
