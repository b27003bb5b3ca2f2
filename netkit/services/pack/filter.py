"""The loop of pack and unpack from stdin to stdout. It uses blocking I/O, so a signal ends the process at once."""

import errno
import os
import select
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from netkit.core.errors import Exit, Failure, doing

Filter = Callable[[Iterable[bytes]], Iterable[bytes]]

Write = Callable[[bytes | bytearray], None]
"""Writes all of the data; it may block."""

_STDIN, _STDOUT = 0, 1
_CHUNK = 64 * 1024


def run(change: Filter, given: bytes | None, write: Write) -> None:
    """Write what ``change`` makes of stdin, or of ``given``. Raises Failure READ, and what these two raise.

    Its output is written before more input is waited for, and before a failure is raised.
    """
    made = bytearray()

    def flush() -> None:
        data = bytes(made)
        made.clear()  # before the write: after a failure the final ``flush`` must not repeat it
        write(data)

    def chunks() -> Iterator[bytes]:
        with doing(Exit.READ, "read stdin"):
            os.read(_STDIN, 0)  # raises if it is open for writing only, which poll would not report
        while data := _read():
            yield data
            flush()

    try:
        for piece in change(chunks() if given is None else [given]):
            made += piece
            if len(made) >= _CHUNK:
                flush()
    finally:
        flush()


def _read() -> bytes:
    """Wait for input; b"" is its end. Raises Failure WRITE if stdout's reader leaves meanwhile."""
    poll = select.poll()
    poll.register(_STDIN, select.POLLIN)
    poll.register(_STDOUT, 0)  # only errors
    with doing(Exit.READ, "read stdin"):
        while True:
            ready = dict(poll.poll())
            if ready.get(_STDOUT, 0) & select.POLLERR:
                raise Failure(Exit.WRITE, "write to stdout", BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
            if _STDOUT in ready:
                poll.unregister(_STDOUT)
            if _STDIN in ready:
                with suppress(BlockingIOError):  # another reader of the same stdin was faster
                    return os.read(_STDIN, _CHUNK)
