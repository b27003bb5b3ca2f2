"""``connect udp:`` and ``listen udp:``: conversations in datagrams, which have no end of their own."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import Finished, Running, died_by, free_port, netkit, running
from tests.support.forkserver import NETKIT
from tests.support.logs import read_log
from tests.support.peers import address, udp
from tests.support.processes import HERE, descriptors, ends, stopped
from tests.support.terminals import watched

HOSTS = ("127.0.0.1", "::1")


def at(sock: socket.socket) -> str:
    """Return the address of a socket as netkit takes it."""
    return f"udp:{address(sock)}"


@contextmanager
def asking(port: int) -> Iterator[socket.socket]:
    """A socket that is connected to a server on this port."""
    with udp() as client:
        client.connect((HOSTS[0], port))
        yield client


# -- connect


@pytest.mark.parametrize("host", HOSTS)
def test_each_read_is_a_datagram_and_each_that_comes_is_printed(host: str) -> None:
    """Each read of stdin is a datagram, each datagram is printed, and --grace of silence ends it."""
    with udp(host) as server, running("connect", at(server), "--grace", "50ms") as client:
        for word in (b"one\n", b"no newline", b"a\nb\n"):
            client.stdin.write(word)
            data, peer = server.recvfrom(100)
            assert data == word
        for answer in (b"late", b"", b" and more"):
            server.sendto(answer, peer)
            assert client.out.read(len(answer)) == answer
        assert client.finish() == (0, b"", "")


@pytest.mark.parametrize("name", ["connect", "listen"])
def test_what_the_system_dropped_is_told(name: str) -> None:
    """Datagrams that came faster than they were read are told, and --stats has how many."""
    with udp() as sock:
        where = at(sock) if name == "connect" else f"udp:{HERE}"
        with running(name, where, "--stats") as ours:
            ours.stdin.write(b"?")
            if name == "connect":
                _, peer = sock.recvfrom(9)
            else:
                peer = (HOSTS[0], ours.port)
                sock.sendto(b"-", peer)
                assert ours.out.read(1) == b"-"
            with stopped(ours):
                for _ in range(20_000):
                    sock.sendto(b"x" * 1400, peer)
            if name == "connect":
                ours.stdin.close()
                done = ours.finish()
            else:
                ours.out.read(1400)
                done = ours.terminate()
    *_, told, stats = done.err.splitlines()
    dropped = json.loads(stats)["datagrams_dropped_min"]
    assert dropped > 0
    assert f"the kernel dropped at least {dropped} datagrams: they came faster than they were read" in told


def test_lines_are_datagrams_of_their_own() -> None:
    """With --lines each line is a datagram with its newline; an incomplete line waits for its end."""
    with udp() as server, running("connect", at(server), "--lines", "--grace", "0") as client:
        client.stdin.write(b"a\n\nb")
        assert [server.recv(9) for _ in range(2)] == [b"a\n", b"\n"]
        client.stdin.write(b"c\nd")
        assert server.recv(9) == b"bc\n"
        client.stdin.close()
        assert server.recv(9) == b"d"
        assert client.wait() == 0


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_no_datagram_holds_is_63(end: bytes) -> None:
    """A line that is too long for a datagram is exit code 63."""
    with udp() as server:
        done = netkit("connect", at(server), "--lines", input=b"fine\n" + bytes(65508) + end)
        assert server.recv(99) == b"fine\n"
    reason = "it is longer than 65507 bytes, the most a datagram holds"
    assert done == Finished(63, b"", f"netkit connect: cannot send a line: {reason}\n")


def test_what_is_more_than_a_datagram_holds_is_cut() -> None:
    """Longer input is cut into datagrams of 16 KiB, as nc does it."""
    data = os.urandom(100_000)
    with udp() as server:
        assert netkit("connect", at(server), "--send-only", input=data) == Finished(0, b"", "")
        pieces = []
        while sum(map(len, pieces)) < len(data):
            pieces.append(server.recv(65536))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) == 16384


@pytest.mark.parametrize("options", [(), ("--send-only",), ("--lines",), ("--grace", "0")])
def test_a_port_that_nobody_has_is_7(options: tuple[str, ...]) -> None:
    """A closed port is exit code 7 with one line, as soon as the refusal arrives."""
    where = f"udp:127.0.0.1:{free_port()}"
    done = netkit("connect", where, *options, input=b"hi\n")
    assert done == Finished(7, b"", f"netkit connect: cannot send to {where}: connection refused (127.0.0.1)\n")


def test_no_answer_is_no_reason_for_a_hint() -> None:
    """If no answer comes, there is no hint, as UDP does not require one."""
    with udp() as server:
        done = netkit("connect", at(server), "--grace", "0", "--json", input=b"hi\n")
    assert [json.loads(line)["event"] for line in done.err.splitlines()] == ["opened", "closed"]


def test_a_peer_that_goes_away_is_7() -> None:
    """If the peer's port closes, the exit code is 7; what was received before is printed."""
    with udp() as server, running("connect", at(server)) as client:
        client.stdin.write(b"hi\n")
        _, peer = server.recvfrom(9)
        server.sendto(b"bye", peer)
        assert client.out.read(3) == b"bye"
        server.close()
        client.stdin.write(b"still there?\n")
        done = client.finish()
    assert done.code == 7 and done.complaints[0].endswith("connection refused (127.0.0.1)")


@pytest.mark.parametrize(
    ("options", "code", "out"),
    [
        (("--until", "two"), 0, b"one two"),
        (("--max-bytes", "5"), 0, b"one t"),
        (("--until", "four"), 8, b"one two three"),
    ],
)
def test_the_ends_that_are_asked_for(options: tuple[str, ...], code: int, out: bytes) -> None:
    """--until and --max-bytes work as over TCP."""
    with running("echo", "--udp", "127.0.0.1:0") as server:
        where = f"udp:127.0.0.1:{server.port}"
        done = netkit("connect", where, *options, "--send", "one two three")
    assert (done.code, done.out) == (code, out)


def test_clocks() -> None:
    """--idle-timeout is exit code 28 as over TCP."""
    with udp() as server, running("connect", at(server), "--idle-timeout", "50ms") as client:
        assert client.wait() == 28
        assert "nothing moved for 50 ms (--idle-timeout)" in client.finish().err


def test_a_program_talks(tmp_path: Path) -> None:
    """The output of a program is sent, it reads what is received, and its environment has the peer."""
    script = 'printf "%s" "$NETKIT_PEER_PORT"; read answer; printf "got %s" "$answer"; exit 3'
    with udp() as server, running("connect", at(server), "--grace", "0", "--sh-exec", script) as client:
        data, peer = server.recvfrom(99)
        assert data == b"%d" % server.getsockname()[1]
        server.sendto(b"it\n", peer)
        assert server.recv(99) == b"got it"
        assert client.wait() == 3


def test_what_is_told_in_json_is_udp(tmp_path: Path) -> None:
    """JSON has no acknowledged bytes, and the log has each datagram."""
    log = tmp_path / "log"
    with running("echo", "--udp", "127.0.0.1:0") as server:
        where = f"udp:127.0.0.1:{server.port}"
        words = ("--send", "hi", "--until", "hi", "--log", str(log), "--json", "--stats")
        done = netkit("connect", where, *words)
    opened, closed, stats = map(json.loads, done.err.splitlines())
    assert (opened["event"], opened["target"], opened["protocol"]) == ("opened", where, "udp")
    assert (closed["event"], closed["protocol"], closed["peer_address"]) == ("closed", "udp", "127.0.0.1")
    for told in (closed, stats):
        assert (told["bytes_sent"], told["bytes_acknowledged"], told["bytes_received"]) == (2, 0, 2)
    assert [record["direction"] for record in read_log(log)] == ["sent", "received"]


def test_lines_typed_on_a_terminal() -> None:
    """On a terminal each line is a datagram, control bytes of answers are escaped, and ^D ends the input."""
    with udp() as server, watched("connect", at(server), "--grace", "0") as client:
        os.write(client.ours, b"hello\n")
        data, peer = server.recvfrom(99)
        assert data == b"hello\n"
        server.sendto(b"hi \x1b[31mthere\n", peer)
        client.written(b"hi \\x1b[31mthere\r\n")
        os.write(client.ours, b"\x04")
        assert client.process.wait() == 0


# -- listen


@contextmanager
def listening(*options: str) -> Iterator[tuple[Running, int]]:
    """A server for datagrams, with its port."""
    with running("listen", f"udp:{HERE}", *options) as server:
        yield server, int(server.line(r"listening on udp:127\.0\.0\.1:(\d+)$")[1])


def test_the_first_peer_is_the_conversation() -> None:
    """listen serves the first peer and ignores others, with a line for -v; the end of stdin does not end it."""
    with listening("-v") as (server, port), asking(port) as one, asking(port) as other:
        server.stdin.close()
        one.send(b"first")
        assert server.out.read(5) == b"first"
        other.send(b"second")
        server.line("ignored: another conversation is going on")
        one.send(b"third")
        assert server.out.read(5) == b"third"
        assert died_by(server.terminate().code) is signal.SIGTERM


def test_it_answers() -> None:
    """Each read of stdin is sent to the peer, from the address that it sent to; earlier input is sent too."""
    with running("listen", "udp:0.0.0.0:0") as server:
        port = int(server.line(r":(\d+)$")[1])
        server.stdin.write(b"early\n")
        with udp() as client:
            client.connect(("127.0.0.9", port))
            client.send(b"hi")
            assert server.out.read(2) == b"hi"
            assert client.recv(99) == b"early\n"
            server.stdin.write(b"late\n")
            assert client.recv(99) == b"late\n"


def test_silence_ends_it() -> None:
    """--idle-timeout ends listen with 28."""
    with listening("--idle-timeout", "50ms") as (server, port), asking(port) as client:
        client.send(b"hi")
        assert server.wait() == 28
        assert server.read_all() == b"hi"


def test_keep_tells_peers_apart() -> None:
    """With --keep --label each line has its sender, and stdin goes to all peers."""
    with listening("--keep", "--label") as (server, port), asking(port) as one, asking(port) as other:
        for client, word in ((one, b"a\n"), (other, b"b\n"), (one, b"c\n")):
            client.send(word)
            assert server.out.readline() == b"127.0.0.1:%d\t%s" % (client.getsockname()[1], word)
        server.stdin.write(b"for all")
        assert one.recv(99) == other.recv(99) == b"for all"


def test_a_program_for_each_peer() -> None:
    """A program ends when its peer is silent, and the next datagram of that peer starts a new one."""
    words = ("--keep", "--idle-timeout", "2s", "-v", "--sh-exec", 'echo "$NETKIT_PEER_PORT"; cat')
    with listening(*words) as (server, port), asking(port) as one, asking(port) as other:
        for client in (one, other):
            client.send(b"hi")
            greeting = b"%d\n" % client.getsockname()[1]
            got = b""
            while len(got) < len(greeting) + 2:
                got += client.recv(99)
            assert got == greeting + b"hi"
        for _ in range(2):
            server.line(r"closed after .*--idle-timeout")
        one.send(b"again")
        assert one.recv(99).startswith(b"%d" % one.getsockname()[1])


def test_as_many_peers_as_asked_for() -> None:
    """--max-clients counts peers."""
    options = ("--keep", "--idle-timeout", "100ms", "--max-clients", "2")
    with listening(*options) as (server, port), asking(port) as one, asking(port) as other:
        for client in (one, other):
            client.send(b"hi")
        assert server.wait() == 0


def test_a_reply_for_each_peer() -> None:
    """--reply is one datagram with the peer's port."""
    with listening("--reply", "hello {port}") as (_, port), asking(port) as client:
        client.send(b"hi")
        assert client.recv(99) == b"hello %d" % client.getsockname()[1]


def test_a_peer_that_floods_costs_nobody_else_anything() -> None:
    """Datagrams that a program does not read are dropped, with a line; another peer is served, and all is closed."""
    first = "dd bs=1 count=1 2>/dev/null | tr x X; exec sleep 60"
    with listening("--keep", "--sh-exec", first, "-v", "--idle-timeout", "2s") as (server, port):
        before = descriptors(server.pid)
        with asking(port) as flood, asking(port) as other:
            for _ in range(400):
                flood.send(bytes(16384))
            server.line(rf"{flood.getsockname()[1]} ignored: it is read more slowly than it sends")
            other.send(b"x")
            assert other.recv(9) == b"X"
        while descriptors(server.pid) != before:
            server.line("closed after")
        assert died_by(server.terminate().code) is signal.SIGTERM


def test_the_address_that_is_told_can_be_dialled() -> None:
    """connect accepts the address in NETKIT_ADDRESS."""
    command = 'printf hi | "$@" connect "$NETKIT_ADDRESS" --send-only'
    with listening("--", "sh", "-c", command, "sh", *NETKIT) as (server, _):
        done = server.finish()
    assert (done.code, done.out) == (0, b"hi")


# -- unix sockets


def test_a_conversation_over_unix_datagrams(tmp_path: Path) -> None:
    """Unix datagrams work both ways; the socket file has mode 0600 and is removed at the end."""
    path = tmp_path / "socket"
    with running("listen", f"udp:unix:{path}", "--keep", "--sh-exec", "cat") as server:
        server.line("listening on udp:unix:")
        assert path.stat().st_mode & 0o777 == 0o600
        assert netkit("connect", f"udp:unix:{path}", "--send", "hi", "--until", "hi") == Finished(0, b"hi", "")
        ends(server, signal.SIGTERM)
    assert not path.exists()
    assert "no such file" in netkit("connect", f"udp:unix:{path}", "--send", "x").err
