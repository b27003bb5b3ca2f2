"""Layers between the socket and the handler of a connection, such as TLS, and base classes for the streams they make.

A layer takes a connection and returns the same or another one on top of it. It closes nothing, even when it fails: the
owner of the connection does. It starts its tasks in the group, which is cancelled before the connection is closed.
It is called once for each connection.
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
    """What a layer needs to know besides the value of its option.

    ``address`` is what a client dials, or where a server listens. ``name`` is the server's name, as in its certificate.
    ``client`` is the connection that a relay dials for. ``serves`` is whether we are the server.
    """

    address: Endpoint
    name: str = ""
    client: Connection | None = None
    observe: Observer = ignore
    serves: bool = False


_MAX_PIECES = 1024  # entries of a Ledger before it looks for those that are acknowledged


async def through(stream: Connection, layers: Sequence[Layer], group: Group) -> Connection:
    """Apply the layers to a connection, the one next to the wire first, and restart its counts from 0.

    If one fails, the tasks that the layers have started in the group are cancelled.
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
    """A connection that delegates everything to another. Subclasses override what they change.

    It shares the counts of the other, so it must pass on as many bytes as it gets; see ``Changed`` for other cases.
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
    """Return a connection whose next ``recv`` returns ``data``, which a handshake has received beyond its own end.

    A SocketStream keeps ``data`` itself, so that the system's kernel can still move all that follows (``raw_source``).
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
    """A connection whose bytes go through a ``Change`` in each direction; its counts are of what its user sees.

    The changes must not raise Done. What ``outgoing`` holds back is sent before our end, and is unacknowledged until
    then.
    """

    def __init__(self, stream: Connection, *, incoming: "Change" = bytes, outgoing: "Change" = bytes) -> None:
        super().__init__(stream)
        self.counts = Counts()
        self._incoming, self._outgoing = incoming, outgoing
        self._sent = Ledger(stream)
        self._held = 0  # bytes given to ``outgoing`` since it last returned some
        self._sent_eof = self._ended = False
        self._failure: Failure | None = None  # raised once all that was received is returned

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
    """Tells how much payload the peer has acknowledged, where it is sent in another form, such as TLS records."""

    def __init__(self, stream: Connection) -> None:
        self._stream = stream
        self._pieces: deque[tuple[int, int]] = deque()
        self._pending = 0

    def add(self, end: int, size: int) -> None:
        """Note ``size`` bytes of payload, acknowledged once the first ``end`` bytes of the connection are."""
        self._pieces.append((end, size))
        self._pending += size
        if len(self._pieces) > _MAX_PIECES:
            self.unacknowledged()

    def unacknowledged(self) -> int:
        """How many bytes of payload are not acknowledged yet."""
        if self._pieces:
            acknowledged = self._stream.counts.sent - self._stream.unacknowledged()
            while self._pieces and self._pieces[0][0] <= acknowledged:
                self._pending -= self._pieces.popleft()[1]
        return self._pending
