"""The probe of MQTT brokers, by 3.1.1, which brokers of 5 know (https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/)."""

import os

from netkit.protocols.dialogue import Malformed, Names, NotReady, Refused, Steps, check_beginning

_CONNECT, _CONNACK, _DISCONNECT = 0x10, 0x20, 0xE0  # section 2.2.1
_LEVEL, _CLEAN_SESSION, _KEEP_ALIVE = 4, 0x02, 60  # sections 3.1.2.2, 3.1.2.4 and 3.1.2.10
_ACCEPTED = 0
# Section 3.2.2.3.
_BAD_VERSION, _BAD_IDENTIFIER, _UNAVAILABLE, _BAD_LOGIN, _NOT_AUTHORIZED = range(1, 6)


def mqtt(names: Names) -> Steps[str]:
    """Open a clean session with a random client id. CONNACK says that the server is ready, or wants a password."""
    name = b"netkit" + os.urandom(8).hex().encode()  # 23 letters and digits at most: section 3.1.3.1
    body = _text(b"MQTT") + bytes([_LEVEL, _CLEAN_SESSION]) + _KEEP_ALIVE.to_bytes(2, "big") + _text(name)
    yield bytes([_CONNECT, len(body)]) + body
    answer = yield _connack
    code = answer[3]
    if code in (_BAD_LOGIN, _NOT_AUTHORIZED):
        return "it wants a password"  # and has closed the connection
    if code == _UNAVAILABLE:
        raise NotReady("it is unavailable (code 3)")
    if code in (_BAD_VERSION, _BAD_IDENTIFIER):
        raise Refused(f"it does not take a client of MQTT 3.1.1 (code {code})")
    if code != _ACCEPTED:
        raise Malformed(answer)
    yield bytes([_DISCONNECT, 0])
    return ""


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _connack(data: bytes) -> int:
    """The Frame of a CONNACK: a header of two bytes, and two more, the first of which is 0 or 1."""
    check_beginning(data, bytes([_CONNACK, 2, 0]), bytes([_CONNACK, 2, 1]))
    return 4
