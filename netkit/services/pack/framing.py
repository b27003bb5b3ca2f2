"""Splitting a stream into records: of a fixed size, with a length prefix, or lines.

At most one record and one chunk are in memory. A record whose prefix is above the limit is refused before it is read.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Literal, NamedTuple

from netkit.core.errors import Exit, Failure, Invalid

_PREFIX = re.compile(r"u(8|16|32)(le)?")


class Prefix(NamedTuple):
    """A length prefix: an unsigned number of ``width`` bytes before each record."""

    width: int
    order: Literal["big", "little"]

    @property
    def max_size(self) -> int:
        """The length of the longest record, in bytes."""
        return (1 << 8 * self.width) - 1

    def frame(self, record: bytes) -> bytes:
        """The record with its prefix. Raises Invalid if it is too long."""
        if len(record) > self.max_size:
            raise Invalid(f"a record of more than {self.max_size} bytes does not fit a length of {8 * self.width} bits")
        return len(record).to_bytes(self.width, self.order) + record


def parse_prefix(word: str) -> Prefix:
    """Parse ``u8``, ``u16`` or ``u32``, followed by ``le`` if the length is little-endian. Raises Invalid."""
    match = _PREFIX.fullmatch(word)
    if not match:
        raise Invalid(f"{word!r} is none of u8, u16, u32, nor these with le")
    return Prefix(int(match[1]) // 8, "little" if match[2] else "big")


class Source:
    """Takes bytes from an iterable of chunks, which is advanced only when needed. ``offset`` counts the bytes taken."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.offset = 0
        self._chunks = iter(chunks)
        self._held = bytearray()

    def take(self, size: int) -> bytes:
        """Take the next ``size`` bytes; fewer only at the end."""
        while len(self._held) < size and (chunk := next(self._chunks, None)) is not None:
            self._held += chunk
        data = bytes(self._held[:size])
        del self._held[:size]
        self.offset += len(data)
        return data

    def take_all(self, size: int) -> bytes:
        """Take as many pieces of ``size`` bytes as are available, at least one; at the end what is left."""
        first = self.take(size)
        return first + self.take(len(self._held) // size * size)


def batches(source: Source, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of as many records of ``size`` bytes as are available; the last one may be short."""
    while data := source.take_all(size):
        yield source.offset - len(data), data


def records(source: Source, size: int | None, max_size: int, *, repeat: bool) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of each record of ``size`` bytes; if that is None, the whole input is one record.

    The last one may be short. Without ``repeat``, bytes after the first are a Failure PROTOCOL.
    """
    if size is None:
        if repeat:
            raise Invalid("--repeat does not apply: the last field takes the rest")
        yield 0, _rest(source, max_size)
    elif not repeat:
        data = source.take(size)
        _check_last(source)
        yield 0, data
    else:
        if not size:
            raise Invalid("--repeat does not apply: a record has no bytes")
        while data := source.take(size):
            yield source.offset - len(data), data


def frames(source: Source, prefix: Prefix, max_size: int, *, repeat: bool) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of each record with a length prefix; without ``repeat`` there must be just one.

    Raises Failure: PARTIAL for input that ends within a record, TOO_BIG for a length over ``max_size``, PROTOCOL for
    bytes after the only one.
    """
    for number in count(1):
        head = source.take(prefix.width)
        if repeat and not head:
            return
        _check_whole(source, head, prefix.width, f"the length of record {number}")
        size = int.from_bytes(head, prefix.order)
        offset = source.offset
        if size > max_size:
            reason = f"it would be {size} bytes, more than {max_size}"
            raise Failure(Exit.TOO_BIG, f"read record {number} at offset {offset}", reason, detail="--max-size")
        data = source.take(size)
        _check_whole(source, data, size, f"record {number}")
        if not repeat:
            _check_last(source)
        yield offset, data
        if not repeat:
            return


def whole(chunks: Iterable[bytes], prefix: Prefix, max_size: int) -> Iterator[bytes]:
    """Yield the whole input as one record with its prefix. Raises Invalid or Failure TOO_BIG if it is too long."""
    source = Source(chunks)
    yield prefix.frame(_rest(source, max_size) if max_size <= prefix.max_size else source.take(prefix.max_size + 1))


def lines(chunks: Iterable[bytes], prefix: Prefix, max_size: int) -> Iterator[bytes]:
    """Yield each line without newline, with its prefix, once it is complete; the last one may have no newline.

    Raises Failure TOO_BIG for a line of more than ``max_size`` bytes, or too long for the prefix.
    """
    limit, why = min((prefix.max_size, "--length"), (max_size, "--max-size"))
    held = bytearray()
    number = 1

    def hold(piece: bytes) -> None:
        if len(held) + len(piece) > limit:
            raise Failure(Exit.TOO_BIG, f"frame line {number}", f"it is more than {limit} bytes", detail=why)
        held.extend(piece)

    for chunk in chunks:
        *ended, begun = chunk.split(b"\n")
        for piece in ended:
            hold(piece)
            yield prefix.frame(bytes(held))
            held.clear()
            number += 1
        hold(begun)
    if held:
        yield prefix.frame(bytes(held))


def _rest(source: Source, max_size: int) -> bytes:
    data = source.take(max_size + 1)
    if len(data) > max_size:
        reason = f"it is more than {max_size} bytes"
        raise Failure(Exit.TOO_BIG, "take the input as one record", reason, detail="--max-size")
    return data


def _check_whole(source: Source, data: bytes, size: int, what: str) -> None:
    if len(data) < size:
        where = f"{what} at offset {source.offset - len(data)}"
        raise Failure(Exit.PARTIAL, f"read {where}", f"the input ended after {len(data)} of {size} bytes")


def _check_last(source: Source) -> None:
    where = source.offset
    if source.take(1):
        hint = "--repeat reads one record after the other"
        raise Failure(Exit.PROTOCOL, "read one record", f"more bytes follow at offset {where}", hint=hint)
