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

EVIL = "a\nb\x1b[31m\x7f\x9b‮"


def test_a_record_is_one_line_of_printable_ascii() -> None:
    """Any text is escaped to printable ASCII, and decoded as it was."""
    line = record("closed", "connect", reason=EVIL, host=None)
    assert all(" " <= c <= "~" for c in line)
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {"command": "connect", "event": "closed", "reason": EVIL}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("\udcff", r"\xff"),
        ("a\udc80\udcffb", r"a\x80\xffb"),
        ("\ud83d-\ude00", r"\ud83d-\ude00"),
        ("\udcff\U0001f480\udcff", "\\xff\U0001f480\\xff"),  # whose second half is \udc80
        (r"\udcff", r"\udcff"),
        ("\\\udcff", r"\\xff"),
        ("é\ud7ff\ue000\uffff\U0001f600", "é\ud7ff\ue000\uffff\U0001f600"),
    ],
)
def test_what_is_no_text_is_escaped_as_in_messages(text: str, read: str) -> None:
    """Half a surrogate pair, which strict parsers refuse, is written as the byte it stands for; all else is kept."""
    for value in (text, [text], {text: {"name": text}}):
        line = record("any", "connect", value=value)
        found = json.loads(line)["value"]
        assert json.dumps(found) in line
        assert found == json.loads(json.dumps(value).replace(json.dumps(text), json.dumps(read)))


@given(st.text(st.characters() | st.sampled_from("\ud83d\ude00\udc80\udcff\\")))
def test_every_line_is_unicode(text: str) -> None:
    """What is parsed can be encoded, whatever the text, and is the same if the text can be."""
    found = json.loads(record("any", "connect", value=text))["value"]
    found.encode()
    try:
        text.encode()
    except UnicodeEncodeError:
        pass
    else:
        assert found == text


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
