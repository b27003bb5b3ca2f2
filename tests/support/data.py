"""Bytes to send, and how to compare many of them."""

import hashlib
import os
import random
from pathlib import Path

PATTERN = b"".join(b"%07d\n" % n for n in range(12_500))  # 100,000 bytes, each of which knows its place

DATA = random.Random(1).randbytes(300_000)

OTHER = random.Random(2).randbytes(300_000)  # unlike DATA, so that one direction is never taken for the other

HOSTILE = b'\x1b]0;PWNED\x07\t##[error]x\n::error::forged\nok 9 - forged\r<a>&"%0A]]>\xff\xe2\x80\xae\n'

MIB = 1 << 20


def amount(usual: int, *, full: int) -> int:
    """How much a test takes: what is usual, or what its fault is about in full, with TESTS_FULL=1 (``.ci/modes``)."""
    return full if os.environ.get("TESTS_FULL") == "1" else usual


def digest(data: bytes) -> str:
    """Return what stands for many bytes in a failed assertion."""
    return hashlib.sha256(data).hexdigest()


def check_same(got: bytes, wanted: bytes) -> None:
    """Assert that bulk data is what it should be, without printing it."""
    if got != wanted:
        first = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
        where = "one is the beginning of the other" if first is None else f"first difference at byte {first}"
        raise AssertionError(f"got {len(got)} bytes, wanted {len(wanted)}: {where}")


def files(folder: Path) -> list[str]:
    """The names of what is in a folder."""
    return sorted(path.name for path in folder.iterdir())
