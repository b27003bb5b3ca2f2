"""Changes of bytes on their way: line ends, labels, visible control bytes, and ends that the data decides.

Each function makes a Change for one stream, which keeps what it has to remember between two chunks.
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

MAX_LINE = 64 * 1024  # bytes of a line that a label is put before
_LONE_LF = re.compile(rb"(?<!\r)\n")
_CONTROL = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\r\t"}  # C0, DEL, C1


def crlf() -> Change:
    """Send each line end as CR LF; one that is CR LF already stays."""
    after_cr = False

    def change(data: bytes) -> bytes:
        nonlocal after_cr
        kept = b"\n" if after_cr and data.startswith(b"\n") else b""
        after_cr = data.endswith(b"\r")
        return kept + _LONE_LF.sub(b"\r\n", data[len(kept) :])

    return change


def labelled(label: str) -> Change:
    """Give each line as ``LABEL<TAB>line``, once it or the input ends; one of over ``MAX_LINE`` bytes as several."""
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
    """What of one peer's bytes is enough: those up to the first match of ``pattern``, and at most so many."""

    def __init__(self, pattern: Pattern | None, most: int | None) -> None:
        self._pattern = pattern
        self._most = most
        self._found = self._filled = False

    def __bool__(self) -> bool:
        return self._pattern is not None or self._most is not None

    def changes(self) -> list[Callable[[], Change]]:
        """Makers of the changes that are done when it is enough."""
        makers: list[Callable[[], Change]] = []
        if self._pattern is not None:
            makers.append(partial(until, self._pattern, self._find, cut=True))
        if self._most is not None:
            makers.append(partial(at_most, self._most, self._fill))
        return makers

    def check(self, name: str) -> None:
        """Raise Failure PROTOCOL if what ``name`` sent has ended before a match, or before so many bytes."""
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
    """Put ``prefix`` in front of each line, as soon as its first byte comes."""
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
    """Send letters of UTF-8 text as capitals; bytes that are no text stay, half a character waits for its rest."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def change(data: bytes) -> bytes:
        return _octets(decoder.decode(data, final=not data).upper())

    return change


def capitals_in_place(data: bytes) -> bytes:
    """Letters as capitals, but for those whose capital has another number of bytes in UTF-8, and bytes that stay."""
    letters = [(_octets(letter), _octets(letter.upper())) for letter in data.decode("utf-8", "surrogateescape")]
    return b"".join([capital if len(capital) == len(letter) else letter for letter, capital in letters])


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def visible() -> Change:
    """Show control bytes as ``\\xNN``: C0 but for newline, return and tab, DEL, C1, and bytes that are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def change(data: bytes) -> bytes:
        return decoder.decode(data, final=not data).translate(_CONTROL).encode()

    return change


def incoming(raw: bool) -> list[Callable[[], Change]]:
    """The changes for data from a peer on its way to stdout: to anything but a terminal, none."""
    return [] if raw or not os.isatty(STDOUT) else [visible]


def until(pattern: Pattern, found: Callable[[], None], *, cut: bool) -> Change:
    """Pass bytes as they are, and be done with the first match, which is told to ``found``.

    With ``cut`` the output ends with the match, otherwise with the chunk it came in. A match may span chunks as long as
    it fits into the last ``WINDOW`` bytes. Raises SearchTimeout.
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
    """A change that is done with the ``limit``-th byte, which ``filled`` is told."""
    left = limit

    def change(data: bytes) -> bytes:
        nonlocal left
        if len(data) >= left:
            filled()
            raise Done(data[:left])
        left -= len(data)
        return data

    return change
