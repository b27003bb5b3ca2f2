"""Decompression of bodies: the data, truncated and malformed bodies, and the limit of what is held in memory."""

import gzip
import itertools
import random
import zlib

import pytest

from netkit.core.errors import Exit
from netkit.core.stream import LARGEST_READ
from tests.support.answers import undo

DATA = random.Random(3).randbytes(50_000) + bytes(300_000)
GZIP, ZLIB = gzip.compress(DATA, mtime=0), zlib.compress(DATA)
BARE = (lambda coder: coder.compress(DATA) + coder.flush())(zlib.compressobj(wbits=-15))


@pytest.mark.parametrize(
    ("body", "codings", "data"),
    [
        *((GZIP, coding, DATA) for coding in ("gzip", "x-gzip", "GZIP", " gzip , identity")),
        *((body, "deflate", DATA) for body in (ZLIB, BARE)),
        (GZIP + GZIP, "gzip", DATA * 2),
        (zlib.compress(GZIP), "gzip, deflate", DATA),
        *((b"", coding, b"") for coding in ("gzip", "deflate")),
        (gzip.compress(b"", mtime=0), "gzip", b""),
        *((GZIP, coding, GZIP) for coding in (None, "", "identity")),
    ],
)
@pytest.mark.parametrize("step", [9973, 1 << 20])
def test_whole(body: bytes, codings: str | None, data: bytes, step: int) -> None:
    """The data is decompressed, whatever the pieces in which it arrives."""
    assert undo(body, codings, step)[:2] == (data, Exit.OK)


def test_byte_by_byte() -> None:
    """Single bytes are decompressed as well."""
    for body, coding in ((gzip.compress(b"hello"), "gzip"), (zlib.compress(b"hello"), "deflate")):
        assert undo(body, coding, 1)[:2] == (b"hello", Exit.OK)


@pytest.mark.fault("HTTP body cut or malformed")
@pytest.mark.parametrize(("body", "coding"), [(GZIP, "gzip"), (ZLIB, "deflate"), (BARE, "deflate")])
def test_cut(body: bytes, coding: str) -> None:
    """A body that ends early is PARTIAL, and the data until then is a prefix."""
    for end in itertools.chain(range(1, 40), (len(body) // 2,), range(len(body) - 12, len(body))):
        data, how, _ = undo(body[:end], coding)
        assert how is Exit.PARTIAL
        assert DATA.startswith(data)


@pytest.mark.fault("HTTP body cut or malformed")
@pytest.mark.parametrize(
    ("body", "codings"),
    [
        (b"hello", "gzip"),
        (GZIP[:-8] + b"\0\0\0\0" + GZIP[-4:], "gzip"),
        (GZIP + b"more", "gzip"),
        (ZLIB + b"more", "deflate"),
        (ZLIB[:-4] + b"\0\0\0\0", "deflate"),
        (b"\x08\x00hello", "deflate"),
        (GZIP, "br"),
        (GZIP, "gzip, br"),
        (GZIP, "gzip, gzip, gzip, gzip, gzip"),
    ],
)
def test_malformed(body: bytes, codings: str) -> None:
    """An unknown coding, a wrong checksum, or data after the end is PROTOCOL."""
    assert undo(body, codings)[1] is Exit.PROTOCOL


@pytest.mark.fault("compression bomb")
def test_a_bomb_comes_in_pieces() -> None:
    """A body that expands a lot is returned in pieces of at most a quarter of a MiB."""
    data, how, longest = undo(gzip.compress(bytes(8 << 20)), "gzip")
    assert (len(data), how, longest) == (8 << 20, Exit.OK, LARGEST_READ)
