"""Associations: what each peer sends goes to a target from a socket of its own, by which the answers come back."""

from collections import deque

from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN
from netkit.core.dial import Dialling
from netkit.core.errors import Exit, Failure
from netkit.core.events import Ignored, Observer, Paused
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.policy import FULL, Full
from netkit.core.sync import Condition, Event, Lock
from netkit.core.udp import Burst, Datagram, Peer, connect

MOST = 1024

IDLE = 60.0  # s

_MAX_HELD = 1 << 20  # bytes of one peer that wait for the target to be resolved, or for room on the way there

_OVERHEAD = 64  # bytes that a datagram counts beside its own, so that empty ones are bounded too

_SELF_PAUSE = 1.0  # s


class Associations:
    """Who has sent something lately, each with a socket that is connected to ``target``.

    An association ends with ``idle`` seconds of silence both ways, or with an error that comes back for what was sent.
    There are at most ``most`` at one time: what others send is dropped, and told. ``run`` has to run
    beside what calls ``receive``.
    """

    def __init__(
        self,
        target: Endpoint,
        how: Dialling,
        *,
        most: int = MOST,
        idle: float = IDLE,
        observe: Observer,
    ) -> None:
        self._target = target
        self._how = how
        self._most = most
        self._idle = idle
        self._observe = observe
        self._group = Group()
        self._standing: dict[tuple[Datagram, Peer], _Association] = {}
        self._own: dict[Endpoint, _Association] = {}  # by our end of it
        self._turns: dict[Datagram, Lock] = {}
        self._refused_until = 0.0
        self._full = Full()

    async def run(self) -> None:
        """Carry what there is to carry; cancelled, what the target has still to get, for at most ``DRAIN`` seconds."""
        async with self._group:
            try:
                await Event().wait()
            finally:
                try:
                    with deadline(now() + DRAIN):
                        for association in tuple(self._standing.values()):
                            await association.emptied()
                except DeadlineExceeded:
                    pass

    async def receive(self, sock: Datagram, bursts: list[Burst]) -> None:
        """Take what came to one socket of ours; answers leave by the same, from the address that was asked."""
        for burst in bursts:
            association = self._standing.get((sock, burst.peer)) or self._begun(sock, burst.peer)
            if association is None:
                continue
            if not association.take(burst):
                await sleep(0)  # it may not have had its turn yet
                if not association.take(burst):
                    self._observe(Ignored(burst.peer.endpoint, "the target takes no more at the moment"))

    def _begun(self, sock: Datagram, peer: Peer) -> "_Association | None":
        """Return a new association, None if there cannot be one."""
        endpoint = peer.endpoint
        if endpoint in self._own:
            self._refused_until = now() + _SELF_PAUSE
            self._observe(Paused(f"relay to {self._target}", "that is this relay itself"))
            self._own[endpoint].cancel()
            return None
        if now() < self._refused_until:
            self._observe(Ignored(endpoint, "the target is this relay itself"))
            return None
        if len(self._standing) >= self._most:
            self._observe(Ignored(endpoint, "there are too many others"))
            self._full.report("take another client", OSError(None, f"there are {self._most}"), self._observe)
            return None
        found = self._standing[sock, peer] = _Association(sock, peer, self._turns.setdefault(sock, Lock()))
        self._group.start_soon(self._kept(found))
        return found

    async def _kept(self, association: "_Association") -> None:
        """Serve an association to its end."""
        theirs: Datagram | None = None
        try:
            theirs = await connect(self._target, self._how)
            self._own[theirs.local] = association
            await association.serve(theirs, self._idle, self._observe)
        except Failure as failure:
            if failure.errno in FULL:
                self._full.report(failure.action, failure, self._observe)
            else:
                detail = ", ".join(filter(None, (failure.detail, f"for {association.peer}")))
                self._observe(Paused(failure.action, f"{failure.reason} ({detail})"))
        finally:
            del self._standing[association.ours, association.peer]
            association.forget()
            if theirs is not None:
                del self._own[theirs.local]
                theirs.close()


class _Association:
    """One peer of ours, and the socket that stands for it at the target."""

    def __init__(self, ours: Datagram, peer: Peer, checkpoint: Lock) -> None:
        self.ours = ours
        self.peer = peer
        self._turn = checkpoint  # who sends by ``ours``
        self._group = Group()
        self._held: deque[Burst] = deque()
        self._held_bytes = 0
        self.transformed = Condition()
        self._moved_at = now()

    def take(self, burst: Burst) -> bool:
        """Take what is for the target, unless too much is waiting already."""
        weight = _weight(burst)
        if self._held and self._held_bytes + weight > _MAX_HELD:
            return False
        self._held.append(burst)
        self._held_bytes += weight
        self.transformed.notify_all()
        return True

    async def emptied(self) -> None:
        """Wait until the target has got what was taken."""
        while self._held:
            await self.transformed.wait()

    def cancel(self) -> None:
        """End it."""
        self._group.cancel()

    def forget(self) -> None:
        """Let go of what is held."""
        self._held.clear()
        self.transformed.notify_all()

    async def serve(self, theirs: Datagram, idle: float, observe: Observer) -> None:
        """Carry datagrams both ways until ``idle`` seconds of silence; raise Failure CONNECT for an error that came."""
        self._moved_at = now()
        async with self._group:
            self._group.start_soon(self._forth(theirs, observe))
            self._group.start_soon(self._back(theirs, observe))
            while now() < self._moved_at + idle:
                await sleep(self._moved_at + idle - now())
            self._group.cancel()

    async def _forth(self, theirs: Datagram, observe: Observer) -> None:
        while True:
            while not self._held:
                await self.transformed.wait()
            burst = self._held[0]
            self._moved_at = now()
            try:
                await theirs.send_cut(burst.data, burst.size)
            except Failure as failure:
                if failure.exit is not Exit.SEND:
                    raise
                observe(Ignored(self.peer.endpoint, failure.reason))
            self._held.popleft()
            self._held_bytes -= _weight(burst)
            self.transformed.notify_all()

    async def _back(self, theirs: Datagram, observe: Observer) -> None:
        while True:
            await theirs.ready()
            for burst in theirs.take():
                self._moved_at = now()
                async with self._turn:
                    try:
                        await self.ours.send_cut(burst.data, burst.size, self.peer)
                    except Failure as failure:
                        observe(Ignored(burst.peer.endpoint, failure.reason))


def _weight(burst: Burst) -> int:
    return len(burst.data) + _OVERHEAD * burst.number
