"""What stands between a connection and its conversation: TLS, a proxy's handshake, a bad link on purpose.

A layer takes a connection and returns one, the same or another over it. It closes nothing: its owner does, also when it
fails. What it runs beside is in the group, which lasts as long as the connection and is cancelled before that is
closed. It is called for each connection anew, and may keep what it likes of that.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from netkit.core.address import Endpoint
from netkit.core.errors import Failure
from netkit.core.events import Observer, ignore
from netkit.core.kernel import Group
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import Connection, Counts

if TYPE_CHECKING:
    from netkit.core.pump import Change

Layer = Callable[[Connection, Group], Awaitable[Connection]]


class Setting(NamedTuple):
    """What a layer may depend on beside its option: whom a client dials, or where a server listens.

    ``name`` is that of the server, as its certificate has it, and ``client`` the connection that a relay dials for.
    ``serves`` is whether it is we who listen.
    """

    address: Endpoint
    name: str = ""
    client: Connection | None = None
    observe: Observer = ignore
    serves: bool = False


_MAX_PIECES = 1024  # that are remembered before those acknowledged are looked for


async def through(stream: Connection, layers: Sequence[Layer], group: Group) -> Connection:
    """Take a connection through its layers, the one next to the wire first, and let it count from 0 then.

    Should one fail, what the others run is ended.
    """
    before = group.tasks
    try:
        for layer in layers:
            stream = await layer(stream, group)
    except BaseException:
        for task in group.tasks - before:
            task.cancel()
        raise
    stream.counts.restart()
    return stream


class Wrapped:
    """A connection over another, to which it hands everything. Its children override what they are for.

    They share its counts, and pass as many bytes as they are given: who does not is a ``Changed``.
    """

    def __init__(self, stream: Connection) -> None:
        self._stream = stream
        self.name = stream.name
        self.counts = stream.counts

    @property
    def peer(self) -> Endpoint:
        return self._stream.peer

    @property
    def local(self) -> Endpoint:
        return self._stream.local

    @property
    def reached(self) -> Endpoint:
        return self._stream.reached

    async def recv(self) -> bytes:
        return await self._stream.recv()

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    def close(self) -> None:
        self._stream.close()

    def abort(self) -> None:
        self._stream.abort()

    def unacknowledged(self) -> int:
        return self._stream.unacknowledged()

    def raise_if_reset(self) -> None:
        self._stream.raise_if_reset()

    def keep_alive(self, idle: float) -> None:
        self._stream.keep_alive(idle)

    def probe(self) -> None:
        self._stream.probe()

    async def peer_left(self) -> None:
        await self._stream.peer_left()

    async def shutdown(self) -> None:
        await self.send_eof()
        await self._stream.shutdown()


def unread(stream: Connection, data: bytes) -> Connection:
    """Give back what a handshake received too much: the connection whose ``recv`` returns it next.

    A socket takes it back itself, so that the kernel may still move all that follows.
    """
    if isinstance(stream, SocketStream):
        stream.unread(data)
        return stream
    return _Unread(stream, data)


class _Unread(Wrapped):
    def __init__(self, stream: Connection, data: bytes) -> None:
        super().__init__(stream)
        self._data = data
        self.counts.received -= len(data)

    async def recv(self) -> bytes:
        if not self._data:
            return await super().recv()
        data, self._data = self._data, b""
        self.counts.add_received(len(data))
        return data


class Changed(Wrapped):
    """A connection whose bytes go through a ``Change`` either way (one without Done); it counts what its user sees.

    What ``outgoing`` holds goes before our end, and counts as unacknowledged until then.
    """

    def __init__(self, stream: Connection, *, incoming: "Change" = bytes, outgoing: "Change" = bytes) -> None:
        super().__init__(stream)
        self.counts = Counts()
        self._incoming, self._outgoing = incoming, outgoing
        self._sent = Ledger(stream)
        self._held = 0  # bytes since which nothing has come out of ``outgoing``
        self._sent_eof = self._ended = False
        self._failure: Failure | None = None  # after what was received

    async def recv(self) -> bytes:
        data = b""
        while not (data or self._ended):
            try:
                data = await self._stream.recv()
            except Failure as failure:
                self._failure = failure
            self._ended = not data
            data = self._incoming(data)
        if not data and self._failure is not None:
            raise self._failure
        self.counts.add_received(len(data))
        return data

    async def send(self, data: bytes) -> None:
        if data:
            await self._pass_on(self._outgoing(data), len(data))

    async def send_eof(self) -> None:
        if not self._sent_eof:
            self._sent_eof = True
            await self._pass_on(self._outgoing(b""), 0)
        await self._stream.send_eof()

    async def _pass_on(self, data: bytes, size: int) -> None:
        self.counts.add_sent(size)
        self._held += size
        if data:
            self._sent.add(self._stream.counts.sent + len(data), self._held)
            self._held = 0
            await self._stream.send(data)

    def unacknowledged(self) -> int:
        return self._sent.unacknowledged() + self._held


class Ledger:
    """Payload that goes over a connection in other bytes, until the peer has acknowledged these."""

    def __init__(self, stream: Connection) -> None:
        self._stream = stream
        self._pieces: deque[tuple[int, int]] = deque()
        self._pending = 0

    def add(self, end: int, size: int) -> None:
        """Note ``size`` bytes of payload that are there once the peer has the first ``end`` bytes of the connection."""
        self._pieces.append((end, size))
        self._pending += size
        if len(self._pieces) > _MAX_PIECES:
            self.unacknowledged()

    def unacknowledged(self) -> int:
        """How many bytes of payload are not there yet."""
        if self._pieces:
            acknowledged = self._stream.counts.sent - self._stream.unacknowledged()
            while self._pieces and self._pieces[0][0] <= acknowledged:
                self._pending -= self._pieces.popleft()[1]
        return self._pending
