"""List the sockets of our network namespace by sock_diag(7), or else /proc/net (proc(5)). Linux only.

sock_diag is preferred. /proc/net/udp is read in pages, and each skips as many sockets as were read before, so it misses
some if others close meanwhile. A unix socket whose name has a newline can forge lines of /proc/net/unix, so unix
sockets are listed only by sock_diag.
"""

import os
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from netkit.core.address import interface_name
from netkit.core.errors import Exit, Failure, doing

# netlink(7), linux/netlink.h, linux/sock_diag.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
# linux/inet_diag.h: inet_diag_req_v2; inet_diag_msg with its inet_diag_sockid in the middle
_INET_REQUEST = struct.Struct("=BBBxI48x")
_INET_ANSWER = struct.Struct("=BB2x4s16s16sI8x4x4I")
_PORTS = struct.Struct("!HH")
# linux/unix_diag.h: unix_diag_req, unix_diag_msg; what we ask for (name, peer, queues, user), and its attributes' types
_UNIX_REQUEST = struct.Struct("=BB2xIII8x")
_UNIX_ANSWER = struct.Struct("=BBBxI8x")
_UNIX_SHOW = 0x01 | 0x04 | 0x10 | 0x40
_UNIX_NAME, _UNIX_PEER, _UNIX_QUEUES, _UNIX_UID = 0, 2, 4, 7
_BUFFER = 1 << 16  # bytes; the kernel dumps at most 32 KiB at a time
LISTEN, ESTABLISHED, UNCONNECTED = "listen", "established", "unconnected"
# net/tcp_states.h, from 1 on, named as in RFC 9293
_TCP_STATES = (ESTABLISHED, "syn-sent", "syn-received", "fin-wait-1", "fin-wait-2", "time-wait", "closed", "close-wait")
_STATES = dict(enumerate((*_TCP_STATES, "last-ack", LISTEN, "closing", "syn-received"), 1))
_ALL_STATES = sum(1 << number for number in _STATES)
STATES = {  # the states of each protocol
    "tcp": tuple(dict.fromkeys(_STATES.values())),
    "udp": (ESTABLISHED, UNCONNECTED),
    "unix": (LISTEN, ESTABLISHED, UNCONNECTED),
}
_KINDS = {1: "stream", 2: "dgram", 5: "seqpacket"}
_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_ANY = {"ipv4": "0.0.0.0", "ipv6": "::"}
_LINE = re.compile(
    r" *\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]{2}) ([0-9A-F]{8}):([0-9A-F]{8}) "
    r"[0-9A-F]{2}:[0-9A-F]{8,16} [0-9A-F]{8} +(\d+) +\d+ (\d+) \d+ .*",
    re.ASCII,
)


class Socket(NamedTuple):
    """One socket. What the kernel does not tell is None.

    ``local`` and ``peer`` are IP addresses, with ``%INTERFACE`` if the socket is bound to one, or names of unix sockets
    with a NUL in front of abstract ones. ``peer`` of a unix socket is filled in by ``sockets``; ``kind`` is its type.
    The queues are in bytes; for a listener they are the connections that wait, and the backlog. ``inode`` is 0 if no
    descriptor refers to the socket, such as after close(2).
    """

    protocol: str
    family: str
    state: str
    local: str | None
    local_port: int | None
    peer: str | None
    peer_port: int | None
    receive_queue: int | None
    send_queue: int | None
    uid: int | None
    inode: int
    kind: str | None = None
    peer_inode: int | None = None


def sockets(protocols: Iterable[str]) -> list[Socket]:
    """The sockets of these protocols ("tcp", "udp", "unix"), each once. Raises Failure READ."""
    if sys.platform != "linux":
        raise Failure(Exit.READ, "list sockets", "only Linux tells of them as netkit asks, by sock_diag and /proc/net")
    found: list[Socket] = []
    for protocol in protocols:
        if protocol == "unix":
            unix = once(_unix())
            names = {one.inode: one.local for one in unix}
            found += [one._replace(peer=names.get(one.peer_inode or 0)) for one in unix]
        else:
            for family in _FAMILIES:
                found += once(_inet(protocol, family))
    return found


def once(seen: Iterable[Socket]) -> list[Socket]:
    """Each socket once, as seen last: the kernel may list one twice if its table changes during the dump.

    A TCP connection is identified by its addresses: it has no inode before accept(2), and after close(2).
    """
    found: dict[object, Socket] = {}
    for one in seen:
        known_by_addresses = not one.inode or (one.protocol == "tcp" and one.state != LISTEN)
        found[(one.local, one.local_port, one.peer, one.peer_port) if known_by_addresses else one.inode] = one
    return list(found.values())


# -- sock_diag


def _inet(protocol: str, family: str) -> Iterable[Socket]:
    request = _INET_REQUEST.pack(_FAMILIES[family], _NUMBERS[protocol], 0, _ALL_STATES)
    try:
        return [parse_inet(protocol, answer) for answer in _dump(request)]
    except OSError:
        name = f"/proc/net/{protocol}{'6' if family == 'ipv6' else ''}"
        with doing(Exit.READ, f"read {name}", hint="Linux tells of its sockets there; is /proc mounted?"):
            return _read_proc(name, protocol, family)


def _unix() -> list[Socket]:
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, _ALL_STATES, 0, _UNIX_SHOW)
    try:
        return [parse_unix(answer) for answer in _dump(request)]
    except OSError as error:
        detail, hint = "the kernel's unix_diag", "--tcp --udp lists the others"
        raise Failure(Exit.READ, "list unix sockets", error, detail=detail, hint=hint) from error


def _dump(request: bytes) -> Iterator[bytes]:
    """Send a request and yield the body of each message of the answer. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as sock:
        sock.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0) + request)
        while True:
            data = sock.recv(_BUFFER)
            at = 0
            while at < len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                body = data[at + _HEADER.size : at + length]
                if kind in (_ERROR, _DONE):
                    (code,) = struct.unpack_from("=i", body)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield body
                at += _aligned(length)


def parse_inet(protocol: str, answer: bytes) -> Socket:
    """Read an inet_diag_msg."""
    number, state, ports, local, peer, index, received, sent, uid, inode = _INET_ANSWER.unpack_from(answer)
    family = "ipv6" if number == socket.AF_INET6 else "ipv4"
    local_port, peer_port = _PORTS.unpack(ports)
    size = 16 if family == "ipv6" else 4
    near, host = (socket.inet_ntop(number, address[:size]) for address in (local, peer))
    far, far_port = _peer(family, host, peer_port)
    if index:
        zone = "%" + interface_name(index)
        near += zone
        far = far + zone if far and far.startswith("fe80:") else far
    owner = uid if inode else None
    word = _state(protocol, state)
    return Socket(protocol, family, word, near, local_port, far, far_port, received, sent, owner, inode)


def _peer(family: str, host: str, port: int) -> tuple[str, int] | tuple[None, None]:
    return (None, None) if (host, port) == (_ANY[family], 0) else (host, port)


def _state(protocol: str, number: int) -> str:
    if (protocol == "udp" and number != 1) or (protocol == "unix" and number == 7):
        return UNCONNECTED
    return _STATES.get(number, str(number))


def parse_unix(answer: bytes) -> Socket:
    """Read a unix_diag_msg and its attributes."""
    _, kind, state, inode = _UNIX_ANSWER.unpack_from(answer)
    attributes = dict(_attributes(answer[_UNIX_ANSWER.size :]))
    name = attributes.get(_UNIX_NAME)
    if name is not None and not name.startswith(b"\0"):
        name = name.rstrip(b"\0")

    def number(attribute: int, place: int = 0) -> int | None:
        data = attributes.get(attribute)
        return None if data is None else int(struct.unpack_from("=I", data, 4 * place)[0])

    ends = name.decode("utf-8", "backslashreplace") if name else None, None, None, None
    queues = number(_UNIX_QUEUES), number(_UNIX_QUEUES, 1)
    word = _KINDS.get(kind, str(kind))
    uid, peer = number(_UNIX_UID), number(_UNIX_PEER)
    return Socket("unix", "unix", _state("unix", state), *ends, *queues, uid, inode, word, peer)


def _attributes(rest: bytes) -> Iterator[tuple[int, bytes]]:
    while rest:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        yield kind, rest[_ATTRIBUTE.size : length]
        rest = rest[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3


# -- /proc/net


def _read_proc(name: str, protocol: str, family: str) -> list[Socket]:
    try:
        with open(name, encoding="ascii", errors="replace") as file:
            return list(parse_proc(file.read(), protocol, family))
    except FileNotFoundError:
        if family == "ipv6" and os.path.exists(name.removesuffix("6")):  # a machine without IPv6
            return []
        raise


def parse_proc(text: str, protocol: str, family: str, byteorder: str = sys.byteorder) -> Iterator[Socket]:
    """Parse /proc/net/tcp and the like, with addresses in 32-bit words of ``byteorder``. Skips incomplete lines."""
    size = 32 if family == "ipv6" else 8
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if not match or not len(match[1]) == len(match[3]) == size:
            continue
        state = int(match[5], 16)
        near, host = (_ntop(_FAMILIES[family], match[group], byteorder) for group in (1, 3))
        far, far_port = _peer(family, host, int(match[4], 16))
        port, received, inode = int(match[2], 16), int(match[7], 16), int(match[9])
        sent = None if state == 10 else int(match[6], 16)
        owner = int(match[8]) if inode else None
        word = _state(protocol, state)
        yield Socket(protocol, family, word, near, port, far, far_port, received, sent, owner, inode)


def _ntop(family: int, words: str, byteorder: str) -> str:
    order = "<" if byteorder == "little" else ">"
    packed = b"".join(struct.pack(order + "I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    return socket.inet_ntop(family, packed)
