"""A stream carries bytes both ways and ends each way on its own. TCP, unix sockets and files are streams.

Whoever opened a stream closes it. A stream says what failed as a Failure: READ and WRITE for this process's own
files, RECV and SEND for a peer.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from netkit.core.address import Endpoint
from netkit.core.errors import Failure
from netkit.core.kernel import now

SMALLEST_READ = 16 * 1024


# Always reading much makes an echo up to 3 times slower.
LARGEST_READ = 256 * 1024
# malloc maps fresh memory for large reads and gives it back, page by page, until it has once freed a block that was
# larger (M_MMAP_THRESHOLD, mallopt(3)). Here is one; a GiB through TLS then costs a third less in the kernel.
bytearray(4 << 20)


class Stream(Protocol):
    """What flows between two ends.

    ``name`` is for messages.
    """

    name: str

    @property
    def sent(self) -> int:
        """Bytes that ``send`` has passed on."""

    @property
    def received(self) -> int:
        """Bytes that ``recv`` has returned."""

    @property
    def moved_at(self) -> float:
        """The kernel's clock when some last moved, either way."""

    @property
    def raw_source(self) -> int | None:
        """A descriptor from which the kernel may take what ``recv`` would, or None: bytes pass through our hands."""

    @property
    def raw_sink(self) -> int | None:
        """A descriptor to which the kernel may give what ``send`` would, or None."""

    async def recv(self) -> bytes:
        """Wait for bytes and return what is there; b"" is the end, again and again."""

    async def send(self, data: bytes) -> None:
        """Return when all of ``data`` has been taken over; ``sent`` counts what was, also when this fails."""

    async def send_eof(self) -> None:
        """Say that nothing more will be sent. Receiving goes on."""

    def count_received(self, count: int) -> None:
        """Note bytes that left ``raw_source`` or came by ``recv``."""

    def count_sent(self, count: int) -> None:
        """Note bytes that went into ``raw_sink`` or by ``send``."""

    def recv_failure(self, error: OSError) -> Failure:
        """Return what an error of receiving means."""

    def send_failure(self, error: OSError) -> Failure:
        """Return what an error of sending means."""

    def unacknowledged(self) -> int:
        """Return how many of the ``sent`` bytes the peer has not acknowledged yet. Works after a reset."""

    def check(self) -> None:
        """Raise Failure if the connection has been reset, though no call has said so yet."""

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

    def keep_alive(self, idle: float) -> None:
        """Let the system probe a TCP peer that was silent for ``idle`` seconds; three probes lost are a dead peer."""

    async def leave(self) -> None:
        """Send our end if that is still to be sent, so that closing is no cut."""


Secure = Callable[[Connection], Awaitable[Connection]]
"""Takes a connection through a handshake and returns it secured. The caller closes, whatever happens."""


class Counted:
    """The part of a stream that counts: ``name``, ``sent``, ``received`` and ``moved_at``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent = 0
        self.received = 0
        self.moved_at = now()

    def count_received(self, count: int) -> None:
        """See Stream."""
        self.received += count
        self.moved_at = now()

    def count_sent(self, count: int) -> None:
        """See Stream."""
        self.sent += count
        self.moved_at = now()


class Wrapped:
    """A connection that hands everything to the one it wraps; its children change what they are for."""

    def __init__(self, stream: Connection) -> None:
        self._stream = stream
        self.name = stream.name

    @property
    def sent(self) -> int:
        """See Stream."""
        return self._stream.sent

    @property
    def received(self) -> int:
        """See Stream."""
        return self._stream.received

    @property
    def moved_at(self) -> float:
        """See Stream."""
        return self._stream.moved_at

    @property
    def raw_source(self) -> int | None:
        """See Stream."""
        return self._stream.raw_source

    @property
    def raw_sink(self) -> int | None:
        """See Stream."""
        return self._stream.raw_sink

    @property
    def peer(self) -> Endpoint:
        """See Connection."""
        return self._stream.peer

    @property
    def local(self) -> Endpoint:
        """See Connection."""
        return self._stream.local

    def keep_alive(self, idle: float) -> None:
        """See Connection."""
        self._stream.keep_alive(idle)

    async def leave(self) -> None:
        """See Connection."""
        await self._stream.leave()

    async def recv(self) -> bytes:
        """See Stream."""
        return await self._stream.recv()

    async def send(self, data: bytes) -> None:
        """See Stream."""
        await self._stream.send(data)

    async def send_eof(self) -> None:
        """See Stream."""
        await self._stream.send_eof()

    def count_received(self, count: int) -> None:
        """See Stream."""
        self._stream.count_received(count)

    def count_sent(self, count: int) -> None:
        """See Stream."""
        self._stream.count_sent(count)

    def recv_failure(self, error: OSError) -> Failure:
        """See Stream."""
        return self._stream.recv_failure(error)

    def send_failure(self, error: OSError) -> Failure:
        """See Stream."""
        return self._stream.send_failure(error)

    def unacknowledged(self) -> int:
        """See Stream."""
        return self._stream.unacknowledged()

    def check(self) -> None:
        """See Stream."""
        self._stream.check()

    def close(self) -> None:
        """See Stream."""
        self._stream.close()

    def abort(self) -> None:
        """See Stream."""
        self._stream.abort()


def next_size(size: int, got: int) -> int:
    """Grow by 4 while reads come back full, go back to the smallest when one comes back nearly empty."""
    if got == size:
        return min(size * 4, LARGEST_READ)
    if got * 16 < size:
        return SMALLEST_READ
    return size
