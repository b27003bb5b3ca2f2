"""Cutting input into datagrams: by size, lines or lines of hex digits, or all of it as one."""

import os
from collections.abc import Callable, Iterable, Iterator

from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.stream import LARGEST_READ
from netkit.core.udp import LARGEST, Data, at_once
from netkit.services.join import STDIN

Batch = tuple[Data, int]
"""Consecutive datagrams: their bytes, and the size of each; the last one may be shorter."""

Framing = Callable[[bytes], Iterable[Batch]]
"""Takes a chunk of input, or b"" at its end; yields the datagrams that are complete. May raise Failure after them."""

_TOO_LONG = "it is longer than {} bytes, the most a datagram holds"
_MAX_HEX = 4 * LARGEST  # digits, and spaces between them


def whole(largest: int) -> Framing:
    """Make the whole input one datagram of at most ``largest`` bytes."""
    held = bytearray()

    def frame(data: bytes) -> Iterator[Batch]:
        held.extend(data)
        if len(held) > largest:
            hint = "--lines or --size N cuts it"
            raise Failure(Exit.USAGE, "send stdin as one datagram", _TOO_LONG.format(largest), hint=hint)
        if not data:
            yield bytes(held), largest

    return frame


class InPieces:
    """Cuts the input every ``size`` bytes; what is left at the end is the last datagram.

    Reading ``read_size`` bytes at a time leads to the fewest system calls for sending.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held = b""
        self.read_size = max(LARGEST_READ // at_once(size), 1) * at_once(size)

    def __call__(self, data: bytes) -> Iterator[Batch]:
        size, held = self._size, self._held
        start = min(size - len(held), len(data)) if held else 0
        begun, self._held = held + data[:start], b""
        if data and 0 < len(begun) < size:
            self._held = begun
            return
        if begun:
            yield begun, size
        end = start + (len(data) - start) // size * size
        self._held = data[end:]
        if end > start:
            yield memoryview(data)[start:end], size  # without a copy


def in_lines() -> Framing:
    """Make each line a datagram, without its line end, LF or CR LF."""
    return _lines(lambda line, number: line.removesuffix(b"\r"), LARGEST)


def in_hex() -> Framing:
    """Make each line of hex digits a datagram; an empty line is an empty datagram."""

    def read(line: bytes, number: int) -> bytes:
        try:
            return bytes.fromhex(line.decode("ascii"))
        except ValueError:
            shown = ascii(line[:40].decode("latin-1"))
            raise Failure(Exit.READ, f"read line {number} of stdin", f"{shown} is not pairs of hex digits") from None

    return _lines(read, _MAX_HEX)


def _lines(read: Callable[[bytes, int], bytes], max_held: int) -> Framing:
    held, number = b"", 0

    def datagrams(data: bytes) -> Iterator[bytes]:
        nonlocal held, number
        *complete, held = (held + data).split(b"\n")
        if held and not data:
            complete, held = [held], b""
        for line in complete:
            number += 1
            datagram = read(line, number)
            _check_size(datagram, LARGEST, number)
            yield datagram
        _check_size(held, max_held, number + 1)

    return lambda data: batched(datagrams(data))


def _check_size(data: bytes, limit: int, number: int) -> None:
    if len(data) > limit:
        raise Failure(Exit.TOO_BIG, f"send line {number} of stdin", _TOO_LONG.format(LARGEST))


def batched(datagrams: Iterable[bytes]) -> Iterator[Batch]:
    """Join consecutive datagrams of equal size. Those before a Failure are yielded before it is raised."""
    held: list[bytes] = []
    try:
        for data in datagrams:
            if held and (len(data) != len(held[0]) or not data):
                yield _joined(held)
                held = []
            held.append(data)
    except Failure:
        if held:
            yield _joined(held)
        raise
    if held:
        yield _joined(held)


def _joined(datagrams: list[bytes]) -> Batch:
    return b"".join(datagrams), len(datagrams[0]) or 1


def framing(lines: bool, size: int | None, by_hex: bool) -> Framing | None:
    """How stdin is cut, None if it is one datagram. If it is a terminal, ``lines`` is the default."""
    if lines or (size is None and not by_hex and os.isatty(STDIN)):
        return in_lines()
    if by_hex:
        return in_hex()
    return None if size is None else InPieces(size)


def check_texts(texts: Iterable[bytes], largest: int) -> None:
    """Raise Invalid if one has more bytes than that."""
    for number, text in enumerate(texts, 1):
        if len(text) > largest:
            raise Invalid(f"TEXT {number} has {len(text)} bytes: {largest} are the most a datagram holds")
