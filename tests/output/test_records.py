"""Values of ``unpack`` as text and in JSON."""

import json
import math
import random
import struct
from typing import Any

import pytest

from netkit.core.errors import Exit, Failure
from netkit.output.records import numbers, plain, values
from netkit.services.pack.formats import Value, parse
from netkit.services.pack.framing import Source, batches, records


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
    """In JSON text is a string, bytes and text that is not UTF-8 are in base64, and infinity and NaN are strings."""
    assert plain(value) == shown


NUMBERS = ["!IHH", "<q2xbx", "@bhilq", "u8", "u16:port u8:kind i32:seq", "u16le u8 i64le", "!fde", "f32le:ratio f64le"]
SPECIAL = struct.pack("<4d", math.nan, math.inf, -math.inf, -0.0)


def _told(lines: bytes, in_json: bool) -> list[Any]:
    return [{**json.loads(line), "time": ""} if in_json else line for line in lines.splitlines()]


@pytest.mark.parametrize("in_json", [False, True])
@pytest.mark.parametrize("form", NUMBERS)
def test_many_numbers_at_a_time_look_as_each_alone(form: str, in_json: bool) -> None:
    """Numbers formatted in batches give the same lines as record by record, however the input is split."""
    layout = parse(form, 1000, reading=True)
    data = random.Random(form).randbytes(layout.min_size * 50) + SPECIAL * layout.min_size
    chunks = [data[at : at + 7] for at in range(0, 70, 7)] + [data[70:]]
    each = b"".join(values(records(Source([data]), layout.size, 1000, repeat=True), layout, json=in_json))
    many = b"".join(numbers(batches(Source(chunks), layout.min_size), layout, json=in_json))
    assert _told(many, in_json) == _told(each, in_json)


@pytest.mark.parametrize("form", ["u16 u16le", "u8 ip", "?H", "4s", "mac", "str", "3x"])
def test_what_is_not_numbers_in_one_order_is_not_read_as_such(form: str) -> None:
    """Formats with other types than numbers, or with mixed byte orders, are not read in batches."""
    assert parse(form, 1000).numbers is None


def test_a_record_cut_short_fails_after_those_before_it() -> None:
    """A truncated record fails after the complete ones are printed, with the field and its offset in the message."""
    layout = parse("u16 u16:port", 1000)
    told = numbers(batches(Source([bytes(11)]), 4), layout, json=False)
    assert next(told) == b"0\t0\n0\t0\n"
    with pytest.raises(Failure, match=r"field 2 'port' \(u16 at offset 10\): the record ended after 1 of 2") as raised:
        next(told)
    assert raised.value.exit is Exit.PARTIAL
