"""Whether an address belongs to this machine, by the routing table (rtnetlink) or, without that, by bind(2)."""

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netkit.core.access import IPAddress

# linux/netlink.h, linux/rtnetlink.h
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=8BI")
_ATTRIBUTE = struct.Struct("=HH")
_GET_ROUTE, _REQUEST, _ERROR = 26, 1, 2
_DESTINATION, _LOCAL = 1, 2
_TYPE = _HEADER.size + 7  # the offset of rtm_type in the answer


def is_local(address: "IPAddress") -> bool:
    """Whether packets to an address stay on this machine. No packet is sent to find out."""
    try:
        return _route_is_local(address)
    except (AttributeError, OSError):  # no Linux, a sandbox without rtnetlink(7), or no route at all
        return can_be_bound(str(address))


def _route_is_local(address: "IPAddress") -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(address.packed), _DESTINATION) + address.packed
    body = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + attribute
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(_HEADER.pack(_HEADER.size + len(body), _GET_ROUTE, _REQUEST, 0, 0) + body)
        answer = sock.recv(1 << 13)
    _, kind, *_ = _HEADER.unpack_from(answer)
    if kind == _ERROR:
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        raise OSError(-code, os.strerror(-code))
    return answer[_TYPE] == _LOCAL


def can_be_bound(host: str) -> bool:
    """Whether a socket can be bound to an address. In doubt, such as for lack of descriptors, it is True."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True
