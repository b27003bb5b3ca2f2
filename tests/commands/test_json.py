"""--json and --stats: every line on stderr is an object, and the totals are those of the peer."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from netkit.cli.app import run
from tests.support import died_by, exchange, free_port, jam, netkit, peer, read_all, reset, running
from tests.support.peers import is_reset
from tests.support.processes import feed

FIELDS = {
    *("command", "event", "time", "target", "host", "port", "address", "peer_address", "peer_port"),
    *("local_address", "local_port", "family", "protocol", "state", "time_ms", "duration_ms", "bytes_sent"),
    *("bytes_acknowledged", "bytes_received", "reason", "exit_code", "error"),
    *("addresses", "connections", "ended_first"),  # of "resolved" and of "stats"
}
DATA = os.urandom(300_000)


def parse(text: str, command: str = "connect") -> list[dict[str, Any]]:
    """Return the objects, after checks for each: printable ASCII, known fields, no null and a valid time."""
    assert text == "" or text.endswith("\n")
    objects = []
    for line in text.splitlines():
        assert re.fullmatch(r"\{[ -~]+\}", line)
        found = json.loads(line)
        assert found["command"] == command
        assert set(found) <= FIELDS
        assert None not in found.values()
        assert datetime.fromisoformat(found["time"]).utcoffset() is not None
        objects.append(found)
    return objects


def events(objects: list[dict[str, Any]]) -> list[str]:
    """Return the names of the events in order."""
    return [found["event"] for found in objects]


def moved(found: dict[str, Any]) -> tuple[int, int, int]:
    """Return the bytes sent, acknowledged and received."""
    return found["bytes_sent"], found["bytes_acknowledged"], found["bytes_received"]


# -- events


def test_conversation_of_connect() -> None:
    """connect reports connected, closed and the totals, with both addresses and the bytes that the peer counted."""
    with peer(lambda sock: (sock.getpeername()[1], len(read_all(sock)), sock.sendall(DATA))) as server:
        done = netkit("connect", f"localhost:{server.port}", "-4", "--json", "--stats", input=DATA[:100_000])
        own, received, _ = server.result()
    resolved, connected, closed, stats = parse(done.err)
    assert (done.code, done.out, received) == (0, DATA, 100_000)
    assert events([resolved, connected, closed, stats]) == ["resolved", "connected", "closed", "stats"]
    assert (resolved["host"], resolved["addresses"]) == ("localhost", ["127.0.0.1"])
    both = {
        "target": f"localhost:{server.port}",
        "peer_address": "127.0.0.1",
        "peer_port": server.port,
        "local_address": "127.0.0.1",
        "local_port": own,
        "family": "ipv4",
        "protocol": "tcp",
    }
    for found in (connected, stats):
        assert {name: found[name] for name in both} == both
    for found in (closed, stats):
        assert moved(found) == (100_000, 100_000, len(DATA))
    assert closed["reason"] == "input ended first"
    assert (stats["connections"], stats["exit_code"]) == (1, 0)
    assert 0 <= closed["duration_ms"] <= stats["duration_ms"]


@pytest.mark.ipv6
@pytest.mark.parametrize("name", ["listen", "echo", "upper"])
def test_life_of_a_server(name: str) -> None:
    """A server reports each address it listens on, each client with its end, and the totals."""
    options = ("--reply", "x" * 1000) if name == "listen" else ()
    with running(name, "0", *options, "--max-clients", "2", "--json", "--stats", stdin=subprocess.DEVNULL) as server:
        port = int(server.line(r'"local_address": "127\.0\.0\.1", "local_port": (\d+)')[1])
        answers = [len(exchange(port, bytes(size), host)) for size, host in ((300, "127.0.0.1"), (20_000, "::1"))]
        server.process.wait()
        objects = parse(server.finish().err, name)
    assert events(objects[:2]) == ["listening", "listening"]
    assert [(found["local_address"], found["local_port"], found["family"]) for found in objects[:2]] == [
        ("127.0.0.1", port, "ipv4"),
        ("::1", port, "ipv6"),
    ]
    assert sorted(events(objects[2:-1])) == ["accepted", "accepted", "closed", "closed"]
    closed = {found["peer_address"]: found for found in objects if found["event"] == "closed"}
    assert moved(closed["127.0.0.1"]) == (answers[0], answers[0], 300)
    assert moved(closed["::1"]) == (answers[1], answers[1], 20_000)
    stats = objects[-1]
    assert (stats["event"], stats["connections"], stats["exit_code"]) == ("stats", 2, 0)
    assert moved(stats) == (sum(answers), sum(answers), 20_300)


def test_conversation_over_a_unix_socket() -> None:
    """Over a unix socket the address is the socket's, and there are no ports."""
    target = f"unix:@netkit-test-{free_port()}"
    with running("listen", target, "--json", "--exec", "cat") as server:
        server.line("listening")
        done = netkit("connect", target, "--json", "--stats", input=b"hi")
        theirs = parse(server.finish().err, "listen")
    assert (done.code, done.out) == (0, b"hi")
    for found in parse(done.err):
        assert (found["peer_address"], found["protocol"]) == (target, "unix")
        assert not {"peer_port", "local_port", "family"} & set(found)
    assert theirs[-1]["reason"] == "peer ended first, exit code 0"
    assert moved(theirs[-1]) == (2, 2, 2)


def test_addresses_that_were_tried() -> None:
    """-vv has an event for each address that is tried, and for each that fails, with the reason."""
    port = free_port()
    done = netkit("connect", f"127.0.0.1:{port}", "--wait", "1s", "--json", "-vv")
    objects = parse(done.err)
    assert events(objects[:3]) == ["trying", "missed", "retrying"]
    assert objects[1]["address"] == "127.0.0.1"
    assert objects[1]["reason"] == "connection refused"
    assert "connection refused" in objects[2]["reason"]
    assert events(objects)[-1] == "error"


def test_clients_that_are_turned_away() -> None:
    """Clients that are denied, or for which no program can run, have events; the totals count served clients."""
    options = ("--keep", "--deny", "127.0.0.9", "--json", "--stats", "--exec", "cat")
    with running("listen", "127.0.0.1:0", *options, wrapper=["prlimit", "--nofile=12"]) as server:
        port = int(server.line(r'"local_port": (\d+)')[1])
        for source in ("127.0.0.9", "127.0.0.1"):
            assert is_reset(port, source=source)
        server.line('"event": "closed"')
        server.signal(signal.SIGTERM)
        server.wait()
        _, denied, accepted, paused, closed, stats = parse(server.finish().err, "listen")
    assert (denied["event"], denied["peer_address"], denied["reason"]) == ("denied", "127.0.0.9", "not allowed")
    assert (accepted["event"], accepted["peer_address"]) == ("accepted", "127.0.0.1")
    assert (paused["event"], paused["reason"]) == ("paused", "cannot run another program: too many open files")
    assert (closed["event"], stats["connections"]) == ("closed", 1)


def test_input_that_was_left_and_answer_that_did_not_come() -> None:
    """Input that is left unread is an event; an answer that did not come is no error."""
    with peer(lambda sock: sock.sendall(b"bye") or sock.shutdown(socket.SHUT_WR) or read_all(sock)) as server:
        with running("connect", server.address, "--grace", "10ms", "--json") as process:
            assert process.wait() == 0
            left = parse(process.finish().err)
        unanswered = parse(netkit("connect", server.address, "--json", "--hold", input=b"x").err)
    assert events(left) == ["connected", "input_left", "closed"]
    assert left[1]["duration_ms"] == 10
    assert "error" not in events(unanswered)


# -- failures


def refuse(sock: socket.socket) -> None:
    """Reset after one byte was received."""
    sock.recv(1)
    reset(sock)


def refuse_much(sock: socket.socket) -> None:
    """Reset once the buffers are full."""
    jam(sock)
    reset(sock)


# Command, exit code, kind of failure and arguments; CLOSED is an address where nobody listens.
FAILING = [
    ("connect", 7, "connect", ["CLOSED"]),
    ("connect", 7, "connect", ["unix:/no/such\n\x1b[31m\u202esocket"]),
    ("connect", 6, "resolve", ["nosuch.invalid:80"]),
    ("connect", 28, "timeout", ["CLOSED", "--wait", "50ms"]),
    ("connect", 23, "write", ["CLOSED", "--log", "/no/such\nlog"]),
    ("connect", 127, "not_found", ["CLOSED", "--exec", "'no\x1b such'"]),
    ("listen", 45, "bind", ["192.0.2.1:1"]),
    ("echo", 28, "timeout", ["127.0.0.1:0", "--accept-timeout", "50ms"]),
    ("upper", 28, "timeout", ["127.0.0.1:0", "--timeout", "50ms"]),
]


@pytest.mark.parametrize("name, code, kind, args", FAILING)
def test_failure_is_an_object(name: str, code: int, kind: str, args: list[str]) -> None:
    """A failure is an object with reason, exit code, kind and the message of the usual line; the totals follow."""
    args = [arg.replace("CLOSED", f"127.0.0.1:{free_port()}") for arg in args]
    done = netkit(name, *args, "--json", "--stats")
    assert (done.code, done.out) == (code, b"")
    *_, failure, stats = parse(done.err, name)
    assert events([failure, stats]) == ["error", "stats"]
    check_failure(failure, code, kind)
    assert (stats["exit_code"], stats["connections"], moved(stats)) == (code, 0, (0, 0, 0))


def check_failure(failure: dict[str, Any], code: int, kind: str) -> None:
    """Assert that a failure has all its fields."""
    assert failure["exit_code"] == code
    assert set(failure["error"]) == {"kind", "message", "errno"}
    assert failure["error"]["kind"] == kind
    assert failure["error"]["message"].startswith("cannot ")
    assert failure["reason"] in failure["error"]["message"]


@pytest.mark.parametrize(
    "code, kind, behaviour, args, size",
    [
        (8, "protocol", lambda sock: sock.sendall(b"no"), ["--until", "yes"], 0),
        (28, "timeout", read_all, ["--idle-timeout", "50ms"], -1),
        (55, "send", refuse_much, ["--hold"], 20_000_000),
        (56, "recv", refuse, ["--hold"], 1),
    ],
)
def test_failure_of_a_conversation(
    code: int, kind: str, behaviour: Callable[[socket.socket], Any], args: list[str], size: int
) -> None:
    """A failure caused by the peer is an object too, with the totals up to then. A size below 0 is idle input."""
    with peer(behaviour) as server, running("connect", server.address, *args, "--json", "--stats") as process:
        if size >= 0:
            feed(process, bytes(size))
        out = process.read_all()
        assert process.wait() == code
        connected, closed, failure, stats = parse(process.finish().err)
    assert events([connected, closed, failure, stats]) == ["connected", "closed", "error", "stats"]
    check_failure(failure, code, kind)
    assert (stats["exit_code"], stats["bytes_received"]) == (code, len(out))
    assert moved(closed) == moved(stats)
    assert stats["bytes_acknowledged"] <= stats["bytes_sent"] <= max(size, 0)
    if code == 55:
        lost, of = map(int, re.findall(r"(\d+) of (\d+) bytes", failure["error"]["message"])[0])
        assert of - lost == stats["bytes_acknowledged"]


@pytest.mark.fault("control bytes in a host")
@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("connect", ["5432"], "port 5432 has no host"),
        ("connect", ["hw"], "'hw' has no port"),  # which is not -w, which takes a value
        ("connect", ['h"}\n{"event":"closed', "80"], r"""host 'h"}\n{"event"' contains"""),
        ("connect", ["\x1b[31mh\x9b\u202e\udcff", "80"], "contains a space or a control character"),
        ("listen", ["0", "--gret", "x"], "no such option '--gret'"),
        ("portcheck", ["127.0.0.1:80", "--wait", "soon"], "--wait: 'soon' is not a duration"),
        ("portcheck", ["127.0.0.1:80", "--progress"], "--progress does not apply: with json nothing else is shown"),
        ("address", ["1.2.3.400"], "is no IPv4 address"),
        ("unpack", ["u16", "0"], "is not pairs of hex digits"),
    ],
)
def test_a_mistake_is_an_object(name: str, args: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A usage error is an object too."""
    assert run([name, *args, "--json"]) == 2
    out, err = capfd.readouterr()
    [found] = parse(err, name)
    assert (out, found["event"], found["exit_code"], found["error"]["kind"]) == ("", "error", 2, "usage")
    assert says in found["reason"] == found["error"]["message"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--json", "conect", "h", "1"], "no such command 'conect', did you mean 'connect'?"),
        (["-v", "--json"], "a command is missing after '--json'"),
    ],
)
def test_a_mistake_before_the_command_is_an_object(
    args: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """So is a mistake in the command's name, if --json is before it."""
    assert run(args) == 2
    out, err = capfd.readouterr()
    [found] = parse(err, "netkit")
    assert (out, found["exit_code"], found["reason"]) == ("", 2, says)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["fetch", "http://h/", "--", "--json"], "words after '--'"),
        (["connect", "h", "1", "2", "--send", "--json"], "unexpected word '2'"),
        (["connect", "h", "1", "2", "-vw", "--json"], "--connect-timeout: '--json' is not a duration"),
    ],
)
def test_json_that_is_no_option(args: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A usage error is a line if --json is a word of COMMAND or the value of an option."""
    assert run(args) == 2
    assert capfd.readouterr().err.startswith(f"netkit {args[0]}: {says}")


# -- totals


@pytest.mark.parametrize(
    ("options", "first"), [([], "peer"), (["--until", "l"], "local"), (["--max-bytes", "5"], "local")], ids=str
)
def test_totals_say_who_ended_first(options: list[str], first: str) -> None:
    """The totals say which side ended first."""

    def behaviour(sock: socket.socket) -> bytes:
        sock.sendall(b"hello")
        if first == "peer":
            sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    with peer(behaviour) as server, running("connect", server.address, *options, "--stats", "--json") as process:
        assert process.wait() == 0
        *_, closed, stats = parse(process.finish().err)
    assert (closed["event"], stats["event"], stats["ended_first"]) == ("closed", "stats", first)
    assert closed["reason"] == ("peer ended first" if first == "peer" else "input ended first")


def test_totals_without_json() -> None:
    """--stats without --json prints one object, also with -q."""
    with peer(lambda sock: sock.sendall(b"hello")) as server:
        done = netkit("connect", server.address, "--stats", "-q")
    (stats,) = parse(done.err)
    assert (stats["event"], moved(stats), stats["exit_code"]) == ("stats", (0, 0, 5), 0)


@pytest.mark.parametrize("name", ["connect", "echo"])
def test_totals_after_a_signal(name: str) -> None:
    """After a signal the totals have the exit code that a shell sees, and the process dies by the signal."""
    if name == "connect":
        with (
            peer(lambda sock: (sock.sendall(b"hello"), read_all(sock))) as server,
            running("connect", server.address, "--stats") as process,
        ):
            assert process.out.read(5) == b"hello"
            process.signal(signal.SIGTERM)
            assert died_by(process.wait()) is signal.SIGTERM
            (stats,) = parse(process.finish().err)
        wanted = (0, 0, 5)
    else:
        with running("echo", "127.0.0.1:0", "--stats") as process:
            assert exchange(process.port, b"hello") == b"hello"
            process.signal(signal.SIGTERM)
            assert died_by(process.wait()) is signal.SIGTERM
            (stats,) = parse(process.finish().err.partition("\n")[2], "echo")
        wanted = (5, 5, 5)
    assert (stats["exit_code"], stats["connections"], moved(stats)) == (143, 1, wanted)


def test_totals_when_the_reader_of_stdout_leaves() -> None:
    """The totals are printed before death by SIGPIPE, which is silent otherwise."""
    reading, writing = os.pipe()
    with peer(lambda sock: sock.sendall(DATA)) as server:
        os.close(reading)
        done = netkit("connect", server.address, "--stats", stdout=writing)
        os.close(writing)
    assert died_by(done.code) is signal.SIGPIPE
    (stats,) = parse(done.err)
    assert (stats["event"], stats["exit_code"]) == ("stats", 141)


def test_totals_of_a_program_have_its_exit_code() -> None:
    """With --exec the exit code in the totals is the program's."""
    with peer(read_all) as server:
        done = netkit("connect", server.address, "--stats", "--sh-exec", "echo hello; exit 7")
        assert server.result() == b"hello\n"
    (stats,) = parse(done.err)
    assert (done.code, stats["exit_code"], moved(stats)) == (7, 7, (6, 6, 0))


# -- foreign text


@pytest.mark.fault("forged lines of a log")
def test_hostile_names_in_events(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A path may have any bytes: each event is one line, and its JSON has the path, with bytes beyond UTF-8 escaped."""
    folder = tmp_path_factory.mktemp("s")
    target = f'unix:{folder}/"\n\x1b[31m\u202e\x7f\udcff'
    told = target.replace("\udcff", r"\xff")
    with running("listen", target, "--json", "--stats", "-vvv", "--exec", "cat") as server:
        assert json.loads(server.line("listening").string)["local_address"] == told
        done = netkit("connect", target, "--json", "--stats", "-vvv", input=b"\x1b\xff")
        objects = parse(server.finish().err, "listen")
    assert (done.code, done.out) == (0, b"\x1b\xff")
    assert {found["target"] for found in parse(done.err) if "target" in found} == {told}
    assert {found["peer_address"] for found in objects if "peer_address" in found} == {told}
