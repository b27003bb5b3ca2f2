"""Serving a fixed reply, a text or a file, to every client (``listen --reply``, ``--reply-file``)."""

import os
import stat
from collections.abc import Callable

from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN, Ended, drain
from netkit.core.errors import Exit, Failure, doing
from netkit.core.kernel import Group, sleep
from netkit.core.stream import LARGEST_READ, Connection
from netkit.core.sync import Event
from netkit.services.broadcast import Output, Side
from netkit.services.join import Conversation, Terminal
from netkit.services.server import Service, addressed

_MAX_SENDING = 10.0  # s that a client may go on sending after it has the reply

Reader = Callable[[int], bytes]
"""Returns a piece of a reply, from an offset on; b"" at its end."""


def reply_to(text: bytes | None, path: str | None) -> Callable[[Endpoint], Reader]:
    """The replies for clients: ``text``, in which {host} and {port} are the client's, or the file at ``path``.

    Raises Failure READ if the file cannot be read, or is not a regular one.
    """

    def read_text(peer: Endpoint) -> Reader:
        whole = addressed(text or b"", peer)
        return lambda offset: whole[offset:]

    if path is None:
        return read_text
    action = f"read {path}"
    with doing(Exit.READ, action):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Failure(Exit.READ, action, "it is not a regular file")

    def read_file(offset: int) -> bytes:
        with doing(Exit.READ, action):
            return os.pread(fd, LARGEST_READ, offset)

    return lambda peer: read_file


class _Reply(Side):
    """Our side of one client, which gets the reply, and whose bytes go to stdout. ``ended``: the reply was read."""

    def __init__(self, read: Reader, output: Output) -> None:
        super().__init__(output)
        self.ended = Event()
        self._read = read

    async def recv(self) -> bytes:
        data = self._read(self.counts.received)
        if len(data) == LARGEST_READ:
            await sleep(0)  # reading never waits, so let other tasks run
        self.counts.add_received(len(data))
        if not data:
            self.ended.set()
        return data


def replying(open_reply: Callable[[Endpoint], Reader], terminal: Terminal, conversation: Conversation) -> Service:
    """Send each client the reply and then our end; what it sends meanwhile goes to the terminal.

    Once a client has acknowledged the whole reply, the connection is closed at its end, after ``DRAIN`` seconds of
    silence, or after ``_MAX_SENDING``.
    """
    output = Output(terminal)

    async def handle(stream: Connection) -> Ended:
        side = _Reply(open_reply(stream.peer), output)
        how = Ended("all was sent")

        async def see_off() -> None:
            await side.ended.wait()
            await drain(stream, DRAIN, _MAX_SENDING, lambda: side.counts.writing)
            group.cancel()

        async with Group() as group:
            group.start_soon(see_off())
            how = await conversation.relay(side, stream)
            group.cancel()
        return how

    return Service(handle, output.run, flush=output.flush)
