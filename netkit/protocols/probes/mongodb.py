"""The probe of MongoDB: the command hello (https://www.mongodb.com/docs/manual/reference/command/hello/) in OP_MSG."""

import struct

from netkit.protocols.dialogue import LIMIT, Malformed, Names, NotReady, Steps

# "MongoDB Wire Protocol": length, request id, id of the request answered, operation; then flags, and a kind of section.
_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_PREFIX = _HEADER.size + 5
_UNKNOWN_COMMAND = 59  # CommandNotFound

# https://bsonspec.org/spec.html: the sizes of values by type; for values with a length first, the bytes it leaves out.
_SIZES = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0}
_UNCOUNTED = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5, 0x0C: 16, 0x0D: 4, 0x0E: 4, 0x0F: 0}
_REGEX = 0x0B  # two strings that end with NUL
_STRING, _INT32 = 0x02, 0x10
_NUMBERS = {0x01: "<d", 0x08: "<?", _INT32: "<i", 0x12: "<q"}

_Document = dict[str, float | str]


def mongodb(names: Names) -> Steps[str]:
    """Ask for the role: a primary, a secondary or a mongos is ready. Servers before 4.4.2 know only isMaster."""
    for number, command in enumerate(("hello", "isMaster"), 1):
        yield _message(number, command)
        answer = yield _end_of_message
        if _HEADER.unpack_from(answer)[2] != number:
            raise Malformed(answer)
        try:
            told = _document(answer[_PREFIX:])
        except (ValueError, struct.error):
            raise Malformed(answer) from None
        if told.get("code") != _UNKNOWN_COMMAND:
            break
    if told.get("ok") != 1:
        raise NotReady(str(told.get("errmsg", f"it refused {command}")))
    if not (told.get("isWritablePrimary") or told.get("ismaster") or told.get("secondary")):
        reason = "it is neither primary nor secondary"
        raise NotReady(f"{reason}: {told['info']}" if told.get("info") else reason)
    return ""


def _message(number: int, command: str) -> bytes:
    elements = bytes([_INT32]) + command.encode() + b"\0" + struct.pack("<i", 1)
    elements += bytes([_STRING]) + b"$db\0" + struct.pack("<i", 6) + b"admin\0"
    document = struct.pack("<i", 4 + len(elements) + 1) + elements + b"\0"
    return _HEADER.pack(_PREFIX + len(document), number, 0, _OP_MSG) + bytes(5) + document


def _end_of_message(data: bytes) -> int:
    if len(data) < 4:
        return 0
    size = int.from_bytes(data[:4], "little")
    if not _PREFIX < size <= LIMIT or (len(data) >= _HEADER.size and _HEADER.unpack_from(data)[3] != _OP_MSG):
        raise Malformed(data)
    return size


def _document(data: bytes) -> _Document:
    """The numbers and strings of a document by name, without nested ones. Raises ValueError or struct.error."""
    (size,) = struct.unpack_from("<i", data)
    if data[size - 1 : size] != b"\0":
        raise ValueError("cut short")
    found: _Document = {}
    place = 4
    while place < size - 1:
        kind = data[place]
        end = data.index(b"\0", place + 1)
        name = data[place + 1 : end].decode("utf-8", "backslashreplace")
        place = end + 1
        if kind in _NUMBERS:
            (found[name],) = struct.unpack_from(_NUMBERS[kind], data, place)
        if kind in _UNCOUNTED:
            (length,) = struct.unpack_from("<I", data, place)
            if kind == _STRING:
                found[name] = data[place + 4 : place + 3 + length].decode("utf-8", "backslashreplace")
            place += _UNCOUNTED[kind] + length
        elif kind == _REGEX:
            place = data.index(b"\0", data.index(b"\0", place) + 1) + 1
        elif kind in _SIZES:
            place += _SIZES[kind]
        else:
            raise ValueError("no such type")
    if place != size - 1:
        raise ValueError("cut short")
    return found
