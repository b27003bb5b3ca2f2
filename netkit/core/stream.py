"""The protocols Stream and Connection, and the raw descriptors by which the system's kernel can move a stream's bytes.

A stream carries bytes in both directions, each of which ends on its own. TCP sockets, unix sockets and files are
streams. Whoever opened a stream closes it. Its methods raise Failure: READ and WRITE for files of this process, RECV
and SEND for a peer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from netkit.core.address import Endpoint
from netkit.core.errors import Failure
from netkit.core.kernel import now

SMALLEST_READ = 16 * 1024


# Reading this much every time would make an echo of small messages up to 3 times slower.
LARGEST_READ = 256 * 1024
# malloc maps and unmaps memory for every large read until it has freed a larger block once (M_MMAP_THRESHOLD,
# mallopt(3)). So allocate and free one, without touching its pages; a GiB through TLS then takes a third less system
# time.
bytes(4 << 20)


class Counts:
    """The bytes that a stream has ``sent`` and ``received``; ``moved_at`` is when one last moved (kernel's clock)."""

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
    """Bytes in both directions. ``name`` is how messages call the stream."""

    name: str

    @property
    def counts(self) -> Counts:
        """How many bytes were sent and received so far."""

    async def recv(self) -> bytes:
        """Wait for bytes and return those available; b"" at the end of the stream, also when called again."""

    async def send(self, data: bytes) -> None:
        """Return when the system has taken all of ``data``. ``counts.sent`` is right even if this fails midway."""

    async def send_eof(self) -> None:
        """Half-close: tell the peer that nothing more will be sent. Receiving goes on."""

    def close(self) -> None:
        """Close the stream and wake the tasks that wait in it. A second call has no effect."""

    def abort(self) -> None:
        """Close so that the peer sees a reset, and does not take what it received for the whole.

        Unix sockets have no reset: the peer sees one only if it has sent bytes that we did not read.
        """


class Connection(Stream, Protocol):
    """A stream to a peer on a network."""

    @property
    def peer(self) -> Endpoint:
        """The peer's address, as far as it is known."""

    @property
    def local(self) -> Endpoint:
        """Our own address."""

    @property
    def reached(self) -> Endpoint:
        """The address that the peer connected to: ours, or that of the proxy which relays for it (PROXY protocol)."""

    def unacknowledged(self) -> int:
        """How many of the bytes sent the peer has not acknowledged. Works after a reset; 0 after ``close``."""

    def raise_if_reset(self) -> None:
        """Raise Failure if the connection has been reset, even if no call has failed yet."""

    def keep_alive(self, idle: float) -> None:
        """Turn on TCP keepalive: probe after ``idle`` seconds of silence; after three lost probes the peer is dead."""

    def probe(self) -> None:
        """Use keepalive to find out whether a peer that has half-closed still exists; if not, a reset follows."""

    async def peer_left(self) -> None:
        """Wait until both directions of the connection are shut down. Raises Failure if the peer reset it.

        A reset that only answers our probe, with all our bytes acknowledged, is no failure: it half-closed and left.
        """

    async def shutdown(self) -> None:
        """Half-close unless that was done, and do what else ``close`` needs for an orderly end of the connection.

        Raises Failure TLS if the peer turns out to have refused the handshake.
        """


class RawEnd(NamedTuple):
    """A descriptor by which the system's kernel can move the bytes of a stream (splice(2), sendfile(2)).

    The caller adds the bytes it moved to ``counts``, and makes a Failure of an OSError by ``failure``. At most
    ``limit`` bytes of the descriptor belong to the stream. ``call`` is the recv or send of a non-blocking socket, whose
    caller sets the fields of ``counts`` directly; it is None for streams whose ``counts`` must do more.
    """

    fd: int
    counts: Counts
    failure: Callable[[OSError], Failure]
    limit: int | None = None
    call: Callable[[Any], Any] | None = None


def raw_source(stream: Stream) -> RawEnd | None:
    """The descriptor that has the bytes ``recv`` would return; None if they are to be had by ``recv`` alone.

    A class opts in by defining ``raw_source`` beside its ``recv``. A subclass that overrides only ``recv``, or a
    wrapper of another stream, has none.
    """
    return _raw_end(stream, "raw_source", "recv")


def raw_sink(stream: Stream) -> RawEnd | None:
    """The descriptor to which ``send`` would write, or None. A class opts in as for ``raw_source``."""
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
    """The size of the next read, after one of ``size`` bytes returned ``got``.

    It grows by a factor of 4 after a full read, and goes back to the smallest after one that was nearly empty.
    """
    if got == size:
        return min(size * 4, LARGEST_READ)
    if got * 16 < size:
        return SMALLEST_READ
    return size
