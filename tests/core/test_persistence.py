"""Repeating an attempt: when, for how long, and with which message at the end."""

from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

import pytest

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import now, sleep
from netkit.core.persistence import pauses, persist
from tests.clock import on_kernel


@pytest.mark.parametrize(
    ("interval", "first"),
    [
        (None, [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]),
        (0.0, [0.01] * 7),
        (0.001, [0.01] * 7),
        (2.0, [2.0] * 7),
    ],
)
def test_pauses(interval: float | None, first: list[float]) -> None:
    """Without an interval the pauses double up to half a second; a given one is at least 10 ms."""
    assert list(islice(pauses(interval), 7)) == first


def failing(*times: float) -> tuple[list[tuple[float, float]], Callable[[float], Coroutine[Any, Any, None]]]:
    """Return an attempt that is refused after the given times, or that times out, and the list of its calls:
    when each was made, and with how much time."""
    made: list[tuple[float, float]] = []
    left = list(times)

    async def attempt(seconds: float) -> None:
        made.append((round(now(), 3), round(seconds, 3)))
        takes = left.pop(0)
        await sleep(min(takes, seconds))
        if takes > seconds:
            raise Failure(Exit.TIMEOUT, "ask", f"no answer within {seconds:.3f} s")
        raise Failure(Exit.CONNECT, "ask", "refused")

    return made, attempt


@pytest.mark.parametrize(
    ("times", "interval", "moments", "reason"),
    [
        ([0.0] * 3, 0.5, [(0.0, 2.0), (0.5, 1.5), (1.0, 1.0)], "still refused after 2 s"),
        ([9.0], None, [(0.0, 2.0)], "still no answer within 2.000 s after 2 s"),
        ([0.0, 9.0], 1.0, [(0.0, 2.0), (1.0, 1.0)], "still refused after 2 s"),
        ([0.7] * 3, 0.3, [(0.0, 2.0), (1.0, 1.0), (2.0, 0.001)], "still refused after 2 s"),
    ],
)
@on_kernel
async def test_when_and_with_how_much_time(
    times: list[float], interval: float | None, moments: list[tuple[float, float]], reason: str
) -> None:
    """The last attempt gets the time that is left; the reason is that of an earlier one if it only lacked time."""
    made, attempt = failing(*times, *[0.0] * 9)
    with pytest.raises(Failure) as failed:
        await persist(attempt, 2.0, (Exit.CONNECT, Exit.TIMEOUT), timeout=10.0, interval=interval)
    assert (failed.value.exit, failed.value.reason) == (Exit.TIMEOUT, reason)
    assert made[: len(moments)] == moments


@on_kernel
async def test_what_does_not_pass_is_not_waited_for() -> None:
    """A failure of another kind is raised at once."""
    made, attempt = failing(0.0)
    with pytest.raises(Failure, match="refused"):
        await persist(attempt, 2.0, (Exit.RESOLVE,), timeout=1.0)
    assert made == [(0.0, 1.0)]
