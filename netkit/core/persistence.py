"""Trying again and again, for as long as --wait says."""

from collections.abc import Awaitable, Callable, Container
from typing import TypeVar

from netkit.core.errors import Exit, Failure
from netkit.core.events import Observer, Retrying, ignore
from netkit.core.kernel import now, sleep
from netkit.core.units import duration

T = TypeVar("T")
MIN_INTERVAL = 0.01  # s between two tries, however short an interval is asked for
FIRST_PAUSE, LAST_PAUSE = 0.02, 0.5  # s between tries where no interval is


async def persist(
    attempt: Callable[[float], Awaitable[T]],
    patience: float,
    again: Container[Exit],
    *,
    timeout: float,
    interval: float | None = None,
    observe: Observer = ignore,
) -> T:
    """Call ``attempt`` until it succeeds, for ``patience`` seconds, while it fails by one of ``again``; once at least.

    It is told how many seconds it may take: ``timeout``, or less when that is all there is. Between two tries
    ``interval`` seconds pass, by default less at first than later. Raises what ``attempt`` does, and Failure TIMEOUT
    with the last reason; that the last attempt of all had too little time is none.
    """
    until = now() + patience
    pause = FIRST_PAUSE
    last: Failure | None = None
    while True:
        seconds = min(timeout, max(until - now(), 0.001))
        try:
            return await attempt(seconds)
        except Failure as failure:
            if failure.exit not in again:
                raise
            if last is None or failure.exit is not Exit.TIMEOUT or seconds == timeout:  # or it was cut short
                last = failure
            left = until - now()
            if left <= 0:
                reason = f"still {last.reason} after {duration(patience)}"
                hint = "" if last.exit is Exit.CONNECT else last.hint  # to wait is what has been done
                raise Failure(Exit.TIMEOUT, last.action, reason, detail=last.detail, hint=hint) from failure
            wait = min(pause if interval is None else max(interval, MIN_INTERVAL), left)
            observe(Retrying(str(failure), wait))
        await sleep(wait)
        pause = min(pause * 2, LAST_PAUSE)
