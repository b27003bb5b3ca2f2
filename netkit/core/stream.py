"""A stream carries bytes both ways and ends each way on its own. TCP, unix sockets and files are streams.

Whoever opened a stream closes it. A stream says what failed as a Failure: READ and WRITE for this process's own
files, RECV and SEND for a peer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from netkit.core.address import Endpoint
from netkit.core.errors import Failure
from netkit.core.kernel import now

SMALLEST_READ = 16 * 1024


# Always reading much makes an echo up to 3 times slower.
LARGEST_READ = 256 * 1024
# malloc maps fresh memory for large reads and gives it back, page by page, until it has once freed a block that was
# larger (M_MMAP_THRESHOLD, mallopt(3)). Here is one, whose pages nobody touches; a GiB through TLS then costs a third
# less in the kernel.
bytes(4 << 20)


class Counts:
    """How many bytes a stream has ``sent`` and ``received``, and the kernel's clock when some last moved."""

    __slots__ = ("moved_at", "received", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.moved_at = now()

    def restart(self) -> None:
        self.sent = self.received = 0

    def add_received(self, count: int) -> None:
        self.received += count
        self.moved_at = now()

    def add_sent(self, count: int) -> None:
        self.sent += count
        self.moved_at = now()


class Stream(Protocol):
    """Bytes both ways. ``name`` is what messages call it."""

    name: str

    @property
    def counts(self) -> Counts:
        """What has moved so far."""

    async def recv(self) -> bytes:
        """Wait for bytes and return what is there; b"" is the end, again and again."""

    async def send(self, data: bytes) -> None:
        """Return when all of ``data`` has been taken over; ``counts.sent`` counts what was, also when this fails."""

    async def send_eof(self) -> None:
        """Say that nothing more will be sent. Receiving goes on."""

    def close(self) -> None:
        """Let go of the stream; who waits in it is woken. Closing twice is nothing."""

    def abort(self) -> None:
        """Close so that the peer sees a reset, and cannot take what it got for the whole.

        Unix sockets know no reset: there the peer sees one only if it had sent what we did not read.
        """


class Connection(Stream, Protocol):
    """A stream to another end on a network; ``peer`` is its address, as far as it is known."""

    @property
    def peer(self) -> Endpoint:
        """The other end."""

    @property
    def local(self) -> Endpoint:
        """Our end."""

    @property
    def reached(self) -> Endpoint:
        """What the peer has connected to: our end, or that of the proxy which told who the peer is."""

    def unacknowledged(self) -> int:
        """How many of the bytes sent the peer has not acknowledged yet. Works after a reset, and not once closed."""

    def raise_if_reset(self) -> None:
        """Raise Failure if the connection has been reset, though no call has said so yet."""

    def keep_alive(self, idle: float) -> None:
        """Let the system probe a TCP peer that was silent for ``idle`` seconds; three probes lost are a dead peer."""

    def probe(self) -> None:
        """Have the system find out whether a peer that has ended is still there; one that is gone makes a reset."""

    async def peer_left(self) -> None:
        """Wait until the connection is over both ways; raise Failure if the peer reset it.

        A reset that only answers our probe, with all of ours acknowledged, is no failure: the peer left after its end.
        """

    async def shutdown(self) -> None:
        """Send our end if that is still to be sent, and what else lets ``close`` end the connection in order."""


class RawEnd(NamedTuple):
    """A descriptor by which the kernel may move the bytes of a stream, without a copy in this process.

    ``counts`` is told how many it moved, and ``failure`` makes a Failure of an error that it met. At most ``limit``
    bytes of the descriptor are the stream's. ``call`` is the recv or send of a socket that never blocks; who moves
    bytes by it adds to ``counts`` itself, so there is none where ``counts`` does more than that.
    """

    fd: int
    counts: Counts
    failure: Callable[[OSError], Failure]
    limit: int | None = None
    call: Callable[[Any], Any] | None = None


def raw_source(stream: Stream) -> RawEnd | None:
    """From where the kernel may take what ``recv`` would return, or None if only ``recv`` can tell the bytes.

    A class opts in by a method ``raw_source`` beside its ``recv``. One that overrides ``recv`` alone, or wraps another
    stream, has none.
    """
    return _raw_end(stream, "raw_source", "recv")


def raw_sink(stream: Stream) -> RawEnd | None:
    """To where the kernel may give what ``send`` would, or None; a class opts in as for ``raw_source``."""
    return _raw_end(stream, "raw_sink", "send")


def _raw_end(stream: Stream, method: str, verb: str) -> RawEnd | None:
    for cls in type(stream).__mro__:
        if method in vars(cls):
            end: RawEnd | None = getattr(stream, method)()
            return end
        if verb in vars(cls):
            break
    return None


def next_size(size: int, got: int) -> int:
    """Grow by 4 while reads come back full, go back to the smallest when one comes back nearly empty."""
    if got == size:
        return min(size * 4, LARGEST_READ)
    if got * 16 < size:
        return SMALLEST_READ
    return size
