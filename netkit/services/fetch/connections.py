"""The connection of a fetch: one at a time, kept alive for the next request to the same server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from netkit.core.connection import Ended, close_gracefully, end_connection
from netkit.core.errors import Failure
from netkit.core.events import Observer
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
from netkit.core.stream import Connection
from netkit.protocols.url import Url

Dial = Callable[[Url, bool, Group, float | None], Awaitable[Connection]]
"""Connects to the server of a URL, given whether the URL has the origin of the first; layers run in the group.

The last argument limits the time, in seconds, further than the usual timeout does (None: no).
"""


class Connections:
    """Connects by ``dial``, keeps the connection, and reports ``Closed`` for it to ``observe``."""

    def __init__(self, dial: Dial, observe: Observer, group: Group) -> None:
        self._dial = dial
        self._observe = observe
        self._group = group
        self._stream: Connection | None = None
        self._server: object = None  # the origin to which the connection leads, and ``own``
        self._begun = 0.0
        self.was_reused = False

    async def to(self, url: Url, own: bool, patience: float | None, *, may_reuse: bool) -> Connection:
        """The connection to the server of ``url``: the one that was kept, or a new one. Raises what ``Dial`` raises.

        The server may be closing a kept connection at this moment, so ``may_reuse`` is only for repeatable requests.
        """
        server = (url.origin, own)
        self.was_reused = may_reuse and self._server == server and await self._is_usable()
        if self._stream is not None and self.was_reused:
            self._stream.counts.moved_at = now()  # it was not silent for as long as it was not used
            return self._stream
        await self.close()
        self._begun = now()
        self._stream = await self._dial(url, own, self._group, patience)
        self._server = server
        return self._stream

    async def close(self) -> None:
        """Close the connection in order, if there is one."""
        if self._stream is not None:
            await close_gracefully(self._stream)
            self._end("", whole=True)

    def cut(self, error: BaseException | None = None) -> None:
        """Reset the connection, if there is one, after a failure or cancellation, or amid a request."""
        self._end(str(error) if isinstance(error, OSError) else "cut short", whole=False)

    def _end(self, reason: str, *, whole: bool) -> None:
        stream, self._stream, self._server = self._stream, None, None
        if stream is not None:
            end_connection(stream, self._begun, Ended(reason), self._observe, whole=whole)

    async def _is_usable(self) -> bool:
        """Whether the server has neither closed the kept connection nor sent anything since its response."""
        if self._stream is None:
            return False
        try:
            with deadline(now()):
                await self._stream.recv()
        except DeadlineExceeded:
            return True
        except Failure:
            pass
        return False


@asynccontextmanager
async def connections(dial: Dial, observe: Observer) -> AsyncIterator[Connections]:
    """A Connections for the block, at whose end the connection is closed, or reset after an error."""
    async with Group() as group:
        opened = Connections(dial, observe, group)
        try:
            yield opened
            await opened.close()
        except BaseException as error:
            opened.cut(error)
            raise
        group.cancel()
