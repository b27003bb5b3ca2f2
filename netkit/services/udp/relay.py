"""Relaying datagrams: each peer has its own socket to the target, whose answers are sent back to it."""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN
from netkit.core.dial import Dialling, candidates
from netkit.core.errors import Exit, Failure
from netkit.core.events import Associated, CoreEvent, Ignored, Observer, Opened, Paused, Released
from netkit.core.kernel import DeadlineExceeded, Group, Task, deadline, now, sleep
from netkit.core.lookup import Address, resolving
from netkit.core.policy import FULL, Full
from netkit.core.sync import Condition, Event, Lock
from netkit.core.udp import Burst, Datagram, Peer, connect
from netkit.services.relay import SELF, SelfGuard

MAX_ASSOCIATIONS = 1024
IDLE_TIMEOUT = 60.0  # s
_MAX_HELD = 1 << 20  # bytes of one peer that wait for the look-up of the target, or for the socket to be writable
_MAX_HELD_IN_ALL = 16 << 20
_LOOKED_UP = 30.0  # s for which the addresses of the target are cached


class Associations:
    """The active peers, each with a socket that is connected to ``target``.

    An association ends after ``idle_timeout`` seconds of silence in both directions, or by an ICMP error. There are at
    most ``limit``. A new peer then replaces the oldest one that never got an answer, as is the case for forged sources.
    If all have got answers, the datagrams of new peers are dropped, and that is reported. Datagrams keep their traffic
    class. ``run`` must run beside the caller of ``receive``.
    """

    def __init__(self, target: Endpoint, how: Dialling, *, limit: int, idle_timeout: float, observe: Observer) -> None:
        self._target = target
        self._how = how
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._observe = observe
        self._group = Group()
        self._standing: dict[tuple[Datagram, Peer], _Association] = {}
        self._turns: dict[Datagram, Lock] = {}
        self._guard = SelfGuard()
        self._full = Full()
        self._room = _Room()
        self._addresses = _Addresses(target, how, observe)

    async def run(self) -> None:
        """Run the associations. When cancelled, send what still waits for the target, for at most ``DRAIN`` seconds."""
        async with self._group:
            try:
                await Event().wait()
            finally:
                with suppress(DeadlineExceeded), deadline(now() + DRAIN):
                    for association in tuple(self._standing.values()):
                        await association.emptied()

    async def receive(self, sock: Datagram, bursts: list[Burst]) -> None:
        """Relay datagrams from one of our sockets. Answers are sent by the same, from the address that was asked."""
        for burst in bursts:
            if not self._take(sock, burst):
                await sleep(0)  # let its association send what waits, or end, and try again
                if not self._take(sock, burst):
                    self._observe(Ignored(burst.peer.endpoint, "the target takes no more at the moment"))

    def _take(self, sock: Datagram, burst: Burst) -> bool:
        """Queue a burst for the target, or report why its peer has no association. Returns False if too much waits."""
        association = self._standing.get((sock, burst.peer)) or self._begin(sock, burst.peer)
        return association is None or association.take(burst)

    def _begin(self, sock: Datagram, peer: Peer) -> "_Association | None":
        """Add an association; report why and return None if that is not possible."""
        if self._guard.closed:
            self._observe(Ignored(peer.endpoint, "the target is this relay itself"))
            return None
        if len(self._standing) >= self._limit and not self._make_room():
            self._observe(Ignored(peer.endpoint, "there are too many others"))
            self._full.report("take another client", OSError(None, f"there are {self._limit}"), self._observe)
            return None
        begun = self._standing[sock, peer] = _Association(sock, peer, self._turns.setdefault(sock, Lock()), self._room)
        begun.task = self._group.start_soon(self._keep(begun, sock.reached_by(peer)))
        return begun

    def _make_room(self) -> bool:
        """End the oldest association that never got an answer. Returns False if there is none."""
        for key, association in self._standing.items():
            if not association.answered:
                del self._standing[key]
                association.reason = "others came before an answer"
                if association.task is not None:
                    association.task.cancel()
                return True
        return False

    async def _keep(self, association: "_Association", reached: Endpoint) -> None:
        """Serve a peer that has sent to ``reached``. Its socket may be closed once the target is looked up."""
        ours, peer = association.ours, association.peer
        theirs: Datagram | None = None
        begun = now()

        def check(address: Endpoint) -> None:
            if self._guard.is_self(address, reached):
                raise Failure(Exit.CONNECT, f"relay to {self._target}", SELF)

        def opened(event: CoreEvent) -> None:
            if isinstance(event, Opened):
                self._observe(Associated(peer.endpoint, event.target, event.local))

        try:
            addresses = await self._addresses.look_up()
            theirs = await connect(self._target, self._how, addresses=addresses, check=check, observe=opened)
            await association.serve(theirs, self._idle_timeout, self._observe)
        except Failure as failure:
            association.reason = failure.reason
            if failure.reason == SELF:
                self._observe(Paused(failure.action, SELF))
            elif failure.errno in FULL:
                self._full.report(failure.action, failure, self._observe)
            else:
                detail = ", ".join(filter(None, (failure.detail, f"for {peer}")))
                self._observe(Paused(failure.action, f"{failure.reason} ({detail})"))
        finally:
            if self._standing.get((ours, peer)) is association:
                del self._standing[ours, peer]
            association.forget()
            if theirs is not None:
                moved = theirs.sent, theirs.received
                self._observe(Released(peer.endpoint, *moved, now() - begun, association.reason))
                theirs.close()


class _Addresses:
    """The addresses of the target, cached for ``_LOOKED_UP`` seconds, for all peers."""

    def __init__(self, target: Endpoint, how: Dialling, observe: Observer) -> None:
        self._target = target
        self._how = how
        self._observe = observe
        self._turn = Lock()
        self._found: list[Address] | None = None
        self._failure: Failure | None = None
        self._looked_up_at = 0.0

    async def look_up(self) -> list[Address] | None:
        """The addresses, None for a unix socket. Raises Failure RESOLVE or TIMEOUT, the same for all tasks."""
        if self._target.path is not None:
            return None
        begun = now()
        async with self._turn:
            age = now() - self._looked_up_at
            if self._found is None or age > _LOOKED_UP:
                if self._failure is not None and self._looked_up_at >= begun:
                    raise self._failure
                await self._renew()
        return self._found

    async def _renew(self) -> None:
        self._failure = None
        try:
            with resolving(self._target.host, self._how.timeout):
                self._found = await candidates(self._target, self._how, self._observe)
        except Failure as failure:
            self._failure = failure
            raise
        finally:
            self._looked_up_at = now()


class _Room:
    """How many bytes of all peers wait for the target."""

    held = 0


class _Association:
    """One peer, and its datagrams that wait for the target. ``turn`` is held while answers are sent by ``ours``."""

    def __init__(self, ours: Datagram, peer: Peer, turn: Lock, room: _Room) -> None:
        self.ours = ours
        self.peer = peer
        self._turn = turn
        self._room = room
        self._held: deque[Burst] = deque()
        self._held_bytes = 0
        self._changed = Condition()
        self._moved_at = now()
        self.answered = False
        self.reason = ""  # why it ends, if not for silence
        self.task: Task | None = None

    def take(self, burst: Burst) -> bool:
        """Queue a burst for the target. Returns False, and drops it, if too much is waiting."""
        weight = burst.weight
        if (self._held and self._held_bytes + weight > _MAX_HELD) or self._room.held + weight > _MAX_HELD_IN_ALL:
            return False
        self._moved_at = now()  # what waits to be sent is no silence
        self._held.append(burst)
        self._hold(weight)
        self._changed.notify_all()
        return True

    def _hold(self, weight: int) -> None:
        self._held_bytes += weight
        self._room.held += weight

    async def emptied(self) -> None:
        while self._held:
            await self._changed.wait()

    def forget(self) -> None:
        self._held.clear()
        self._hold(-self._held_bytes)
        self._changed.notify_all()

    async def serve(self, theirs: Datagram, idle_timeout: float, observe: Observer) -> None:
        """Relay both ways, until ``idle_timeout`` seconds of silence. Raises Failure after an ICMP error."""
        self._moved_at = now()
        async with Group() as group:
            group.start_soon(self._send(theirs, observe))
            group.start_soon(self._answer(theirs, observe))
            while now() < (due := self._moved_at + idle_timeout):
                await sleep(due - now())
            group.cancel()

    async def _send(self, theirs: Datagram, observe: Observer) -> None:
        while True:
            while not self._held:
                await self._changed.wait()
            await self._forward(theirs, self._held[0], observe)
            self._hold(-self._held.popleft().weight)
            self._changed.notify_all()

    async def _forward(self, theirs: Datagram, burst: Burst, observe: Observer) -> None:
        self._moved_at = now()
        try:
            await theirs.send_cut(burst.data, burst.size, traffic_class=burst.traffic_class)
        except Failure as failure:
            if failure.exit is not Exit.SEND:
                raise
            observe(Ignored(self.peer.endpoint, failure.reason))

    async def _answer(self, theirs: Datagram, observe: Observer) -> None:
        while True:
            await theirs.ready()
            await self._give(theirs.take(), observe)

    async def _give(self, bursts: Sequence[Burst], observe: Observer) -> None:
        for burst in bursts:
            self._moved_at = now()
            self.answered = True
            async with self._turn:
                try:
                    await self.ours.send_cut(burst.data, burst.size, self.peer, traffic_class=burst.traffic_class)
                except Failure as failure:
                    observe(Ignored(burst.peer.endpoint, failure.reason))
