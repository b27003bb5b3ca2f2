"""Forwarding: each client of ours becomes a client of a target."""

from collections.abc import Callable

from netkit.core.address import Endpoint
from netkit.core.dial import Dialling, dial
from netkit.core.errors import Exit, Failure
from netkit.core.events import Cut, Observer
from netkit.core.kernel import Group
from netkit.core.listen import Handler, farewell
from netkit.core.relay import bridge, idle_clock
from netkit.core.stream import Connection


def forwarding(
    target: Endpoint,
    how: Dialling,
    is_us: Callable[[Connection], bool],
    *,
    idle_timeout: float | None = None,
    observe: Observer,
) -> Handler:
    """Return a handler that dials ``target`` for each client and joins the two.

    A target that refuses, resets or is cut short, or that ``is_us``, is a reset for the client, and told. A client that
    does is a reset for the target.
    """

    async def connected(client: Connection) -> Connection:
        try:
            stream = await dial(target, how)
            if is_us(stream):
                stream.abort()
                raise Failure(Exit.CONNECT, f"connect to {target}", "that is this relay itself")
        except Failure as failure:
            observe(Cut(client.peer, str(failure)))
            raise
        return stream

    async def handle(client: Connection) -> None:
        stream = await connected(client)
        whole = False
        try:
            async with Group() as group:
                if idle_timeout is not None:
                    group.start(idle_clock(client, idle_timeout))
                broken = await bridge(client, stream)
                group.cancel()
            if broken is not None:
                if broken.stream is stream:
                    observe(Cut(client.peer, str(broken.failure)))
                raise broken.failure
            await farewell(stream)
            whole = True
        finally:
            if whole:
                stream.close()
            else:
                stream.abort()

    return handle
