"""Regular expressions over what a peer sends, within a budget: a peer that makes one run away holds nobody up.

``re`` holds the one thread, and does not look for signals between two places where a match might start. So a search
tries them a few at a time, and a timer ends it: ``re`` calls the handlers of signals now and then, and ours raises.
"""

import os
import re
import signal
from functools import cache, cached_property
from typing import Any

from netkit.core.errors import Exit, Failure
from netkit.core.units import duration

BUDGET = 0.2  # s of CPU for one search
WINDOW = 64 * 1024  # bytes back in which a match that spans chunks is found
_PLACES = 256  # where a match may start, tried before signals are looked for
_GLOBAL_FLAGS = re.compile(rb"(?:\(\?[aiLmsux]+\))*")  # which may stand at the start alone


class SearchTimeout(Failure):
    """A search went over its budget."""

    def __init__(self, pattern: bytes) -> None:
        reason = f"looking for {os.fsdecode(pattern)!r} takes more than {duration(BUDGET)}"
        super().__init__(Exit.PROTOCOL, "search what came", reason)


class _Expired(Exception):
    pass


class Pattern:
    """A regular expression over bytes, MULTILINE. Raises re.error if it is none."""

    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern
        self._compiled = _compile(pattern, re.MULTILINE)

    def __repr__(self) -> str:
        return repr(os.fsdecode(self.pattern))

    def search(self, data: bytes) -> "re.Match[bytes] | None":
        """The first match, as ``re`` finds it. Raises SearchTimeout."""
        if not set(self.pattern) & set(b"*+?{|"):  # it takes as long as data is, whatever that is
            return self._compiled.search(data)
        _arm()
        try:
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, BUDGET)
                return self._search(data)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except _Expired:
            raise SearchTimeout(self.pattern) from None

    def _search(self, data: bytes) -> "re.Match[bytes] | None":
        for begin in range(0, len(data) + 1, _PLACES):
            if found := self._ahead.match(data, begin):
                return self._compiled.match(data, found.end())
        return None

    @cached_property
    def _ahead(self) -> re.Pattern[bytes]:
        """The pattern that goes on to where a match begins, if that is one of the next places."""
        flags = _GLOBAL_FLAGS.match(self.pattern)
        assert flags is not None
        end = b"\n" if self._compiled.flags & re.VERBOSE else b""  # of a comment
        ahead = b"(?s:.{0,%d}?)(?=%b%b)" % (_PLACES - 1, self.pattern[flags.end() :], end)
        return _compile(ahead, self._compiled.flags)


def _compile(pattern: bytes, flags: int) -> re.Pattern[bytes]:
    import warnings

    with warnings.catch_warnings(action="ignore"):  # "[[" may mean something else in a later Python
        return re.compile(pattern, flags)


def parse(text: str) -> Pattern:
    """A regular expression of Python's, over bytes; ^ and $ match at lines. Raises ValueError."""
    try:
        return Pattern(os.fsencode(text))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None


@cache
def _arm() -> None:
    signal.signal(signal.SIGVTALRM, _expire)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGVTALRM})


def _expire(*signal: Any) -> None:
    raise _Expired
