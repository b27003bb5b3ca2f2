"""NTP (RFC 5905)."""

import os
import struct

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps

# Section 7.3: leap indicator, version and mode; stratum; poll, precision, root delay and dispersion; reference id;
# the reference, origin, receive and transmit timestamps.
_HEADER = struct.Struct("!BB10x4s8x8s16x")
_VERSION, _CLIENT, _SERVER = 4, 3, 4
_UNSYNCHRONIZED = 3  # the leap indicator
_STRATA = range(1, 16)


def ntp(names: Names) -> Steps[str]:
    """The time, as a client asks for it: ready is a server whose own clock is synchronized.

    An answer has our transmit timestamp as its origin, which is random, for a server needs none that is right.
    """
    own = os.urandom(8)
    yield bytes([_VERSION << 3 | _CLIENT]).ljust(_HEADER.size - len(own), b"\0") + own
    origin = b""
    while origin != own:
        data = yield len
        if len(data) < _HEADER.size:
            raise Malformed(data)
        first, stratum, reference, origin = _HEADER.unpack_from(data)
    if first & 7 != _SERVER:
        raise Malformed(data)
    if stratum == 0 and reference.isalnum():  # a kiss code: section 7.4
        raise NotReady(f"kiss-o'-death {reference.decode()}")
    if first >> 6 == _UNSYNCHRONIZED or stratum not in _STRATA:
        raise NotReady("its clock is not synchronized")
    return f"stratum {stratum}"
