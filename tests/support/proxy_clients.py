"""Requests of a proxy's clients, and its answers: SOCKS4, SOCKS4a, SOCKS5 (RFC 1928), CONNECT (RFC 9110)."""

import ipaddress
import socket
import struct

from tests.support.peers import connect, receive
from tests.support.proxies import head

PROTOCOLS = ("socks4", "socks4a", "socks5", "socks5 name", "http")


def socks4(port: int, host: str = "127.0.0.1", user: bytes = b"") -> bytes:
    """A CONNECT to an IPv4 address."""
    return struct.pack("!BBH", 4, 1, port) + ipaddress.ip_address(host).packed + user + b"\0"


def socks4a(port: int, host: str = "localhost", user: bytes = b"") -> bytes:
    """A CONNECT to a name."""
    return struct.pack("!BBH", 4, 1, port) + b"\0\0\0\1" + user + b"\0" + host.encode() + b"\0"


def socks5(port: int, host: str = "localhost", command: int = 1) -> bytes:
    """The request of SOCKS5 for an address or a name, which follows the choice of the method."""
    try:
        packed = ipaddress.ip_address(host).packed
        address = bytes([1 if len(packed) == 4 else 4]) + packed
    except ValueError:
        address = bytes([3, len(host)]) + host.encode()
    return bytes([5, command, 0]) + address + struct.pack("!H", port)


def password(user: bytes, secret: bytes) -> bytes:
    """User and password of RFC 1929."""
    return bytes([1, len(user)]) + user + bytes([len(secret)]) + secret


def http(port: int, host: str = "localhost", fields: str = "") -> bytes:
    """A CONNECT of HTTP/1.1."""
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{fields}\r\n".encode()


def request(protocol: str, port: int, host: str = "127.0.0.1") -> bytes:
    """All that a client sends to connect to a port of a host; to 127.0.0.1 by name if the protocol uses names."""
    name = "localhost" if host == "127.0.0.1" else host
    return {
        "socks4": lambda: socks4(port, host),
        "socks4a": lambda: socks4a(port, name),
        "socks5": lambda: b"\5\1\0" + socks5(port, host),
        "socks5 name": lambda: b"\5\1\0" + socks5(port, name),
        "http": lambda: http(port, name),
    }[protocol]()


def reply(protocol: str, sock: socket.socket) -> bytes:
    """Receive a proxy's whole answer to a request, up to the first byte of the stream."""
    if protocol == "http":
        return head(sock)
    if protocol.startswith("socks4"):
        return receive(sock, 8)
    begin = receive(sock, 6)
    size = {1: 4, 4: 16}[begin[5]] if len(begin) == 6 else 0
    return begin + receive(sock, size + 2)


def granted(protocol: str, answer: bytes) -> bool:
    """Whether the answer says that the target is connected."""
    if protocol == "http":
        return answer.startswith(b"HTTP/1.1 200 ")
    if protocol.startswith("socks4"):
        return answer[:2] == b"\0\x5a"
    return answer[:4] == b"\5\0\5\0"


def tunnel(protocol: str, proxy: int, port: int, host: str = "127.0.0.1") -> socket.socket:
    """A connection to a port through a proxy on this machine."""
    sock = connect(proxy)
    sock.sendall(request(protocol, port, host))
    answer = reply(protocol, sock)
    assert granted(protocol, answer), answer
    return sock
