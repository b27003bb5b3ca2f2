"""The server's side of proxies: SOCKS4 and 4a, SOCKS5 (RFC 1928 and 1929) and HTTP's CONNECT (RFC 9110, section 9.3.6).

Without I/O: a Handshake is fed with bytes until it has a Request, or raises Refused, whose reply is b"" if the protocol
of the client is unknown. The first byte tells the protocol.
"""

import binascii
import enum
import errno
import re
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

import h11

from netkit.core.address import Endpoint, check_host, family_of, parse_port, split
from netkit.core.errors import Exit, Failure
from netkit.core.targets import NotAllowed
from netkit.protocols.dialogue import Conversation, Refused, Steps, read_exactly
from netkit.protocols.http import LONG_LENGTH

MAX_HEAD = 8 * 1024  # bytes of a CONNECT with its fields
_MAX_STRING = 255  # bytes of a user or a name in SOCKS4, which has no limit; it is that of SOCKS5
_SOCKS4, _SOCKS5 = 4, 5
_CONNECT = 1
_SOCKS4_GRANTED, _SOCKS4_REFUSED = 90, 91
_OPEN, _PASSWORD, _NO_METHOD = 0x00, 0x02, 0xFF  # methods of RFC 1928, section 3
_PASSWORD_VERSION = 1  # RFC 1929, section 2
_IPV4, _NAME, _IPV6 = 1, 3, 4
_TLS = 0x16  # first byte of a handshake: RFC 8446, section 5.1
_BLANKS = re.compile(rb"[ \t]{256}")  # h11 takes quadratic time for such a run if something malformed follows
_END = re.compile(rb"\n\r?\n")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
_UNKNOWN = "user and password are not known"
_DIGITS = re.compile(r"[0-9]+", re.ASCII)

Admits = Callable[[bytes, bytes], bool]
"""Whether a user with this password is admitted."""


class Cause(enum.Enum):
    """Why a request is refused, as a reply code of SOCKS5 (RFC 1928, section 6) and an HTTP status."""

    FAILED = 1, HTTPStatus.BAD_GATEWAY
    NOT_ALLOWED = 2, HTTPStatus.FORBIDDEN
    NETWORK_UNREACHABLE = 3, HTTPStatus.BAD_GATEWAY
    HOST_UNREACHABLE = 4, HTTPStatus.BAD_GATEWAY
    REFUSED = 5, HTTPStatus.BAD_GATEWAY
    TIMEOUT = 6, HTTPStatus.GATEWAY_TIMEOUT
    COMMAND = 7, HTTPStatus.METHOD_NOT_ALLOWED
    ADDRESS_TYPE = 8, HTTPStatus.BAD_REQUEST


_OF_ERRORS = {
    errno.ECONNREFUSED: Cause.REFUSED,
    errno.ENETUNREACH: Cause.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Cause.HOST_UNREACHABLE,
    errno.ETIMEDOUT: Cause.TIMEOUT,
}
_OF_EXITS = {Exit.TIMEOUT: Cause.TIMEOUT, Exit.RESOLVE: Cause.HOST_UNREACHABLE}


def cause_of(failure: Failure) -> Cause:
    """The Cause that tells the client why its target could not be dialled."""
    if isinstance(failure, NotAllowed):
        return Cause.NOT_ALLOWED
    if failure.exit in _OF_EXITS:
        return _OF_EXITS[failure.exit]
    # If the addresses failed for different reasons, the cause of the failure is the error of the last one.
    last = failure if failure.errno else failure.__cause__
    return _OF_ERRORS.get(getattr(last, "errno", None) or 0, Cause.FAILED)


class Request(NamedTuple):
    """The ``target`` that a client asks for; ``scheme`` is that of a proxy URL, such as socks5.

    ``granted`` makes the reply for success from our address of the connection to the target; ``refused`` makes that for
    a failure, with a reason as text.
    """

    scheme: str
    target: Endpoint
    granted: Callable[[Endpoint], bytes]
    refused: Callable[[Cause, str], bytes]


class Handshake(Conversation[Request]):
    """The negotiation with one client, from its first byte to the end of its request; ``unread`` is for the target.

    At most ``MAX_HEAD`` bytes and those of the last call are kept. ``admits`` checks user and password; with None the
    client must not need any.
    """

    ended = "it ended before it asked for a target"

    def __init__(self, admits: Admits | None = None) -> None:
        super().__init__(_read_request(admits))


def _read_request(admits: Admits | None) -> Steps[Request]:
    begin = yield _end_of_beginning
    first = begin[0]
    if first == _SOCKS4:
        return (yield from _read_socks4(admits))
    if first == _SOCKS5:
        return (yield from _read_socks5(admits))
    if _TOKEN.match(begin):
        return _parse_http(begin, admits)
    what = "TLS" if first == _TLS else f"what begins with {first:#04x}"
    raise Refused(f"{what} is neither SOCKS4, SOCKS5 nor HTTP")


def _end_of_beginning(data: bytes) -> int:
    """The Frame of the head of an HTTP request, or of the first byte of anything else."""
    if not _TOKEN.match(data):
        return len(data[:1])
    if end := _END.search(data, 0, MAX_HEAD):
        return end.end()
    if len(data) >= MAX_HEAD:
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        raise _http_error(status, f"the request has more than {MAX_HEAD} bytes")
    return 0


# -- SOCKS4


def _read_socks4(admits: Admits | None) -> Steps[Request]:
    command, port, address = struct.unpack("!BH4s", (yield from read_exactly(7)))
    yield from _read_string()
    scheme, host = "socks4", socket.inet_ntop(socket.AF_INET, address).encode()
    if address[:3] == bytes(3) and address[3]:
        scheme, host = "socks4a", (yield from _read_string())
    if admits is not None:
        raise Refused("SOCKS4 has no password, and one is wanted", _socks4_refused())
    if command != _CONNECT:
        raise Refused(f"command {command} of SOCKS4 is not served, only CONNECT", _socks4_refused())
    return Request(scheme, _target(host, port, _socks4_refused()), _socks4_granted, _socks4_refused)


def _read_string() -> Steps[bytes]:
    """Read a string that ends with NUL."""
    return (yield _end_of_string)[:-1]


def _end_of_string(data: bytes) -> int:
    end = data.find(0, 0, _MAX_STRING + 1)
    if end < 0 and len(data) > _MAX_STRING:
        raise Refused(f"the user or the name has more than {_MAX_STRING} bytes", _socks4_refused())
    return end + 1


# -- SOCKS5


def _read_socks5(admits: Admits | None) -> Steps[Request]:
    (count,) = yield from read_exactly(1)
    methods = yield from read_exactly(count)
    wanted = _OPEN if admits is None else _PASSWORD
    if wanted not in methods:
        lack = "to do without user and password" if admits is None else "user and password"
        raise Refused(f"the client does not offer {lack}", bytes((_SOCKS5, _NO_METHOD)))
    yield bytes((_SOCKS5, wanted))
    if admits is not None:
        yield from _read_password(admits)
    version, command, _, kind = yield from read_exactly(4)
    if version != _SOCKS5:
        raise Refused(f"the request has version {version}, not {_SOCKS5}", _socks5_refused(Cause.FAILED))
    host = yield from _read_address(kind)
    (port,) = struct.unpack("!H", (yield from read_exactly(2)))
    if command != _CONNECT:
        reason = f"command {command} of SOCKS5 is not served, only CONNECT"
        raise Refused(reason, _socks5_refused(Cause.COMMAND))
    target = _target(host, port, _socks5_refused(Cause.FAILED))
    return Request("socks5", target, _socks5_granted, _socks5_refused)


def _read_address(kind: int) -> Steps[bytes]:
    if kind == _NAME:
        (size,) = yield from read_exactly(1)
        return (yield from read_exactly(size))
    if kind not in (_IPV4, _IPV6):
        raise Refused(f"there is no address of type {kind}", _socks5_refused(Cause.ADDRESS_TYPE))
    family, size = (socket.AF_INET, 4) if kind == _IPV4 else (socket.AF_INET6, 16)
    return socket.inet_ntop(family, (yield from read_exactly(size))).encode()


def _read_password(admits: Admits) -> Steps[None]:
    refusal = bytes((_PASSWORD_VERSION, 1))
    version, size = yield from read_exactly(2)
    if version != _PASSWORD_VERSION:
        raise Refused(f"user and password have version {version}, not {_PASSWORD_VERSION}", refusal)
    user = yield from read_exactly(size)
    (size,) = yield from read_exactly(1)
    password = yield from read_exactly(size)
    if not admits(user, password):
        raise Refused(_UNKNOWN, refusal)
    yield bytes((_PASSWORD_VERSION, 0))


# -- HTTP


def _parse_http(head: bytes, admits: Admits | None) -> Request:
    if _BLANKS.search(head):
        raise _http_error(HTTPStatus.BAD_REQUEST, "the request has 256 blanks in a row")
    if LONG_LENGTH.search(head):
        raise _http_error(HTTPStatus.BAD_REQUEST, "the request is malformed: bad content-length")
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        http.receive_data(head)
        asked = http.next_event()
    except h11.RemoteProtocolError as error:
        what = str(error).partition(":")[0].lower()  # without the line itself, which may have a password
        raise _http_error(HTTPStatus(error.error_status_hint), f"the request is malformed: {what}") from error
    assert isinstance(asked, h11.Request), asked  # as the head is complete
    if asked.method != b"CONNECT":
        reason = f"{asked.method.decode()} is not served, only CONNECT (curl --proxytunnel)"
        allow = "Allow: CONNECT\r\n"
        raise _http_error(HTTPStatus.METHOD_NOT_ALLOWED, reason, allow, body=asked.method != b"HEAD")
    fields = dict(asked.headers)
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
        raise _http_error(HTTPStatus.BAD_REQUEST, "a CONNECT has no body")
    if admits is not None and not _is_admitted(fields.get(b"proxy-authorization", b""), admits):
        wanted = 'Proxy-Authenticate: Basic realm="netkit", charset="UTF-8"\r\n'
        reason = _UNKNOWN if b"proxy-authorization" in fields else "user and password are missing"
        raise _http_error(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, reason, wanted)
    host, port = _authority(asked.target.decode())
    target = _target(host, port, _page(HTTPStatus.BAD_REQUEST, "the target is not HOST:PORT"))
    return Request("http", target, _http_granted, _http_refused)


# -- all


def _target(host: bytes, port: int, reply: bytes) -> Endpoint:
    """The requested target. Raises Refused, with the reply, for an invalid host or port 0."""
    try:
        name = check_host(host.decode())
    except ValueError as error:  # Invalid, or no UTF-8
        raise Refused(f"the target is no host: {error}", reply) from error
    if not port:
        raise Refused("the target has no port", reply)
    return Endpoint(name, port)


def _socks4_granted(local: Endpoint) -> bytes:
    return struct.pack("!BB", 0, _SOCKS4_GRANTED) + struct.pack("!H", local.port) + (_packed(local, 4) or bytes(4))


def _socks4_refused(cause: Cause = Cause.FAILED, reason: str = "") -> bytes:
    return bytes((0, _SOCKS4_REFUSED)) + bytes(6)


def _socks5_granted(local: Endpoint) -> bytes:
    return _socks5_reply(0, local)


def _socks5_refused(cause: Cause, reason: str = "") -> bytes:
    code, _ = cause.value
    return _socks5_reply(code, Endpoint("0.0.0.0"))


def _socks5_reply(code: int, bound: Endpoint) -> bytes:
    address = _packed(bound, 4) or _packed(bound, 16)
    kind = _IPV4 if len(address) == 4 else _IPV6
    return bytes((_SOCKS5, code, 0, kind)) + address + struct.pack("!H", bound.port)


def _packed(end: Endpoint, size: int) -> bytes:
    """The packed IP address of an endpoint if it has ``size`` bytes, else b""."""
    host = (end.host or "").partition("%")[0]
    family = family_of(host)
    packed = socket.inet_pton(family, host) if family is not None else b""
    return packed if len(packed) == size else b""


def _authority(target: str) -> tuple[bytes, int]:
    """Split ``HOST:PORT``, without further checks. The port is 0 if it is missing or no number."""
    try:
        host, port = split(target)
        return host.encode(), parse_port(port) if port and _DIGITS.fullmatch(port) else 0
    except ValueError:
        return b"", 0


def _is_admitted(field: bytes, admits: Admits) -> bool:
    """Whether the value of Proxy-Authorization has a user and password that are admitted (Basic, RFC 7617)."""
    scheme, _, encoded = field.partition(b" ")
    try:
        user, colon, password = binascii.a2b_base64(encoded.strip(), strict_mode=True).partition(b":")
    except ValueError:
        return False
    return scheme.lower() == b"basic" and colon == b":" and admits(user, password)


def _http_granted(local: Endpoint) -> bytes:
    return b"HTTP/1.1 200 Connection established\r\n\r\n"


def _http_refused(cause: Cause, reason: str) -> bytes:
    _, status = cause.value
    return _page(status, reason)


def _http_error(status: HTTPStatus, reason: str, fields: str = "", *, body: bool = True) -> Refused:
    return Refused(reason, _page(status, reason, fields, body=body))


def _page(status: HTTPStatus, reason: str, fields: str = "", *, body: bool = True) -> bytes:
    """An HTTP response whose body is the reason, in one line."""
    text = f"{reason}\n".encode("ascii", "backslashreplace")
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n{fields}Connection: close\r\n"
    head += f"Content-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + (text if body else b"")
