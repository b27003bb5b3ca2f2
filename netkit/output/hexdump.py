"""Bytes as a person reads them: offset, hex and ASCII, line for line what ``xxd -g1`` prints."""

WIDTH = 16  # bytes to a line
_PART = 4  # the least, by which it gets smaller
_OFFSET, _BYTE = 11, 4  # columns: of the offset and what is between, and of each byte
_ASCII = bytes(c if 0x20 <= c < 0x7F else ord(".") for c in range(256))


def width_in(columns: int) -> int:
    """How many bytes of a line fit into so many columns."""
    return min(max((columns - _OFFSET) // _BYTE // _PART, 1) * _PART, WIDTH)


def dump(data: bytes, offset: int = 0, width: int = WIDTH) -> str:
    """Lines of ``width`` bytes, each with its newline; ``offset`` is that of the first byte. No bytes are no lines."""
    lines = []
    for start in range(0, len(data), width):
        row = data[start : start + width]
        lines.append(f"{offset + start:08x}: {row.hex(' '):{3 * width}} {row.translate(_ASCII).decode('ascii')}\n")
    return "".join(lines)
