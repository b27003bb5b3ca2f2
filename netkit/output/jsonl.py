"""JSON Lines: one object per line, in printable ASCII, so no value can break the line or control a terminal.

A byte of a path or name that is not UTF-8 is written as in messages, so the parsed text has the four characters
``\\xff``: half a surrogate pair, as ``os.fsdecode`` keeps it, is no text (RFC 8259, section 8.2), and strict parsers
refuse it.
"""

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from netkit.core.errors import Exit, Failure
from netkit.output.escape import printable

if TYPE_CHECKING:
    from netkit.core.address import Endpoint

# A backslash or a surrogate pair as JSON writes them, or half a pair, which is the group.
_SURROGATES = re.compile(r"\\\\|\\ud[89ab]..\\ud[c-f]..|\\u(d[89a-f]..)")


def record(event: str, /, command: str, **fields: Any) -> str:
    """A line, without its newline, for an event that happens now. Fields that are None are left out."""
    return line(command=command, event=event, time=moment(), **fields)


def line(**fields: Any) -> str:
    """An object as a line, without its newline. Fields that are None are left out."""
    import json

    given = {name: value for name, value in fields.items() if value is not None}
    text = json.dumps(given).replace("\x7f", "\\u007f")
    return _SURROGATES.sub(_visible, text) if "\\ud" in text else text


def _visible(found: re.Match[str]) -> str:
    return found[0] if found[1] is None else "\\" + printable(chr(int(found[1], 16)))


def moment() -> str:
    """The current time in UTC, to the microsecond (RFC 3339)."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds // 1000:06d}Z"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def octets(data: bytes) -> dict[str, str]:
    """The fields for bytes: ``data`` in base64, and also ``text`` if they are UTF-8."""
    import binascii

    fields = {"data": binascii.b2a_base64(data, newline=False).decode()}
    try:
        fields["text"] = data.decode()
    except UnicodeDecodeError:
        pass
    return fields


def ends_of(protocol: str = "tcp", /, **ends: "Endpoint") -> dict[str, Any]:
    """The address and port of each endpoint, and their family and protocol. A unix address is ``unix:PATH``."""
    fields: dict[str, Any] = {}
    for name, end in ends.items():
        fields[f"{name}_address"] = end.host or str(end._replace(udp=False))
        fields[f"{name}_port"] = None if end.path is not None else end.port
        if end.path is None:
            fields["family"] = family_name(end.host or "")
        fields["protocol"] = "unix" if end.path is not None else "udp" if end.udp else protocol
    return fields


def family_name(address: str) -> str:
    """The family of an IP address: ipv4 or ipv6."""
    return "ipv6" if ":" in address else "ipv4"


def failed(failure: Failure) -> dict[str, Any]:
    """The fields of a failure."""
    return _ended(failure.exit, failure.reason, str(failure), failure.errno)


def mistaken(sentence: str) -> dict[str, Any]:
    """The fields of a usage error."""
    return _ended(Exit.USAGE, sentence, sentence, None)


def _ended(exit: Exit, reason: str, message: str, errno: int | None) -> dict[str, Any]:
    error = {"kind": exit.name.lower(), "message": message, "errno": errno}
    return {"reason": reason, "exit_code": int(exit), "error": error}
