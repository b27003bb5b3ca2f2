"""Small files named by options, such as certificates, keys and passwords; pipes are read once and kept in memory.

A pipe (``<(command)``, a FIFO) can be read only once, and may have to be waited for, which ssl would do blocking.
"""

import os
import stat
from collections.abc import Iterable

from netkit.core.errors import Exit, Failure, doing
from netkit.core.stdio import FileStream

_LARGEST = 16 << 20  # bytes; the certificates of a system's authorities are less than 1 MiB

_copies: dict[str, str] = {}


def source(path: str) -> str:
    """The path to open in place of ``path``: that of its copy in memory, if ``copy_pipes`` has made one."""
    return _copies.get(path, path)


def check_size(path: str, size: int) -> None:
    """Raise Failure READ if ``size`` bytes are more than 16 MiB."""
    if size > _LARGEST:
        raise Failure(Exit.READ, f"read {path}", f"it is larger than {_LARGEST >> 20} MiB")


async def copy_pipes(paths: Iterable[str]) -> None:
    """Copy pipes and character devices to memory, until the process ends. Paths that cannot be opened are skipped.

    Raises Failure READ for files larger than 16 MiB, regular files included.
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
    stream = FileStream(fd, -1, source_name=path)
    data = bytearray()
    try:
        while piece := await stream.recv():  # a FIFO is not at its end before the first writer has opened it
            data += piece
            check_size(path, len(data))
    finally:
        stream.close()
        os.close(fd)
    with doing(Exit.READ, f"read {path}"):
        copy = os.memfd_create("netkit")
        with open(copy, "wb", closefd=False) as file:
            file.write(data)
    _copies[path] = f"/proc/self/fd/{copy}"
