"""A fixed reply for every client."""

import os
import stat
from collections.abc import Callable

from netkit.core.connection import DRAIN, drain, with_idle_timeout
from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Observer
from netkit.core.kernel import Group, sleep
from netkit.core.pump import Change
from netkit.core.relay import Ending, relay
from netkit.core.stdio import FileStream
from netkit.core.stream import LARGEST_READ, Connection, Stream
from netkit.core.sync import Event
from netkit.services.broadcast import Output, Side
from netkit.services.join import Terminal
from netkit.services.server import Service

_MAX_SENDING = 10.0  # s that a client who has the reply may go on sending

Opener = Callable[[], Stream]
"""Returns the reply from its beginning, for one client."""


def text(reply: bytes) -> Opener:
    """Return the opener of a reply that is known beforehand."""
    return lambda: Terminal(text=reply, writes=False)


def file(path: str) -> Opener:
    """Return the opener of a reply that is in a regular file. Raises Failure READ if it cannot be read."""
    with doing(Exit.READ, f"read {path}"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Failure(Exit.READ, f"read {path}", "it is not a regular file")
    return lambda: _File(fd, path)


class _File(FileStream):
    """A file to read from its beginning, by a descriptor that others read too."""

    def __init__(self, fd: int, path: str) -> None:
        super().__init__(fd, fd, source_name=path)
        self._fd = fd
        self._offset = 0

    @property
    def raw_source(self) -> int | None:
        """None: the descriptor's own offset is everybody's."""
        return None

    async def recv(self) -> bytes:
        """See Stream."""
        await sleep(0)  # a file is always ready, and others want their turn
        try:
            data = os.pread(self._fd, LARGEST_READ, self._offset)
        except OSError as error:
            raise self.recv_failure(error) from error
        self._offset += len(data)
        return data


class _Reply(Side):
    """The side of one client: it gets the reply; what it sends goes to stdout. ``ended`` once the reply is read."""

    def __init__(self, reply: Stream, output: Output) -> None:
        super().__init__(output)
        self.ended = Event()
        self._reply = reply

    async def recv(self) -> bytes:
        data = await self._reply.recv()
        self.count_received(len(data))
        if not data:
            self.ended.set()
        return data

    def recv_failure(self, error: OSError) -> Failure:
        return self._reply.recv_failure(error)


def replying(
    open_reply: Opener,
    terminal: Terminal,
    *,
    incoming: Callable[[Connection], Change | None],
    idle_timeout: float | None = None,
    observe: Observer,
) -> Service:
    """Send each client the reply and then our end; what it sends goes to the terminal meanwhile.

    ``incoming`` returns what a client's bytes go through. A client that has the whole reply is let go once it ended,
    sent nothing for ``DRAIN`` seconds, or did not come to an end in ``_MAX_SENDING``.
    """
    output = Output(terminal)

    async def handle(stream: Connection) -> str:
        side = _Reply(open_reply(), output)
        how = "all was sent"

        async def see_off() -> None:
            await side.ended.wait()
            await drain(stream, DRAIN, _MAX_SENDING, lambda: side.writing)
            group.cancel()

        async with Group() as group:
            group.start_soon(see_off())
            how = await relay(side, stream, Ending(None), incoming=incoming(stream), observe=observe)
            group.cancel()
        return how

    return Service(with_idle_timeout(handle, idle_timeout), terminal.reader_left)
