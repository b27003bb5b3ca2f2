"""Encoding and parsing of LDAP messages in BER (RFC 4511)."""

from typing import NamedTuple

from netkit.protocols.dialogue import Malformed

SEQUENCE, INTEGER, BOOLEAN, ENUMERATED, STRING = 0x30, 0x02, 0x01, 0x0A, 0x04
EXTENDED_RESPONSE = 0x78  # section 4.12
SUCCESS = 0
# Result codes of appendix A.
RESULTS = {
    **{1: "operationsError", 2: "protocolError", 8: "strongerAuthRequired", 10: "referral"},
    **{13: "confidentialityRequired", 32: "noSuchObject", 48: "inappropriateAuthentication"},
    **{50: "insufficientAccessRights", 51: "busy", 52: "unavailable", 53: "unwillingToPerform", 80: "other"},
}


class Message(NamedTuple):
    """A message: its id, the tag of its operation, and the operation's content."""

    id: int
    operation: int
    content: bytes


def element(tag: int, *contents: bytes) -> bytes:
    """Encode an element whose content has less than 128 bytes."""
    content = b"".join(contents)
    assert len(content) < 0x80
    return bytes((tag, len(content))) + content


def request(id: int, operation: bytes) -> bytes:
    """Encode a message with an operation."""
    return element(SEQUENCE, element(INTEGER, bytes([id])), operation)


def end_of_message(data: bytes) -> int:
    """The Frame of a message."""
    if data and data[0] != SEQUENCE:
        raise Malformed(data)
    return _end_of_element(data)


def parse(answer: bytes) -> Message:
    """Parse a message. Raises Malformed."""
    try:
        [(_, message)] = _elements(answer)
        (number, id), (operation, content), *_ = _elements(message)
    except ValueError:
        raise Malformed(answer) from None
    if number != INTEGER:
        raise Malformed(answer)
    return Message(int.from_bytes(id, "big"), operation, content)


def result(message: Message, answer: bytes) -> tuple[int, bytes]:
    """The code of the LDAPResult in a message (section 4.1.9), and a text: the code's name and the server's words."""
    try:
        (kind, code), (_, _), (_, text), *_ = _elements(message.content)
    except ValueError:
        raise Malformed(answer) from None
    if kind != ENUMERATED:
        raise Malformed(answer)
    value = int.from_bytes(code, "big")
    words = f"result {value} ({RESULTS[value]})" if value in RESULTS else f"result {value}"
    return value, b" ".join((words.encode(), text))


def _end_of_element(data: bytes) -> int:
    """The length of the element at the start of ``data``, 0 if more is needed. LDAP has no indefinite lengths."""
    if len(data) < 2:
        return 0
    if data[1] < 0x80:
        return 2 + data[1]
    size = data[1] & 0x7F
    if not 1 <= size <= 4:
        raise Malformed(data)
    begin = 2 + size
    return begin + int.from_bytes(data[2:begin], "big") if len(data) >= begin else 0


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents of consecutive elements. Raises ValueError if they are truncated."""
    found = []
    while data:
        end = _end_of_element(data)
        if not 0 < end <= len(data):
            raise ValueError("cut short")
        begin = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
        found.append((data[0], data[begin:end]))
        data = data[end:]
    return found
