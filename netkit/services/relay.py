"""Relaying connections: each client is joined to a target, which is dialled for it."""

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

_SELF_PAUSE = 1.0  # s
SELF = "that is this relay itself"


class SelfGuard:
    """Finds out that the target of a relay is the relay itself, and is ``closed`` for a moment then.

    A relay that reaches itself is its own next client, for whom it would do so again.
    """

    def __init__(self) -> None:
        self._closed_until = 0.0

    @property
    def closed(self) -> bool:
        """Whether nobody is to be served, for this would happen again."""
        return now() < self._closed_until

    def is_self(self, target: Endpoint, reached: Endpoint) -> bool:
        """Whether the address that we reached for a client is the one at which the client reached us."""
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
    """A handler that dials ``target`` for each client, as ``how`` says of it, and joins the two.

    A target that refuses, resets, is cut short, or is the relay itself, is a reset for the client, and told. A client
    that does is a reset for the target. The target gets a client's end as ``shutdown`` says. What clients send goes
    through ``changes``, made for each.
    """
    guard = SelfGuard()
    itself = Failure(Exit.CONNECT, f"connect to {target}", SELF)

    async def connected(client: Connection, group: Group) -> Connection:
        def check(stream: Connection) -> None:
            if guard.is_self(stream.peer, client.local):
                raise itself

        try:
            if guard.closed:
                raise itself
            # It is checked before a handshake, which would wait for one of its own.
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
    """What joins a client to its target, and closes neither; what cuts the two is raised, and told if the target did.

    ``shutdown`` is when the target gets the client's end. What the client sends goes through ``changes`` made for it.
    """

    async def join(client: Connection, target: Connection) -> None:
        async with Group() as group:
            if idle_timeout is not None:
                group.start_soon(idle_clock(client, idle_timeout))
            broken = await bridge(client, target, fresh(changes()), shutdown=shutdown, observe=observe)
            group.cancel()
        if broken is not None:
            if broken.stream is target:
                observe(Cut(client.peer, str(broken.failure)))
            raise broken.failure

    return join


def _is_same(one: Endpoint, other: Endpoint) -> bool:
    """Whether two addresses are one; a unix socket's path may be spelled in many ways."""
    if one.path is None or other.path is None:
        return one._replace(tls=False) == other._replace(tls=False)
    try:
        return os.path.samefile(one.path, other.path)
    except (OSError, ValueError):  # an abstract name is no file's
        return one.path == other.path
