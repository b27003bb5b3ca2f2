"""The PROXY protocol, by which a proxy tells a server the addresses of its client: layers, parser, encoder.

Versions 1 (a line of text) and 2 (binary), as specified in HAProxy's proxy-protocol.txt.
"""

import functools
import os
import re
import socket
import struct
from typing import NamedTuple

from netkit.core.address import Endpoint, family_of
from netkit.core.connection import HANDSHAKE
from netkit.core.errors import Exit, Failure
from netkit.core.events import Proxied
from netkit.core.kernel import Cancelled, Group
from netkit.core.layer import Layer, Setting, unread
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import Connection
from netkit.core.units import duration

_LINE = b"PROXY "
_MAX_LINE = 107  # bytes, with its CR LF
_PROTOCOLS: dict[bytes, int] = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD = struct.Struct("!12sBBH")  # signature, version and command, family and transport, length of the rest
_VERSION_2 = 0x20
_LOCAL, _PROXY = 0x0, 0x1  # commands: a connection of the proxy itself, or of a client
_STREAM, _DATAGRAM = 0x1, 0x2  # transports: TCP or SOCK_STREAM, UDP or SOCK_DGRAM
_IPV4, _IPV6, _UNIX = 0x1, 0x2, 0x3
_FAMILIES: dict[int, int] = {_IPV4: socket.AF_INET, _IPV6: socket.AF_INET6}
_UNIX_PATH = 108  # bytes, padded with NUL
_SIZES = {_IPV4: 12, _IPV6: 36, _UNIX: 2 * _UNIX_PATH}  # bytes of both addresses, with their ports
_FIELD = struct.Struct("!BH")  # type and length of a TLV, which may follow the addresses
_CRC32C = 0x03


class Told(NamedTuple):
    """The addresses in a header, and its ``size`` in bytes. Without addresses the proxy itself is the client."""

    size: int
    source: Endpoint | None = None
    destination: Endpoint | None = None


class Malformed(ValueError):
    """The bytes are not a header. The text is the reason."""


def sending(version: str, setting: Setting) -> Layer:
    """The layer that sends a header, ``v1`` or ``v2``: with a relay's client, or else with our own addresses."""

    async def send_header(stream: Connection, group: Group) -> Connection:
        client = setting.client
        source, destination = (stream.local, stream.peer) if client is None else (client.peer, client.reached)
        await stream.send(header(version, source, destination))
        return stream

    return send_header


def accepting(wanted: bool, setting: Setting) -> Layer:
    """The layer that receives a header, v1 or v2, and sets the peer of the connection to the client in it.

    It must be the first layer. Raises Failure PROTOCOL for anything but a header, and TIMEOUT if it is not complete in
    time.
    """

    async def take_header(stream: Connection, group: Group) -> Connection:
        assert isinstance(stream, SocketStream), "a header comes before all else"
        told, rest = await _receive(stream)
        unread(stream, rest)
        if told.source is not None and told.destination is not None:
            proxy = stream.name
            stream.present(told.source, told.destination)
            setting.observe(Proxied(proxy, stream.peer))
        return stream

    return take_header


async def _receive(stream: Connection) -> tuple[Told, bytes]:
    """Receive a header; return it, and the bytes that came after it."""
    action = f"read the PROXY header of {stream.name}"
    came = b""
    try:
        while (told := parse(came)) is None:
            data = await stream.recv()
            if not data:
                raise Malformed(f"it ended after {len(came)} bytes" if came else "it ended without one")
            came += data
    except Malformed as error:
        raise Failure(Exit.PROTOCOL, action, str(error)) from error
    except Cancelled as cancelled:
        raise cancelled from Failure(Exit.TIMEOUT, action, f"none came within {duration(HANDSHAKE)}")
    return told, came[told.size :]


def parse(data: bytes) -> Told | None:
    """Parse the header at the start of ``data``; None if more is needed. Raises Malformed.

    A header of version 2 has at most 65,551 bytes, one of version 1 at most 107.
    """
    if data.startswith(_LINE[: len(data)]):
        return _parse_line(data)
    if not data.startswith(_SIGNATURE[: len(data)]):
        raise Malformed(f"what came begins with {data[: len(_SIGNATURE)]!r}")
    if len(data) < _HEAD.size:
        return None
    _, command, kind, size = _HEAD.unpack_from(data)
    if command & 0xF0 != _VERSION_2:
        raise Malformed(f"its version is {command >> 4}")
    if len(data) < _HEAD.size + size:
        return None
    return _parse_binary(data[: _HEAD.size + size], command & 0x0F, kind >> 4, kind & 0x0F)


def _parse_line(data: bytes) -> Told | None:
    line, end, _ = data[:_MAX_LINE].partition(b"\r\n")
    if b"\n" in line or (not end and len(data) >= _MAX_LINE):
        raise Malformed(f"no CR LF ends its line within {_MAX_LINE} bytes")
    if not end:
        return None
    told = Told(len(line) + 2)
    protocol, *words = line.split(b" ")[1:]
    if protocol == b"UNKNOWN":
        return told
    if protocol not in _PROTOCOLS or len(words) != 4:
        raise Malformed("its line is not TCP4 or TCP6 with two addresses and two ports")
    hosts, ports = words[:2], words[2:]
    source, destination = (_endpoint(_PROTOCOLS[protocol], *end) for end in zip(hosts, ports, strict=True))
    return told._replace(source=source, destination=destination)


def _endpoint(family: int, host: bytes, port: bytes) -> Endpoint:
    try:
        name = host.decode("ascii")
        socket.inet_pton(family, name)
    except (OSError, ValueError):
        raise Malformed(f"its line has {host!r} for an address") from None
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise Malformed(f"its line has {port!r} for a port")
    return Endpoint(name, int(port))


def _parse_binary(data: bytes, command: int, family: int, transport: int) -> Told:
    told = Told(len(data))
    if command > _PROXY:
        raise Malformed(f"its command is {command}")
    if command == _LOCAL:
        return told
    if family > _UNIX or transport > _DATAGRAM:
        raise Malformed(f"its family and transport are {family} and {transport}")
    if not (family and transport):  # it does not know the client
        return told
    size = _SIZES[family]
    body = data[_HEAD.size :]
    if len(body) < size:
        raise Malformed(f"its addresses have {len(body)} bytes, not {size}")
    _check_fields(data, _HEAD.size + size)
    if family == _UNIX:
        paths = (body[:_UNIX_PATH], body[_UNIX_PATH:size])
        source, destination = (Endpoint(path=os.fsdecode(path.rstrip(b"\0"))) for path in paths)
    else:
        half = (size - 4) // 2
        hosts = (socket.inet_ntop(_FAMILIES[family], host) for host in (body[:half], body[half : 2 * half]))
        source, destination = map(Endpoint, hosts, struct.unpack_from("!HH", body, 2 * half))
    return told._replace(source=source, destination=destination)


def _check_fields(data: bytes, at: int) -> None:
    """Check that the TLVs after the addresses are well-formed, and the CRC-32C that may be among them, at most once."""
    summed = False
    while at < len(data):
        begin = at + _FIELD.size
        kind, size = _FIELD.unpack_from(data, at) if begin <= len(data) else (0, len(data))
        at = begin + size
        if at > len(data):
            raise Malformed("a field of it is longer than the rest")
        if kind == _CRC32C:
            blank = data[:begin] + bytes(size) + data[at:]
            if summed or data[begin:at] != crc32c(blank).to_bytes(4, "big"):
                raise Malformed("its CRC-32C is wrong")
            summed = True


@functools.cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def crc32c(data: bytes) -> int:
    """The CRC-32C of ``data`` (RFC 3720, appendix B.4)."""
    table = _crc_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def header(version: str, source: Endpoint, destination: Endpoint) -> bytes:
    """Encode a header with the addresses of a connection. For unix sockets v1 has only UNKNOWN."""
    return (_line if version == "v1" else _binary)(source, destination)


def _line(source: Endpoint, destination: Endpoint) -> bytes:
    if source.path is not None or destination.path is not None:
        return b"PROXY UNKNOWN\r\n"
    protocol = "TCP4" if _is_ipv4(source) else "TCP6"
    return f"PROXY {protocol} {_host(source)} {_host(destination)} {source.port} {destination.port}\r\n".encode()


def _binary(source: Endpoint, destination: Endpoint) -> bytes:
    ends = (source, destination)
    if source.path is not None or destination.path is not None:
        family = _UNIX
        body = b"".join(os.fsencode(end.path or "").ljust(_UNIX_PATH, b"\0") for end in ends)
    else:
        of_system, family = (socket.AF_INET, _IPV4) if _is_ipv4(source) else (socket.AF_INET6, _IPV6)
        body = b"".join(socket.inet_pton(of_system, _host(end)) for end in ends)
        body += struct.pack("!HH", source.port, destination.port)
    return _HEAD.pack(_SIGNATURE, _VERSION_2 | _PROXY, family << 4 | _STREAM, len(body)) + body


def _is_ipv4(end: Endpoint) -> bool:
    return family_of(_host(end)) == socket.AF_INET


def _host(end: Endpoint) -> str:
    return (end.host or "").partition("%")[0]
