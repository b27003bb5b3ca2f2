"""The progress and rate of a transfer, as text."""

import pytest

from netkit.core.flow import Transfer
from netkit.output.rate import ProgressLine, RateMeter, outcome
from tests.support.data import MIB


@pytest.mark.parametrize(
    ("transfer", "at", "said"),
    [
        (Transfer("sent", 430 * MIB, 1024 * MIB), 0.5, (430 / 1024, "430 MiB/1.0 GiB", "860 MiB/s", "0:00")),
        (Transfer("sent", 430 * MIB), 3.9, (None, "430 MiB", "110 MiB/s", "0:03")),
        (Transfer("sent", 0), 0.0, (None, "0 B", "0 B/s", "0:00")),
        (Transfer("sent", 0, 5), 0.0, (0.0, "0 B/5 B", "0 B/s", "-:--")),
        (Transfer("sent", 0, 0), 1.0, (1.0, "0 B/0 B", "0 B/s", "0:00")),
        (Transfer("sent", 7, 5), 1.0, (1.0, "7 B/5 B", "7 B/s", "0:00")),
        (Transfer("received", 60, 100, 50), 1.0, (0.6, "60 B/100 B", "10 B/s", "0:04")),
        (Transfer("received", 1, 3601 + 3600), 1.0, (1 / 7201, "1 B/7.0 KiB", "1 B/s", "2:00:00")),
        (Transfer("received", 1, 1 << 50), 1.0, (2**-50, "1 B/1024 TiB", "1 B/s", "-:--")),
        (Transfer("received", 1023 * MIB), 36_000, (None, "1023 MiB", "29 KiB/s", "10:00:00")),
    ],
)
def test_how_far_a_transfer_is(transfer: Transfer, at: float, said: tuple[float | None, str, str, str]) -> None:
    """Progress has share, bytes, rate and time, for any known sizes; bytes of a resumed part do not count as fast."""
    assert RateMeter(0.0).sample(transfer, at) == ProgressLine(*said)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    """The rate is that of the last seconds, so that it soon is 0 in a stall, and the new one after it."""
    pace = RateMeter(100.0)
    told = [
        pace.sample(Transfer("sent", min(tick, 50) * MIB, 100 * MIB), 100 + tick / 10) for tick in (*range(51), 65, 80)
    ]
    assert {each.rate for each in told[1:51]} == {"10 MiB/s"}
    assert [each.clock for each in told[1:51:10]] == ["0:09", "0:08", "0:07", "0:06", "0:05"]
    assert told[51].rate == "5.0 MiB/s"
    assert (told[52].rate, told[52].clock) == ("0 B/s", "-:--")
    again = [pace.sample(Transfer("sent", (50 + tick) * MIB, 100 * MIB), 108 + tick) for tick in range(1, 9)]
    assert again[-1].rate == "1.0 MiB/s"


def test_a_transfer_that_begins_again_is_not_fast_backwards() -> None:
    """The rate of a transfer that starts again is 0, not negative."""
    pace = RateMeter(0.0)
    pace.sample(Transfer("received", 1000), 1.0)
    pace.sample(Transfer("received", 1000), 4.0)
    assert pace.sample(Transfer("received", 10, 20), 4.1).rate == "0 B/s"


@pytest.mark.parametrize(
    ("moved", "seconds", "text"),
    [
        (300 << 20, 3.0, "sent 300.0 MiB in 3 s (100 MiB/s), all acknowledged; received nothing"),
        (300 << 20, 0.04, "sent 300.0 MiB in 40 ms, all acknowledged; received nothing"),
        (3, 1.0, "sent 3 B in 1 s, all acknowledged; received nothing"),
    ],
)
def test_what_a_transfer_came_to(moved: int, seconds: float, text: str) -> None:
    """The summary has a rate if the transfer was large and long enough."""
    assert outcome([Transfer("sent", moved), Transfer("received", 0)], seconds, acknowledges=True) == text
