"""Regular expressions over what a peer sends, with a limit of CPU time, so that a peer cannot block the process.

A timer (SIGVTALRM) ends a search that takes too long: ``re`` runs signal handlers during a match attempt, and ours
raises. It does not run them between two attempts, so a search tries only some starting places in each call.
"""

import os
import re
import signal
from functools import cache, cached_property
from typing import Any

from netkit.core.errors import Exit, Failure
from netkit.core.units import duration

BUDGET = 0.2  # s of CPU for one search
WINDOW = 64 * 1024  # bytes of earlier chunks that are kept to find a match which spans chunks
_PLACES = 256  # starting places that are tried in one call of ``re``
_GLOBAL_FLAGS = re.compile(rb"(?:\(\?[aiLmsux]+\))*")  # ``re`` allows these only at the start


class SearchTimeout(Failure):
    """A search took more CPU time than ``BUDGET``."""

    def __init__(self, pattern: bytes) -> None:
        reason = f"looking for {os.fsdecode(pattern)!r} takes more than {duration(BUDGET)}"
        super().__init__(Exit.PROTOCOL, "search what came", reason)


class _Expired(Exception):
    pass


class Pattern:
    """A regular expression over bytes, with re.MULTILINE. Raises re.error if it is invalid."""

    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern
        self._compiled = _compile(pattern, re.MULTILINE)

    def __repr__(self) -> str:
        return repr(os.fsdecode(self.pattern))

    def search(self, data: bytes) -> "re.Match[bytes] | None":
        """The first match, as ``re`` finds it. Raises SearchTimeout."""
        if not set(self.pattern) & set(b"*+?{|"):  # without repetition and alternatives the time is linear
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
        """A pattern that matches up to where the next match of ``pattern`` begins, if at one of the next _PLACES."""
        flags = _GLOBAL_FLAGS.match(self.pattern)
        assert flags is not None
        end = b"\n" if self._compiled.flags & re.VERBOSE else b""  # the pattern may end in a comment
        ahead = b"(?s:.{0,%d}?)(?=%b%b)" % (_PLACES - 1, self.pattern[flags.end() :], end)
        return _compile(ahead, self._compiled.flags)


def _compile(pattern: bytes, flags: int) -> re.Pattern[bytes]:
    import warnings

    with warnings.catch_warnings(action="ignore"):  # FutureWarning: a later Python may read "[[" as a nested set
        return re.compile(pattern, flags)


def parse(text: str) -> Pattern:
    """Parse a regular expression in Python's syntax; ^ and $ match at each line. Raises ValueError."""
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
