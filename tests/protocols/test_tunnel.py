"""Streams through proxies: the contract, what proxies are asked, what their failures come to, addresses in turn."""

import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from netkit.core import address, kernel, tls
from netkit.core.address import Endpoint
from netkit.core.dial import Dialling, dial
from netkit.core.errors import Exit, Failure
from netkit.core.events import ignore
from netkit.core.kernel import Group
from netkit.core.lookup import Address
from netkit.core.pump import pump
from netkit.core.socket_stream import SocketStream
from netkit.core.stdio import FileStream
from netkit.core.stream import Connection, raw_source
from netkit.core.tls_context import Security
from netkit.protocols import http_connect, socks, tunnel
from netkit.protocols.proxy import Proxy, TargetFailure, parse
from netkit.protocols.tunnel import Hop, through_proxies
from tests import contract
from tests.contract import Check, MakePair, check_stream, pattern, read_all, read_exactly
from tests.support import peer
from tests.support.certificates import Pki
from tests.support.peers import outlast, receive, reset, tcp_sockets
from tests.support.proxies import (
    BY_PASSWORD,
    CREDENTIALS,
    GRANTED,
    GRANTED_4,
    GREETING,
    GREETING_WITH_PASSWORD,
    LOGIN,
    NO_AUTHENTICATION,
    OK,
    REQUEST,
    REQUEST_4A,
    SOCKS4A,
    SOCKS5,
    Step,
    http,
    reply,
    scripted,
    shout,
)
from tests.support.streams import Steps, streams_of

TARGET = Endpoint("target.test", 9)
BANNER = b"220 ready\r\n"
REST = b"\0\1" + bytes(6)  # of a reply of SOCKS5 to a request that failed
PROXIES: dict[str, Sequence[Step]] = {"socks5h://p": SOCKS5, "socks4a://p": SOCKS4A, "http://p": http(OK)}
Behaviour = Callable[[socket.socket], Any]


async def asked(near: Connection, far: Connection, url: str) -> tuple[Connection, Connection]:
    """Do the handshake on both ends; the target's banner arrives together with its end."""

    async def answer() -> None:
        for request, answer in PROXIES[url]:
            came = b""
            while not came.endswith(request):
                came += await far.recv()
            await far.send(answer + (BANNER if answer == PROXIES[url][-1][1] else b""))

    proxy = parse(url)
    handshake = http_connect.handshake if proxy.is_http else socks.handshake
    async with Group() as group:
        group.start_soon(answer())
        near = await handshake(near, proxy, TARGET, "connect")
    assert await read_exactly(near, len(BANNER)) == BANNER
    near.counts.restart()
    far.counts.restart()
    return near, far


def over_sockets(url: str, sockets: Callable[[], tuple[socket.socket, socket.socket]]) -> MakePair:
    """Return a function that makes the two ends of a connection through a proxy."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Any, Any]]:
        async with streams_of(sockets()) as (ours, theirs):
            yield await asked(ours, theirs, url)

    return make


@pytest.mark.parametrize("url", PROXIES)
@contract.every_check(contract.TCP)
def test_contract_over_tcp(url: str, check: Check) -> None:
    """A stream through a proxy keeps the contract over TCP."""
    check_stream(over_sockets(url, tcp_sockets), check)


@pytest.mark.parametrize("url", ["socks5h://p", "http://p"])
@contract.every_check(contract.UNIX)
def test_contract_over_unix_sockets(url: str, check: Check) -> None:
    """It keeps the contract over a unix socket."""
    check_stream(over_sockets(url, socket.socketpair), check)


@contract.every_check(contract.TCP, without=contract.closing_ends_the_connection)
def test_contract_over_tls(check: Check, pki: Pki) -> None:
    """It keeps the contract over TLS, where data received with the answer is held outside the stream."""
    client = tls.client(Security(cafile=pki.ca), "localhost", ignore)
    server = tls.server(Security(cert=pki.good.cert, key=pki.good.key), ignore)

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Any, Any]]:
        async with streams_of(tcp_sockets()) as (ours, theirs), Group() as group:
            serving = group.start_soon(server(theirs, group))
            near = await client(ours, group)
            await serving.finished.wait()
            yield await asked(near, serving.result, "http://p")  # type: ignore[arg-type]

    check_stream(make, check)


@pytest.mark.parametrize("url", PROXIES)
def test_a_proxy_costs_no_zero_copy(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Data received with the proxy's answer comes first, then the kernel moves the rest, and all is counted once."""
    steps = Steps(monkeypatch)
    data = pattern(contract.PAST_PROMOTION)
    *before, (request, answer) = PROXIES[url]
    script = scripted([*before, (request, answer + data)], lambda sock: None)
    with peer(script) as server, (tmp_path / "got").open("wb") as file:
        proxy = parse(url.replace("://p", f"://{server.address}"))

        async def main() -> None:
            async with Group() as group:
                how = Dialling(connect=through_proxies([Hop(proxy)]))
                stream = await dial(TARGET, how, group=group)
                assert isinstance(stream, SocketStream)
                assert (stream.counts.received, stream.counts.sent, stream.unacknowledged()) == (0, 0, 0)
                assert stream.name == "target.test:9"
                first = await stream.recv()
                assert data.startswith(first)
                assert raw_source(stream) is not None
                stream.unread(first)
                await pump(stream, FileStream(file.fileno(), file.fileno()), half_close=False)
                assert stream.counts.received == len(data)
                stream.close()

        kernel.run(main())
    assert (tmp_path / "got").read_bytes() == data
    assert steps.moved > len(data) // 2


# -- proxies that follow a script


def dialled(url: str, behave: Behaviour, *, target: Endpoint = TARGET, timeout: float = 10) -> tuple[bytes, Any]:
    """Send hello through a proxy that does this, whose address is put into ``url``; return what comes, and its result.

    Raises Failure, as ``dial`` does.
    """

    async def main(proxy: Proxy) -> bytes:
        async with Group() as group:
            how = Dialling(timeout=timeout, connect=through_proxies([Hop(proxy)]))
            stream = await dial(target, how, group=group)
            await stream.send(b"hello")
            data = await read_all(stream)
            stream.close()
            return data

    with peer(behave) as proxy:
        return kernel.run(main(parse(url.format(proxy.address)))), proxy.result()


@pytest.mark.parametrize(
    ("scheme", "target", "asked"),
    [
        ("socks5h", "target.test:9", [GREETING, REQUEST]),
        ("socks5h", "[2001:db8::1]:9", [GREETING, b"\5\1\0\4\x20\1\x0d\xb8" + bytes(11) + b"\1\0\x09"]),
        ("socks5", "192.0.2.1:9", [GREETING, b"\5\1\0\1\xc0\0\2\1\0\x09"]),
        ("socks5", "localhost:9", [GREETING, b"\5\1\0\1\x7f\0\0\1\0\x09"]),
        ("socks5h", "localhost:9", [GREETING, b"\5\1\0\3\x09localhost\0\x09"]),
        ("socks4a", "target.test:9", [REQUEST_4A]),
        ("socks4a", "192.0.2.1:9", [b"\4\1\0\x09\xc0\0\2\1\0"]),
        ("socks4", "localhost:9", [b"\4\1\0\x09\x7f\0\0\1\0"]),
    ],
)
def test_what_a_socks_proxy_is_asked(scheme: str, target: str, asked: list[bytes]) -> None:
    """The scheme says whether netkit or the proxy looks names up; addresses are sent as addresses."""
    answers = [GRANTED_4] if scheme.startswith("socks4") else [NO_AUTHENTICATION, GRANTED]
    proxy = scripted(list(zip(asked, answers, strict=True)))
    assert dialled(f"{scheme}://{{}}", proxy, target=address.parse(target, "client")) == (b"HELLO", asked)


@pytest.mark.parametrize("target", ["target.test:9", "192.0.2.1:443", "[2001:db8::1]:1"])
def test_what_an_http_proxy_is_asked(target: str) -> None:
    """An HTTP proxy gets one CONNECT request, with an IPv6 address in brackets."""
    came, [asked] = dialled("http://me:hunter2@{}", scripted(http(OK)), target=address.parse(target, "client"))
    assert came == b"HELLO"
    line, *fields, _, _ = asked.split(b"\r\n")
    assert line == f"CONNECT {target} HTTP/1.1".encode()
    assert f"Host: {target}".encode() in fields
    assert b"Proxy-Authorization: Basic bWU6aHVudGVyMg==" in fields


@pytest.mark.parametrize(
    ("user", "steps"),
    [
        ("me:hunter2@", [*LOGIN, (CREDENTIALS, b"\1\0")]),
        ("me:hunter2@", [*LOGIN, (CREDENTIALS, b"\5\0")]),
        ("me:hunter2@", [(GREETING_WITH_PASSWORD, NO_AUTHENTICATION)]),
        ("%00%ff:%3a@", [*LOGIN, (b"\1\2\0\xff\1:", b"\1\0")]),
        ("me@", [*LOGIN, (b"\1\2me\0", b"\1\0")]),
    ],
)
def test_user_and_password(user: str, steps: list[Step]) -> None:
    """User and password are decoded from the URL, and sent if the proxy asks for them."""
    steps = [*steps, (REQUEST, GRANTED)]
    assert dialled(f"socks5h://{user}{{}}", scripted(steps)) == (b"HELLO", [request for request, _ in steps])


@pytest.mark.parametrize("gap", [None, 0.0], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    ("scheme", "steps"),
    [
        ("socks5h", SOCKS5),
        ("socks5h", reply(b"\5\0\0\4" + bytes(18))),
        ("socks5h", reply(b"\5\0\0\3\4a\xffb.\0\0")),
        ("socks5h", reply(b"\5\0\0\3\0\0\0")),
        ("socks4a", SOCKS4A),
        ("http", http(OK)),
        ("http", http(b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n")),
        ("http", http(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 299\r\nContent-Length: 5\r\n\r\n")),
        ("http", http(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 5\n\n")),
    ],
)
def test_what_comes_with_the_last_answer_is_the_targets(scheme: str, steps: Sequence[Step], gap: float | None) -> None:
    """Data right after the proxy's reply belongs to the target, and nothing of the reply does."""
    *before, (request, answer) = steps
    came, _ = dialled(f"{scheme}://{{}}", scripted([*before, (request, answer + BANNER)], gap=gap))
    assert came == b"220 ready\r\nHELLO"


def close(sock: socket.socket) -> None:
    """End at once."""


STALLED = "no answer within 1 s"
MALFORMED = "its answer is malformed"
CLOSED, CUT = "it closed the connection\n", "it closed the connection amid its answer"
TOO_LONG = "its head has more than 262144 bytes"
ROWS: list[tuple[str, Sequence[Step], Behaviour, int, str]] = [
    # SOCKS5: no answer, an early end, or another protocol.
    ("socks5h://{}", (), outlast, 28, STALLED),
    ("socks5h://{}", [(GREETING, b"")], close, 97, CLOSED),
    ("socks5h://{}", [(GREETING, b"")], reset, 97, "connection reset by peer"),
    ("socks5h://{}", [(GREETING, b"\5")], close, 97, CUT),
    ("socks5h://{}", [(GREETING, b"\5")], outlast, 28, STALLED),
    ("socks5h://{}", reply(b""), close, 97, CLOSED),
    ("socks5h://{}", [(GREETING, b"HTTP/1.1 400 Bad Request\r\n\r\n")], close, 97, "it does not speak SOCKS5"),
    ("socks5h://{}", [(GREETING, b"\0\x5b" + bytes(6))], close, 97, "it does not speak SOCKS5"),
    # Authentication.
    ("socks5h://{}", [(GREETING, b"\5\xff")], close, 97, "it wants authentication"),
    ("socks5h://me:x@{}", [(GREETING_WITH_PASSWORD, b"\5\xff")], close, 97, "it wants another way of authentication"),
    ("socks5h://{}", [(GREETING, BY_PASSWORD)], outlast, 97, "it chose an authentication that was not offered"),
    ("socks5h://{}", [(GREETING, b"\5\1")], outlast, 97, "it chose an authentication that was not offered"),
    ("socks5h://me:hunter2@{}", [*LOGIN, (CREDENTIALS, b"\1\1")], close, 97, "it refused user and password"),
    ("socks5h://me:hunter2@{}", [*LOGIN, (CREDENTIALS, b"")], close, 97, CLOSED),
    # Failures of the proxy and of the target.
    ("socks5h://{}", reply(b"\5\1" + REST), close, 97, "general failure"),
    ("socks5h://{}", reply(b"\5\2" + REST), close, 97, "its rules forbid it"),
    ("socks5h://{}", reply(b"\5\3" + REST), close, 7, "network is unreachable"),
    ("socks5h://{}", reply(b"\5\4" + REST), close, 7, "no route to host"),
    ("socks5h://{}", reply(b"\5\5" + REST), close, 7, "connection refused"),
    ("socks5h://{}", reply(b"\5\5"), outlast, 7, "connection refused"),
    ("socks5h://{}", reply(b"\5\6" + REST), close, 7, "connection timed out"),
    ("socks5h://{}", reply(b"\5\7" + REST), close, 97, "it does not know the command CONNECT"),
    ("socks5h://{}", reply(b"\5\x08" + REST), close, 97, "it does not know this type of address"),
    ("socks5h://{}", reply(b"\5\x2a" + REST), close, 97, "it answered with the unknown code 42"),
    # Wrong lengths, and replies that are cut off.
    ("socks5h://{}", reply(b"\5\0\0\3\xffshort\0\0"), close, 97, CUT),
    ("socks5h://{}", reply(b"\5\0\0\3\xffshort\0\0"), outlast, 28, STALLED),
    ("socks5h://{}", reply(b"\5\0\0\4" + bytes(17)), close, 97, CUT),
    ("socks5h://{}", reply(b"\5\0\0\2" + bytes(6)), close, 97, MALFORMED),
    ("socks5h://{}", reply(b"\4\0\0\1" + bytes(6)), close, 97, MALFORMED),
    # SOCKS 4.
    ("socks4a://{}", [(REQUEST_4A, b"\0\x5b" + bytes(6))], close, 7, "the proxy rejected the request, or it failed"),
    ("socks4a://{}", [(REQUEST_4A, b"\0\x5c" + bytes(6))], close, 97, "it cannot reach an identd here"),
    ("socks4a://{}", [(REQUEST_4A, b"\0\x5d" + bytes(6))], close, 97, "the identd here names another user"),
    ("socks4a://{}", [(REQUEST_4A, b"\0\x07" + bytes(6))], close, 97, "it answered with the unknown code 7"),
    ("socks4a://{}", [(REQUEST_4A, b"\5\xff")], close, 97, "it does not speak SOCKS4"),
    ("socks4a://{}", [(REQUEST_4A, GRANTED_4[:-1])], close, 97, CUT),
    # HTTP.
    ("http://{}", http(b""), close, 97, "it ended without an answer"),
    ("http://{}", http(b""), outlast, 28, STALLED),
    ("http://{}", http(b"HTTP/1.1 200 O"), close, 97, "it ended in the middle of its head"),
    ("http://{}", http(b"HTTP/1.1 200 OK\r\n"), outlast, 28, STALLED),
    ("http://{}", http(b"\5\xff"), close, 97, "it does not speak HTTP"),
    ("http://{}", http(b"\x15\3\1\0\2\2\x46"), close, 97, "it speaks TLS, not HTTP"),
    ("http://{}", http(b"HTTP/1.1 2OO OK\r\n\r\n"), close, 97, "its status line is malformed"),
    ("http://{}", http(b"HTTP/1.1 407 Go away\r\n\r\n"), close, 97, "it answered 407 Go away"),
    ("http://{}", http(b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\n\n"), close, 97, "it answered 407 No (by NTLM)"),
    ("http://{}", http(b"HTTP/1.1 403 \x1b[31mred\r\n\r\n"), close, 97, "it answered 403 \x1b[31mred"),
    ("http://{}", http(b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"), close, 97, "it answered 302 Found"),
    ("http://{}", http(b"HTTP/1.1 500 Oops\r\n\r\n"), close, 97, "it answered 500 Oops"),
    ("http://{}", http(b"HTTP/1.1 502 Sorry\r\n\r\n"), close, 7, "the proxy answered 502 Sorry"),
    ("http://{}", http(b"HTTP/1.1 503 Sorry\r\n\r\n"), close, 7, "the proxy answered 503 Sorry"),
    ("http://{}", http(b"HTTP/1.1 504 Sorry\r\n\r\n"), close, 7, "the proxy answered 504 Sorry"),
    ("http://{}", http((b"HTTP/1.1 100 Go on\r\nX: " + b"y" * 4000 + b"\r\n\r\n") * 70), close, 97, TOO_LONG),
]


@pytest.mark.parametrize(("url", "steps", "then", "code", "reason"), ROWS)
def test_a_proxy_that_does_not(url: str, steps: Sequence[Step], then: Behaviour, code: int, reason: str) -> None:
    """A failure of the proxy says why, and names the proxy and the target."""
    with pytest.raises(Failure) as caught:
        dialled(url, scripted(steps, then), timeout=1.0 if code == 28 else 10)
    assert caught.value.exit == code
    scheme, _, _ = url.partition("://")
    told = re.sub(r"127\.0\.0\.1:\d+", "p", str(caught.value))
    assert f"{told}\n".startswith(f"cannot connect to {TARGET} through proxy {scheme}://p: {reason}")


# -- a name with several addresses, for which the proxy is asked one after another

V6, V4, OTHER = "2001:db8::1", "192.0.2.1", "192.0.2.2"


def attempt(codes: dict[str, int | None], monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Any]:
    """Dial a name with three addresses through a proxy with these replies; return those asked for, and a failure.

    A reply of None means that the proxy does not answer.
    """
    told: list[str] = []

    async def lookup(target: Endpoint, family: int, **_: Any) -> list[Address]:
        return [Address(10, (V6, 9, 0, 0)), Address(2, (V4, 9)), Address(2, (OTHER, 9))]

    def serve(sock: socket.socket) -> None:
        receive(sock, len(GREETING))
        sock.sendall(NO_AUTHENTICATION)
        head = receive(sock, 4)
        family, size = (socket.AF_INET, 4) if head[3] == 1 else (socket.AF_INET6, 16)
        told.append(socket.inet_ntop(family, receive(sock, size)))
        receive(sock, 2)
        code = codes.get(told[-1], 0)
        if code is not None:
            sock.sendall(b"\5" + bytes([code]) + GRANTED[2:])
        outlast(sock) if code != 0 else shout(sock)

    monkeypatch.setattr(tunnel, "lookup", lookup)
    try:
        dialled("socks5://{}", serve, timeout=1.0 if None in codes.values() else 10)
    except Failure as failure:
        return told, failure
    return told, None


@pytest.mark.parametrize("code", [3, 4, 5, 6, 8])
def test_the_next_address_is_tried(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the proxy cannot reach one address, the next is asked for over a new connection, with families in turn."""
    assert attempt({V6: code, V4: code}, monkeypatch) == ([V6, V4, OTHER], None)


@pytest.mark.parametrize("code", [1, 2, 7])
def test_what_is_the_proxys_own_failure_ends_it(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the proxy itself is raised at once, as another address would not help."""
    told, failure = attempt({V6: code}, monkeypatch)
    assert told == [V6]
    assert failure.exit is Exit.PROXY and not isinstance(failure, TargetFailure)


@pytest.mark.parametrize(
    ("codes", "exit", "errno", "detail"),
    [
        ({V6: 5, V4: 5, OTHER: 5}, 7, 111, f"{V6}, {V4}, {OTHER}"),
        ({V6: 3, V4: 5, OTHER: 5}, 7, None, f"{V6}: network is unreachable, {V4}, {OTHER}: connection refused"),
        ({V6: 8, V4: 8, OTHER: 8}, 97, None, f"{V6}, {V4}, {OTHER}"),
        ({V6: 8, V4: 5, OTHER: 5}, 7, None, f"{V6}: it does not know this type of address, {V4}, {OTHER}: conn"),
    ],
)
def test_when_no_address_is_reached(
    codes: dict[str, int], exit: int, errno: int | None, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the reasons of all addresses; a target's failure wins over an address type the proxy lacks."""
    told, failure = attempt(codes, monkeypatch)
    assert told == [V6, V4, OTHER]
    assert isinstance(failure, TargetFailure)
    assert (failure.exit, failure.errno) == (exit, errno)
    assert failure.detail.startswith(detail)


def test_the_time_is_for_all_addresses_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout is for all addresses, and the message has the reasons so far."""
    told, failure = attempt({V6: 5, V4: None}, monkeypatch)
    assert told == [V6, V4]
    assert (failure.exit, failure.reason) == (Exit.TIMEOUT, "no address answered")
    assert failure.detail == f"{V6}: connection refused, {V4}: no answer within 1 s"
