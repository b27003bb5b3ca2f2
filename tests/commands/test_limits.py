"""Limits, access lists and patterns of servers and of ``connect``."""

import contextlib
import os
import re
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Finished, exchange, netkit, peer, read_all, running
from tests.support.peers import connect, converse, is_reset, is_silent, outlast, receive, reset
from tests.support.processes import HERE, settle, tool

# -- servers


@pytest.mark.parametrize("name", ["listen", "echo", "upper"])
def test_greeting_comes_first_and_names_the_client(name: str) -> None:
    """--greet is sent to each client first; {host} and {port} are the client's."""
    with (
        running(name, HERE, "--greet", r"hello {host} {port}\n", stdin=subprocess.DEVNULL) as server,
        connect(server.port) as client,
    ):
        host, port = client.getsockname()
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == f"hello {host} {port}\n".encode()


@pytest.mark.parametrize("name", ["echo", "upper"])
def test_a_prefix_names_the_client(name: str) -> None:
    """{host} and {port} in --prefix are the client's, and {{ is a literal brace."""
    with (
        running(name, HERE, "--prefix", r"{{{host} {port}}\t") as server,
        connect(server.port) as client,
    ):
        host, port = client.getsockname()
        client.sendall(b"one\ntwo")
        client.shutdown(socket.SHUT_WR)
        head = f"{{{host} {port}}}\t"
        one, two = ("one", "two") if name == "echo" else ("ONE", "TWO")
        assert read_all(client) == f"{head}{one}\n{head}{two}".encode()


def test_pattern_may_span_what_a_client_sends_in_pieces() -> None:
    """--until matches across chunks of one client, but not across clients."""
    with running("upper", "0", "--until", "bye") as server:
        port = server.port
        assert exchange(port, b"by") == b"BY"
        assert exchange(port, b"e") == b"E"
        with connect(port) as client:
            for byte in (b"b", b"y", b"e"):
                client.sendall(byte)
                assert client.recv(1) == byte.upper()
            assert client.recv(1) == b""  # an end, not a reset
        assert server.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            connect(port)


def test_listen_until_ends_with_0() -> None:
    """--until ends listen with 0, and the data up to the match is written."""
    with (
        running("listen", "0", "--until", "END", "--grace", "0") as server,
        connect(server.port) as client,
    ):
        client.sendall(b"data END")
        assert server.read_all() == b"data END"
        assert server.wait() == 0


@pytest.mark.parametrize("options", [[], ["--exec", "cat"]], ids=["stdin", "exec"])
def test_listen_until_that_does_not_come_is_8(options: list[str]) -> None:
    """If the client ends without a match, listen exits with 8, as connect does, and the client is not reset."""
    with running("listen", HERE, "--until", "END", *options) as server:
        client = connect(server.port)
        client.sendall(b"data")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == (b"data" if options else b"")
        host, port = client.getsockname()
        client.close()
        done = server.finish()
    assert done.code == 8
    assert done.complaints == [f"netkit listen: cannot find 'END' in what {host}:{port} sent: it ended before"]


@pytest.mark.parametrize(
    ("name", "options"), [("listen", ["--keep"]), ("listen", ["--reply", "x"]), ("echo", []), ("upper", [])]
)
def test_a_server_does_not_fail_for_what_never_matched(name: str, options: list[str]) -> None:
    """For a server of many clients an unmatched --until is no failure."""
    with running(name, HERE, "--until", "END", "--once", *options) as server:
        assert exchange(server.port, b"data") in (b"", b"x", b"data", b"DATA")
        assert server.finish().code == 0


def test_listen_until_sends_our_end_behind_the_answer() -> None:
    """With --until our end is sent after the match, as a client may drop servers that half-close."""
    with running("listen", HERE, "--until", "imok") as server:
        server.stdin.write(b"ruok")
        server.stdin.close()
        with connect(server.port) as client:
            assert receive(client, 4) == b"ruok"
            settle(server)
            assert is_silent(client)
            client.sendall(b"imok")
            assert read_all(client) == b""
        assert server.finish() == Finished(0, b"imok", server.said[0])


@pytest.mark.parametrize(
    ("options", "ends"), [(["--until", "bye"], True), (["--once"], True), (["--for", "1ms"], False)], ids=str
)
def test_a_server_that_stops_waits_for_command(options: list[str], ends: bool) -> None:
    """A server that stops at a limit waits for COMMAND and returns its exit code; --for ends COMMAND too."""
    say = "import os, socket; s = socket.create_connection((os.environ['NETKIT_HOST'], int(os.environ['NETKIT_PORT'])))"
    bye = f"{say}; s.sendall(b'bye'); s.shutdown(1); s.recv(9); s.recv(9); print('cleaned up'); exit(7)"
    command = [sys.executable, "-c", bye if ends else "import signal; signal.pause()"]
    done = netkit("echo", HERE, "-q", *options, "--", *command)
    assert done == (Finished(7, b"cleaned up\n", "") if ends else Finished(0, b"", ""))


@pytest.mark.parametrize(
    ("options", "served", "refused"),
    [
        (["--allow", "127.0.0.0/30"], "127.0.0.1", "127.0.0.9"),
        (["--deny", "127.0.0.9"], "127.0.0.1", "127.0.0.9"),
        (["--allow", "::ffff:127.0.0.1", "--allow", "127.0.0.2"], "127.0.0.2", "127.0.0.3"),
        (["--allow", "127.0.0.0/8", "--deny", "127.0.0.8/29"], "127.0.0.1", "127.0.0.9"),
    ],
)
def test_access_lists(options: list[str], served: str, refused: str) -> None:
    """A client that is not allowed is reset before any data is sent, and does not count."""
    with running("echo", HERE, "--once", "-v", *options) as server:
        port = server.port
        assert is_reset(port, source=refused)
        assert server.line(rf"connection from {re.escape(refused)}:\d+ denied: not allowed$")
        with socket.create_connection(("127.0.0.1", port), source_address=(served, 0)) as client:
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"x"
        assert server.wait() == 0


def test_denied_client_does_not_end_the_wait_for_the_first() -> None:
    """A denied client does not end the wait of --accept-timeout."""
    with running("echo", HERE, "--deny", "127.0.0.0/8", "--accept-timeout", "1s") as server:
        assert is_reset(server.port)
        assert server.wait() == 28


def test_next_client_waits_in_the_backlog() -> None:
    """With --max-conns 1 the next client waits in the backlog until the first has left; one line says so."""
    with running("echo", HERE, "--max-conns", "1") as server:
        port = server.port
        before = connect(port)
        before.sendall(b"1")
        assert before.recv(1) == b"1"
        for _ in range(2):
            client = connect(port)
            client.sendall(b"2")
            settle(server)
            assert is_silent(client)
            before.close()
            assert client.recv(1) == b"2"
            before = client
        before.close()
        done = server.terminate()
    assert done.complaints == ["netkit echo: cannot serve another client for now: at most 1 (--max-conns)"]


@pytest.mark.parametrize("command", ["exec", "relay"])
def test_client_that_left_the_backlog_starts_nothing(command: str, tmp_path: Path) -> None:
    """For a client that was reset while it waited for --max-conns no program is started, and no target dialled."""
    begun = tmp_path / "begun"
    program = f"echo >>{begun}; cat"
    with contextlib.ExitStack() as stack:
        there = ["--sh-exec", program, "--keep"]
        if command == "relay":
            target = stack.enter_context(running("listen", HERE, "--keep", "--sh-exec", program))
            there = [f"127.0.0.1:{target.port}"]
        name = "relay" if command == "relay" else "listen"
        server = stack.enter_context(running(name, HERE, *there, "--max-conns", "1", "-v"))
        port = server.port
        first = stack.enter_context(connect(port))
        first.sendall(b"1")
        assert first.recv(1) == b"1"
        for _ in range(3):
            client = connect(port)
            client.sendall(b"too late")
            reset(client)
        server.line("at most 1")
        last = stack.enter_context(connect(port))
        first.close()
        assert converse(last, b"2") == b"2"
    assert begun.read_text() == "\n" * 2


def test_server_has_more_descriptors_than_its_soft_limit() -> None:
    """A server raises its soft limit of descriptors to serve 1,500 clients; COMMAND gets the original limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("too few descriptors")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running("echo", HERE, wrapper=("prlimit", "--nofile=1024:4096")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        port = server.port
        clients = [stack.enter_context(connect(port)) for _ in range(1500)]
        for client in clients:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
    done = netkit("echo", HERE, "-q", "--", "sh", "-c", "ulimit -Sn", wrapper=("prlimit", "--nofile=1000:4096"))
    assert done == (0, b"1000\n", "")


@pytest.mark.parametrize("soft", [1000, 20])
def test_programs_have_the_limit_that_the_server_had(soft: int) -> None:
    """Programs of --exec get the original limit, even if more descriptors are open than it allows."""
    wrapper = ("prlimit", f"--nofile={soft}:4096")
    with running("listen", HERE, "--sh-exec", "cat; ulimit -Sn", wrapper=wrapper) as server:
        assert exchange(server.port, b"read ") == b"read %d\n" % soft


@pytest.mark.parametrize("mode", ["660", "0666", "600"])
def test_mode_of_the_socket_file(mode: str, tmp_path: Path) -> None:
    """--mode sets the mode of the socket file whatever the umask."""
    path = tmp_path / "s"
    with running("echo", f"unix:{path}", "--mode", mode, umask=0o077) as server:
        server.line("listening")
        assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)


def keepalive_of(port: int) -> bool:
    """Whether a connection of a local port has a keepalive timer, according to ``ss``."""
    shown = subprocess.run([tool("ss"), "-tnoH", f"( sport = :{port} )"], capture_output=True, text=True, check=True)
    return "timer:(keepalive" in shown.stdout


def test_keepalive_is_on_where_it_was_asked_for() -> None:
    """--keepalive enables TCP keepalive for servers and clients; without it it is off."""
    for options, wanted in (([], False), (["--keepalive", "30s"], True)):
        with running("echo", HERE, *options, "-v") as server:
            port = server.port
            with running("connect", f"127.0.0.1:{port}", *options, "-v") as client:
                own = int(client.line(r"from 127\.0\.0\.1:(\d+) after")[1])
                server.line("connection from")
                client.stdin.write(b"x")
                assert client.out.read(1) == b"x"
                assert keepalive_of(port) is wanted
                assert keepalive_of(own) is wanted


# -- connect


def test_until_ends_the_output_with_the_match() -> None:
    """--until matches a prompt without a newline, and ends with 0 while the server still sends and stdin is open."""

    def login(sock: socket.socket) -> None:
        sock.sendall(b"welcome\nlog")
        sock.sendall(b"in: more that nobody asked for")
        outlast(sock)

    with peer(login) as server, running("connect", server.address, "--until", "login:") as process:
        assert process.read_all() == b"welcome\nlogin:"
        assert process.wait() == 0


def test_until_delivers_our_input_first() -> None:
    """With --until our input is delivered before connect exits."""
    with peer(lambda sock: sock.sendall(b"OK " + sock.recv(100))) as server:
        assert netkit("connect", server.address, "--until", "^OK", input=b"question") == Finished(0, b"OK", "")


def test_peer_that_ends_before_the_match_is_8() -> None:
    """If the server ends before a match, all data is printed, and the message has the pattern."""
    with peer(lambda sock: sock.sendall(b"something else")) as server:
        done = netkit("connect", server.address, "--until", r"log\w+:")
    assert (done.code, done.out) == (8, b"something else")
    assert done.err == (f"netkit connect: cannot find 'log\\\\w+:' in what {server.address} sent: it ended before\n")


@pytest.mark.parametrize(("limit", "wanted"), [("1", 1), ("1000", 1000), ("100000", 100_000), ("200000", 200_000)])
def test_max_bytes_is_exact(limit: str, wanted: int) -> None:
    """--max-bytes writes exactly N bytes."""
    data = os.urandom(200_000)
    with peer(lambda sock: sock.sendall(data)) as server:
        assert netkit("connect", server.address, "--max-bytes", limit) == Finished(0, data[:wanted], "")


def test_a_peer_that_ends_before_max_bytes_is_8() -> None:
    """If the server ends before --max-bytes, all data is printed and the exit code is 8."""
    with peer(lambda sock: sock.sendall(b"short")) as server:
        done = netkit("connect", server.address, "--max-bytes", "6")
    reason = f"netkit connect: cannot receive 6 bytes from {server.address}: it ended before\n"
    assert done == Finished(8, b"short", reason)
