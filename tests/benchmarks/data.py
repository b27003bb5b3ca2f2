"""Files of zeros, and the sizes of bulk data."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def zeros(size: int) -> Iterator[IO[bytes]]:
    """Yield a file of ``size`` zeros, which is cached in memory."""
    with tempfile.TemporaryFile() as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
        file.flush()
        yield file


def fitting(size: int) -> int:
    """Return ``size``, or a quarter of the available memory if that is less, so that a file stays cached."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        found = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min(size, found // 4 >> 20 << 20)


def in_words(size: int) -> str:
    """Return a number of bytes as text for titles."""
    return f"{size / (1 << 30):g} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"
