"""The echo service: sends back all bytes, maybe changed, until the client's end."""

from collections.abc import Callable, Sequence
from functools import partial

from netkit.core.connection import Handler, acknowledged, with_idle_timeout
from netkit.core.pump import Change, fresh, pump
from netkit.core.stream import Connection


def echo(
    changes: Sequence[Callable[[], Change]] = (), *, prefix: bytes | None = None, idle_timeout: float | None = None
) -> Handler:
    """A handler that sends back what comes, through ``changes``, which are made anew for each client.

    Each line gets ``prefix``, in which {host} and {port} are the client's. After the client's end, and the last byte,
    we send ours. A connection on which nothing moves for ``idle_timeout`` seconds is reset.
    """

    def change_for(stream: Connection) -> Change | None:
        if prefix is None:
            return fresh(changes)
        from netkit.services.server import addressed
        from netkit.services.transforms import prefixed

        return fresh([*changes, partial(prefixed, addressed(prefix, stream.peer))])

    async def handle(stream: Connection) -> None:
        await pump(stream, stream, change_for(stream))
        await acknowledged(stream)

    return with_idle_timeout(handle, idle_timeout)
