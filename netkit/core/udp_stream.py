"""Datagrams as a Connection: of a client with its target, and of a server with each of its peers.

Each ``send`` is one datagram (or one per line), each ``recv`` returns one. UDP has no acknowledgements: what the system
has taken counts as delivered. It has no end either: for a client the peer has ended if it is silent for a while
after our own end; for a server a peer never ends. Empty datagrams are ignored.
"""

from collections import deque
from collections.abc import Iterator

from netkit.core.address import Endpoint
from netkit.core.dial import Dialling
from netkit.core.errors import Exit, Failure
from netkit.core.events import CoreEvent, Dropped, Ignored, Observer, Opened
from netkit.core.kernel import Group, now, sleep
from netkit.core.stream import SMALLEST_READ, Counts
from netkit.core.sync import Condition, Event
from netkit.core.udp import LARGEST, OVERHEAD, Burst, Datagram, Peer, connect, cut
from netkit.core.udp_server import REPORTS, Bound

_MAX_HELD = 1 << 20  # bytes of one peer that wait to be read
_MAX_HELD_IN_ALL = 16 << 20  # the same of all peers; beyond it, what one read brings waits for a peer without any
_MAX_WAITING = 128  # peers that wait to be accepted
_TAKEN = "another conversation is going on"


class Lines:
    """Cuts data into one datagram per line, with its line end. An incomplete line waits for its end, or for b"".

    Raises Failure TOO_BIG for a line that does not fit into a datagram.
    """

    def __init__(self) -> None:
        self._held = b""

    def __call__(self, data: bytes) -> Iterator[bytes]:
        *lines, self._held = (self._held + data).split(b"\n")
        lines = [line + b"\n" for line in lines]
        if not data and self._held:
            lines, self._held = [self._held], b""
        for line in (*lines, self._held):
            if len(line) > LARGEST:
                reason = f"it is longer than {LARGEST} bytes, the most a datagram holds"
                raise Failure(Exit.TOO_BIG, "send a line", reason)
        yield from lines


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut the data of one ``send`` into datagrams: one, unless it is longer than ``SMALLEST_READ`` bytes."""
    return cut(data, SMALLEST_READ) if data else iter(())


class DatagramStream:
    """Base class of both kinds: without end, reset and acknowledgement, of which UDP knows none."""

    def __init__(self, sock: Datagram, name: str, *, by_line: bool = False) -> None:
        self.name = name
        self.counts = Counts()
        self._sock = sock
        self._cut = Lines() if by_line else pieces
        self._to: Peer | None = None

    @property
    def local(self) -> Endpoint:
        return self._sock.local._replace(udp=True)

    @property
    def reached(self) -> Endpoint:
        return self.local

    async def send(self, data: bytes) -> None:
        if data:
            await self._put(data)
            self.counts.add_sent(len(data))

    async def _put(self, data: bytes) -> None:
        for datagram in self._cut(data):
            await self._sock.send(datagram, self._to)

    async def send_eof(self) -> None:
        """Send an incomplete last line."""
        await self._put(b"")

    async def shutdown(self) -> None:
        await self.send_eof()

    def unacknowledged(self) -> int:
        return 0

    def raise_if_reset(self) -> None:
        """Do nothing: UDP has no resets."""

    def keep_alive(self, idle: float) -> None:
        """Do nothing: UDP has no keepalive."""

    def probe(self) -> None:
        """Do nothing: UDP has no keepalive."""

    async def peer_left(self) -> None:
        """Wait forever: UDP does not tell that a peer has left."""
        await Event().wait()

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        """End the conversation."""


class ClientStream(DatagramStream):
    """A client's conversation, which owns its socket. At the end it reports to ``observe`` what the system dropped.

    The peer has ended when nothing came for ``patience`` seconds after our end. The task ``watch`` must run beside it.
    """

    def __init__(self, sock: Datagram, name: str, *, by_line: bool, patience: float, observe: Observer) -> None:
        super().__init__(sock, name, by_line=by_line)
        self._observe = observe
        self.peer = sock.target._replace(udp=True)
        self._patience = patience
        self._ended = Event()
        self._over = False

    async def watch(self) -> None:
        """Close the socket once the peer has ended; this wakes ``recv``."""
        await self._ended.wait()
        while now() < (due := self.counts.moved_at + self._patience):
            await sleep(due - now())
        self.close()

    async def recv(self) -> bytes:
        while not self._over:
            try:
                data, _ = await self._sock.receive()
            except Failure:
                if self._over:
                    break
                raise
            self.counts.add_received(len(data))
            if data:
                return data
        return b""

    async def send_eof(self) -> None:
        if not self._ended.is_set():
            await super().send_eof()
            self.counts.moved_at = now()
            self._ended.set()

    def raise_if_reset(self) -> None:
        """Raise Failure CONNECT if an ICMP error has come back for what was sent."""
        if not self._over:
            self._sock.check()

    def close(self) -> None:
        self._over = True
        if dropped := self._sock.dropped():
            self._observe(Dropped(dropped, self._sock.joined))
        self._sock.close()


async def dial_datagrams(
    target: Endpoint, how: Dialling, observe: Observer, group: Group, *, by_line: bool, patience: float
) -> ClientStream:
    """Open a conversation with ``target``, which the caller closes. Nothing is sent; its ``watch`` runs in ``group``.

    ``patience`` is after how many seconds of silence, counted from our end, the peer has ended. Raises Failure as
    ``connect`` of udp.py does.
    """

    def opened(event: CoreEvent) -> None:
        if stream is not None and isinstance(event, Opened):  # the next address, as the first refused
            stream.peer = event.peer._replace(udp=True)
        observe(event)

    stream: ClientStream | None = None
    sock = await connect(target, how, observe=opened)
    stream = ClientStream(sock, str(target), by_line=by_line, patience=patience, observe=observe)
    group.start_soon(stream.watch())
    return stream


class ServerStream(DatagramStream):
    """A server's conversation with one peer, over the socket that all peers share."""

    def __init__(self, listener: "DatagramListener", sock: Datagram, to: Peer) -> None:
        super().__init__(sock, str(to))
        self.peer = to.endpoint._replace(udp=True)
        self._listener = listener
        self._local = sock.reached_by(to)._replace(udp=True)
        self._to = to
        self.key = sock, to
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._changed = Condition()
        self._closed = False

    @property
    def local(self) -> Endpoint:
        return self._local

    def take(self, burst: Burst) -> bool:
        """Keep a burst for ``recv``. Returns False, and drops it, if too much is waiting."""
        weight, in_all = burst.weight, self._listener.held_bytes
        if self._held and (self._held_bytes + weight > _MAX_HELD or in_all + weight > _MAX_HELD_IN_ALL):
            return False
        self.counts.moved_at = now()  # what waits to be read is no silence
        self._held += cut(burst.data, burst.size)
        self._hold(weight)
        self._changed.notify_all()
        return True

    def _hold(self, weight: int) -> None:
        self._held_bytes += weight
        self._listener.held_bytes += weight

    async def recv(self) -> bytes:
        while not self._closed:
            while self._held:
                data = self._held.popleft()
                self._hold(-len(data) - OVERHEAD)
                self.counts.add_received(len(data))
                if data:
                    return data
            await self._changed.wait()
        return b""

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._held.clear()
            self._hold(-self._held_bytes)
            self._changed.notify_all()
            self._listener.forget(self)


class DatagramListener:
    """An Acceptor over datagram sockets: the first datagram of each peer begins a connection.

    After ``close`` no new peer is accepted, and the sockets close with the last conversation. It owns ``bound``. The
    server notifies ``left`` when a conversation has ended. ``named_udp`` is whether its addresses begin with ``udp:``.
    """

    protocol = "udp"

    def __init__(self, bound: Bound, observe: Observer, *, named_udp: bool = True) -> None:
        self.sockets = bound.sockets
        self.endpoints = [endpoint._replace(udp=named_udp) for endpoint in bound.endpoints]
        self.port = bound.port
        self.left = Condition()
        self.held_bytes = 0  # of all conversations, that wait to be read
        self._bound = bound
        self._observe = observe
        self._standing: dict[tuple[Datagram, Peer], ServerStream] = {}
        self._waiting: dict[Datagram, deque[ServerStream]] = {sock: deque() for sock in bound.sockets}
        self._came = Condition()
        self._closed = self._over = False

    async def run(self) -> None:
        """Receive, and pass each datagram to the conversation of its peer, until the sockets close."""
        async with Group() as group:
            for sock in self.sockets:
                group.start_soon(self._receive(sock))

    async def _receive(self, sock: Datagram) -> None:
        while True:
            try:
                await sock.ready()
            except Failure:
                if self._over:
                    return
                raise
            self._bound.report_drops(self._observe, REPORTS)
            for burst in sock.take():
                stream = self._standing.get((sock, burst.peer)) or self._begin(sock, burst.peer)
                if stream is None:
                    self._observe(Ignored(burst.peer.endpoint, _TAKEN))
                elif not stream.take(burst):
                    self._observe(Ignored(burst.peer.endpoint, "it is read more slowly than it sends"))

    def _begin(self, sock: Datagram, peer: Peer) -> ServerStream | None:
        waiting = self._waiting[sock]
        if self._closed or len(waiting) >= _MAX_WAITING:
            return None
        stream = self._standing[sock, peer] = ServerStream(self, sock, peer)
        waiting.append(stream)
        self._came.notify_all()
        return stream

    async def ready(self, sock: Datagram) -> None:
        """Wait for a new peer at the socket."""
        while not self._waiting[sock]:
            await self._came.wait()

    async def accept(self, sock: Datagram, observe: Observer) -> ServerStream | None:
        """Accept the next new peer of the socket; None if there is none."""
        return self._waiting[sock].popleft() if self._waiting[sock] else None

    def forget(self, stream: ServerStream) -> None:
        """Forget a conversation that was closed. The next datagram of its peer begins a new one."""
        del self._standing[stream.key]
        self._close_if_last()

    def close(self) -> None:
        self._closed = True
        for waiting in self._waiting.values():
            while waiting:
                stream = waiting.popleft()
                _, peer = stream.key
                self._observe(Ignored(peer.endpoint, _TAKEN))
                stream.close()
        self._close_if_last()

    def _close_if_last(self) -> None:
        if self._closed and not self._standing and not self._over:
            self._over = True
            self._bound.report_drops(self._observe)
            self._bound.close()
