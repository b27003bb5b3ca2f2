"""How values look."""

import math
from typing import Any

import pytest

from netkit.output.records import plain
from netkit.services.pack.formats import Value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7, 7),
        (True, True),
        (1.5, 1.5),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        ("hi", "hi"),
        ("caf\u00e9", "caf\u00e9"),
        ("a\udcff", {"data": "Yf8="}),
        (b"hi", {"data": "aGk=", "text": "hi"}),
        (b"\xff", {"data": "/w=="}),
    ],
)
def test_values_in_json(value: Value, shown: Any) -> None:
    """Text is a string, bytes are octets, and so is text that is not UTF-8; JSON has no infinity."""
    assert plain(value) == shown
