"""Retries of a request: how many, for how long, with which pauses, and Retry-After."""

import time
from collections.abc import Callable

from netkit.core.errors import Exit, Failure
from netkit.core.events import Observer, Retrying
from netkit.core.kernel import now, sleep
from netkit.core.persistence import FIRST_PAUSE, LAST_PAUSE
from netkit.core.units import duration
from netkit.protocols.http import Head

# Statuses after which a retry may help: RFC 9110, sections 15.5.9 and 15.6.3 to 15.6.5; RFC 6585.
BUSY = (408, 429, 502, 503, 504)
LEFT = (Exit.SEND, Exit.RECV, Exit.PROTOCOL, Exit.PARTIAL)  # failures of a server that left without an answer
NO_ANSWER = (Exit.TIMEOUT, *LEFT)  # failures to retry after, if no byte was received
_FIRST_COUNTED, _LAST_COUNTED = 1.0, 60.0  # s between tries with --retry, about as in curl
_LONGEST = 3600.0  # s: no longer Retry-After is waited for


class Tries:
    """Allows ``most`` retries, or as many as begin within ``patience`` seconds. If both are None there are none.

    ``until`` is when ``patience`` is over, by the kernel's clock; None without it.
    """

    def __init__(self, most: int | None, patience: float | None, observe: Observer) -> None:
        self._left = most if most is not None or patience is not None else 0
        self._patience = patience
        self.until = None if patience is None else now() + patience
        self._pause, self._last = (FIRST_PAUSE, LAST_PAUSE) if most is None else (_FIRST_COUNTED, _LAST_COUNTED)
        self._least = FIRST_PAUSE  # before a retry, even after Retry-After: 0
        self._why: Failure | None = None  # the last failure other than TIMEOUT
        self._observe = observe

    @property
    def seconds(self) -> float | None:
        """How many seconds of ``patience`` are left, at least 0.001; None without it."""
        return None if self.until is None else max(self.until - now(), 0.001)

    def allow(self, after: float | None = None) -> bool:
        """Whether there may be another try, for a server that sent Retry-After of ``after`` seconds."""
        return self._left != 0 and (self.until is not None or (after or 0) <= _LONGEST)

    async def again(self, why: Failure, after: float | None = None) -> None:
        """Wait until the next try; raise ``why``, the failure of this one, if it was the last.

        ``after`` are the seconds of Retry-After, if any. Raises Failure TIMEOUT if ``patience`` ends before that.
        """
        if not self.allow(after):
            raise why
        if self._why is None or why.exit is not Exit.TIMEOUT:
            self._why = why
        pause = self._pause if after is None else max(after, self._least)
        if self.until is not None:
            left = self.until - now()
            if left <= 0 or (after or 0) > left:
                why = self._why
                asks = f", and asks for another {duration(after)}" if after else ""
                reason = f"still {why.reason}{asks} after {duration(self._patience or 0)}"
                hint = "" if why.exit is Exit.CONNECT else why.hint  # that hint is to wait, which was done
                raise Failure(Exit.TIMEOUT, why.action, reason, detail=why.detail, hint=hint) from why
            pause = min(pause, left)
        self._left = None if self._left is None else self._left - 1
        self._pause = min(self._pause * 2, self._last)
        self._least = min(self._least * 2, LAST_PAUSE)
        self._observe(Retrying(str(why), pause))
        await sleep(pause)


def retry_after(head: Head, clock: Callable[[], float] = time.time) -> float | None:
    """The seconds of Retry-After (RFC 9110, section 10.2.3); None if it is missing or malformed.

    A date is relative to the response's Date, or else to our ``clock``.
    """
    text = (head.get("retry-after") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    due, since = head.date("retry-after"), head.date("date")
    return None if due is None else max(due - (clock() if since is None else since), 0.0)
