"""A queued writer to stdout: producers do not block on a slow reader, and those without an end wait for ``room``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from netkit.core.kernel import Group
from netkit.core.stdio import FileStream
from netkit.core.sync import Condition
from netkit.output.console import STDOUT

_NONE = -1
_MOST = 1 << 20  # characters in the queue


class StdoutWriter:
    """Writes what it is given in its order, while others go on."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._size = 0
        self._changed = Condition()

    def write(self, text: str) -> None:
        """Put text at the end of the queue."""
        self._waiting.append(text)
        self._size += len(text)
        self._changed.notify_all()

    async def room(self) -> None:
        """Wait while the queue is long."""
        while self._size > _MOST:
            await self._changed.wait()

    async def flush(self) -> None:
        """Wait until all of it is written."""
        while self._waiting:
            await self._changed.wait()

    async def drain(self, stdout: FileStream) -> None:
        """Write what comes, without end."""
        while True:
            while not self._waiting:
                await self._changed.wait()
            taken = len(self._waiting)
            text = "".join(self._waiting)
            await stdout.send(text.encode())
            del self._waiting[:taken]
            self._size -= len(text)
            self._changed.notify_all()


@asynccontextmanager
async def stdout_writer() -> AsyncIterator[StdoutWriter]:
    """A writer for the block, which ends once all is written.

    Raises Failure WRITE, and cancels the block, as soon as writing fails or nobody reads any more.
    """
    writer = StdoutWriter()
    stdout = FileStream(_NONE, STDOUT)
    try:
        async with Group() as group:
            group.start_soon(stdout.reader_left())
            group.start_soon(writer.drain(stdout))
            yield writer
            await writer.flush()
            group.cancel()
    finally:
        stdout.close()
