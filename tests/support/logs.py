"""The records of ``--log``."""

import base64
import json
from pathlib import Path
from typing import Any


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log."""
    text = path.read_text(encoding="ascii")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def octets(record: dict[str, Any]) -> bytes:
    """Return the bytes of a record, and check that its text says the same."""
    data = base64.b64decode(record["data"], validate=True)
    try:
        assert record.get("text") == data.decode()
    except UnicodeDecodeError:
        assert "text" not in record
    return data


def heard(records: list[dict[str, Any]], direction: str) -> bytes:
    """Return all data that was "sent" or "received"."""
    return b"".join(octets(record) for record in records if record["direction"] == direction)
