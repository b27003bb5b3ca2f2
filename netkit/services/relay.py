"""Forwarding: each client of ours becomes a client of a target."""

import os
from collections.abc import Callable, Sequence

from netkit.core.address import Endpoint
from netkit.core.connection import Handler, close_gracefully, idle_clock
from netkit.core.dial import Dialling, dial
from netkit.core.errors import Exit, Failure
from netkit.core.events import Cut, Observer
from netkit.core.kernel import Group, now
from netkit.core.pump import Change, fresh
from netkit.core.relay import bridge
from netkit.core.stream import Connection

_SELF_PAUSE = 1.0  # s


def forwarding(
    target: Endpoint,
    how: Dialling,
    *,
    changes: Callable[[], Sequence[Callable[[], Change]]],
    keepalive: float | None,
    idle_timeout: float | None = None,
    observe: Observer,
) -> Handler:
    """Return a handler that dials ``target`` for each client and joins the two.

    A target that refuses, resets, is cut short, or is the relay itself, is a reset for the client, and told. A client
    that does is a reset for the target. What clients send goes through ``changes``, made for each.
    """

    # A relay that dials itself is its own next client, who would make it dial again: so for a while nobody does.
    itself = Failure(Exit.CONNECT, f"connect to {target}", "that is this relay itself")
    refused_until = 0.0

    async def connected(client: Connection) -> Connection:
        async def secured(stream: Connection) -> Connection:
            nonlocal refused_until
            if _is_same(stream.peer, client.local):  # before a handshake, which would wait for one of its own
                refused_until = now() + _SELF_PAUSE
                raise itself
            return stream if how.secure is None else await how.secure(stream)

        try:
            if now() < refused_until:
                raise itself
            stream = await dial(target, how._replace(secure=secured))
        except Failure as failure:
            observe(Cut(client.peer, str(failure)))
            raise
        if keepalive is not None and stream.peer.path is None:
            stream.keep_alive(keepalive)
        return stream

    async def handle(client: Connection) -> None:
        stream = await connected(client)
        whole = False
        try:
            async with Group() as group:
                if idle_timeout is not None:
                    group.start_soon(idle_clock(client, idle_timeout))
                broken = await bridge(client, stream, fresh(changes()))
                group.cancel()
            if broken is not None:
                if broken.stream is stream:
                    observe(Cut(client.peer, str(broken.failure)))
                raise broken.failure
            await close_gracefully(stream)
            whole = True
        finally:
            if whole:
                stream.close()
            else:
                stream.abort()

    return handle


def _is_same(one: Endpoint, other: Endpoint) -> bool:
    """Tell whether two ends are one; a unix socket's path may be spelled in many ways."""
    if one.path is None or other.path is None:
        return one._replace(tls=False) == other._replace(tls=False)
    try:
        return os.path.samefile(one.path, other.path)
    except (OSError, ValueError):  # an abstract name is no file's
        return one.path == other.path
