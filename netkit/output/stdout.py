"""A queued writer to stdout, so that a slow reader blocks no task; producers without a limit wait for ``room``."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from netkit.core.kernel import Group, checkpoint
from netkit.core.stdio import FileStream
from netkit.core.sync import Condition
from netkit.output.console import STDOUT

_NONE = -1
_MOST = 1 << 20  # characters in the queue


class StdoutWriter:
    """Writes text in order while other tasks run."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._size = 0
        self._changed = Condition()

    def write(self, text: str) -> None:
        """Put text at the end of the queue."""
        self._waiting.append(text)
        self._size += len(text)
        self._changed.notify_all()

    async def write_each(self, pieces: Iterable[str]) -> None:
        """Write pieces, which may take time to make, in order. Between two, other tasks run, and signals are heard."""
        for piece in pieces:
            self.write(piece)
            await checkpoint()

    async def room(self) -> None:
        """Wait while the queue is too long."""
        while self._size > _MOST:
            await self._changed.wait()

    async def flush(self) -> None:
        """Wait until the whole queue is written."""
        while self._waiting:
            await self._changed.wait()

    async def drain(self, stdout: FileStream) -> None:
        """Write the queue as it fills, until cancelled."""
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
    """A writer for an ``async with`` block, which ends once all is written.

    Cancels the block and raises Failure WRITE as soon as writing fails or the reader closes stdout.
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
