"""Changes for the bytes of a stream: CR LF, labels, prefixes, capitals, visible control bytes; an end by the data.

Each function makes a Change for one stream, as it keeps state between two chunks.
"""

import codecs
import os
import re
from collections.abc import Callable
from functools import partial

from netkit.core.errors import Exit, Failure
from netkit.core.pump import Change, Done
from netkit.core.search import WINDOW, Pattern
from netkit.services.join import STDOUT

MAX_LINE = 64 * 1024  # bytes of a labelled line; a longer one becomes several
_LONE_LF = re.compile(rb"(?<!\r)\n")
_CONTROL = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\r\t"}  # C0, DEL, C1


def crlf() -> Change:
    """Turn LF into CR LF, unless a CR is before it already."""
    after_cr = False

    def change(data: bytes) -> bytes:
        nonlocal after_cr
        kept = b"\n" if after_cr and data.startswith(b"\n") else b""
        after_cr = data.endswith(b"\r")
        return kept + _LONE_LF.sub(b"\r\n", data[len(kept) :])

    return change


def labelled(label: str) -> Change:
    """Turn each line into ``LABEL<TAB>line`` once it is complete; one longer than ``MAX_LINE`` bytes into several."""
    head = label.encode() + b"\t"
    kept = b""

    def change(data: bytes) -> bytes:
        nonlocal kept
        *lines, kept = (kept + data).split(b"\n") if data else (kept, b"")
        if not data:
            lines = [line for line in lines if line]
        pieces = [line[i : i + MAX_LINE] for line in lines for i in range(0, len(line) or 1, MAX_LINE)]
        while len(kept) > MAX_LINE:
            pieces.append(kept[:MAX_LINE])
            kept = kept[MAX_LINE:]
        return b"".join(head + piece + b"\n" for piece in pieces)

    return change


class Limits:
    """Limits of what is received from a peer: up to the first match of ``pattern``, and at most ``most`` bytes."""

    def __init__(self, pattern: Pattern | None, most: int | None) -> None:
        self._pattern = pattern
        self._most = most
        self._found = self._filled = False

    def __bool__(self) -> bool:
        return self._pattern is not None or self._most is not None

    def changes(self) -> list[Callable[[], Change]]:
        """Makers of the changes that raise Done at these limits."""
        makers: list[Callable[[], Change]] = []
        if self._pattern is not None:
            makers.append(partial(until, self._pattern, self._find, cut=True))
        if self._most is not None:
            makers.append(partial(at_most, self._most, self._fill))
        return makers

    def check(self, name: str) -> None:
        """Raise Failure PROTOCOL if the data of ``name`` ended before a match, or before ``most`` bytes."""
        if self._found or (self._filled and self._pattern is None):
            return
        if self._pattern is not None:
            raise Failure(Exit.PROTOCOL, f"find {self._pattern} in what {name} sent", "it ended before")
        if self._most is not None:
            raise Failure(Exit.PROTOCOL, f"receive {self._most} bytes from {name}", "it ended before")

    def _find(self) -> None:
        self._found = True

    def _fill(self) -> None:
        self._filled = True


def prefixed(prefix: bytes) -> Change:
    """Insert ``prefix`` before each line, as soon as its first byte comes."""
    at_start = True

    def change(data: bytes) -> bytes:
        nonlocal at_start
        if not data:
            return b""
        head = prefix if at_start else b""
        at_start = data.endswith(b"\n")
        return head + data.replace(b"\n", b"\n" + prefix, data.count(b"\n") - at_start)

    return change


def capitals() -> Change:
    """Turn UTF-8 text into capitals. Bytes that are not UTF-8 stay; an incomplete character waits for its rest."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def change(data: bytes) -> bytes:
        return _octets(decoder.decode(data, final=not data).upper())

    return change


def capitals_in_place(data: bytes) -> bytes:
    """Turn UTF-8 text into capitals, except letters whose capital has another length. Bytes that are not UTF-8 stay."""
    letters = [(_octets(letter), _octets(letter.upper())) for letter in data.decode("utf-8", "surrogateescape")]
    return b"".join([capital if len(capital) == len(letter) else letter for letter, capital in letters])


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def visible() -> Change:
    """Replace by ``\\xNN``: C0 except newline, return and tab; DEL; C1; and bytes that are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def change(data: bytes) -> bytes:
        return decoder.decode(data, final=not data).translate(_CONTROL).encode()

    return change


def incoming(raw: bool) -> list[Callable[[], Change]]:
    """The changes for data from a peer to stdout: ``visible`` if that is a terminal, unless ``raw``."""
    return [] if raw or not os.isatty(STDOUT) else [visible]


def until(pattern: Pattern, found: Callable[[], None], *, cut: bool) -> Change:
    """Pass bytes unchanged, and raise Done at the first match, after calling ``found``.

    With ``cut`` the output ends with the match, otherwise with the chunk in which it ends. A match may span chunks if
    it begins in the last ``WINDOW`` bytes before. Raises SearchTimeout.
    """
    window = b""

    def change(data: bytes) -> bytes:
        nonlocal window
        text = window + data
        match = pattern.search(text) if data else None
        if match is None:
            window = text[-WINDOW:]
            return data
        found()
        raise Done(data[: max(match.end() - len(window), 0)] if cut else data)

    return change


def at_most(limit: int, filled: Callable[[], None] = lambda: None) -> Change:
    """Pass ``limit`` bytes unchanged, then call ``filled`` and raise Done."""
    left = limit

    def change(data: bytes) -> bytes:
        nonlocal left
        if len(data) >= left:
            filled()
            raise Done(data[:left])
        left -= len(data)
        return data

    return change
