"""Bytes as a person reads them: offset, hex and ASCII, line for line what ``xxd -g1`` prints."""

_WIDTH = 16  # bytes to a line
_ASCII = bytes(c if 0x20 <= c < 0x7F else ord(".") for c in range(256))


def dump(data: bytes, offset: int = 0) -> str:
    """Lines of 16 bytes, each with its newline; ``offset`` is that of the first byte. No bytes are no lines."""
    lines = []
    for start in range(0, len(data), _WIDTH):
        row = data[start : start + _WIDTH]
        lines.append(f"{offset + start:08x}: {row.hex(' '):{3 * _WIDTH}} {row.translate(_ASCII).decode('ascii')}\n")
    return "".join(lines)
