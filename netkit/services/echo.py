"""The echo services: every byte comes back, as it is or changed, until the client ends; then so do we."""

from collections.abc import Callable, Sequence
from functools import partial

from netkit.core.connection import Handler, acknowledged, with_idle_timeout
from netkit.core.pump import Change, fresh, pump
from netkit.core.stream import Connection


def echo(
    changes: Sequence[Callable[[], Change]] = (), *, prefix: bytes | None = None, idle_timeout: float | None = None
) -> Handler:
    """A handler that sends back what comes, each client's through ``changes`` made for it.

    Each line comes behind ``prefix``, which may name {host} and {port}. A client's end is answered with ours, after the
    last byte. A client over which nothing moved for ``idle_timeout`` seconds is cut.
    """

    def before(stream: Connection) -> list[Callable[[], Change]]:
        if prefix is None:
            return []
        from netkit.services.server import addressed
        from netkit.services.transforms import prefixed

        return [partial(prefixed, addressed(prefix, stream.peer))]

    async def handle(stream: Connection) -> str | None:
        await pump(stream, stream, fresh([*changes, *before(stream)]))
        await acknowledged(stream)
        return None

    return with_idle_timeout(handle, idle_timeout)
