"""When ``fetch`` tries again, and what a server's Retry-After means."""

import pytest

from netkit.core import events
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import now
from netkit.protocols.http import Head
from netkit.services.fetch.retry import Tries, retry_after
from tests.clock import run

NOON, LATER = "Fri, 20 Nov 2020 12:00:00 GMT", "Fri, 20 Nov 2020 12:00:07 GMT"
NOON_SECONDS = 1605873600.0
REFUSED = Failure(Exit.CONNECT, "connect to h:80", "connection refused")


@pytest.mark.parametrize(
    ("text", "date", "seconds"),
    [
        ("0", None, 0.0),
        (" 120 ", None, 120.0),
        ("9" * 400, None, 999_999_999.0),
        (LATER, NOON, 7.0),
        (NOON, LATER, 0.0),
        (LATER, None, 7.0),
        (LATER, "today", 7.0),
        *((text, NOON, None) for text in (None, "", "-1", "1.5", "soon", "\u0661", "Fri, 99 Nov 2020 12:00:00 GMT")),
        ("Fri, 20 Nov 99999999999999999999 12:00:00 GMT", NOON, None),
        ("Fri, 20 Nov 2020 12:00:00", NOON, None),  # without a zone
    ],
)
def test_retry_after(text: str | None, date: str | None, seconds: float | None) -> None:
    """Seconds, or a date relative to the answer's Date or to our clock; anything else is ignored."""
    given = [(b"retry-after", text), (b"date", date)]
    head = Head(503, "", [(name, value.encode()) for name, value in given if value is not None], b"")
    assert retry_after(head, lambda: NOON_SECONDS) == seconds


def pauses(most: int | None, patience: float | None, after: float | None = None) -> tuple[list[float], Failure]:
    """The pauses between tries that all fail, and the failure at the end."""
    found: list[float] = []

    def observe(event: events.CoreEvent) -> None:
        assert isinstance(event, events.Retrying)
        found.append(event.seconds)

    async def main() -> Failure:
        tries = Tries(most, patience, observe)
        begun = now()
        try:
            while True:
                await tries.again(REFUSED, after)
        except Failure as failure:
            assert now() - begun == pytest.approx(sum(found))
            return failure

    return found, run(main())


@pytest.mark.parametrize(
    ("most", "patience", "after", "expected", "code"),
    [
        (None, None, None, [], Exit.CONNECT),
        (0, None, None, [], Exit.CONNECT),
        (8, None, None, [1, 2, 4, 8, 16, 32, 60, 60], Exit.CONNECT),
        (2, None, 7.0, [7, 7], Exit.CONNECT),
        (2, None, 3601.0, [], Exit.CONNECT),
        (7, None, 0.0, [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5], Exit.CONNECT),
        (None, 0.1, 0.0, [0.02, 0.04, 0.04], Exit.TIMEOUT),
        (None, 1.0, None, [0.02, 0.04, 0.08, 0.16, 0.32, 0.38], Exit.TIMEOUT),
        (None, 10.0, 4.0, [4, 4], Exit.TIMEOUT),
        (None, 10.0, 3601.0, [], Exit.TIMEOUT),
        (1, 10.0, None, [1], Exit.CONNECT),
        (9, 4.0, None, [1, 2, 1], Exit.TIMEOUT),
        (None, 0.0, None, [], Exit.TIMEOUT),
    ],
)
def test_tries(
    most: int | None, patience: float | None, after: float | None, expected: list[float], code: Exit
) -> None:
    """Pauses double, or are those of the server; the failure is that of the last try, or TIMEOUT after the time."""
    found, failure = pauses(most, patience, after)
    assert found == pytest.approx(expected)
    assert failure.exit is code
    assert ("still connection refused" in str(failure)) is (code is Exit.TIMEOUT)
