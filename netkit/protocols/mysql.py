"""Packets of MySQL up to the login: greeting, response, errors (manual "MySQL Client/Server Protocol")."""

import struct

from netkit.protocols.dialogue import LIMIT, Frame, Malformed

# protocol::Capabilities
LONG_PASSWORD, LONG_FLAG, PROTOCOL_41, SSL = 0x1, 0x4, 0x200, 0x800
TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH = 0x2000, 0x8000, 0x80000
CAPABILITIES = LONG_PASSWORD | LONG_FLAG | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH
OK, MORE_DATA, SWITCH, ERROR = 0x00, 0x01, 0xFE, 0xFF  # first byte of a packet during authentication
_VERSION = 10  # first byte of the greeting
_MAX_PACKET = 1 << 24
_UTF8MB4 = 45  # the number of utf8mb4_general_ci


def packet(number: int, payload: bytes) -> bytes:
    """Encode a packet. ``number`` is one more for each packet of either side, and 0 again for a command."""
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def client(capabilities: int) -> bytes:
    """The beginning of the response to the greeting; with the capability SSL, alone, it is an SSLRequest."""
    return struct.pack("<IIB23x", capabilities, _MAX_PACKET, _UTF8MB4)


def end_of_packet(number: int) -> Frame:
    """The Frame of the packet with this number."""

    def end(data: bytes) -> int:
        if len(data) < 4:
            return 0
        size = int.from_bytes(data[:3], "little")
        if data[3] != number or size > LIMIT:
            raise Malformed(data)
        return 4 + size

    return end


def end_of_greeting(data: bytes) -> int:
    """The Frame of the first packet, which is a greeting or an error."""
    if len(data) > 4 and data[4] not in (_VERSION, ERROR):
        raise Malformed(data)
    size = end_of_packet(0)(data)
    return 0 if size > len(data) == 4 else size  # wait for the next byte, which may show that it is neither


def offered(packet: bytes) -> int:
    """The lower 16 bits of the capabilities in a server's greeting. Raises Malformed if it is no greeting."""
    payload = packet[4:]
    # After the version string: connection id, 8 bytes of a challenge, a zero, and the capabilities.
    _, _, rest = payload[1:].partition(b"\0")
    if payload[:1] != bytes([_VERSION]) or len(rest) < 15:
        raise Malformed(packet)
    capabilities: int = struct.unpack_from("<H", rest, 13)[0]
    return capabilities


def error(packet: bytes) -> tuple[int, bytes] | None:
    """Number and message of an error packet (without ``#`` and SQLSTATE); None if it is another packet."""
    if packet[4:5] != bytes([ERROR]) or len(packet) < 7:
        return None
    text = packet[7:]
    return int.from_bytes(packet[5:7], "little"), text[6:] if text.startswith(b"#") else text
