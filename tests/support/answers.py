"""Reading an HTTP server's answers with our client, in memory."""

from collections.abc import Sequence

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group
from netkit.protocols.content_coding import decoded
from netkit.protocols.http import Exchange, Head, Request
from tests.clock import run
from tests.memory import MemoryStream, pair
from tests.support.data import cut

ODD = (Exit.PROTOCOL, Exit.PARTIAL, Exit.TOO_BIG)  # the exit codes of malformed answers


class Answer:
    """The result of reading an answer: its head, the body as far as it was read, and the failure, if any."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.body = b""
        self.left: int | None = None
        self.failure: Failure | None = None

    @property
    def exit(self) -> Exit:
        return Exit.OK if self.failure is None else self.failure.exit


def take(answer: bytes, cuts: Sequence[int] = (), method: str = "GET", *, ends: bool = True) -> Answer:
    """Read an answer that comes in pieces, cut at ``cuts``. Unless ``ends``, the connection stays open after it."""
    taken = Answer()

    async def send(stream: MemoryStream) -> None:
        for piece in cut(answer, cuts):
            await stream.send(piece)
            while stream._out.buffer:  # until that piece is read alone
                await stream._out.wait()
        if ends:
            await stream.send_eof()

    async def main() -> None:
        ours, theirs = pair()
        exchange = Exchange(ours, Request(method, "/", [("Host", b"h")]), "http://h/")
        async with Group() as group:
            group.start_soon(exchange.ask())
            group.start_soon(send(theirs))
            try:
                taken.head = await exchange.head()
                while data := await exchange.recv():
                    taken.body += data
                assert await exchange.recv() == b""
            except Failure as failure:
                taken.failure = failure
            taken.left = exchange.left
            assert exchange.counts.received == len(taken.body)
            group.cancel()

    run(main())
    return taken


def undo(body: bytes, codings: str | None, step: int = 9973) -> tuple[bytes, Exit, int]:
    """Decode a body that comes in pieces of ``step`` bytes; return the data, the exit code and the longest chunk."""
    parts = [b""]
    end = Exit.OK

    async def main() -> None:
        nonlocal end
        ours, theirs = pair()

        async def send() -> None:
            for at in range(0, len(body), step):
                await theirs.send(body[at : at + step])
            await theirs.send_eof()

        async with Group() as group:
            group.start_soon(send())
            try:
                stream = decoded(ours, codings)
                while data := await stream.recv():
                    parts.append(data)
                assert stream.counts.received == sum(map(len, parts))
            except Failure as failure:
                end = failure.exit
            group.cancel()

    run(main())
    return b"".join(parts), end, max(map(len, parts))
