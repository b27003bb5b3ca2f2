"""``netkit proxy`` from the command line: five forms of request, all bytes both ways, and rules for targets."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import NETKIT, PATIENCE, Running, free_port, netkit, peer, read_all, reset, running
from tests.support.certificates import Pki
from tests.support.data import DATA, MIB, OTHER, check_same
from tests.support.namespaces import network, separate
from tests.support.peers import connect, converse, echo, full_backlog, is_reset, receive, until_reset
from tests.support.processes import HERE, cpu_seconds, descriptors, settle, strace
from tests.support.proxy_clients import PROTOCOLS, granted, http, password, reply, request, socks5, tunnel
from tests.support.relays import answering, secured_by

ANSWER = b"netkit proxy is here"


@contextlib.contextmanager
def proxy(*options: str, **popen: Any) -> Iterator[Running]:
    """Run a proxy on loopback."""
    with running("proxy", HERE, *options, **popen) as server:
        yield server


@pytest.fixture
def users(tmp_path: Path) -> str:
    """A file with one user."""
    path = tmp_path / "users"
    path.touch(0o600)
    path.write_text("me:secret\n", encoding="utf-8")
    return str(path)


def check_served(proxy: int, target: int) -> None:
    """Assert that the proxy serves a new client."""
    with tunnel("socks5", proxy, target) as sock:
        assert receive(sock, len(ANSWER)) == ANSWER


def greeting(sock: socket.socket) -> None:
    """Send ANSWER and wait for the end."""
    sock.sendall(ANSWER)
    read_all(sock)


# -- bytes


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_byte_goes_both_ways(protocol: str) -> None:
    """All bytes pass both ways, the answer also after the client's end, and nothing is printed."""
    with peer(answering) as there, proxy() as server:
        with tunnel(protocol, server.port, there.port) as sock:
            check_same(converse(sock, DATA), OTHER)
        check_same(there.result(), DATA)
        assert server.terminate().complaints == []


@pytest.mark.parametrize("protocol", ["socks5", "http"])
def test_what_is_glued_to_a_request_belongs_to_the_stream(protocol: str) -> None:
    """Data that the client sends together with its request goes to the target."""
    with peer(answering) as there, proxy() as server, connect(server.port) as sock:
        sock.sendall(request(protocol, there.port) + DATA[:10_000])
        assert granted(protocol, reply(protocol, sock))
        check_same(converse(sock, DATA[10_000:]), OTHER)
        check_same(there.result(), DATA)


@pytest.mark.parametrize("protocol", ["socks5", "http"])
def test_bulk_stays_in_the_kernel(protocol: str, tmp_path: Path) -> None:
    """Most of 8 MiB passes from socket to socket by splice(2) in both directions."""
    calls = tmp_path / "calls"
    data = os.urandom(8 * MIB)
    with peer(echo) as there, proxy("--once", wrapper=strace("trace=splice", log=calls)) as server:
        with connect(server.port) as sock:
            sock.sendall(request(protocol, there.port) + data[:10_000])
            assert granted(protocol, reply(protocol, sock))
            check_same(converse(sock, data[10_000:]), data)
        assert server.wait() == 0
    moved = sum(int(count) for count in re.findall(r"\)\s+= (\d+)$", calls.read_text(), re.MULTILINE))
    assert moved > 24 * MIB  # each byte into a pipe and out of it, in both directions


def test_clients_of_tls(pki: Pki) -> None:
    """Clients can connect over TLS, which hides their requests and passwords."""
    with (
        peer(echo) as there,
        running("proxy", f"tls:{HERE}", *pki.good.options()) as server,
        connect(server.port) as bare,
        secured_by(pki, bare) as sock,
    ):
        sock.sendall(http(there.port) + b"hello ")
        assert granted("http", reply("http", sock))
        sock.sendall(b"world")
        assert b"".join(iter(lambda: sock.recv(1), b"d")) == b"hello worl"


def test_a_unix_socket(tmp_path: Path) -> None:
    """A proxy can listen on a unix socket."""
    with peer(echo) as there, running("proxy", f"unix:{tmp_path}/s") as server:
        server.line("listening")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{tmp_path}/s")
            sock.sendall(request("socks5", there.port) + b"hello")
            assert granted("socks5", reply("socks5", sock))
            assert converse(sock, b"") == b"hello"


def test_two_proxies_in_a_row() -> None:
    """A client may reach a proxy through a proxy, also through the same one."""
    with peer(echo) as there, proxy() as server:
        port = server.port
        with tunnel("socks5", port, port) as sock:
            sock.sendall(request("http", there.port))
            assert granted("http", reply("http", sock))
            check_same(converse(sock, DATA), DATA)


# -- loops and resets


def test_requests_for_the_proxy_itself_are_nested_eight_times_at_most() -> None:
    """A request that goes through the proxy itself more than eight times is refused."""
    with running("proxy", ":0", "-v") as server:
        port = server.port
        with connect(port) as sock:
            sock.sendall(b"".join(b"\5\1\0" + socks5(port, host) for host in ("127.0.0.1", "127.0.0.2") * 5))
            replies = read_all(sock)
        assert replies.count(bytes([5, 0, 5, 0])) == 8 and replies.endswith(bytes([5, 0, 5, 2, 0, 1]) + bytes(6))
        server.line("cannot connect to 127.0.0.1:.*: it is asked for through this proxy itself 8 times over")


def test_a_target_that_resets() -> None:
    """If the target resets, the client gets the data received before and then a reset, and one line says why."""

    def resetting(sock: socket.socket) -> None:
        sock.sendall(b"half an ans")
        if sock.recv(100) == b"question":
            reset(sock)

    with peer(resetting) as there, proxy() as server, tunnel("http", server.port, there.port) as sock:
        assert sock.recv(100) == b"half an ans"
        sock.sendall(b"question")
        assert until_reset(sock) == b""
        (line,) = server.terminate().complaints
        assert re.search(rf"connection from \S+ reset: .* localhost:{there.port}: connection reset by peer", line)


def test_a_client_that_resets() -> None:
    """If the client resets, the target is reset too, and nothing is printed."""
    with peer(lambda sock: sock.recv(9) + read_all(sock)) as there, proxy() as server:
        with tunnel("socks4", server.port, there.port) as sock:
            sock.sendall(b"half")
            settle(server)
            reset(sock)
        assert isinstance(there.result(), ConnectionResetError)
        assert server.terminate().complaints == []


# -- targets that cannot be reached


@pytest.mark.parametrize(
    ("protocol", "answer"),
    [
        ("socks4", b"\0\x5b" + bytes(6)),
        ("socks5", b"\5\0\5\5\0\1" + bytes(6)),
        ("http", b"HTTP/1.1 502 Bad Gateway\r\n"),
    ],
)
def test_a_target_that_refuses(protocol: str, answer: bytes) -> None:
    """If the target refuses, the client gets the reply of its protocol, and -v says why."""
    port = free_port()
    with proxy("-v") as server, connect(server.port) as sock:
        sock.sendall(request(protocol, port))
        assert read_all(sock).startswith(answer)
        server.line(rf"asks for \S+:{port} by {protocol}$")
        server.line(rf"closed after .*: 0 B received, 0 B sent, cannot connect to \S+:{port}: connection refused \(")


@pytest.mark.parametrize(
    ("host", "code", "status"),
    [
        ("nosuch.invalid", 4, 502),
        ("203.0.113.1", 3, 502),
        ("2001:db8::1", 3, 502),
        ("198.51.100.1", 4, 502),
        ("198.51.101.1", 1, 502),
    ],
)
def test_a_target_that_is_not_there(host: str, code: int, status: int, tmp_path: Path) -> None:
    """An unknown name, no route, an unreachable and a prohibited route each have their reply."""
    routes = ("unreachable 198.51.100.0/24", "prohibit 198.51.101.0/24")
    wrapper = separate("ip link set lo up", *(f"ip route add {route}" for route in routes))
    at = f"[{host}]" if ":" in host else host
    with running("proxy", f"unix:{tmp_path}/s", wrapper=wrapper) as server:
        server.line("listening")
        for said, answer in (
            (b"\5\1\0" + socks5(9, host), bytes([5, 0, 5, code, 0, 1]) + bytes(6)),
            (http(9, at), f"HTTP/1.1 {status} ".encode()),
        ):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(f"{tmp_path}/s")
                sock.sendall(said)
                assert read_all(sock).startswith(answer)


def test_a_target_that_is_silent() -> None:
    """-w limits how long the target may take to accept."""
    with full_backlog() as silent, proxy("-w", "100ms") as server:
        port = server.port
        with connect(port) as sock:
            sock.sendall(request("socks5", silent))
            assert read_all(sock) == b"\5\0\5\6\0\1" + bytes(6)
        with connect(port) as sock:
            sock.sendall(request("http", silent))
            assert read_all(sock).startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")


def test_family_and_source() -> None:
    """-4, -6, -n and --source apply to connections to targets."""
    with (
        peer(lambda sock: sock.sendall(sock.getpeername()[0].encode())) as there,
        proxy("-4", "-n", "--source", "127.0.0.9") as server,
    ):
        port = server.port
        with tunnel("socks5", port, there.port) as sock:
            assert read_all(sock) == b"127.0.0.9"
        for host, code in (("::1", 4), ("localhost", 2)):
            with connect(port) as sock:
                sock.sendall(b"\5\1\0" + socks5(there.port, host))
                assert read_all(sock)[:4] == bytes([5, 0, 5, code])


# -- rules


@pytest.mark.parametrize(
    ("options", "host", "allowed"),
    [
        (["--deny-target", "127.0.0.0/8"], "::ffff:7f00:1", False),
        (["--allow-target", "localhost:{port}"], "localhost", True),
        (["--allow-target", "10.0.0.0/8", "--allow-target", "127.0.0.1"], "localhost", True),
        (["--allow-target", "localhost", "--deny-target", "127.0.0.1:{port}"], "localhost", False),
    ],
)
def test_rules(options: list[str], host: str, allowed: bool) -> None:
    """Rules apply to the address that is connected, however the target is spelled; a denied client gets a reply."""
    with peer(greeting) as there:
        words = [word.format(port=there.port) for word in options]
        with proxy(*words) as server, connect(server.port) as sock:
            sock.sendall(b"\5\1\0" + socks5(there.port, host))
            answer = reply("socks5", sock)
            assert answer[3] == (0 if allowed else 2)
            assert receive(sock, 99) == b"" if not allowed else receive(sock, len(ANSWER)) == ANSWER
        assert allowed or there.results.empty()


def test_a_rule_by_http() -> None:
    """A denied HTTP request is a 403 with the reason."""
    with proxy("--deny-target", "127.0.0.1", "-v") as server, connect(server.port) as sock:
        sock.sendall(http(9, "127.0.0.1"))
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert body == b"cannot connect to 127.0.0.1:9: it is denied\n"
        server.line("cannot connect to 127.0.0.1:9: it is denied$")


# Runs on a machine with three addresses. A client of one address that connects to another counts as remote.
OUTSIDE = """
import json, socket, sys
port, *hosts = sys.argv[1:]
codes = {}
with socket.create_server(("", 0)) as target:
    for source in ("192.0.2.5", "192.0.2.7"):
        for host in hosts:
            with socket.create_connection(("192.0.2.5", int(port)), 20, (source, 0)) as sock:
                name = bytes([3, len(host)]) + host.encode()
                sock.sendall(b"\\5\\1\\0\\5\\1\\0" + name + target.getsockname()[1].to_bytes(2, "big"))
                answer = sock.makefile("rb").read(4)
                codes[f"{source} to {host}"] = answer[3]
print(json.dumps(codes))
"""
OWN = ("127.0.0.1", "127.1.2.3", "::ffff:127.0.0.1", "0.0.0.0", "192.0.2.5", "192.0.2.6", "loop.test", "own.test")


@pytest.mark.parametrize(
    ("options", "opened"),
    [
        ([], []),
        (["--allow-target", "0.0.0.0/0", "--allow-target", "own.test", "--allow-target", "loop.test"], []),
        (["--allow-target", "192.0.2.6"], ["192.0.2.6", "own.test"]),
    ],
)
def test_a_client_from_outside_reaches_nothing_of_this_machine(
    options: list[str], opened: list[str], tmp_path: Path
) -> None:
    """A remote client reaches no address of this machine, by number or by name, unless a rule allows that address."""
    (tmp_path / "hosts").write_text("127.0.0.1 loop.test\n192.0.2.6 own.test\n", encoding="utf-8")
    addresses = ("192.0.2.5/32", "192.0.2.7/24", "192.0.2.6/24")
    wrapper = separate(
        "ip link set lo up",
        *(f"ip addr add {address} dev lo" for address in addresses),
        f"mount --bind {tmp_path}/hosts /etc/hosts",
    )
    command = [*NETKIT, "proxy", ":9999", "-q", *options, "--", sys.executable, "-c", OUTSIDE, "9999", *OWN]
    done = subprocess.run([*wrapper, *command], capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")
    codes = json.loads(done.stdout)
    outside = {host: codes[f"192.0.2.7 to {host}"] for host in OWN}
    assert outside == {host: 0 if host in opened else 2 for host in OWN}
    if not options:
        assert {codes[f"192.0.2.5 to {host}"] for host in OWN} == {0}


# -- users


@pytest.mark.parametrize(
    ("said", "answer", "granted_too"),
    [
        (b"\5\2\0\2" + password(b"me", b"secret"), b"\5\2\1\0", True),
        (b"\5\2\0\2" + password(b"me", b"guess"), b"\5\2\1\1", False),
    ],
)
def test_users_of_socks(said: bytes, answer: bytes, granted_too: bool, users: str) -> None:
    """With --auth-file SOCKS5 clients need the password."""
    with peer(echo) as there, proxy("--auth-file", users) as server, connect(server.port) as sock:
        sock.sendall(said)
        assert receive(sock, len(answer)) == answer
        if not granted_too:
            assert read_all(sock) == b""
            return
        sock.sendall(socks5(there.port, "127.0.0.1"))
        assert receive(sock, 10)[:4] == b"\5\0\0\1"
        assert converse(sock, DATA) == DATA


@pytest.mark.parametrize(("word", "status"), [("bWU6c2VjcmV0", b"200"), ("bWU6Z3Vlc3M=", b"407"), (None, b"407")])
def test_users_of_http(word: str | None, status: bytes, users: str) -> None:
    """An HTTP client without valid credentials gets a 407 that asks for them."""
    with peer(echo) as there, proxy("--auth-file", users, "-v") as server, connect(server.port) as sock:
        sock.sendall(http(there.port, "127.0.0.1", f"Proxy-Authorization: Basic {word}\r\n" if word else ""))
        answer = reply("http", sock)
        assert answer.split(b" ")[1] == status
        assert (b'Proxy-Authenticate: Basic realm="netkit"' in answer) is (status == b"407")
        if status == b"407":
            server.line(r"0 B received, 0 B sent, user and password are (missing|not known)$")


@pytest.mark.parametrize(("mode", "words"), [(0o644, "others may use it"), (0o600, None)])
def test_a_file_of_users_is_private(mode: int, words: str | None, users: str) -> None:
    """A file of users that others can read is refused before the proxy listens."""
    os.chmod(users, mode)
    done = netkit("proxy", HERE, "--auth-file", users, "--for", "10ms")
    assert done.code == (26 if words else 0)
    assert (words in done.err and "listening" not in done.err) if words else done.complaints == []


# -- clients that misbehave


@pytest.mark.parametrize(
    ("said", "answer", "reason"),
    [
        (b"\5\1\0\5\1\0\7" + b"x" * 500, b"\5\0\5\x08\0\1" + bytes(6), "there is no address of type 7"),
        (b"\4\1\0\1\x7f\0\0\1" + b"x" * 9999, b"\0\x5b" + bytes(6), "the user or the name has more than 255 bytes"),
        (b"GET http://db/ HTTP/1.1\r\nHost: db\r\n\r\n", b"HTTP/1.1 405 ", "GET is not served, only CONNECT"),
        (b"CONNECT db:1 HTTP/1.1\r\n" + b"X: y\r\n" * 9999, b"HTTP/1.1 431 ", "the request has more than 8192 bytes"),
    ],
)
def test_a_reply_and_the_end(said: bytes, answer: bytes, reason: str) -> None:
    """A request that is not supported gets a whole reply, our end and one line with -v; the next client is served."""
    with peer(greeting) as there, proxy("-v") as server:
        port = server.port
        with connect(port) as sock:
            sock.sendall(said)
            got = read_all(sock)
            assert got == answer or (answer.startswith(b"HTTP") and got.startswith(answer) and got.endswith(b"\n"))
            server.line(rf"closed after .*: 0 B received, 0 B sent, {reason}")
        check_served(port, there.port)


@pytest.mark.parametrize(
    ("said", "end", "reason"),
    [
        (b"\3\1\0", False, "what begins with 0x03 is neither SOCKS4, SOCKS5 nor HTTP"),
        (b"\0" * 100_000, False, "what begins with 0x00 is neither SOCKS4, SOCKS5 nor HTTP"),
        (b"", True, "it ended before it asked for a target"),
        (b"\5\xff\0", True, "it ended before it asked for a target"),
    ],
)
def test_a_reset(said: bytes, end: bool, reason: str) -> None:
    """A client with another protocol or an incomplete request is reset, with one line with -v."""
    with peer(greeting) as there, proxy("-v") as server:
        port = server.port
        with connect(port) as sock, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(said)
            if end:
                sock.shutdown(socket.SHUT_WR)
            assert until_reset(sock) in (b"", b"\5\0")
        server.line(rf"closed after .*: 0 B received, 0 B sent, cannot serve \S+: {reason}$")
        check_served(port, there.port)


def test_clients_that_stall_cost_nobody_anything() -> None:
    """A hundred clients that stall delay no other client, use no CPU time, and leave no descriptor open."""
    words = [request(each, 9)[:-1] for each in PROTOCOLS]
    hasty = [*(request(each, free_port()) for each in PROTOCOLS), b"\3", b"GET / HTTP/1.0\r\n\r\n", b"\5\1\2"]
    with peer(greeting) as there, proxy(real=True) as server:
        port = server.port
        check_served(port, there.port)
        settle(server)
        before = descriptors(server.pid)
        with contextlib.ExitStack() as stack:
            for number in range(100):
                stack.enter_context(connect(port)).sendall(words[number % len(words)])
            for said in hasty:
                with connect(port) as sock, contextlib.suppress(ConnectionResetError):
                    sock.sendall(said)
                    read_all(sock)
                check_served(port, there.port)
            spent = cpu_seconds(server.pid)
            settle(server)
            assert cpu_seconds(server.pid) - spent < 0.5
        while descriptors(server.pid) > before:
            assert server.process.poll() is None
            os.sched_yield()
        assert server.terminate().complaints == []


def test_a_flood_during_the_dial_is_not_read() -> None:
    """A client that sends megabytes before its target is connected is held back."""
    with full_backlog() as silent, proxy("-w", "1h") as server, connect(server.port) as sock:
        sock.sendall(request("socks5", silent))
        sock.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 * MIB:
                sent += sock.send(bytes(65536))
        assert sent < 64 * MIB


# -- options of all servers


def test_access_lists_and_limits() -> None:
    """--deny applies to clients, --once serves one, and --idle-timeout resets both sides."""
    with peer(read_all) as there:
        with proxy("--once", "--idle-timeout", "1s", "--deny", "127.0.0.2") as server:
            port = server.port
            assert is_reset(port, source="127.0.0.2")
            with tunnel("socks5", port, there.port) as sock:
                assert until_reset(sock) == b""
            assert server.wait() == 0
        assert isinstance(there.result(), ConnectionResetError)


def test_what_is_told(tmp_path: Path) -> None:
    """--json has the request without a password, and --stats and --log only the data after it."""
    log = tmp_path / "log"
    with peer(lambda sock: sock.sendall(sock.recv(9).upper())) as there:
        options = ("--json", "-v", "--stats", "--once", "--log", str(log), "--until", "never")
        with proxy(*options) as server:
            listening = json.loads(server.line("listening")[0] and server.said[-1])
            with tunnel("socks5 name", listening["local_port"], there.port) as sock:
                assert converse(sock, b"hello") == b"HELLO"
            assert server.wait() == 0
            told = {each["event"]: each for each in map(json.loads, server.finish().err.splitlines())}
    assert {each["command"] for each in told.values()} == {"proxy"}
    asked = [told["requested"][name] for name in ("target", "scheme", "peer_address")]
    assert asked == [f"localhost:{there.port}", "socks5", "127.0.0.1"]
    assert (told["stats"]["bytes_received"], told["stats"]["bytes_sent"], told["stats"]["connections"]) == (5, 5, 1)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(each["direction"], each["text"]) for each in records] == [("received", "hello"), ("sent", "HELLO")]


def test_a_command() -> None:
    """COMMAND gets the address, and its exit code is returned."""
    code = (
        "import os, socket, sys; s = socket.create_connection((os.environ['NETKIT_HOST'], os.environ['NETKIT_PORT']));"
        "s.sendall(b'CONNECT ' + sys.argv[1].encode() + b' HTTP/1.0\\r\\n\\r\\n');"
        "said = s.makefile('rb').read(12); s.close(); sys.exit(7 if said == b'HTTP/1.1 200' else 1)"
    )
    with peer(greeting) as there:
        done = netkit("proxy", "0", "-q", "--", sys.executable, "-c", code, there.address)
        assert done == (7, b"", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--allow-target", "10.0.0.1/8"], "host bits|inside a network"),
        (["--greet", "hi"], "no such option"),
        (["--auth-file", "/nosuch/file", "--once", "--max-clients", "2"], "exclude each other"),
    ],
)
def test_mistakes(options: list[str], message: str) -> None:
    """A usage error is one line and exit code 2."""
    done = netkit("proxy", HERE, *options)
    assert done.code == 2 and done.err.count("\n") == 1
    assert re.search(message, done.err)


def test_connections_may_share_a_local_port() -> None:
    """With one local port for all connections, which only their other ends tell apart, the proxy goes on serving."""
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(network("echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range"))

        def run(*words: str) -> Running:
            return stack.enter_context(running(*words, wrapper=here.inside))

        run("echo", ":7").line("listening")
        door = run("proxy", ":1080", "--allow-target", "127.0.0.0/8")
        door.line("listening")
        clients = [
            run("connect", f"127.0.0.{last}:7", "--proxy", f"socks5://127.0.0.{last + 2}:1080") for last in (1, 2)
        ]
        for client in clients:
            client.stdin.write(b"x")
            assert client.out.read(1) == b"x", client.finish()
        for client in clients:
            client.terminate()
        assert door.terminate().complaints == []
