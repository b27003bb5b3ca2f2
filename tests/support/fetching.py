"""Fetching from a web server in memory, on a clock that jumps."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress

import h11

from netkit.core.errors import Failure
from netkit.core.events import ignore
from netkit.core.kernel import Group
from netkit.core.stream import Connection
from netkit.protocols.url import Url
from netkit.services.fetch.asked import Asked
from netkit.services.fetch.client import Fetching, fetch_each
from netkit.services.fetch.connections import connections
from netkit.services.fetch.places import Place
from netkit.services.fetch.timing import Timing
from tests.clock import run
from tests.memory import MemoryStream, pair

HANG_UP, SILENT = None, b""  # answers: the end of the connection, and nothing at all


class Web:
    """A server that answers all requests in order. An answer with ``Connection: close`` ends its connection.

    ``got`` are the requests: the number of the connection, method, target, type and body. ``fields`` are their fields.
    """

    def __init__(self, answers: Sequence[bytes | None]) -> None:
        self.got: list[str] = []
        self.fields: list[dict[bytes, bytes]] = []
        self._connections = 0
        self._answers = iter(answers)

    async def dial(self, url: Url, own: bool, group: Group, patience: float | None) -> Connection:
        """Connect to the server."""
        self._connections += 1
        ours, theirs = pair()
        group.start_soon(self._serve(theirs, self._connections))
        return ours  # type: ignore[return-value]

    async def _serve(self, stream: MemoryStream, number: int) -> None:
        with suppress(Failure):
            while request := await self._request(stream):
                self.got.append(f"{number} {request}")
                answer = next(self._answers)
                await stream.send(answer or b"")
                if answer is HANG_UP or b"Connection: close" in answer:
                    await stream.send_eof()

    async def _request(self, stream: MemoryStream) -> str:
        words, http = "", h11.Connection(h11.SERVER)
        while True:
            match http.next_event():
                case h11.Request() as head:
                    self.fields.append(fields := dict(head.headers))
                    words = b" ".join(filter(None, [head.method, head.target, fields.get(b"content-type")])).decode()
                case h11.Data() as part:
                    words += f" {part.data.decode()}"
                case h11.NEED_DATA:
                    http.receive_data(await stream.recv())
                case _:
                    return words


def fetch_from(
    web: Web,
    wanted: Iterable[tuple[Asked, AbstractContextManager[Place]]],
    retry: int | None = None,
    wait: float | None = None,
) -> list[Failure]:
    """Fetch URLs, each to its place; return the failures."""
    failures: list[Failure] = []

    async def main() -> None:
        async with connections(web.dial, ignore) as links:
            how = Fetching(links, lambda url: None, ignore, Timing(), retry, wait)
            await fetch_each(wanted, how, None, None, failures.append)

    run(main())
    return failures
