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

    async def handle(stream: Connection) -> None:
        makers = list(changes)
        if prefix is not None:
            from netkit.services.server import addressed
            from netkit.services.transforms import prefixed

            makers.append(partial(prefixed, addressed(prefix, stream.peer)))
        await pump(stream, stream, fresh(makers))
        await acknowledged(stream)

    return with_idle_timeout(handle, idle_timeout)
