"""Serving a fixed reply, a text or a file, to every client (``listen --reply``, ``--reply-file``)."""

import os
import stat
from collections.abc import Callable

from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN, drain, with_idle_timeout
from netkit.core.errors import Exit, Failure, doing
from netkit.core.kernel import Group, sleep
from netkit.core.stdio import FileStream
from netkit.core.stream import LARGEST_READ, Connection, Stream
from netkit.core.sync import Event
from netkit.services.broadcast import Output, Side
from netkit.services.join import Conversation, Terminal
from netkit.services.server import Service, addressed

_MAX_SENDING = 10.0  # s that a client may go on sending after it has the reply

Opener = Callable[[Endpoint], Stream]
"""Returns a stream with the reply for the client at an address."""


def opener(reply: bytes | None, path: str | None) -> Opener:
    """The opener for the text ``reply``, in which {host} and {port} are the client's, or for the file at ``path``.

    Raises Failure READ if the file cannot be read, or is not a regular one.
    """
    if path is None:
        return lambda peer: Terminal(text=addressed(reply or b"", peer), writes=False)
    with doing(Exit.READ, f"read {path}"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Failure(Exit.READ, f"read {path}", "it is not a regular file")
    return lambda peer: _File(fd, path)


class _File(FileStream):
    """A file that is read from its beginning by pread(2), as all clients share its descriptor."""

    def __init__(self, fd: int, path: str) -> None:
        super().__init__(fd, fd, source_name=path)
        self._fd, self._path = fd, path
        self._offset = 0

    async def recv(self) -> bytes:
        await sleep(0)  # reading a file never waits, so let other tasks run
        with doing(Exit.READ, f"read {self._path}"):
            data = os.pread(self._fd, LARGEST_READ, self._offset)
        self._offset += len(data)
        return data


class _Reply(Side):
    """Our side of one client, which gets the reply, and whose bytes go to stdout. ``ended``: the reply was read."""

    def __init__(self, reply: Stream, output: Output) -> None:
        super().__init__(output)
        self.ended = Event()
        self._reply = reply

    async def recv(self) -> bytes:
        data = await self._reply.recv()
        self.counts.add_received(len(data))
        if not data:
            self.ended.set()
        return data


def replying(open_reply: Opener, terminal: Terminal, conversation: Conversation) -> Service:
    """Send each client the reply and then our end; what it sends meanwhile goes to the terminal.

    Once a client has acknowledged the whole reply, the connection is closed at its end, after ``DRAIN`` seconds of
    silence, or after ``_MAX_SENDING``.
    """
    output = Output(terminal)

    async def handle(stream: Connection) -> str:
        side = _Reply(open_reply(stream.peer), output)
        how = "all was sent"

        async def see_off() -> None:
            await side.ended.wait()
            await drain(stream, DRAIN, _MAX_SENDING, lambda: side.writing)
            group.cancel()

        async with Group() as group:
            group.start_soon(see_off())
            how = await conversation.relay(side, stream)
            group.cancel()
        return how

    return Service(with_idle_timeout(handle, conversation.idle_timeout), terminal.reader_left)
