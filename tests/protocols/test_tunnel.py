"""Streams through proxies: the contract, splicing after the handshake, and addresses that are tried in turn."""

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from netkit.core import kernel, tls
from netkit.core.address import Endpoint
from netkit.core.dial import Dialling, dial
from netkit.core.errors import Exit, Failure
from netkit.core.events import Tunnelled, ignore
from netkit.core.kernel import Group
from netkit.core.lookup import Address
from netkit.core.pump import pump
from netkit.core.socket_stream import SocketStream
from netkit.core.stdio import FileStream
from netkit.core.stream import Connection, raw_source
from netkit.core.tls_context import Security
from netkit.protocols import http_connect, socks, tunnel
from netkit.protocols.proxy import TargetFailure, parse
from netkit.protocols.tunnel import Hop, through_proxies
from tests import contract
from tests.contract import Check, MakePair, check_stream, pattern, read_exactly
from tests.support import peer
from tests.support.certificates import Pki
from tests.support.peers import receive, tcp_sockets
from tests.support.proxies import GRANTED, GREETING, NO_AUTHENTICATION, SOCKS4A, SOCKS5, Step, http, scripted
from tests.support.streams import Steps

TARGET = Endpoint("target.test", 9)
BANNER = b"220 ready\r\n"
PROXIES: dict[str, Sequence[Step]] = {
    "socks5h://p": SOCKS5,
    "socks4a://p": SOCKS4A,
    "http://p": http(b"HTTP/1.1 200 OK\r\n\r\n"),
}
EVERYTHING = contract.EVERY + contract.CONNECTED + contract.OWNING


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


@asynccontextmanager
async def closing(near: Connection, far: Connection) -> AsyncIterator[tuple[Connection, Connection]]:
    """Close both ends when the block ends."""
    try:
        yield near, far
    finally:
        near.close()
        far.close()


def over_sockets(url: str, sockets: Callable[[], tuple[socket.socket, socket.socket]]) -> MakePair:
    """Return a function that makes the two ends of a connection through a proxy."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Any, Any]]:
        ours, theirs = sockets()
        async with closing(*await asked(SocketStream(ours, "a"), SocketStream(theirs, "b"), url)) as pair:
            yield pair

    return make


@pytest.mark.parametrize("url", PROXIES)
@contract.every_check(EVERYTHING, contract.RESETTING)
def test_contract_over_tcp(url: str, check: Check) -> None:
    """A stream through a proxy keeps the contract over TCP."""
    check_stream(over_sockets(url, tcp_sockets), check)


@pytest.mark.parametrize("url", ["socks5h://p", "http://p"])
@contract.every_check(EVERYTHING)
def test_contract_over_unix_sockets(url: str, check: Check) -> None:
    """It keeps the contract over a unix socket."""
    check_stream(over_sockets(url, lambda: socket.socketpair()), check)


@contract.every_check(EVERYTHING, contract.RESETTING, without=contract.closing_ends_the_connection)
def test_contract_over_tls(check: Check, pki: Pki) -> None:
    """It keeps the contract over TLS, where data received with the answer is held outside the stream."""
    client = tls.client(Security(cafile=pki.ca), "localhost", ignore)
    server = tls.server(Security(cert=pki.good.cert, key=pki.good.key), ignore)

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Any, Any]]:
        ours, theirs = tcp_sockets()
        async with Group() as group:
            serving = group.start_soon(server(SocketStream(theirs, "b"), Group()))
            near = await client(SocketStream(ours, "a"), Group())
            await serving.finished.wait()
        async with closing(*await asked(near, serving.result, "http://p")) as pair:  # type: ignore[arg-type]
            yield pair

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


# -- a name with several addresses, for which the proxy is asked one after another

V6, V4, OTHER = "2001:db8::1", "192.0.2.1", "192.0.2.2"


def attempt(url: str, codes: dict[str, int | None], monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Any]:
    """Dial a name with three addresses through a proxy with these replies; return the addresses and the result.

    A reply of None means that the proxy does not answer.
    """
    told: list[str] = []

    async def lookup(target: Endpoint, family: int, **_: Any) -> list[Address]:
        found = [Address(10, (V6, 9, 0, 0)), Address(2, (V4, 9)), Address(2, (OTHER, 9))]
        return [address for address in found if family in (0, address.family)]

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
        sock.recv(1)

    monkeypatch.setattr(tunnel, "lookup", lookup)
    seen: list[Any] = []

    async def main(proxy: str) -> None:
        async with Group() as group:
            how = Dialling(timeout=0.3 if None in codes.values() else 10, connect=through_proxies([Hop(parse(proxy))]))
            stream = await dial(TARGET, how, seen.append, group)
            seen.append(stream)
            stream.close()

    with peer(serve) as server:
        try:
            kernel.run(main(url.replace("://p", f"://{server.address}")))
        except Failure as failure:
            return told, failure
    return told, next(event.target for event in seen if isinstance(event, Tunnelled))


@pytest.mark.parametrize("code", [3, 4, 5, 6, 8])
def test_the_next_address_is_tried(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the proxy cannot reach one address, the next is asked for over a new connection, with families in turn."""
    told, reached = attempt("socks5://p", {V6: code, V4: code}, monkeypatch)
    assert told == [V6, V4, OTHER]
    assert reached == f"{OTHER}:9"


@pytest.mark.parametrize("code", [1, 2, 7])
def test_what_is_the_proxys_own_failure_ends_it(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure of the proxy itself is raised at once, as another address would not help."""
    told, failure = attempt("socks5://p", {V6: code}, monkeypatch)
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
    told, failure = attempt("socks5://p", codes, monkeypatch)
    assert told == [V6, V4, OTHER]
    assert isinstance(failure, TargetFailure)
    assert (failure.exit, failure.errno) == (exit, errno)
    assert failure.detail.startswith(detail)


def test_the_time_is_for_all_addresses_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout is for all addresses, and the message has the reasons so far."""
    told, failure = attempt("socks5://p", {V6: 5, V4: None}, monkeypatch)
    assert told == [V6, V4]
    assert (failure.exit, failure.reason) == (Exit.TIMEOUT, "no address answered")
    assert failure.detail == f"{V6}: connection refused, {V4}: no answer within 300 ms"
