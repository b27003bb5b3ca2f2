"""Bytes to send, cutting them into pieces, and comparison of bulk data."""

import hashlib
import itertools
import os
import random
from collections.abc import Iterable
from pathlib import Path

PATTERN = b"".join(b"%07d\n" % n for n in range(12_500))  # 100,000 bytes; each line has its number

DATA = random.Random(1).randbytes(300_000)

OTHER = random.Random(2).randbytes(300_000)  # unlike DATA, so that one direction is never taken for the other

HOSTILE = b'\x1b]0;PWNED\x07\t##[error]x\n::error::forged\nok 9 - forged\r<a>&"%0A]]>\xff\xe2\x80\xae\n'

MIB = 1 << 20


def amount(usual: int, *, full: int) -> int:
    """The size of a test: ``usual``, or ``full``, that of the fault it covers, with TESTS_FULL=1 (``.ci/modes``)."""
    return full if os.environ.get("TESTS_FULL") == "1" else usual


def digest(data: bytes) -> str:
    """Return a hash, to compare bulk data without printing it."""
    return hashlib.sha256(data).hexdigest()


def check_same(got: bytes, wanted: bytes) -> None:
    """Assert that bulk data is equal, without printing it."""
    if got != wanted:
        first = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
        where = "one is the beginning of the other" if first is None else f"first difference at byte {first}"
        raise AssertionError(f"got {len(got)} bytes, wanted {len(wanted)}: {where}")


def files(folder: Path) -> list[str]:
    """The names of the files in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the data in pieces, cut at those of the places that are inside it; no piece is empty."""
    edges = sorted({0, len(data), *(place for place in places if 0 < place < len(data))})
    return [data[start:end] for start, end in itertools.pairwise(edges)]
