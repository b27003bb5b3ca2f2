"""The PROXY protocol: who the client is, said in front of the stream by whoever relays it.

Versions 1 (a line) and 2 (bytes), as HAProxy's proxy-protocol.txt has them.
"""

import os
import socket
import struct

from netkit.core.address import Endpoint, family_of
from netkit.core.kernel import Group
from netkit.core.layer import Layer, Setting
from netkit.core.stream import Connection

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_2_PROXY = 0x21
_STREAM = 0x1  # beside the family: TCP, or SOCK_STREAM of a unix socket
_IPV4, _IPV6, _UNIX = 0x1, 0x2, 0x3
_UNIX_PATH = 108  # bytes, filled up with NUL


def sending(version: str, setting: Setting) -> Layer:
    """The layer that begins with a header: ``v1`` or ``v2``. A relay tells of its client, others of themselves."""

    async def send_header(stream: Connection, group: Group) -> Connection:
        client = setting.client
        source, destination = (stream.local, stream.peer) if client is None else (client.peer, client.local)
        await stream.send(header(version, source, destination))
        return stream

    return send_header


def header(version: str, source: Endpoint, destination: Endpoint) -> bytes:
    """The header that says where a connection comes from and whom it reached; v1 has no words for unix sockets."""
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
    return _SIGNATURE + struct.pack("!BBH", _VERSION_2_PROXY, family << 4 | _STREAM, len(body)) + body


def _is_ipv4(end: Endpoint) -> bool:
    return family_of(_host(end)) == socket.AF_INET


def _host(end: Endpoint) -> str:
    return (end.host or "").partition("%")[0]
