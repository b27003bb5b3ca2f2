"""Small files that options name, such as certificates, keys and passwords: bounded in size, and waited for as all else.

A pipe (``<(command)``, a FIFO) can be read once, as its writer comes: it is read first of all, and kept in memory.
"""

import os
import stat
from collections.abc import Iterable

from netkit.core.errors import Exit, Failure, doing
from netkit.core.kernel import notify_closing, readable

_LARGEST = 16 << 20  # bytes; the authorities of a system are less than 1 MiB
_PIECE = 64 << 10

_copies: dict[str, str] = {}


def source(path: str) -> str:
    """The path to read ``path`` by, any number of times: that of its copy, if ``copy_pipes`` made one."""
    return _copies.get(path, path)


def check_size(path: str, size: int) -> None:
    """Raise Failure READ if so many bytes are more than such a file may have."""
    if size > _LARGEST:
        raise Failure(Exit.READ, f"read {path}", f"it is larger than {_LARGEST >> 20} MiB")


async def copy_pipes(paths: Iterable[str]) -> None:
    """Copy what is no regular file into memory, to its end, for the rest of the process; what cannot be opened is left.

    Raises Failure READ for what is larger than 16 MiB, a regular file too.
    """
    for path in dict.fromkeys(paths):
        try:
            status = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            check_size(path, status.st_size)
        elif hasattr(os, "memfd_create") and (stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode)):
            await _copy(path)


async def _copy(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        with doing(Exit.READ, f"read {path}"):
            data = await _read(fd, path)
            copy = os.memfd_create("netkit")
            with open(copy, "wb", closefd=False) as file:
                file.write(data)
    finally:
        notify_closing(fd)
        os.close(fd)
    _copies[path] = f"/proc/self/fd/{copy}"


async def _read(fd: int, path: str) -> bytes:
    """Read to the end. A FIFO has none before somebody has written."""
    data = bytearray()
    while True:
        await readable(fd)
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            continue
        if not piece:
            return bytes(data)
        data += piece
        check_size(path, len(data))
