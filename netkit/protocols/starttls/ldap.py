"""STARTTLS in LDAP: an extended request and its response, in BER (RFC 4511, sections 4.12 and 4.14)."""

from netkit.protocols.dialogue import Malformed, Names, refused
from netkit.protocols.starttls.dialogue import Dialogue

_OID = b"1.3.6.1.4.1.1466.20037"
_SEQUENCE, _INTEGER, _ENUMERATED, _STRING = 0x30, 0x02, 0x0A, 0x04
_EXTENDED_REQUEST, _EXTENDED_RESPONSE, _REQUEST_NAME = 0x77, 0x78, 0x80  # section 4.12
_MESSAGE = 1  # its number; 0 is what a server says of itself
_SUCCESS = 0
# The result codes of RFC 4511, appendix A, that are meant for StartTLS (section 4.14.1).
_RESULTS = {
    **{1: "operationsError", 2: "protocolError", 10: "referral", 52: "unavailable", 53: "unwillingToPerform"},
    **{8: "strongerAuthRequired", 13: "confidentialityRequired", 50: "insufficientAccessRights", 80: "other"},
}


def ldap(names: Names) -> Dialogue:
    """The extended operation StartTLS."""
    request = _element(_EXTENDED_REQUEST, _element(_REQUEST_NAME, _OID))
    yield _element(_SEQUENCE, _element(_INTEGER, bytes([_MESSAGE])) + request)
    answer = yield _end_of_message
    try:
        [(_, message)] = _elements(answer)
        (number, id), (response, result), *_ = _elements(message)
        (kind, code), (_, _), (_, text), *_ = _elements(result)
    except ValueError:
        raise Malformed(answer) from None
    if (number, response, kind) != (_INTEGER, _EXTENDED_RESPONSE, _ENUMERATED):
        raise Malformed(answer)
    value = int.from_bytes(code, "big")
    if value != _SUCCESS or int.from_bytes(id, "big") != _MESSAGE:
        words = f"result {value} ({_RESULTS[value]})" if value in _RESULTS else f"result {value}"
        raise refused("STARTTLS", b" ".join((words.encode(), text)))


def _element(tag: int, content: bytes) -> bytes:
    assert len(content) < 0x80
    return bytes((tag, len(content))) + content


def _end_of_message(data: bytes) -> int:
    if data and data[0] != _SEQUENCE:
        raise Malformed(data)
    return _end_of_element(data)


def _end_of_element(data: bytes) -> int:
    """The length of the element that these bytes begin with, 0 while they do not tell. LDAP knows no open ones."""
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
    """Tags and contents of elements in a row. Raises ValueError if they are cut short."""
    found = []
    while data:
        end = _end_of_element(data)
        if not 0 < end <= len(data):
            raise ValueError("cut short")
        begin = 2 if data[1] < 0x80 else 2 + (data[1] & 0x7F)
        found.append((data[0], data[begin:end]))
        data = data[end:]
    return found
