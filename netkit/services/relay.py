"""The relay service: dials the target for each client, and joins the two."""

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from netkit.core.address import Endpoint
from netkit.core.connection import Handler, idle_clock, serve_connection
from netkit.core.dial import Dialling, dial
from netkit.core.errors import Exit, Failure
from netkit.core.events import Cut, Observer, ignore
from netkit.core.kernel import Group, now
from netkit.core.pump import Change, fresh
from netkit.core.relay import AT_ONCE, Shutdown, bridge
from netkit.core.stream import Connection

_SELF_PAUSE = 1.0  # s for which a relay to itself serves nobody
SELF = "that is this relay itself"


class SelfGuard:
    """Detects that the target of a relay is the relay itself, and is ``closed`` for a second then.

    Such a relay would be its own next client, and dial itself again for that, without end.
    """

    def __init__(self) -> None:
        self._closed_until = 0.0

    @property
    def closed(self) -> bool:
        """Whether clients must be refused, as the relay has just reached itself."""
        return now() < self._closed_until

    def is_self(self, target: Endpoint, reached: Endpoint) -> bool:
        """Whether ``target``, which we dialled for a client, is ``reached``, the address that the client dialled."""
        found = _is_same(target, reached)
        if found:
            self._closed_until = now() + _SELF_PAUSE
        return found


def forwarding(
    target: Endpoint,
    how: Callable[[Connection], Dialling],
    *,
    changes: Callable[[], Sequence[Callable[[], Change]]],
    keepalive: float | None,
    shutdown: Shutdown = AT_ONCE,
    idle_timeout: float | None = None,
    observe: Observer,
) -> Handler:
    """A handler that dials ``target`` for each client, by ``how(client)``, and joins the two.

    If the target refuses, resets, ends early or is the relay itself, the client is reset, and that is reported. If the
    client resets, so is the target. For a client that was reset before, such as in the backlog, nothing is dialled.
    ``shutdown`` says when the target gets a client's end. What clients send goes through ``changes``, which are made
    anew for each.
    """
    guard = SelfGuard()
    itself = Failure(Exit.CONNECT, f"connect to {target}", SELF)

    async def connected(client: Connection, group: Group) -> Connection:
        def check(stream: Connection) -> None:
            if guard.is_self(stream.peer, client.local):
                raise itself

        client.raise_if_reset()
        try:
            if guard.closed:
                raise itself
            # The check comes before the TLS handshake, which with ourselves would wait for another one, and so on.
            stream = await dial(target, how(client)._replace(check=check), group=group)
        except Failure as failure:
            observe(Cut(client.peer, str(failure)))
            raise
        if keepalive is not None and stream.peer.path is None:
            stream.keep_alive(keepalive)
        return stream

    join = joining(changes=changes, shutdown=shutdown, idle_timeout=idle_timeout, observe=observe)

    async def handle(client: Connection) -> None:
        async with Group() as group:
            stream = await connected(client, group)
            await serve_connection(stream, partial(join, client), ignore, group=group)

    return handle


def joining(
    *,
    changes: Callable[[], Sequence[Callable[[], Change]]],
    shutdown: Shutdown = AT_ONCE,
    idle_timeout: float | None = None,
    observe: Observer,
) -> Callable[[Connection, Connection], Awaitable[None]]:
    """A function that joins a client to its target, and closes neither. It raises the failure that broke the two.

    A failure of the target is also reported. ``shutdown`` says when the target gets the client's end. What the client
    sends goes through ``changes``, made for it.
    """

    async def join(client: Connection, target: Connection) -> None:
        async with Group() as group:
            if idle_timeout is not None:
                group.start_soon(idle_clock(client, idle_timeout, target=target))
            broken = await bridge(client, target, fresh(changes()), shutdown=shutdown, observe=observe)
            group.cancel()
        if broken is not None:
            if broken.stream is target:
                observe(Cut(client.peer, str(broken.failure)))
            raise broken.failure

    return join


def _is_same(one: Endpoint, other: Endpoint) -> bool:
    """Whether two addresses are the same; paths of unix sockets are compared by device and inode."""
    if one.path is None or other.path is None:
        return one._replace(tls=False) == other._replace(tls=False)
    try:
        return os.path.samefile(one.path, other.path)
    except (OSError, ValueError):  # such as for an abstract name
        return one.path == other.path
