"""MySQL's packets before a login, as its "Client/Server Protocol" has them."""

import struct

from netkit.protocols.dialogue import LIMIT, Frame, Malformed

# protocol::Capabilities
LONG_PASSWORD, LONG_FLAG, PROTOCOL_41, SSL = 0x1, 0x4, 0x200, 0x800
TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH = 0x2000, 0x8000, 0x80000
CAPABILITIES = LONG_PASSWORD | LONG_FLAG | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH
OK, MORE_DATA, SWITCH, ERROR = 0x00, 0x01, 0xFE, 0xFF  # how a packet of an authentication begins
_VERSION = 10  # how the greeting begins
_MAX_PACKET = 1 << 24
_UTF8MB4 = 45  # the number of utf8mb4_general_ci


def packet(number: int, payload: bytes) -> bytes:
    """A packet, of which each has the next number; a command's is 0 again."""
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def client(capabilities: int) -> bytes:
    """How the answer to a greeting begins; all of it, where it is to be an SSLRequest."""
    return struct.pack("<IIB23x", capabilities, _MAX_PACKET, _UTF8MB4)


def end_of_packet(number: int) -> Frame:
    """The frame of the packet with this number."""

    def end(data: bytes) -> int:
        if len(data) < 4:
            return 0
        size = int.from_bytes(data[:3], "little")
        if data[3] != number or size > LIMIT:
            raise Malformed(data)
        return 4 + size

    return end


def end_of_greeting(data: bytes) -> int:
    """The frame of the first packet, which is a greeting or an error."""
    if len(data) > 4 and data[4] not in (_VERSION, ERROR):
        raise Malformed(data)
    size = end_of_packet(0)(data)
    return 0 if size > len(data) == 4 else size  # the next byte may tell that it is neither


def offered(packet: bytes) -> int:
    """The lower capabilities of the server whose greeting this is. Raises Malformed if it is none."""
    payload = packet[4:]
    # Behind the version's name: the connection's number, 8 bytes of a challenge, a zero, and the capabilities.
    _, _, rest = payload[1:].partition(b"\0")
    if payload[:1] != bytes([_VERSION]) or len(rest) < 15:
        raise Malformed(packet)
    capabilities: int = struct.unpack_from("<H", rest, 13)[0]
    return capabilities


def error(packet: bytes) -> tuple[int, bytes] | None:
    """The number and the message of the error that a packet is, if it is one; ``#`` and an SQLSTATE may precede it."""
    if packet[4:5] != bytes([ERROR]) or len(packet) < 7:
        return None
    text = packet[7:]
    return int.from_bytes(packet[5:7], "little"), text[6:] if text.startswith(b"#") else text
