"""Durations and sizes as text."""

import pytest

from netkit.core import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1024.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (2048 << 40, "2048.0 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    """Sizes up to 1023 are in bytes, larger ones in powers of 1024 up to TiB."""
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.00004, "<0.1 ms"),
        (0.00006, "0.1 ms"),
        (0.0004, "0.4 ms"),
        (0.00996, "10 ms"),
        (0.0123, "12 ms"),
        (0.9996, "1000 ms"),
        (1, "1 s"),
        (1.25, "1.2 s"),
        (90, "90 s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """Durations below a second are in ms, with one decimal where that matters; trailing zeros are dropped."""
    assert units.duration(seconds) == text


def test_milliseconds() -> None:
    """Milliseconds are rounded to at most three decimals."""
    assert [units.milliseconds(seconds) for seconds in (0, 1 / 3, 2.0000004)] == [0, 333.333, 2000.0]
