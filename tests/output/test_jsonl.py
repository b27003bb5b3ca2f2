"""JSON Lines: each record is an object on one line of ASCII."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.errors import Exit, Failure
from netkit.output import jsonl
from netkit.output.jsonl import octets, record

EVIL = "a\nb\x1b[31m\x7f\x9b‮\udcff"


def test_a_record_is_one_line_of_printable_ascii() -> None:
    """Any text is escaped to printable ASCII, and decoded as it was."""
    line = record("closed", "connect", reason=EVIL, host=None)
    assert all(" " <= c <= "~" for c in line)
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {"command": "connect", "event": "closed", "reason": EVIL}


def test_the_time_is_now() -> None:
    """A record has the current time, with a time zone."""
    before = datetime.now(UTC)
    told = datetime.fromisoformat(json.loads(record("any", "connect"))["time"])
    assert before <= told <= datetime.now(UTC)


@given(st.binary(max_size=64))
def test_bytes_come_back(data: bytes) -> None:
    """Bytes are in base64, and also text if they are UTF-8."""
    fields = octets(data)
    assert base64.b64decode(fields["data"]) == data
    try:
        assert data.decode() == fields["text"]
    except UnicodeDecodeError:
        assert "text" not in fields


@pytest.mark.parametrize("code", [code for code in Exit if code > Exit.USAGE and code < Exit.SIGNAL])
def test_failure(code: Exit) -> None:
    """A failure has its reason, exit code, the code's name as ``kind``, the message and the errno."""
    failure = Failure(code, "do it", OSError(104, "ignored"), detail="after 4 bytes")
    assert jsonl.failed(failure) == {
        "reason": "connection reset by peer",
        "exit_code": int(code),
        "error": {
            "kind": code.name.lower(),
            "message": "cannot do it: connection reset by peer (after 4 bytes)",
            "errno": 104,
        },
    }
    assert jsonl.failed(Failure(code, "do it", "it ended before"))["error"]["errno"] is None
