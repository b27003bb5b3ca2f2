"""A file, or stdin, whose bytes are the body of a request."""

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from netkit.core.errors import Exit, Failure, doing
from netkit.core.kernel import to_thread
from netkit.core.stdio import FileStream
from netkit.protocols.http import Upload
from netkit.services.join import STDIN

_PAGE = os.sysconf("SC_PAGE_SIZE")


class DataFile:
    """A descriptor to read from its current offset: any number of times if it is a regular file, else once."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._start = os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        self._stream = self._opened()

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be read from the beginning (still, or again)."""
        return self._start is not None or not self._stream.counts.received

    def begin(self) -> Upload:
        """An Upload from the beginning. Raises Failure READ if a part was read already, and cannot be read again."""
        action = f"read {self._name}"
        if not self.is_repeatable:
            raise Failure(Exit.READ, f"{action} again", "it is no regular file, and part of it was sent")
        if self._start is None:
            return Upload(self._stream, None)
        with doing(Exit.READ, action):
            size = max(os.fstat(self._fd).st_size - self._start, 0)
            unsized = not size and os.pread(self._fd, 1, self._start)  # files in /proc have size 0
            if size <= _PAGE:  # of which files in /sys have less than their size
                size = len(os.pread(self._fd, size, self._start))
            os.lseek(self._fd, self._start, os.SEEK_SET)
        self._stream = self._opened()
        return Upload(self._stream, None if unsized else size)

    def _opened(self) -> FileStream:
        return FileStream(self._fd, -1, source_name=self._name)


@asynccontextmanager
async def opened(path: str) -> AsyncIterator[DataFile]:
    """Open the file at ``path``, or stdin for ``-``; it is closed after the block. Raises Failure READ.

    Opening a FIFO waits for a writer, without blocking the loop.
    """
    if path == "-":
        yield DataFile(STDIN, "stdin")
        return
    with doing(Exit.READ, f"read {path}"):
        fd = await to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise Failure(Exit.READ, f"read {path}", "it is a folder")
        yield DataFile(fd, path)
    finally:
        os.close(fd)
