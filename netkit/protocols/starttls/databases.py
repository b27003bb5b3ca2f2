"""TLS in databases: what clients of PostgreSQL and MySQL send in place of a login, and before it."""

import struct

from netkit.protocols.dialogue import Malformed, Names, Refused, refused
from netkit.protocols.starttls.dialogue import Dialogue

_NOT_OFFERED = "it does not offer TLS"

# PostgreSQL's manual, "Message Formats": the length of the request and its code, 1234 and 5679.
_SSL_REQUEST = struct.pack("!IHH", 8, 1234, 5679)
_MAX_ERROR = 30_000  # bytes, as libpq has it: a length beyond it is text of protocol 2

# MySQL's "Client/Server Protocol", protocol::Capabilities.
_LONG_PASSWORD, _LONG_FLAG, _PROTOCOL_41, _SSL = 0x1, 0x4, 0x200, 0x800
_TRANSACTIONS, _SECURE_CONNECTION, _PLUGIN_AUTH = 0x2000, 0x8000, 0x80000
_CAPABILITIES = _LONG_PASSWORD | _LONG_FLAG | _PROTOCOL_41 | _SSL | _TRANSACTIONS | _SECURE_CONNECTION | _PLUGIN_AUTH
_MAX_PACKET = 1 << 24
_UTF8MB4 = 45  # the number of utf8mb4_general_ci
_ERROR, _VERSION = 0xFF, 10  # how a packet begins: an error, or the greeting of protocol 10


def postgres(names: Names) -> Dialogue:
    """The SSLRequest of PostgreSQL. An answer that is no letter of it is an error, which ends the connection."""
    yield _SSL_REQUEST
    answer = yield _end_of_answer
    if answer == b"N":
        raise Refused(_NOT_OFFERED)
    if answer != b"S":
        raise refused("TLS", _error_text(answer))


def _end_of_answer(data: bytes) -> int:
    if data[:1] in (b"S", b"N"):
        return 1
    if data[:1] not in (b"", b"E"):
        raise Malformed(data)
    if len(data) < 5:
        return 0
    size = int.from_bytes(data[1:5], "big")
    return 1 + size if 8 <= size <= _MAX_ERROR else data.find(b"\0") + 1


def _error_text(answer: bytes) -> bytes:
    """What an ErrorResponse says: its field M, or all of it where it has none, as in protocol 2."""
    for field in answer[5:].split(b"\0"):
        if field.startswith(b"M"):
            return field[1:]
    return answer[1:].rstrip(b"\0")


def mysql(names: Names) -> Dialogue:
    """The SSLRequest of MySQL and MariaDB, sent in answer to the greeting; TLS follows it at once."""
    packet = yield _end_of_packet
    payload = packet[4:]
    if payload[:1] == bytes([_ERROR]):
        raise refused("the connection", payload[3:])
    if payload[:1] != bytes([_VERSION]):
        raise Malformed(packet)
    # Behind the version's name: the connection's number, 8 bytes of a challenge, a zero, and the capabilities.
    _, _, rest = payload[1:].partition(b"\0")
    if len(rest) < 15:
        raise Malformed(packet)
    (offered,) = struct.unpack_from("<H", rest, 13)
    if not offered & _SSL:
        raise Refused(_NOT_OFFERED)
    request = struct.pack("<IIB23x", _CAPABILITIES, _MAX_PACKET, _UTF8MB4)
    yield len(request).to_bytes(3, "little") + bytes([1]) + request


def _end_of_packet(data: bytes) -> int:
    if len(data) > 3 and data[3]:  # the number of the packet
        raise Malformed(data)
    return 4 + int.from_bytes(data[:3], "little") if len(data) > 3 else 0
