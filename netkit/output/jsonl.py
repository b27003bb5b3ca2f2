"""JSON Lines: one object on one line, in ASCII, so that it can neither break a line nor reach a terminal raw."""

import base64
import json
import time
from typing import Any

from netkit.core.errors import Failure


def record(event: str, /, command: str, **fields: Any) -> str:
    """Return the line, without its newline, of something that happened just now; fields that are None are left out."""
    return line(command=command, event=event, time=moment(), **fields)


def line(**fields: Any) -> str:
    """Return one object as a line without its newline; fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given).replace("\x7f", "\\u007f")


def octets(data: bytes) -> dict[str, str]:
    """Return the fields for bytes: ``data`` in base64, and ``text`` beside it where they are UTF-8."""
    fields = {"data": base64.b64encode(data).decode()}
    try:
        fields["text"] = data.decode()
    except UnicodeDecodeError:
        pass
    return fields


def moment() -> str:
    """Return the time of the clock on the wall, in UTC, to the microsecond (RFC 3339)."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds // 1000:06d}Z"


def failed(failure: Failure) -> dict[str, Any]:
    """Return the fields of a failure for JSON."""
    return {
        "reason": failure.reason,
        "exit_code": int(failure.exit),
        "error": {"kind": failure.exit.name.lower(), "message": str(failure), "errno": failure.errno},
    }
