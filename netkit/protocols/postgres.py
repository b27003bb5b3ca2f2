"""Messages of PostgreSQL up to the login: requests, answers, errors (its manual, "Message Formats")."""

import struct

from netkit.protocols.dialogue import Malformed

# The length of the request and its code, 1234 and 5679.
SSL_REQUEST = struct.pack("!IHH", 8, 1234, 5679)
TERMINATE = b"X" + struct.pack("!I", 4)
_MAX_SIZE = 30_000  # bytes, as in libpq: if the length is greater, the bytes are text of protocol 2
# First bytes: Authentication, ErrorResponse, NegotiateProtocolVersion, NoticeResponse, ParameterStatus, BackendKeyData,
# ReadyForQuery.
_ANSWERS = b"REvNSKZ"


def startup(user: str, database: str) -> bytes:
    """Encode a StartupMessage of protocol 3.0."""
    words = ("user", user, "database", database)
    body = struct.pack("!HH", 3, 0) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    return struct.pack("!I", 4 + len(body)) + body


def end_of_error(data: bytes) -> int:
    """The Frame of an ErrorResponse. That of protocol 2, sent by a server out of memory, is text up to a NUL."""
    if data[:1] not in (b"", b"E"):
        raise Malformed(data)
    if len(data) < 5:
        return 0
    size = int.from_bytes(data[1:5], "big")
    if 8 <= size <= _MAX_SIZE:
        return 1 + size
    text, end, _ = data.partition(b"\0")
    if b"\r" in text:
        raise Malformed(data)
    return len(text + end) if end else 0


def end_of_answer(data: bytes) -> int:
    """The Frame of a message in answer to a StartupMessage."""
    if data[:1] == b"E":
        return end_of_error(data)
    if data and data[0] not in _ANSWERS:
        raise Malformed(data)
    if len(data) < 5:
        return 0
    size = int.from_bytes(data[1:5], "big")
    if not 4 <= size <= _MAX_SIZE:
        raise Malformed(data)
    return 1 + size


def error_fields(answer: bytes) -> dict[bytes, bytes]:
    """The fields of an ErrorResponse by their letters: C is the SQLSTATE, M the message. Protocol 2 has only M."""
    fields = {field[:1]: field[1:] for field in answer[5:].split(b"\0") if field}
    return fields if b"M" in fields else {b"M": answer[1:].rstrip(b"\0")}
