"""Ends that the data decides: a pattern that came, or a number of bytes."""

import re
from collections.abc import Callable

from netkit.core.relay import Change, Done

WINDOW = 64 * 1024  # bytes back in which a match that spans chunks is found


def until(pattern: re.Pattern[bytes], found: Callable[[], None], *, cut: bool) -> Change:
    """Return a change that passes bytes as they are and is done with the first match, which ``found`` is told.

    With ``cut`` the output ends with the match, otherwise with the chunk it came in. A match may span chunks as long as
    it fits into the last ``WINDOW`` bytes.
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


def at_most(limit: int) -> Change:
    """Return a change that is done with the ``limit``-th byte."""
    left = limit

    def change(data: bytes) -> bytes:
        nonlocal left
        if len(data) >= left:
            raise Done(data[:left])
        left -= len(data)
        return data

    return change


def prefixed(prefix: bytes) -> Change:
    """Return a change that puts ``prefix`` in front of each line, as soon as its first byte comes."""
    fresh = True

    def change(data: bytes) -> bytes:
        nonlocal fresh
        if not data:
            return b""
        head = prefix if fresh else b""
        fresh = data.endswith(b"\n")
        body = data[:-1] if fresh else data
        return head + body.replace(b"\n", b"\n" + prefix) + (b"\n" if fresh else b"")

    return change
