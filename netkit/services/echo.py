"""The echo services: every byte comes back, as it is or changed, until the client ends; then so do we."""

from collections.abc import Callable

from netkit.core.kernel import Group
from netkit.core.listen import Handler
from netkit.core.relay import Change, acknowledged, idle_clock, pump
from netkit.core.stream import SocketStream


def echo(change: Callable[[], Change] | None = None, *, idle_timeout: float | None = None) -> Handler:
    """Return a handler that sends back what comes, each client through a fresh ``change``.

    A client's end is answered with ours, after the last byte. A client over which nothing moved for ``idle_timeout``
    seconds is cut.
    """

    async def handle(stream: SocketStream) -> str | None:
        async with Group() as group:
            if idle_timeout is not None:
                group.start(idle_clock(stream, idle_timeout))
            await pump(stream, stream, change() if change else None)
            await acknowledged(stream)
            group.cancel()
        return None

    return handle
