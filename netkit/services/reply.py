"""A fixed reply for every client."""

import os
import stat
from collections.abc import Callable

from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Cut, Observer
from netkit.core.kernel import Event, Group
from netkit.core.listen import DRAIN
from netkit.core.relay import Change, Ending, idle_clock, relay, seen_off
from netkit.core.stream import Connection, FileStream, Stream
from netkit.services.crowd import Output, Side
from netkit.services.server import Service
from netkit.services.terminal import Terminal

Opener = Callable[[], Stream]
"""Opens the reply anew, for one client, who closes it."""


def text(reply: bytes) -> Opener:
    """Return the opener of a reply that is known beforehand."""
    return lambda: Terminal(text=reply, writes=False)


def file(path: str) -> Opener:
    """Return the opener of a reply that is in a regular file. Raises Failure READ if it cannot be read now."""
    with doing(Exit.READ, f"read {path}"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        os.close(fd)
    if not regular:
        raise Failure(Exit.READ, f"read {path}", "it is not a regular file")
    return lambda: _File(path)


class _File(FileStream):
    """A file of its own to read."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        super().__init__(self._fd, self._fd, source_name=path)

    def close(self) -> None:
        """See Stream."""
        super().close()
        os.close(self._fd)


class _Reply(Side):
    """The side of one client: it gets the reply; what it sends goes to stdout. ``ended`` once the reply is read."""

    def __init__(self, reply: Stream, output: Output) -> None:
        super().__init__(output)
        self.ended = Event()
        self._reply = reply

    @property
    def raw_source(self) -> int | None:
        return self._reply.raw_source

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

    ``incoming`` returns what a client's bytes go through. A client that has the whole reply is let go once it ended, or
    sent nothing for ``DRAIN`` seconds.
    """
    output = Output(terminal)

    async def handle(stream: Connection) -> str:
        try:
            reply = open_reply()
        except OSError as error:  # no descriptor is left, or the file is gone: for this client, perhaps not the next
            failure = Failure(Exit.SEND, f"send the reply to {stream.name}", error)
            observe(Cut(stream.peer, failure.reason))
            raise failure from error
        side = _Reply(reply, output)
        how = "all was sent"

        async def see_off() -> None:
            await side.ended.wait()
            await seen_off(stream, DRAIN)
            group.cancel()

        try:
            async with Group() as group:
                if idle_timeout is not None:
                    group.start(idle_clock(stream, idle_timeout))
                group.start(see_off())
                how = await relay(side, stream, Ending(None), incoming=incoming(stream), observe=observe)
                group.cancel()
        finally:
            reply.close()
        return how

    return Service(handle, terminal.reader_left)
