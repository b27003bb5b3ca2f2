"""The server side of the proxy protocols: requests, replies and refusals, for any bytes from a client."""

import base64
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure
from netkit.core.targets import NotAllowed
from netkit.protocols.dialogue import Refused
from netkit.protocols.proxy_server import MAX_HEAD, Handshake, Request, cause_of
from tests.support.probes import bytes_of, outcome_of
from tests.support.proxy_clients import http, password, socks4, socks4a, socks5

DB = Endpoint("db", 5432)
USER, SECRET = b"me", b"pass:word"
BASIC = base64.b64encode(USER + b":" + SECRET).decode()
LOGIN = f"Proxy-Authorization: Basic {BASIC}\r\n"
BOUND = Endpoint("192.0.2.1", 258)
BOUND_6 = Endpoint("2001:db8::1%eth0", 258)


def admits(user: bytes, secret: bytes) -> bool:
    """Accept a single user and password."""
    return (user, secret) == (USER, SECRET)


def asked(name: str) -> Request:
    """A request of the table."""
    request = outcome_of(Handshake(), [REQUESTS[name][0]]).words
    assert isinstance(request, Request)
    return request


REQUESTS = {
    "socks4": (socks4(5432, "192.0.2.7"), b"", "socks4", Endpoint("192.0.2.7", 5432)),
    "socks4 user": (socks4(1, "192.0.2.7", b"x" * 255), b"", "socks4", Endpoint("192.0.2.7", 1)),
    "socks4 to 0.0.0.0": (socks4(1, "0.0.0.0"), b"", "socks4", Endpoint("0.0.0.0", 1)),
    "socks4a": (socks4a(5432, "db", b"me"), b"", "socks4a", DB),
    "socks4a long": (socks4a(1, "a." * 126 + "a"), b"", "socks4a", Endpoint("a." * 126 + "a", 1)),
    "socks5": (b"\5\1\0" + socks5(5432, "192.0.2.7"), b"\5\0", "socks5", Endpoint("192.0.2.7", 5432)),
    "socks5 name": (b"\5\3\1\2\0" + socks5(5432, "db"), b"\5\0", "socks5", DB),
    "socks5 name that is an address": (b"\5\1\0" + b"\5\1\0\3\3::1\0\1", b"\5\0", "socks5", Endpoint("::1", 1)),
    "socks5 six": (b"\5\1\0" + socks5(65535, "2001:db8::7"), b"\5\0", "socks5", Endpoint("2001:db8::7", 65535)),
    "socks5 no ASCII": (b"\5\1\0\5\1\0\3\7b\xc3\xbccher\0\1", b"\5\0", "socks5", Endpoint("xn--bcher-kva", 1)),
    "http": (http(5432, "db"), b"", "http", DB),
    "http/1.0": (b"CONNECT db:5432 HTTP/1.0\r\n\r\n", b"", "http", DB),
    "http by bare newlines": (b"CONNECT db:5432 HTTP/1.0\n\n", b"", "http", DB),
    "http six": (http(443, "[2001:db8::7]"), b"", "http", Endpoint("2001:db8::7", 443)),
    "http with fields": (http(5432, "db", "Content-Length: 0\r\nX: y\r\n" + LOGIN), b"", "http", DB),
}
SECURED = {
    "socks5": (b"\5\2\0\2" + password(USER, SECRET) + socks5(5432, "db"), b"\5\2\1\0", "socks5", DB),
    "http": (http(5432, "db", LOGIN), b"", "http", DB),
    "http in other letters": (http(5432, "db", f"proxy-authorization: bAsIC  {BASIC} \r\n"), b"", "http", DB),
}
ALL = [pytest.param(*row, False, id=name) for name, row in REQUESTS.items()]
ALL += [pytest.param(*row, True, id=f"{name} with a password") for name, row in SECURED.items()]


@pytest.mark.parametrize(("sent", "answer", "scheme", "target", "secured"), ALL)
def test_what_is_asked_for(sent: bytes, answer: bytes, scheme: str, target: Endpoint, secured: bool) -> None:
    """The request is complete with its last byte, and data after it belongs to the stream."""
    behind = os.urandom(10_000)
    for pieces in ([sent + behind], [sent, behind], [*bytes_of(sent), behind]):
        handshake = Handshake(admits if secured else None)
        kind, request, answered = outcome_of(handshake, pieces)
        assert kind == "ready", request
        assert (answered, request.scheme, request.target, handshake.unread) == (answer, scheme, target, behind)
    assert outcome_of(Handshake(admits if secured else None), [sent[:-1]]).kind == "waits"


SOCKS4_REFUSED = b"\0\x5b" + bytes(6)
HTTP_400 = b"HTTP/1.1 400 Bad Request\r\n"


def refused5(code: int) -> bytes:
    """Return the reply of SOCKS5 to a method and to a request that failed."""
    return bytes([5, 0, 5, code, 0, 1]) + bytes(6)


REFUSED = {
    "nothing of ours": (b"\3hello", b"", "what begins with 0x03 is neither"),
    "TLS": (b"\x16\3\1", b"", "TLS is neither"),
    "a blank line": (b"\r\n", b"", "what begins with 0x0d"),
    "socks4 bind": (b"\4\2\0\1\1\1\1\1\0", SOCKS4_REFUSED, "command 2 of SOCKS4"),
    "socks4 user without end": (b"\4\1\0\1\1\1\1\1" + b"x" * 256, SOCKS4_REFUSED, "more than 255 bytes"),
    "socks4a name without end": (b"\4\1\0\1\0\0\0\1\0" + b"x" * 5000, SOCKS4_REFUSED, "more than 255 bytes"),
    "socks4a without a name": (socks4a(1, ""), SOCKS4_REFUSED, "no host: the host is empty"),
    "socks4a legacy address": (socks4a(1, "0x7f.1"), SOCKS4_REFUSED, "legacy spelling"),
    "socks4 port 0": (socks4(0), SOCKS4_REFUSED, "no port"),
    "socks5 without methods": (b"\5\0", b"\5\xff", "does not offer to do without"),
    "socks5 with a password alone": (b"\5\1\2", b"\5\xff", "does not offer to do without"),
    "socks5 bind": (b"\5\1\0" + socks5(1, "db", 2), refused5(7), "command 2 of SOCKS5"),
    "socks5 udp": (b"\5\1\0" + socks5(1, "192.0.2.7", 3), refused5(7), "command 3 of SOCKS5"),
    "socks5 address type": (b"\5\1\0\5\1\0\2xxxx", refused5(8), "type 2"),
    "socks5 version": (b"\5\1\0\4\1\0\1", refused5(1), "version 4"),
    "socks5 empty name": (b"\5\1\0\5\1\0\3\0\0\1", refused5(1), "the host is empty"),
    "socks5 no text": (b"\5\1\0\5\1\0\3\1\xff\0\1", refused5(1), "the target is no host"),
    "socks5 control": (b"\5\1\0" + socks5(1, "a\nb"), refused5(1), "a control character"),
    "socks5 port 0": (b"\5\1\0" + socks5(0, "db"), refused5(1), "no port"),
    "http without a port": (b"CONNECT db HTTP/1.0\r\n\r\n", HTTP_400, "the target"),
    "http with a service": (b"CONNECT db:http HTTP/1.0\r\n\r\n", HTTP_400, "no port"),
    "http port 0": (b"CONNECT db:0 HTTP/1.0\r\n\r\n", HTTP_400, "the target"),
    "http big port": (b"CONNECT db:65536 HTTP/1.0\r\n\r\n", HTTP_400, "the target"),
    "http six without brackets": (b"CONNECT ::1:80 HTTP/1.0\r\n\r\n", HTTP_400, "the target"),
    "http user": (b"CONNECT me@db:80 HTTP/1.0\r\n\r\n", HTTP_400, "the target is no host"),
    "http without Host": (b"CONNECT db:80 HTTP/1.1\r\n\r\n", HTTP_400, "missing mandatory host"),
    "http with a body": (http(80, "db", "Content-Length: 5\r\n"), HTTP_400, "a CONNECT has no body"),
    "http long length": (http(80, "db", f"Content-Length: {'9' * 5000}\r\n"), HTTP_400, "bad content-length"),
    "http in chunks": (http(80, "db", "Transfer-Encoding: chunked\r\n"), HTTP_400, "a CONNECT has no body"),
    "http malformed": (b"HELO me\r\n\r\n", HTTP_400, "illegal request line"),
    "http field malformed": (http(80, "db", "Proxy-Authorization me:secret\r\n"), HTTP_400, "illegal header line"),
    "http blanks": (http(80, "db", "X:" + " \t" * 3000 + "\0\r\n"), HTTP_400, "256 blanks"),
    "http without end": (b"CONNECT " + b"x" * MAX_HEAD, b"HTTP/1.1 431 ", f"more than {MAX_HEAD} bytes"),
    "http GET": (
        b"GET http://db/ HTTP/1.1\r\nHost: db\r\n\r\n",
        b"HTTP/1.1 405 Method Not Allowed\r\nAllow: CO",
        "GET",
    ),
    "http POST": (b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 405 ", "POST is not served"),
}
HTTP_407 = (
    b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="netkit", charset="UTF-8"\r\n'
)
UNKNOWN = {
    "socks4": (socks4(1), SOCKS4_REFUSED, "SOCKS4 has no password"),
    "socks4a": (socks4a(1, user=USER), SOCKS4_REFUSED, "SOCKS4 has no password"),
    "socks5 without": (b"\5\1\0", b"\5\xff", "does not offer user and password"),
    "socks5 wrong": (b"\5\1\2" + password(USER, b"guess"), b"\5\2\1\1", "are not known"),
    "socks5 empty": (b"\5\1\2" + password(b"", b""), b"\5\2\1\1", "are not known"),
    "socks5 version": (b"\5\1\2\5\2me", b"\5\2\1\1", "have version 5"),
    "http without": (http(1), HTTP_407, "user and password are missing"),
    "http wrong": (http(1, fields="Proxy-Authorization: Basic bWU6Z3Vlc3M=\r\n"), HTTP_407, "are not known"),
    "http other scheme": (http(1, fields=f"Proxy-Authorization: Bearer {BASIC}\r\n"), HTTP_407, "are not known"),
    "http no base64": (http(1, fields=f"Proxy-Authorization: Basic {BASIC}!\r\n"), HTTP_407, "are not known"),
    "http for the server": (http(1, fields=f"Authorization: Basic {BASIC}\r\n"), HTTP_407, "are missing"),
    "http GET": (b"GET http://db/ HTTP/1.0\r\n\r\n", b"HTTP/1.1 405 ", "GET is not served"),
}
NONE = [pytest.param(*row, False, id=name) for name, row in REFUSED.items()]
NONE += [pytest.param(*row, True, id=f"{name} for a password") for name, row in UNKNOWN.items()]


@pytest.mark.parametrize(("sent", "reply", "reason", "secured"), NONE)
def test_what_is_refused(sent: bytes, reply: bytes, reason: str, secured: bool) -> None:
    """A refusal is a reply of the client's protocol, however the request is split, and shows no password."""
    for pieces in ([sent], [sent + b"more"], bytes_of(sent)):
        kind, why, answered = outcome_of(Handshake(admits if secured else None), pieces)
        assert kind == "Refused" and reason in why
        assert answered.startswith(reply) if reply.startswith(b"HTTP") else answered == reply
        assert "secret" not in why
        if reply.startswith(b"HTTP"):
            head, _, body = answered.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head and body.count(b"\n") == 1


def test_head_gets_no_body() -> None:
    """The reply to HEAD has no body."""
    answered = outcome_of(Handshake(), [b"HEAD http://db/ HTTP/1.0\r\n\r\n"]).said
    assert answered.startswith(b"HTTP/1.1 405 ") and answered.endswith(b"\r\n\r\n")


def failing(code: int) -> Failure:
    """Return a failure to connect, with the system's reason."""
    return Failure(Exit.CONNECT, "connect to db:5432", OSError(code, os.strerror(code)))


MIXED = Failure(Exit.CONNECT, "connect to db:5432", "no address answered")
MIXED.__cause__ = OSError(errno.ENETUNREACH, "")


@pytest.mark.parametrize(
    ("failure", "code", "status"),
    [
        (NotAllowed(DB, "it is denied"), 2, 403),
        (failing(errno.ENETUNREACH), 3, 502),
        (failing(errno.EHOSTUNREACH), 4, 502),
        (Failure(Exit.RESOLVE, "resolve db", "name not found"), 4, 502),
        (failing(errno.ECONNREFUSED), 5, 502),
        (Failure(Exit.TIMEOUT, "connect to db:5432", "no answer"), 6, 504),
        (failing(errno.ETIMEDOUT), 6, 504),
        (failing(errno.EACCES), 1, 502),
        (Failure(Exit.BIND, "use source", "it is none"), 1, 502),
        (MIXED, 3, 502),
    ],
)
def test_why_a_target_is_not_reached(failure: Failure, code: int, status: int) -> None:
    """The reason is one of the codes of RFC 1928, section 6, or of HTTP; SOCKS4 has a single code."""
    cause = cause_of(failure)
    names = ("socks4", "socks4a", "socks5", "http")
    replies = {name: asked(name).refused(cause, "connection refused") for name in names}
    assert replies["socks4"] == replies["socks4a"] == SOCKS4_REFUSED
    assert replies["socks5"] == refused5(code)[2:]
    assert replies["http"].startswith(f"HTTP/1.1 {status} ".encode())
    assert replies["http"].endswith(b"\r\n\r\nconnection refused\n")


@pytest.mark.parametrize(
    ("name", "bound", "reply"),
    [
        ("socks4", BOUND, bytes.fromhex("005a 0102 c0000201")),
        ("socks4a", BOUND_6, bytes.fromhex("005a 0102 00000000")),
        ("socks5", BOUND, bytes.fromhex("05000001 c0000201 0102")),
        ("socks5", BOUND_6, bytes.fromhex("05000004 20010db8000000000000000000000001 0102")),
        ("http", BOUND, b"HTTP/1.1 200 Connection established\r\n\r\n"),
    ],
)
def test_a_target_that_is_reached(name: str, bound: Endpoint, reply: bytes) -> None:
    """The reply has our address of the connection where the protocol has a place for it."""
    assert asked(name).granted(bound) == reply


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_a_flood_is_refused_early(beginning: bytes, piece: bytes) -> None:
    """A handshake never holds more than its limit and the last piece."""
    handshake = Handshake()
    held = 0
    try:
        handshake.receive(beginning)
        while not handshake.done:
            handshake.receive(piece)
            held += len(piece)
            assert held < MAX_HEAD + 2000
    except Refused:
        pass
