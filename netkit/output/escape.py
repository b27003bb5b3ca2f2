"""Foreign text in printable ASCII."""

_SGR = {"red": 31, "green": 32, "yellow": 33, "magenta": 35}  # ECMA-48


def printable(text: str) -> str:
    """``text`` in printable ASCII: other characters as ``\\xNN``, ``\\uNNNN`` or ``\\UNNNNNNNN``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else _escaped(ord(c)) for c in text)


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as os.fsdecode keeps it
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def painted(text: str, colour: str) -> str:
    """``text`` with the escape sequences that colour it on a terminal."""
    return f"\x1b[{_SGR[colour]}m{text}\x1b[m"
