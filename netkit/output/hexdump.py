"""Hex dumps: offset, hex and ASCII, in the format of ``xxd -g1``."""

WIDTH = 16  # bytes to a line
_PART = 4  # bytes: a narrower line has a multiple of them
_OFFSET, _BYTE = 11, 4  # columns: of the offset and the gaps, and of each byte
_ASCII = bytes(c if 0x20 <= c < 0x7F else ord(".") for c in range(256))


def width_in(columns: int) -> int:
    """How many bytes to a line fit into ``columns``, at least 4."""
    return min(max((columns - _OFFSET) // _BYTE // _PART, 1) * _PART, WIDTH)


def dump(data: bytes, offset: int = 0, width: int = WIDTH) -> str:
    """Lines of ``width`` bytes, each with its newline, or "" if there are no bytes; the first byte is at ``offset``."""
    lines = []
    for start in range(0, len(data), width):
        row = data[start : start + width]
        lines.append(f"{offset + start:08x}: {row.hex(' '):{3 * width}} {row.translate(_ASCII).decode('ascii')}\n")
    return "".join(lines)
