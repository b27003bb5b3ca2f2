"""The probe of gRPC servers: health checking (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""

import re
import struct
from urllib.parse import unquote

from netkit.protocols.dialogue import Malformed, Names, NotReady, Refused, Steps

_PATH = "/grpc.health.v1.Health/Check"
_MAX_FRAME = 16_384  # bytes, the initial SETTINGS_MAX_FRAME_SIZE (RFC 9113, section 6.5.2)
_MAX_SERVICE = 4096  # bytes, so that a request fits into one frame
_HEADER = 9  # bytes of a frame's header
_SETTINGS = 4  # the type of a server's first frame (section 3.4)
_SERVING = 1
_STATES = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
# https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
_CODE = re.compile(rb"[0-9]{1,9}")
_OK, _NOT_FOUND, _PERMISSION_DENIED, _UNIMPLEMENTED, _UNAUTHENTICATED = 0, 5, 7, 12, 16
_UNAVAILABLE = (b"502", b"503", b"504")  # HTTP status of a proxy that cannot reach the server


def grpc(names: Names) -> Steps[str]:
    """Check the service in the URL, or the whole server if there is none. Only SERVING is ready."""
    return _check(names, "http")


def grpcs(names: Names) -> Steps[str]:
    """The same over TLS."""
    return _check(names, "https")


def _check(names: Names, scheme: str) -> Steps[str]:
    from h2 import events
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.exceptions import ProtocolError

    service = names.resource.encode("utf-8", "surrogateescape")
    if len(service) > _MAX_SERVICE:
        raise Refused("the name of the service is too long")
    connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    connection.initiate_connection()
    server = f"[{names.server}]" if ":" in names.server else names.server
    headers = [(":method", "POST"), (":scheme", scheme), (":path", _PATH), (":authority", server), ("te", "trailers")]
    stream = connection.get_next_available_stream_id()
    connection.send_headers(stream, [*headers, ("content-type", "application/grpc"), ("user-agent", "netkit")])
    connection.send_data(stream, _request(service), end_stream=True)
    yield connection.data_to_send()

    told: dict[bytes, bytes] = {}
    body = b""
    frame = yield _end_of_first_frame
    while True:
        try:
            came = connection.receive_data(frame)
        except ProtocolError:
            raise Malformed(frame) from None
        for event in came:
            if isinstance(event, events.ResponseReceived | events.TrailersReceived):
                told.update(event.headers)
            elif isinstance(event, events.DataReceived):
                body += event.data
            elif isinstance(event, events.StreamReset):
                raise NotReady(f"it reset the request, error {event.error_code}")
            elif isinstance(event, events.ConnectionTerminated):
                raise NotReady("it is going away")
            elif isinstance(event, events.StreamEnded):
                result = _result(names.resource, told, body)
                connection.close_connection()
                yield connection.data_to_send()
                return result
        if answer := connection.data_to_send():  # to its settings and pings
            yield answer
        frame = yield _end_of_frame


def _end_of_first_frame(data: bytes) -> int:
    if len(data) > 3 and data[3] != _SETTINGS:
        raise Malformed(data)
    return _end_of_frame(data)


def _end_of_frame(data: bytes) -> int:
    if len(data) < 3:
        return 0
    size = int.from_bytes(data[:3], "big")
    if size > _MAX_FRAME:
        raise Malformed(data)
    return _HEADER + size


def _request(service: bytes) -> bytes:
    """Encode a HealthCheckRequest, whose field 1 is the service, as a gRPC message: flag 0 (uncompressed), length."""
    request = b"\x0a" + _varint(len(service)) + service if service else b""
    return struct.pack("!BI", 0, len(request)) + request


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)


def _result(service: str, told: dict[bytes, bytes], body: bytes) -> str:
    """What an answer comes to, by its headers and trailers and its messages."""
    status = told.get(b":status", b"")
    if status in _UNAVAILABLE:
        raise NotReady(f"it answered HTTP status {status.decode()}")
    code = told.get(b"grpc-status", b"")
    if status != b"200" or not _CODE.fullmatch(code):
        raise Malformed(b"HTTP status " + status)
    number = int(code)
    if number == _UNIMPLEMENTED:
        raise NotReady("it has no health service")
    if number == _NOT_FOUND:
        raise NotReady(f"it does not know the service {service}")
    if number in (_PERMISSION_DENIED, _UNAUTHENTICATED):
        return "it wants credentials"
    if number != _OK:
        message = unquote(told.get(b"grpc-message", b"").decode("latin-1"))
        raise NotReady(f"it refused the check, status {number}: {message}".removesuffix(": "))
    state = _state(body)
    if state != _SERVING:
        raise NotReady(_STATES.get(state, f"status {state}"))
    return ""


def _state(body: bytes) -> int:
    """Field 1 (status) of a HealthCheckResponse, 0 if it is missing."""
    message = body[5:]
    if body[:5] != struct.pack("!BI", 0, len(message)):
        raise Malformed(body)
    if not message:
        return 0
    if len(message) != 2 or message[0] != 0x08:
        raise Malformed(body)
    return message[1]
