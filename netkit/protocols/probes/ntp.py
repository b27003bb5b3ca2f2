"""The probe of NTP servers (RFC 5905)."""

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
    """Send a client's request. A server is ready if its own clock is synchronized.

    Our transmit timestamp is random, which servers do not mind. The answer must have it as its origin timestamp.
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
