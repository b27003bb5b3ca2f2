"""``--accept-proxy``: servers behind a proxy that sends the client's address in a PROXY header."""

import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from netkit.core import kernel
from netkit.core.address import Endpoint
from netkit.core.connection import HANDSHAKE
from netkit.core.events import Accepted, Closed, Denied, Proxied
from netkit.core.kernel import Group, now
from netkit.core.layer import Setting, through
from netkit.core.pump import pump
from netkit.core.socket_stream import SocketStream
from netkit.core.stdio import FileStream
from netkit.core.stream import raw_source
from netkit.protocols.proxy_header import accepting, header
from tests import contract
from tests.contract import Check, MakePair, check_stream, pattern
from tests.support import PATIENCE, exchange, free_port, netkit, peer, read_all, running
from tests.support.certificates import Pki
from tests.support.peers import is_reset, tcp_sockets, wait_for_refusal
from tests.support.processes import HERE, sound
from tests.support.secured import Secured
from tests.support.servers import Client, Server, serving
from tests.support.streams import Steps, streams_of

CLIENT, REACHED = Endpoint("192.0.2.1", 56324), Endpoint("198.51.100.7", 443)
V1, V2 = (header(version, CLIENT, REACHED) for version in ("v1", "v2"))
OTHER = header("v1", Endpoint("2001:db8::1", 7), Endpoint("::1", 80))
LOCAL = bytes.fromhex("0d0a0d0a000d0a515549540a 20 11 0000")
ACCEPT = accepting(True, Setting(Endpoint()))


def connected(port: int) -> socket.socket:
    """Connect to the server as a proxy."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def was_reset(sock: socket.socket) -> bool:
    """Whether the connection is reset without receiving data."""
    try:
        assert sock.recv(1) == b""
    except ConnectionResetError:
        return True
    return False


# -- who the client is


@pytest.mark.parametrize("told", [V1, V2])
def test_the_client_is_the_one_that_was_told(told: bytes, tmp_path: Path) -> None:
    """Greetings, labels, logs and messages have the client of the header, which may arrive byte by byte."""
    log = tmp_path / "log"
    words = ("--greet", "{host} {port}\n", "--label", "--keep", "--log", str(log), "-v")
    with running("listen", HERE, "--accept-proxy", *words) as server:
        with connected(server.port) as proxy:
            direct = "{}:{}".format(*proxy.getsockname())
            for byte in told:
                proxy.sendall(bytes([byte]))
            proxy.sendall(b"hello\n")
            assert proxy.recv(100) == b"192.0.2.1 56324\n"
            assert server.out.readline() == b"192.0.2.1:56324\thello\n"
        said = server.terminate().complaints
    assert said[:2] == [
        f"netkit listen: connection from {direct}",
        f"netkit listen: connection from {direct} is relayed for 192.0.2.1:56324",
    ]
    assert len(said) == 3 and said[2].startswith("netkit listen: 192.0.2.1:56324 closed after ")
    for record in map(json.loads, log.read_text().splitlines()):
        assert (record["peer_address"], record["peer_port"]) == ("192.0.2.1", 56324)


def test_any_bytes_may_be_the_name_of_a_client() -> None:
    """The path of a client on a unix socket is shown in printable text, in labels, dumps and messages."""
    path = Endpoint(path="/tmp/\udcff\n\x1b[31m")
    shown = r"unix:/tmp/\xff\x0a\x1b[31m"
    words = ("--accept-proxy", "--keep", "--label", "--hexdump", "-v")
    with running("listen", HERE, *words) as server, connected(server.port) as proxy:
        proxy.sendall(header("v2", path, path) + b"hello\n")
        proxy.shutdown(socket.SHUT_WR)
        assert server.out.readline() == f"{shown}\thello\n".encode()
        assert server.line(r"^< \S+ (.*) 6 B$")[1] == shown
        server.line(f"{re.escape(shown)} closed")


def test_in_json() -> None:
    """Events have the proxy's address first, and the client's from the header on."""
    with running("echo", HERE, "--accept-proxy", "--json", "-v") as server:
        found = server.line('"listening"').string
        with connected(json.loads(found)["local_port"]) as proxy:
            proxy.sendall(V2 + b"hello")
            proxy.shutdown(socket.SHUT_WR)
            assert read_all(proxy) == b"hello"
            direct = "{}:{}".format(*proxy.getsockname())
        events = [json.loads(server.line('"event"').string) for _ in range(3)]
    accepted, proxied, closed = events
    assert f"{accepted['peer_address']}:{accepted['peer_port']}" == direct
    assert (proxied["event"], proxied["proxy"]) == ("proxied", direct)
    for event in (proxied, closed):
        assert (event["peer_address"], event["peer_port"], event["family"]) == ("192.0.2.1", 56324, "ipv4")
    assert closed["bytes_received"] == closed["bytes_sent"] == 5


def test_a_program_knows_the_client() -> None:
    """A program's environment has the client's address, and our own address as it is."""
    script = "echo $NETKIT_PEER_HOST $NETKIT_PEER_PORT $NETKIT_LOCAL_HOST $NETKIT_LOCAL_PORT"
    with running("listen", HERE, "--accept-proxy", "--sh-exec", script, "--keep") as server:
        port = server.port
        assert exchange(port, V1) == b"192.0.2.1 56324 127.0.0.1 %d\n" % port
        assert exchange(port, OTHER) == b"2001:db8::1 7 127.0.0.1 %d\n" % port


@pytest.mark.parametrize(
    ("told", "version", "passed_on"),
    [(V1, "v2", V2), (V2, "v1", V1), (OTHER, "v1", OTHER)],
)
def test_a_relay_passes_on_what_it_was_told(told: bytes, version: str, passed_on: bytes) -> None:
    """A relay passes both addresses on to its target, in either version of the header."""
    words = ("--accept-proxy", "--send-proxy", version)
    with peer(read_all) as target, running("relay", HERE, target.address, *words) as relay:
        assert exchange(relay.port, told + b"hello") == b""
        assert target.result() == passed_on + b"hello"


@pytest.mark.parametrize("told", [b"PROXY UNKNOWN\r\n", LOCAL])
def test_a_proxy_that_tells_of_nobody(told: bytes) -> None:
    """If the header names no client, the client is the proxy itself."""
    with running("echo", HERE, "--accept-proxy", "--greet", "{port} ", "-v") as server:
        with connected(server.port) as proxy:
            proxy.sendall(told + b"hello")
            proxy.shutdown(socket.SHUT_WR)
            assert read_all(proxy) == f"{proxy.getsockname()[1]} hello".encode()
        assert not any("relayed" in line for line in server.terminate().complaints)


def test_it_comes_before_tls(pki: Pki) -> None:
    """The header comes before the TLS handshake, whose failure is reported with the client's address."""
    with running("echo", f"tls:{HERE}", *pki.good.options(), "--accept-proxy", "-v") as server:
        port = server.port
        with connected(port) as proxy:
            proxy.sendall(V1)
            client = Secured(proxy, pki.client_context(), "localhost").do_handshake()
            client.send(b"hello")
            assert client.recv() == b"hello"
        with connected(port) as proxy:
            proxy.sendall(V1 + b"GET / HTTP/1.0\r\n\r\n")
            server.line("192.0.2.1:56324 closed after .*, cannot secure the connection to 192.0.2.1:56324: the peer")


# -- access


@pytest.mark.parametrize(
    ("rules", "told", "served"),
    [
        ("--deny 192.0.2.0/24", V1, False),
        ("--deny 192.0.2.0/24", OTHER, True),
        ("--deny 127.0.0.1", V1, False),
        ("--deny 127.0.0.1", None, False),
        ("--allow 127.0.0.1", V1, False),
        ("--allow 192.0.2.1", V1, False),
        ("--allow 127.0.0.1 --allow 192.0.2.1", V1, True),
        ("--allow 127.0.0.1", LOCAL, True),
        ("--allow 127.0.0.1", header("v2", Endpoint(path="/a"), Endpoint(path="/b")), False),
        ("--deny 192.0.2.1", header("v2", Endpoint(path="/a"), Endpoint(path="/b")), True),
        ("--deny 192.0.2.1", header("v2", Endpoint("::ffff:192.0.2.1", 1), Endpoint("::1", 1)), False),
    ],
)
def test_allow_and_deny_test_both(rules: str, told: bytes | None, served: bool) -> None:
    """--allow and --deny apply to the proxy's address, before the header, and to the client's."""
    with running("echo", HERE, "--accept-proxy", "-v", *rules.split()) as server:
        words = told + b"x" if told is not None else b""
        assert (exchange(server.port, words) == b"x") if served else is_reset(server.port, words)
        assert served == (not any("denied: not allowed" in line for line in server.terminate().complaints))


def test_who_is_denied_does_not_count() -> None:
    """Clients that are denied do not count for --once."""
    with running("echo", HERE, "--accept-proxy", "--once", "--deny", "192.0.2.0/24") as server:
        port = server.port
        for told in (V1, V2):
            assert is_reset(port, told)
        assert exchange(port, OTHER + b"hello") == b"hello"
        assert sound(server.finish(), 0)


def test_who_was_not_told_yet_does_not_take_the_place() -> None:
    """listen serves the client whose header is complete first; others are reset, and new ones refused."""
    with running("listen", HERE, "--accept-proxy", "-v") as server:
        port = server.port
        with connected(port) as silent, connected(port) as halfway, connected(port) as proxy:
            for _ in range(3):
                server.line("connection from")
            halfway.sendall(V1[:-1])
            proxy.sendall(V1 + b"hello\n")
            assert server.out.readline() == b"hello\n"
            assert was_reset(silent) and was_reset(halfway)
            wait_for_refusal(port)
            server.stdin.close()
            proxy.shutdown(socket.SHUT_WR)
            assert read_all(proxy) == b""
        assert server.wait() == 0


# -- bad headers

NONE = {
    "something else": (b"GET / HTTP/1.0\r\n\r\n", r"what came begins with b'GET / HTTP/1'"),
    "a bad line": (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", r"its line has b'1\.2\.3' for an address"),
    "a flood": (b"PROXY UNKNOWN " + b"x" * 1_000_000, "no CR LF ends its line within 107 bytes"),
    "half of one": (V2[:20], "it ended after 20 bytes"),
    "nothing": (b"", "it ended without one"),
}


@pytest.mark.parametrize("case", ["a bad line", "nothing"])
def test_a_client_without_a_header(case: str) -> None:
    """A bad or missing header resets the client with one line; for listen with one client it is exit code 8."""
    data, reason = NONE[case]
    with running("listen", HERE, "--accept-proxy") as server, connected(server.port) as proxy:
        name = "{}:{}".format(*proxy.getsockname())
        proxy.sendall(data)
        proxy.shutdown(socket.SHUT_WR)
        assert was_reset(proxy)
        done = sound(server.finish(), 8)
    assert done.out == b""
    line = rf"netkit listen: cannot read the PROXY header of {re.escape(name)}: {reason}"
    assert re.fullmatch(line, done.complaints[0])


def test_a_server_of_many_goes_on() -> None:
    """A server for many clients goes on, and -v says why."""
    with running("echo", HERE, "--accept-proxy", "-v") as server:
        port = server.port
        for data, reason in NONE.values():
            with connected(port) as proxy:
                with suppress(OSError):
                    proxy.sendall(data)
                    proxy.shutdown(socket.SHUT_WR)
                server.line(rf"closed after .*: 0 B received, 0 B sent, cannot read the PROXY header of \S+: {reason}$")
        assert exchange(port, V1 + b"hello") == b"hello"


def test_a_header_has_the_time_of_a_handshake() -> None:
    """A client that does not complete its header in time is reset; others are served meanwhile."""

    async def script(server: Server) -> None:
        with Client(server.listener) as silent, Client(server.listener) as slow, Client(server.listener) as other:
            slow.socket.sendall(V1[:-1])
            assert await other.exchange(V2 + b"echo") == b"echo"
            assert now() < 1
            for each in (silent, slow):
                assert await each.was_reset()
            assert now() == pytest.approx(HANDSHAKE, abs=0.5)
        server.stop.set()

    server = serving(script, layers=[ACCEPT], told=True)
    reasons = [event.reason for event in server.seen(Closed) if event.peer != CLIENT]
    assert len(reasons) == 2
    for reason in reasons:
        assert re.fullmatch(r"cannot read the PROXY header of 127\.0\.0\.1:\d+: none came within 10 s", reason)


def test_one_connection_has_one_name_behind_its_header() -> None:
    """Events before the header have the proxy's address, and those after it the client's."""
    seen: list[Any] = []
    layer = accepting(True, Setting(Endpoint(), observe=seen.append))

    async def script(server: Server) -> None:
        with Client(server.listener) as one:
            assert await one.exchange(V1 + b"echo") == b"echo"
            direct = Endpoint(*one.socket.getsockname())
        with Client(server.listener) as denied:
            denied.socket.sendall(OTHER)
            assert await denied.was_reset()
            another = Endpoint(*denied.socket.getsockname())
        server.stop.set()
        assert [event.peer for event in server.seen(Accepted)] == [direct, another]
        assert seen == [Proxied(str(direct), CLIENT), Proxied(str(another), Endpoint("2001:db8::1", 7))]

    server = serving(script, layers=[layer], told=True, admits=lambda host: ":" not in host)
    assert [event.peer.host for event in server.seen(Denied)] == ["2001:db8::1"]
    assert {(event.name, event.peer.host) for event in server.seen(Closed)} == {
        (str(CLIENT), CLIENT.host),
        ("[2001:db8::1]:7", "2001:db8::1"),
    }


def test_a_relay_still_finds_out_that_it_is_its_own_target() -> None:
    """A relay detects a loop to itself by the real address of the connection, not by the header."""
    port = free_port()
    here = f"127.0.0.1:{port}"
    with running("relay", here, here, "--accept-proxy", "--send-proxy", "v1") as relay:
        relay.line("listening")
        with connected(port) as proxy:
            proxy.sendall(V1)
            relay.line(f"connection from 192.0.2.1:56324 reset: cannot connect to {here}: that is this relay itself")
            assert was_reset(proxy)


# -- the stream after the header


def behind_a_header(sockets: Any) -> MakePair:
    """Pairs of streams, one of which has received a header."""

    @asynccontextmanager
    async def make_pair() -> AsyncIterator[tuple[Any, Any]]:
        async with streams_of(sockets()) as (a, b), Group() as group:
            await b.send(V1)
            stream = await through(a, [ACCEPT], group)
            b.counts.restart()
            assert isinstance(stream, SocketStream) and stream.peer == CLIENT
            yield stream, b

    return make_pair


@contract.every_check(contract.TCP)
def test_contract_over_tcp(check: Check) -> None:
    """After a header a TCP stream keeps the contract of streams."""
    check_stream(behind_a_header(tcp_sockets), check)


@contract.every_check(contract.UNIX)
def test_contract_over_unix_sockets(check: Check) -> None:
    """After a header a unix stream keeps the contract of streams."""
    check_stream(behind_a_header(socket.socketpair), check)


def test_a_header_costs_no_zero_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Data after the header is received first, then the kernel moves the rest, and each byte is counted once."""
    steps = Steps(monkeypatch)
    data = pattern(contract.PAST_PROMOTION)

    async def main() -> None:
        async with streams_of(tcp_sockets()) as (a, b), Group() as group:
            await b.send(V2 + data[:10])

            async def send() -> None:
                await b.send(data[10:])
                await b.send_eof()

            stream = await through(a, [ACCEPT], group)
            assert raw_source(stream) is None and stream.counts.received == 0
            assert await stream.recv() == data[:10]
            assert raw_source(stream) is not None
            group.start_soon(send())
            with (tmp_path / "got").open("wb") as file:
                await pump(stream, FileStream(file.fileno(), file.fileno()), half_close=False)
            assert stream.counts.received == len(data)

    kernel.run(main())
    assert (tmp_path / "got").read_bytes() == data[10:]
    assert steps.moved > len(data) // 2


@pytest.mark.parametrize("words", ["echo 0 --udp", "upper 0 --udp", "relay 0 127.0.0.1:1 --udp"])
def test_datagrams_have_none(words: str) -> None:
    """--accept-proxy does not apply to UDP."""
    done = netkit(*words.split(), "--accept-proxy")
    command = words.split()[0]
    assert done == (2, b"", f"netkit {command}: --accept-proxy does not apply: datagrams make no connections\n")
