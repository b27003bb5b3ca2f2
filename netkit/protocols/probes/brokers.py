"""Probes of message brokers: AMQP (RabbitMQ) and Kafka."""

import struct

from netkit.protocols.dialogue import LIMIT, Malformed, Names, NotReady, Steps, check_beginning

# -- AMQP

# AMQP 0-9-1, section 4.2: the header of a client, and the frame of a method on channel 0.
_AMQP = b"AMQP\0\0\x09\x01"
_METHOD_FRAME = b"\x01\0\0"
_FRAME_END = b"\xce"
_START = struct.pack("!HH", 10, 10)  # Connection.Start
_AMQP_1 = (b"AMQP\0\x01\0\0", b"AMQP\x02\x01\0\0", b"AMQP\x03\x01\0\0")  # AMQP 1.0: plain, for TLS, for SASL


def amqp(names: Names) -> Steps[str]:
    """Send the header of 0-9-1. A server answers with Connection.Start, or with the header of the version it speaks.

    No Connection.Close is sent: RabbitMQ would log an error for that, but only a warning for a closed connection.
    """
    yield _AMQP
    answer = yield _end_of_amqp
    if answer in _AMQP_1:
        return "it speaks AMQP 1.0"
    if answer[:4] == _AMQP[:4]:
        raise NotReady(f"it speaks AMQP {'-'.join(map(str, answer[5:]))}, not 0-9-1")
    if answer[7:11] != _START or answer[-1:] != _FRAME_END:
        raise Malformed(answer)
    return ""


def _end_of_amqp(data: bytes) -> int:
    check_beginning(data, _AMQP[:4], _METHOD_FRAME)
    if data[:1] == _AMQP[:1]:
        return len(_AMQP)
    if len(data) < 7:
        return 0
    size = int.from_bytes(data[3:7], "big")
    if not 4 <= size < LIMIT - 8:
        raise Malformed(data)
    return 7 + size + 1


# -- Kafka

# https://kafka.apache.org/protocol: keys and versions that are in Kafka 0.10 to 4.
_METADATA, _SASL_HANDSHAKE, _API_VERSIONS = 3, 17, 18
_METADATA_VERSIONS = (4, 1)  # in order of preference: Kafka 0.10 has no 4, and a newer one may not have 1
_MECHANISM = b"PLAIN"
_NONE, _UNSUPPORTED_SASL_MECHANISM, _UNSUPPORTED_VERSION = 0, 33, 35
_NO_CONTROLLER = -1


def kafka(names: Names) -> Steps[str]:
    """Send ApiVersions, and Metadata without topics. A broker is ready if it knows brokers and a controller.

    A broker that requires a login counts as ready, as it refuses Metadata before. SaslHandshake shows that.
    """
    answer = _Reader((yield from _ask(_API_VERSIONS, 0)))
    if (error := answer.number("h")) not in (_NONE, _UNSUPPORTED_VERSION):
        raise NotReady(f"it refused ApiVersions: error {error}")
    ranges = {}
    for _ in range(answer.count()):
        key, oldest, newest = (answer.number("h") for _ in range(3))
        ranges[key] = range(oldest, newest + 1)
    if 1 in ranges.get(_SASL_HANDSHAKE, ()):
        answer = _Reader((yield from _ask(_SASL_HANDSHAKE, 1, struct.pack("!h", len(_MECHANISM)) + _MECHANISM)))
        if answer.number("h") in (_NONE, _UNSUPPORTED_SASL_MECHANISM):
            return "it wants a password"
    for version in _METADATA_VERSIONS:
        if version in ranges.get(_METADATA, ()):
            yield from _check_metadata(version)
            break
    return ""


def _check_metadata(version: int) -> Steps[None]:
    """Raise NotReady if the broker does not know any broker, itself included, or no controller."""
    is_newer = version > 1
    topics = struct.pack("!i", 0)
    answer = _Reader((yield from _ask(_METADATA, version, topics + b"\0" if is_newer else topics)))  # \0: create none
    if is_newer:
        answer.number("i")  # throttle time
    brokers = answer.count()
    for _ in range(brokers):  # number, host, port, rack
        answer.number("i")
        answer.text()
        answer.number("i")
        answer.text()
    if is_newer:
        answer.text()  # cluster id
    if not brokers:
        raise NotReady("it knows no broker")
    if answer.number("i") == _NO_CONTROLLER:
        raise NotReady("it knows no controller")


def _ask(key: int, version: int, body: bytes = b"") -> Steps[bytes]:
    """Send a request with this key and version; return the answer."""
    name = b"netkit"
    message = struct.pack("!hhih", key, version, key, len(name)) + name + body
    yield struct.pack("!i", len(message)) + message

    def end(data: bytes) -> int:
        if len(data) < 4:
            return 0
        size = int.from_bytes(data[:4], "big")
        if not 4 < size <= LIMIT - 4 or (len(data) >= 8 and int.from_bytes(data[4:8], "big") != key):
            raise Malformed(data)
        return 4 + size

    return (yield end)


class _Reader:
    """Reads the values of an answer one after the other. Raises Malformed at its end."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._place = 8  # after length and correlation id

    def number(self, form: str) -> int:
        """Read a signed number; ``form`` is h (16 bits) or i (32 bits), as in struct."""
        size = struct.calcsize(f"!{form}")
        return int.from_bytes(self._take(size), "big", signed=True)

    def count(self) -> int:
        """Read the number of elements of an array. Raises Malformed if it is negative."""
        count = self.number("i")
        if count < 0:
            raise Malformed(self._answer)
        return count

    def text(self) -> bytes:
        """Read a string; b"" for null."""
        return self._take(max(self.number("h"), 0))

    def _take(self, size: int) -> bytes:
        begin, self._place = self._place, self._place + size
        if self._place > len(self._answer):
            raise Malformed(self._answer)
        return self._answer[begin : self._place]
