"""Serving a fixed reply, a text or a file, to every client (``listen --reply``, ``--reply-file``)."""

import os
import stat
from collections.abc import Callable
from functools import partial

from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN, drain, with_idle_timeout
from netkit.core.errors import Exit, Failure, doing
from netkit.core.kernel import Group, sleep
from netkit.core.stream import LARGEST_READ, Connection
from netkit.core.sync import Event
from netkit.services.broadcast import Output, Side
from netkit.services.join import Conversation, Terminal
from netkit.services.server import Service, addressed

_MAX_SENDING = 10.0  # s that a client may go on sending after it has the reply

Reader = Callable[[Endpoint, int], bytes]
"""Returns a piece of the reply for the client at an address, from an offset on; b"" at its end."""


def reader(reply: bytes | None, path: str | None) -> Reader:
    """The reader of the text ``reply``, in which {host} and {port} are the client's, or of the file at ``path``.

    Raises Failure READ if the file cannot be read, or is not a regular one.
    """
    if path is None:
        return lambda peer, offset: addressed(reply or b"", peer)[offset:]
    action = f"read {path}"
    with doing(Exit.READ, action):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Failure(Exit.READ, action, "it is not a regular file")

    def read(peer: Endpoint, offset: int) -> bytes:
        with doing(Exit.READ, action):
            return os.pread(fd, LARGEST_READ, offset)

    return read


class _Reply(Side):
    """Our side of one client, which gets the reply, and whose bytes go to stdout. ``ended``: the reply was read."""

    def __init__(self, read: Callable[[int], bytes], output: Output) -> None:
        super().__init__(output)
        self.ended = Event()
        self._read = read

    async def recv(self) -> bytes:
        await sleep(0)  # reading never waits, so let other tasks run
        data = self._read(self.counts.received)
        self.counts.add_received(len(data))
        if not data:
            self.ended.set()
        return data


def replying(read: Reader, terminal: Terminal, conversation: Conversation) -> Service:
    """Send each client the reply and then our end; what it sends meanwhile goes to the terminal.

    Once a client has acknowledged the whole reply, the connection is closed at its end, after ``DRAIN`` seconds of
    silence, or after ``_MAX_SENDING``.
    """
    output = Output(terminal)

    async def handle(stream: Connection) -> str:
        side = _Reply(partial(read, stream.peer), output)
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
