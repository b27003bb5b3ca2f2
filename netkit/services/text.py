"""Parsing and printing of TEXT: bytes as typed in arguments, with escapes such as \\n and \\x00."""

import os
import re

from netkit.core.errors import Invalid

_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.?))", re.DOTALL)
_MEANING = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


def parse(text: str) -> bytes:
    """The bytes of a TEXT with the escapes ``\\n \\r \\t \\0 \\\\ \\xNN``. Raises Invalid for others."""

    def meaning(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return bytes([int(match[1], 16)])
        if not match[2]:
            raise Invalid(f"{text!r} ends within an escape: write \\\\ for a backslash")
        if match[2] not in _MEANING:
            escape = match[0].decode(errors="replace")
            raise Invalid(f"{text!r} has {escape!r}, which is none of \\n \\r \\t \\0 \\\\ \\xNN")
        return _MEANING[match[2]]

    return _ESCAPE.sub(meaning, os.fsencode(text))


def parse_beside(option: str, word: str, *, stdin: bool = False) -> bytes:
    """Parse the TEXT of ``option``, beside which there is ``option``-file. Raises Invalid for curl's ``@FILE``.

    ``stdin`` is whether the other option also takes ``-``.
    """
    name = word.removeprefix("@")
    if name != word and ((stdin and name == "-") or os.path.exists(name)):
        raise Invalid(f"{option} sends the text itself: {option}-file {name} sends what is in {name}")
    return parse(word)


def spell(data: bytes) -> str:
    """The TEXT for these bytes: printable, on one line, and parsed to the same bytes."""
    text = data.decode("utf-8", "surrogateescape")
    return text if text.isprintable() and "\\" not in text else text.translate(_SPELLING)


class _Spelling(dict[int, str]):
    """A table for str.translate. The usual characters are in it, the others are spelled as they occur."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character.isprintable():
            return character
        return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


_SPELLING = _Spelling()
_SPELLING.update({code: _SPELLING[code] for code in (*range(0x80), *range(0xDC80, 0xDD00))})
_SPELLING.update({ord(meaning): f"\\{letter.decode()}" for letter, meaning in _MEANING.items()})
