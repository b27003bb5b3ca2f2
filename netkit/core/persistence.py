"""Retrying an action for a given time, as for --wait."""

from collections.abc import Awaitable, Callable, Container, Iterator
from typing import TypeVar

from netkit.core.errors import Exit, Failure
from netkit.core.events import Observer, Retrying, ignore
from netkit.core.kernel import now, sleep
from netkit.core.units import duration

T = TypeVar("T")
_MIN_INTERVAL = 0.01  # s between two tries, however short an interval is asked for
FIRST_PAUSE, LAST_PAUSE = 0.02, 0.5  # s between tries without an interval; the pause doubles from one to the other


def pauses(interval: float | None) -> Iterator[float]:
    """Yield how many seconds to wait before the next try, each time: ``interval``, or by default more and more."""
    pause = FIRST_PAUSE
    while True:
        yield pause if interval is None else max(interval, _MIN_INTERVAL)
        pause = min(pause * 2, LAST_PAUSE)


async def persist(
    attempt: Callable[[float], Awaitable[T]],
    patience: float,
    again: Container[Exit],
    *,
    timeout: float,
    interval: float | None = None,
    observe: Observer = ignore,
) -> T:
    """Call ``attempt`` until it succeeds, for ``patience`` seconds, as long as it fails with a code in ``again``.

    It is called at least once. Its argument is how many seconds it may take: ``timeout``, or what is left of
    ``patience``. ``interval`` is the pause between tries in seconds. Raises other failures of ``attempt`` at once, and
    Failure TIMEOUT, with the reason of the last failure, at the end. (The reason of a last try that timed out only
    because it had less than ``timeout`` is not used, if there is another.)
    """
    until = now() + patience
    between = pauses(interval)
    last: Failure | None = None
    while True:
        seconds = min(timeout, max(until - now(), 0.001))
        try:
            return await attempt(seconds)
        except Failure as failure:
            if failure.exit not in again:
                raise
            if last is None or failure.exit is not Exit.TIMEOUT or seconds == timeout:
                last = failure
            left = until - now()
            if left <= 0:
                reason = f"still {last.reason} after {duration(patience)}"
                hint = "" if last.exit is Exit.CONNECT else last.hint  # that hint is to wait, which was done
                raise Failure(Exit.TIMEOUT, last.action, reason, detail=last.detail, hint=hint) from failure
            wait = min(next(between), left)
            observe(Retrying(str(failure), wait))
        await sleep(wait)
