"""udp-send and udp-serve from the command line: what they send, what they print and how they end."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support import NETKIT, PATIENCE, died_by, free_port, netkit, read_all, running
from tests.support.namespaces import separate
from tests.support.peers import address, connect, udp
from tests.support.processes import HERE, feed, peak_memory, settle, stopped
from tests.support.terminals import watched

LARGEST = 65507
DATA = random.Random(7)


def waiting(sock: socket.socket) -> list[bytes]:
    """Return what a socket has received by now."""
    sock.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(1 << 16))
    sock.settimeout(PATIENCE)
    return found


def stats(err: str) -> dict[str, Any]:
    """Return the totals (--stats) in the stderr of a process."""
    (found,) = (json.loads(line) for line in err.splitlines() if '"event": "stats"' in line)
    return dict(found)


# -- udp-send: what is sent


def test_each_text_is_a_datagram() -> None:
    """Each TEXT is one datagram, with its escapes decoded; an empty text is an empty datagram."""
    with udp() as sink:
        assert netkit("udp-send", address(sink), "one", "", r"t\x00wo\n", "-5", input=None) == (0, b"", "")
        assert waiting(sink) == [b"one", b"", b"t\0wo\n", b"-5"]


@pytest.mark.parametrize("size", [0, LARGEST])
def test_all_of_stdin_is_a_datagram(size: int) -> None:
    """All of stdin is one datagram, at any length and with newlines in it."""
    data = DATA.randbytes(size // 2) + b"\n" * (size - size // 2)
    with udp() as sink:
        assert netkit("udp-send", address(sink), input=data) == (0, b"", "")
        assert waiting(sink) == [data]


@pytest.mark.fault("datagram too large")
@pytest.mark.parametrize("by", ["text", "stdin"])
def test_more_than_a_datagram_holds_is_2(by: str) -> None:
    """A payload of 65508 bytes is a usage error, and nothing is sent, not even the texts before it."""
    data = "x" * (LARGEST + 1)
    with udp() as sink:
        if by == "text":
            code, out, err = netkit("udp-send", address(sink), "first", data)
        else:
            code, out, err = netkit("udp-send", address(sink), input=data.encode())
        assert (code, out) == (2, b"") and err.count("\n") == 1
        assert "65507" in err
        assert waiting(sink) == []


def test_lines_leave_as_they_are_complete() -> None:
    """With --lines each line is sent as soon as it is complete; the last line needs no newline."""
    with udp() as sink, running("udp-send", "--lines", address(sink)) as sender:
        for line in (b"one", b"", b"two"):
            sender.stdin.write(line + b"\n")
            assert sink.recv(100) == line
        sender.stdin.write(b"rest")
        assert sender.finish() == (0, b"", "")
        assert waiting(sink) == [b"rest"]


@pytest.mark.parametrize(
    ("option", "text", "code", "why"),
    [
        ("--lines", b"a\n" + b"x" * (LARGEST + 1) + b"\nb\n", 63, "cannot send line 2 of stdin: it is longer than"),
        ("--hex", b"61\n" + b"00" * (LARGEST + 1) + b"\n62\n", 63, "cannot send line 2 of stdin: it is longer than"),
        ("--hex", b"61\nxy\x1b\n62\n", 26, r"cannot read line 2 of stdin: 'xy\x1b' is not pairs of hex digits"),
    ],
)
def test_a_bad_line_ends_the_stream(option: str, text: bytes, code: int, why: str) -> None:
    """A bad line ends the run with its number. The lines before it are sent, those after it are not."""
    with udp() as sink:
        found = netkit("udp-send", option, address(sink), input=text)
        assert (found.code, found.out) == (code, b"")
        assert found.err.startswith(f"netkit udp-send: {why}") and found.err.count("\n") == 1
        assert waiting(sink) == [b"a"]


def test_pieces() -> None:
    """--size cuts stdin into pieces. The last piece may be shorter, and empty input sends no datagram."""
    data = DATA.randbytes(10_000)
    with udp() as sink:
        assert netkit("udp-send", "--size", "1K", address(sink), input=data) == (0, b"", "")
        assert waiting(sink) == [data[at : at + 1024] for at in range(0, 10_000, 1024)]
        assert netkit("udp-send", "--size", "1K", address(sink), input=b"") == (0, b"", "")
        assert waiting(sink) == []


def test_everything_again() -> None:
    """--repeat sends the whole input several times, by default one second apart."""
    with udp() as sink:
        netkit("udp-send", address(sink), "--repeat", "3", "--interval", "1ms", input=b"x\ny")
        assert waiting(sink) == [b"x\ny"] * 3
        found = netkit("udp-send", address(sink), "--repeat", "2", "--stats", input=b"z")
        assert waiting(sink) == [b"z"] * 2
        assert 1000 <= stats(found.err)["duration_ms"] < 10_000


def test_a_rate_is_kept() -> None:
    """Sending 40960 bytes at --rate 200K takes about a fifth of a second, and not less than 190 ms."""
    with udp() as sink:
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        found = netkit("udp-send", "--size", "100", "--rate", "200K", "--stats", address(sink), input=b"x" * 40960)
        assert found.code == 0
        assert stats(found.err)["duration_ms"] > 190
        assert b"".join(waiting(sink)) == b"x" * 40960


@pytest.mark.ipv6
def test_where_it_leaves_from() -> None:
    """--source and --ttl set the source address and the TTL; IPv4 and IPv6 both work."""
    with udp() as sink, udp("::1") as sink6:
        sink.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        assert netkit("udp-send", address(sink), "x", "--source", "127.0.0.9", "--ttl", "3").code == 0
        _, told, _, peer = sink.recvmsg(10, 100)
        assert peer[0] == "127.0.0.9" and told[0][2][0] == 3
        assert netkit("udp-send", address(sink6), "x").code == 0
        assert sink6.recvfrom(10)[1][0] == "::1"


@pytest.mark.fault("addresses of many hosts")
def test_broadcast_is_allowed_by_an_option() -> None:
    """Without --broadcast the system refuses a broadcast address (exit code 7); with it the datagram arrives."""
    with udp("0.0.0.0") as sink:
        port = str(sink.getsockname()[1])
        code, _, err = netkit("udp-send", "127.255.255.255", port, "x")
        assert code == 7
        assert err.endswith("permission denied (127.255.255.255, udp-send --broadcast allows broadcast addresses)\n")
        assert waiting(sink) == []
        assert netkit("udp-send", "127.255.255.255", port, "x", "--broadcast").code == 0
        assert sink.recv(10) == b"x"


def test_a_terminal_sends_lines_and_shows_no_control_bytes() -> None:
    """Lines typed on a terminal are datagrams; replies are shown with control bytes escaped, each on its own line."""
    with udp() as sink, watched("udp-send", address(sink), "--replies", "1", "--wait", "20s") as sender:
        os.write(sender.ours, b"typed\n")
        assert reply_to(sink, b"\x1b[31m!") == b"typed"
        sender.written(b"!\r\n")
        assert sender.data == b"typed\r\n\\x1b[31m!\r\n"
        os.write(sender.ours, b"\x04")
        assert sender.process.wait() == 0


# -- udp-send: replies


def reply_to(sock: socket.socket, *replies: bytes) -> bytes:
    """Receive a datagram, send the replies, and return what was received."""
    data, peer = sock.recvfrom(1 << 16)
    for each in replies:
        sock.sendto(each, peer)
    return data


def test_replies_are_printed_and_end_it() -> None:
    """With --replies it prints that many replies, empty ones included, and exits; later replies are ignored."""
    with (
        udp() as sink,
        running("udp-send", address(sink), "?", "--replies", "3", "--wait", "1h", "--output", "hex") as sender,
    ):
        assert reply_to(sink, b"a\n", b"", b"\xff", b"too many") == b"?"
        assert sender.finish() == (0, b"610a\n\nff\n", "")


def test_silence_is_28() -> None:
    """If fewer replies than wanted arrive within --wait, the exit code is 28; those that arrived are printed."""
    with udp() as sink, running("udp-send", address(sink), "?", "--replies", "2", "--wait", "2s") as sender:
        reply_to(sink, b"one")
        code, out, err = sender.finish()
        assert (code, out) == (28, b"one")
        reason = "1 of 2 replies, then none for 2 s (--wait)"
        assert err == f"netkit udp-send: cannot hear from {address(sink)}: {reason}\n"


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [(["--replies", "1"], 28, "no reply for 1 s (--wait)"), (["--wait", "20ms"], 0, "")],
    ids=["one reply", "any number"],
)
def test_no_reply(options: list[str], code: int, why: str) -> None:
    """Without --wait it waits one second for --replies; without --replies none has to come."""
    with udp() as sink:
        done = netkit("udp-send", address(sink), "?", *options)
        assert done.code == code and why in done.err


def test_replies_that_come_while_more_is_sent() -> None:
    """Replies are printed as soon as they arrive, and the rest of stdin is still sent."""
    with udp() as sink, running("udp-send", "--lines", "--replies", "1", "--wait", "20s", address(sink)) as sender:
        sender.stdin.write(b"first\n")
        assert reply_to(sink, b"early") == b"first"
        assert sender.out.read(5) == b"early"
        sender.stdin.write(b"second\n")
        assert sink.recv(100) == b"second"
        assert sender.finish() == (0, b"", "")


@pytest.mark.fault("closed port for datagrams")
@pytest.mark.parametrize("words", [["x"], ["--lines"]])
def test_a_closed_port_is_7(words: list[str]) -> None:
    """A closed port is reported at once with exit code 7, also while stdin is open."""
    where = f"127.0.0.1:{free_port()}"
    with running("udp-send", where, *words) as sender:
        sender.stdin.write(b"anybody?\n")
        sender.line("refused")
        code, out, err = sender.finish()
    assert (code, out) == (7, b"")
    assert err == f"netkit udp-send: cannot send to {where}: connection refused (127.0.0.1)\n"


def test_a_reader_that_left_is_a_silent_signal() -> None:
    """If the reader of stdout leaves, it dies silently by SIGPIPE, also before any reply."""
    with udp() as sink, running("udp-send", address(sink), "?", "--wait", "1h") as sender:
        sink.recv(10)
        sender.out.close()
        assert died_by(sender.wait()) is signal.SIGPIPE


def test_a_signal_ends_the_waiting() -> None:
    """A signal ends the wait for replies: it prints the totals and dies by the signal."""
    with udp() as sink, running("udp-send", address(sink), "?", "--wait", "1h", "--stats") as sender:
        sink.recv(10)
        code, _, err = sender.terminate()
        assert died_by(code) is signal.SIGTERM
        assert stats(err)["datagrams_sent"] == 1 and stats(err)["exit_code"] == 143


def test_what_was_sent_is_counted() -> None:
    """--stats prints one object with the counts of both directions, and -v says the same in words."""
    with (
        udp() as sink,
        running("udp-send", address(sink), "abc", "", "-v", "--stats", "--replies", "1", "--wait", "20s") as sender,
    ):
        reply_to(sink, b"reply")
        code, _, err = sender.finish()
        told = stats(err)
        assert code == 0 and told["target"] == address(sink) and told["protocol"] == "udp"
        assert (told["datagrams_sent"], told["bytes_sent"]) == (2, 3)
        assert (told["datagrams_received"], told["bytes_received"]) == (1, 5)
        assert "connections" not in told and "bytes_acknowledged" not in told
        assert f"sending to {address(sink)} from 127.0.0.1:{told['local_port']}" in err
        assert "1 datagram (5 B) received, 2 datagrams (3 B) sent" in err


@pytest.mark.ipv6
@pytest.mark.parametrize(
    "words", [("udp-send", ":{}", "?", "--replies", "1", "--wait", "20s"), ("connect", "udp::{}", "--grace", "0")]
)
def test_who_answered_in_place_of_an_address_that_refused(words: tuple[str, ...]) -> None:
    """-v, --stats and --json have the second address of a target, once that is used since the first has refused."""
    with udp() as sink:
        port = sink.getsockname()[1]
        with running(*(word.format(port) for word in words), "--json", "-v", "--stats") as sender:
            sender.stdin.write(b"?")
            reply_to(sink, b"yes")
            sender.stdin.close()
            code, _, err = sender.finish()
    events = [json.loads(line) for line in err.splitlines()]
    opened = [event["peer_address"] for event in events if event["event"] == "opened"]
    assert (code, opened) == (0, ["::1", "127.0.0.1"])
    ends = [(event["family"], event["peer_address"]) for event in events if "peer_address" in event][2:]
    assert set(ends) == {("ipv4", "127.0.0.1")}


def test_our_port_is_known_where_anybody_may_answer() -> None:
    """Also with --any-source, --broadcast and a multicast address the port is told from which datagrams leave."""
    with udp() as sink:
        done = netkit("udp-send", address(sink), "x", "--any-source", "--wait", "0", "--stats", "-v")
        _, (_, port) = sink.recvfrom(9)
    assert (done.code, stats(done.err)["local_port"]) == (0, port)
    assert f"from 0.0.0.0:{port}\n" in done.err


def test_json() -> None:
    """With --json replies are objects on stdout; other events and failures are objects on stderr."""
    with udp() as sink, running("udp-send", address(sink), "?", "--json", "--replies", "1", "--wait", "20s") as sender:
        reply_to(sink, b"yes")
        code, out, err = sender.finish()
        found = json.loads(out)
        assert code == 0
        assert (found["command"], found["event"], found["text"]) == ("udp-send", "datagram", "yes")
        assert found["peer_port"] == sink.getsockname()[1]
        assert [json.loads(line)["event"] for line in err.splitlines()] == ["opened", "closed"]
        where = address(sink)
    failed = json.loads(netkit("udp-send", where, "x", "--json", "--wait", "1").err.splitlines()[-1])
    assert (failed["event"], failed["exit_code"], failed["error"]["kind"]) == ("error", 7, "connect")


# -- udp-serve: what is printed


def send(port: int, *data: bytes, host: str = "127.0.0.1") -> None:
    """Send datagrams from a new socket."""
    with udp(host) as sock:
        for each in data:
            sock.sendto(each, (host, port))


@pytest.mark.ipv6
@pytest.mark.fault("empty datagram", "largest datagram")
def test_datagrams_arrive_whole_from_everybody() -> None:
    """Datagrams of both families arrive whole, from empty to the largest; stdout has exactly their bytes."""
    largest = DATA.randbytes(LARGEST)
    with running("udp-serve", "0", "--count", "5") as server:
        port = server.port
        for data in (b"one\n", b"", largest):
            send(port, data)
        assert server.read(4 + LARGEST) == b"one\n" + largest
        send(port, b"six", b"end", host="::1")
        assert server.read_all() == b"sixend"
        assert server.wait() == 0


def test_json_is_one_object_for_each() -> None:
    """--json prints one object for each datagram, with the peer, the local port and the payload."""
    with running("udp-serve", HERE, "--json", "--count", "2") as server, udp() as sock:
        listening = json.loads(server.line("listening")[0] and server.said[-1])
        assert (listening["local_address"], listening["protocol"]) == ("127.0.0.1", "udp")
        for data in (b"hi", b"\xff"):
            sock.sendto(data, ("127.0.0.1", listening["local_port"]))
        first, second = map(json.loads, server.read_all().splitlines())
        assert server.wait() == 0
        assert first["peer_port"] == second["peer_port"] == sock.getsockname()[1]
    assert (first["text"], first["bytes_received"], first["local_port"]) == ("hi", 2, listening["local_port"])
    assert second["data"] == "/w==" and "text" not in second


def test_a_pipe_of_hex_passes_datagrams_on() -> None:
    """``udp-serve --output hex | udp-send --hex`` keeps all boundaries and empty datagrams."""
    wanted = [b"", b"a", b"\n", b"", DATA.randbytes(LARGEST), b"b" * 9000, b""]
    with udp() as sink, running("udp-serve", HERE, "--output", "hex", "--count", "7") as server:
        with running("udp-send", "--hex", address(sink), stdin=server.out) as sender:
            send(server.port, *wanted)
            assert server.wait() == 0
            assert sender.wait() == 0
        assert waiting(sink) == wanted


@pytest.mark.parametrize(
    ("options", "shown"),
    [([], b"\\x1b[31m\r\n"), (["--output", "lines"], b"\\x1b[31m\r\n"), (["--raw"], b"\x1b[31m\r\n")],
    ids=str,
)
def test_a_terminal_gets_no_control_bytes(options: list[str], shown: bytes) -> None:
    """On a terminal control bytes are escaped unless --raw is given, and each datagram is a line."""
    with watched("udp-serve", HERE, "--count", "1", *options, stderr=subprocess.PIPE) as server:
        send(server.process.port, b"\x1b[31m")
        assert server.process.wait() == 0
        server.end()
        assert server.data == shown


@pytest.mark.fault("several senders of datagrams")
@pytest.mark.parametrize(("name", "change"), [("echo", bytes), ("upper", bytes.upper)])
def test_interleaved_peers_get_their_own_answers(name: str, change: Any) -> None:
    """Each reply goes back to the sender of its datagram, also for an empty datagram."""
    with running("udp-serve", HERE, "--output", "none", "--reply-with", name) as server, udp() as one, udp() as other:
        to = ("127.0.0.1", server.port)
        for number in range(20):
            one.sendto(b"one%d" % number, to)
            other.sendto(b"other%d" % number if number else b"", to)
        for number in range(20):
            assert one.recv(100) == change(b"one%d" % number)
            assert other.recv(100) == change(b"other%d" % number if number else b"")


def test_a_fixed_reply() -> None:
    """--reply sends the same text for every datagram, also for datagrams that the kernel joined (GRO)."""
    with running("udp-serve", HERE, "--reply", r"ok\n") as server:
        where = f"127.0.0.1:{server.port}"
        found = netkit(
            "udp-send", where, "--size", "2", "--replies", "3", "--wait", "20s", "--output", "hex", input=b"aabbc"
        )
        assert found == (0, b"6f6b0a\n" * 3, "")
        assert server.terminate().out == b"aabbc"


# -- udp-serve: how it ends


def test_patience() -> None:
    """--accept-timeout and --idle-timeout exit with 28, and the message names the option."""
    found = netkit("udp-serve", "0", "-4", "--accept-timeout", "20ms")
    assert found.code == 28 and "nobody came within 20 ms (--accept-timeout)" in found.err
    with running("udp-serve", HERE, "--idle-timeout", "1s") as server:
        send(server.port, b"x")
        code, out, err = server.finish()
        assert (code, out) == (28, b"x") and "nothing came for 1 s (--idle-timeout)" in err


def test_until() -> None:
    """With --until the first datagram that matches is printed and ends the run."""
    with running("udp-serve", HERE, "--until", "^bye$") as server:
        send(server.port, b"not bye", b"x\nbye\ny")
        code, out, _ = server.finish()
        assert code == 0 and out.startswith(b"not byex\nbye\ny")


@pytest.mark.ipv6
def test_access() -> None:
    """A datagram from an address that is not allowed is ignored: not printed and not counted."""
    with running("udp-serve", "0", "--allow", "127.0.0.1", "--count", "1", "-v", "--stats") as server:
        port = server.port
        send(port, b"no", host="::1")
        server.line(r"datagram from \[::1\]:\d+ ignored: not allowed")
        send(port, b"yes")
        code, out, err = server.finish()
    assert (code, out, stats(err)["datagrams_received"]) == (0, b"yes", 1)


def test_what_comes_beyond_the_count_is_not_counted() -> None:
    """--stats has what --count and --replies let through, also if more came in the same read."""
    with running("udp-serve", HERE, "--count", "2", "--stats") as server:
        port = server.port
        with stopped(server):
            send(port, b"a", b"bc", b"def", b"ghi")
        code, out, err = server.finish()
    assert (code, out) == (0, b"abc")
    assert (stats(err)["datagrams_received"], stats(err)["bytes_received"]) == (2, 3)
    words = ("--replies", "2", "--wait", "20s", "--stats")
    with udp() as sink, running("udp-send", address(sink), "?", *words) as sender:
        _, peer = sink.recvfrom(9)
        with stopped(sender):
            for data in (b"a", b"bc", b"def"):
                sink.sendto(data, peer)
        code, out, err = sender.finish()
    assert (code, out) == (0, b"abc")
    assert (stats(err)["datagrams_received"], stats(err)["bytes_received"]) == (2, 3)


def test_a_command_runs_while_it_serves(tmp_path: Path) -> None:
    """COMMAND gets the address, what it sends is printed even if it exits at once, and its exit code is returned."""
    port_file = tmp_path / "port"
    script = f'test "$(cat {port_file})" = $NETKIT_PORT && {" ".join(NETKIT)} udp-send $NETKIT_ADDRESS told; exit 3'
    code, out, err = netkit("udp-serve", "0", "--port-file", str(port_file), "--print-port", "--", "sh", "-c", script)
    assert code == 3 and not port_file.exists()
    port, _, rest = out.partition(b"\n")
    assert rest == b"told" and f":{port.decode()}\n" in err


def test_a_reader_that_is_too_slow_is_23() -> None:
    """If the server ends and stdout does not take all that was received, that is a failure."""
    script = f"head -c 300000 /dev/zero | {' '.join(NETKIT)} udp-send $NETKIT_ADDRESS --size 1000"
    with running("udp-serve", HERE, "--stats", "--", "sh", "-c", script) as server:
        server.line("cannot write to stdout: its reader is too slow, and what came last is lost$")
        code, out, err = server.finish()
    assert code == 23 and 0 < len(out) < stats(err)["bytes_received"]


def test_a_command_outlives_the_count() -> None:
    """After --count datagrams the server waits for COMMAND and exits with its code, as the TCP servers do."""
    script = f"{' '.join(NETKIT)} udp-send $NETKIT_ADDRESS told; read line; exit $line"
    with running("udp-serve", HERE, "--count", "1", "--", "sh", "-c", script) as server:
        assert server.out.read(4) == b"told"
        server.stdin.write(b"4\n")
        assert server.finish()[:2] == (4, b"")


def test_a_signal_loses_nothing_that_has_come() -> None:
    """Datagrams still in the kernel's queue are printed before a signal ends the server."""
    with running("udp-serve", HERE, "--stats") as server:
        port = server.port
        send(port, b"first")
        assert server.out.read(5) == b"first"
        with stopped(server):
            send(port, b"a", b"b", b"c")
            server.signal(signal.SIGTERM)
        code, out, err = server.finish()
        assert died_by(code) is signal.SIGTERM and out == b"abc"
        assert stats(err)["datagrams_received"] == 4


def test_a_full_disk_is_23() -> None:
    """A failed write to stdout is exit code 23."""
    with open("/dev/full", "wb") as full, running("udp-serve", HERE, stdout=full) as server:
        send(server.port, b"x")
        code, _, err = server.finish()
        assert code == 23 and "cannot write to stdout: no space left on device" in err


def test_a_reader_that_left_ends_the_server() -> None:
    """If the reader of stdout leaves, it dies by SIGPIPE, also before any datagram."""
    with running("udp-serve", "0") as server:
        assert server.port
        server.out.close()
        assert died_by(server.wait()) is signal.SIGPIPE


def test_a_port_that_is_taken_is_45() -> None:
    """A port in use is exit code 45: the server does not share it."""
    with udp() as taken:
        code, out, err = netkit("udp-serve", address(taken))
        assert (code, out) == (45, b"")
        assert err == f"netkit udp-serve: cannot listen on {address(taken)}: address already in use\n"


def test_groups() -> None:
    """--join receives a group on the interface of ADDRESS, in addition to datagrams for ADDRESS itself."""
    with running("udp-serve", "0", "--join", "239.251.7.9", "--output", "lines", "--count", "2") as server:
        port = server.port
        server.line(rf"listening on 239\.251\.7\.9:{port}$")
        where = f"239.251.7.9:{port}"
        assert netkit("udp-send", where, "to all", "--source", "127.0.0.1").code == 0
        assert server.out.read(7) == b"to all\n"
        send(port, b"to one")
        assert server.finish()[:2] == (0, b"to one\n")


@pytest.mark.ipv6
@pytest.mark.parametrize("group", ["239.1.2.3", "ff02::5", "ff0e::5"])
def test_a_group_on_no_interface(group: str) -> None:
    """If the system cannot choose the interface of a group, the message says how to name it."""
    done = netkit("udp-serve", ":0", "--join", group, wrapper=separate("ip link set lo up"))
    assert done.code == 45
    said = (
        rf"netkit udp-serve: cannot join {group}: (no such device|invalid argument) \({group}%INTERFACE says where\)\n"
    )
    assert re.fullmatch(said, done.err)


# -- bulk


def test_bulk_at_a_rate_arrives_exactly() -> None:
    """20,000 datagrams of 1,400 bytes all arrive at a rate that the machine can keep; above it drops are reported."""
    data = DATA.randbytes(1400 * 20_000)
    for rate in ("250M", "80M", "25M"):
        with (
            running("udp-serve", HERE, "--stats", "--count", "20000", "--idle-timeout", "2") as server,
            running("udp-send", "--size", "1400", "--rate", rate, f"127.0.0.1:{server.port}", "--stats") as sender,
        ):
            feeder = threading.Thread(target=feed, args=(sender, data))
            feeder.start()
            got = server.read_all()
            feeder.join()
            sent, received = sender.finish(), server.finish()
        told, heard = stats(sent.err)["datagrams_sent"], stats(received.err)["datagrams_received"]
        assert (sent.code, told, len(got)) == (0, 20_000, 1400 * heard)
        if heard == told:
            break
        assert received.code == 28 and "the kernel dropped at least " in received.err
    assert got == data and received.code == 0 and "the kernel dropped" not in received.err


def test_an_interface_that_is_too_narrow_for_offload() -> None:
    """If a datagram needs several packets, segmentation offload (GSO) is not possible; all datagrams still arrive."""
    narrow = separate("ip link set lo mtu 1500 up")
    send = f"yes | head -c 9000 | {' '.join(NETKIT)} udp-send --size 4000 $NETKIT_ADDRESS"
    code, out, err = netkit("udp-serve", HERE, "--output", "hex", "--", "sh", "-c", send, wrapper=narrow)
    assert code == 0, err
    assert out.split() == [b"790a" * 2000, b"790a" * 2000, b"790a" * 500]


def test_what_is_lost_is_told() -> None:
    """The totals of both sides differ by the lost datagrams, and the receiver reports drops by the kernel."""
    with running("udp-serve", HERE, "--stats") as server:
        server_port = server.port
        where = f"127.0.0.1:{server_port}"
        send(server_port, b"-")
        assert server.out.read(1) == b"-"
        with stopped(server):  # so that it cannot receive anything
            sent = netkit("udp-send", "--size", "1400", where, "--stats", input=b"x" * 1400 * 20_000)
            server.signal(signal.SIGTERM)
        code, out, err = server.finish()
    assert sent.code == 0 and died_by(code) is signal.SIGTERM
    told, heard = stats(sent.err), stats(err)
    lost = told["datagrams_sent"] - (heard["datagrams_received"] - 1)
    assert told["datagrams_sent"] == 20_000 and lost > 0
    assert heard["bytes_received"] - 1 == len(out) == 1400 * (20_000 - lost)
    dropped = heard["datagrams_dropped_min"]
    assert 0 < dropped <= lost
    assert f"the kernel dropped at least {dropped} datagrams: they came faster than they were read" in err


def test_slow_output_takes_no_memory() -> None:
    """While nobody reads stdout, udp-serve stops reading datagrams, and its memory stays small."""
    with running("udp-serve", HERE, real=True) as server:
        where = f"127.0.0.1:{server.port}"
        netkit("udp-send", "--size", "60000", where, input=b"x" * 60_000 * 1500)
        assert peak_memory(server.pid) < 60_000 * 1024


# -- echo and upper


@pytest.mark.ipv6
@pytest.mark.parametrize(("name", "change"), [("echo", bytes), ("upper", bytes.upper)])
def test_servers_of_both_protocols(name: str, change: Any) -> None:
    """With --both TCP and UDP use the same port number, both answer, and the totals count both."""
    with running(name, "0", "--both", "--stats") as server:
        port = int(server.line(r"listening on 127\.0\.0\.1:(\d+)$")[1])
        server.line(rf"listening on \[::1\]:{port}$")
        server.line(rf"listening on 127\.0\.0\.1:{port}/udp$")
        with connect(port) as stream:
            stream.sendall(b"tcp")
            assert stream.recv(10) == change(b"tcp")
        for host in ("127.0.0.1", "::1"):
            with udp(host) as sock:
                for data in (b"hello", b"", b"x" * LARGEST):
                    sock.sendto(data, (host, port))
                    assert sock.recv(1 << 16) == change(data)
        told = stats(server.terminate().err)
        assert (told["connections"], told["datagrams_received"], told["datagrams_sent"]) == (1, 6, 6)
        assert told["bytes_received"] == told["bytes_sent"] == 3 + 2 * (5 + LARGEST)


def test_capitals_of_every_alphabet() -> None:
    """--unicode upper-cases all letters, also when a stream comes in pieces; a UDP reply is as long as its request."""
    text = "stra\xdfe, \xf6 \u03c9 \u0149".encode()
    with running("upper", HERE, "--both", "--unicode") as server, udp() as sock:
        port = server.port
        sock.sendto(text, ("127.0.0.1", port))
        assert sock.recv(1 << 16).decode() == "STRASSE, \xd6 \u03a9 \u0149"
        with connect(port) as client:
            for at in range(len(text)):
                client.sendall(text[at : at + 1])
            client.shutdown(socket.SHUT_WR)
            assert read_all(client).decode() == "STRASSE, \xd6 \u03a9 \u02bcN"


def test_udp_alone() -> None:
    """--udp leaves the TCP port free, and bulk data is echoed."""
    with running("echo", HERE, "--udp") as server:
        port = server.port
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        data = DATA.randbytes(64_000)
        code, out, _ = netkit(
            "udp-send", f"127.0.0.1:{port}", "--size", "64", "--replies", "999", "--wait", "20s", input=data
        )
        assert code == 0 and out == data[:-64]  # netkit counts replies that the kernel joined one by one


def low_port(port: int) -> contextlib.AbstractContextManager[socket.socket]:
    """A socket at a privileged port; skip if we may not bind it."""
    try:
        with udp(port=port):
            pass
    except PermissionError:
        pytest.skip(f"port {port} is not ours to take")
    return udp(port=port)


def raw_socket() -> socket.socket:
    """A raw socket, to send packets with forged addresses; skip if it is not allowed."""
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except PermissionError:
        pytest.skip("raw sockets are not allowed here")


@pytest.mark.fault("two echoes of datagrams")
def test_a_port_that_answers_to_anything_gets_no_answer() -> None:
    """A datagram whose source port is a service that answers anything is ignored, and -v says why."""
    with running("upper", HERE, "--udp", "-v") as server, low_port(7) as service, udp() as other:
        to = ("127.0.0.1", server.port)
        service.sendto(b"x", to)
        server.line(r"datagram from 127\.0\.0\.1:7 ignored: port 7 would answer back")
        other.sendto(b"y", to)
        assert other.recv(10) == b"Y"
        assert waiting(service) == []


def forged(source: tuple[str, int], target: tuple[str, int], data: bytes) -> bytes:
    """Return an IPv4 packet with ``source`` as its source address; the system fills in length and checksums."""
    datagram = struct.pack("!4H", source[1], target[1], 8 + len(data), 0) + data
    ends = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    return struct.pack("!2B3H2BH", 0x45, 0, 20 + len(datagram), 0, 0, 64, socket.IPPROTO_UDP, 0) + ends + datagram


@pytest.mark.fault("two echoes of datagrams")
def test_two_servers_cannot_be_made_to_talk() -> None:
    """A forged datagram from another server ends after one answer, and one from the server itself gets none."""
    with (
        running("echo", HERE, "--both", "--stats") as one,
        running("upper", HERE, "--udp", "--stats") as other,
        raw_socket() as raw,
        udp() as probe,
    ):
        first, second = (("127.0.0.1", one.port), ("127.0.0.1", other.port))
        raw.sendto(forged(second, first, b"x"), first)
        raw.sendto(forged(first, first, b"y"), first)
        for _ in range(20):  # each is answered after everything that came before it
            for to in (first, second):
                probe.sendto(b"?", to)
                assert probe.recv(10) == b"?"
        heard = [stats(server.terminate().err) for server in (one, other)]
    assert [each["datagrams_received"] - 20 for each in heard] == [2, 1]
    assert [each["datagrams_sent"] - 20 for each in heard] == [1, 0]


def test_a_pattern_ends_both_halves() -> None:
    """--until also applies to datagrams."""
    with running("echo", HERE, "--both", "--until", "bye") as server, udp() as sock:
        sock.sendto(b"good bye", ("127.0.0.1", server.port))
        assert sock.recv(20) == b"good bye"
        assert server.wait() == 0


def test_a_port_taken_by_either_protocol_is_45() -> None:
    """With --both the port has to be free for TCP and for UDP."""
    for family in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, family) as taken:
            taken.bind(("127.0.0.1", 0))
            code, _, err = netkit("echo", address(taken), "--both")
            assert code == 45 and "address already in use" in err


def test_broadcast_by_the_name_that_python_has_for_it() -> None:
    """``<broadcast>`` means 255.255.255.255, and needs --broadcast as well."""
    wrapper = separate("ip link set lo up", "ip route add broadcast 255.255.255.255 dev lo")
    assert netkit("udp-send", "--broadcast", "<broadcast>", "9", "hi", wrapper=wrapper) == (0, b"", "")
    done = netkit("udp-send", "<broadcast>", "9", "hi", wrapper=wrapper)
    assert done.code == 7
    assert done.err.endswith("permission denied (255.255.255.255, udp-send --broadcast allows broadcast addresses)\n")


# -- less common uses of datagrams


def test_a_refusal_does_not_end_it() -> None:
    """--keep-going sends on after a refusal, also to a receiver that restarts, and exits with 7 and the count."""
    with udp() as sink:
        port = sink.getsockname()[1]
        with running("udp-send", "--lines", "--keep-going", address(sink)) as sender:
            sender.stdin.write(b"one\n")
            assert sink.recv(99) == b"one"
            sink.close()
            sender.stdin.write(b"lost\n")
            settle(sender)
            with udp(port=port) as again:
                sender.stdin.write(b"two\n")
                assert again.recv(99) == b"two"
            done = sender.finish()
    words = f"netkit udp-send: cannot send to 127.0.0.1:{port}: connection refused (1 time)\n"
    assert (done.code, done.err) == (7, words)


def test_answers_from_another_port() -> None:
    """Replies from another port, as TFTP servers send them, are only accepted with --any-source."""
    with udp() as asked, udp() as other:
        for options, code, out in ((("--wait", "300ms"), 28, b""), (("--wait", "10s", "--any-source"), 0, b"answer")):
            words = ("udp-send", address(asked), "question", "--replies", "1", *options)
            with running(*words) as sender:
                _, peer = asked.recvfrom(99)
                other.sendto(b"answer", peer)
                done = sender.finish()
            assert (done.code, done.out) == (code, out)


def test_silence_is_an_end_in_order() -> None:
    """--until-idle exits with 0 after a silence, where --idle-timeout exits with 28."""
    with running("udp-serve", HERE, "--until-idle", "1s") as server:
        assert netkit("udp-send", f"127.0.0.1:{server.port}", "one", "two").code == 0
        done = server.finish()
    assert (done.code, done.out) == (0, b"onetwo")


def test_a_reply_names_who_asked() -> None:
    """{host} and {port} in --reply are the sender's, and {{ is a literal brace."""
    with running("udp-serve", HERE, "--reply", r"{{} {host} {port}\n") as server, udp() as asking:
        asking.sendto(b"who?", ("127.0.0.1", server.port))
        assert asking.recv(99) == b"{} 127.0.0.1 %d\n" % asking.getsockname()[1]


def test_a_program_for_each_peer() -> None:
    """Each of two peers gets its own program, with the peer's port in its environment."""
    with (
        running("udp-serve", HERE, "--sh-exec", 'read a; echo "$a $NETKIT_PEER_PORT"') as server,
        udp() as one,
        udp() as other,
    ):
        port = server.port
        for each in (one, other):
            each.sendto(b"hello\n", ("127.0.0.1", port))
        for each in (one, other):
            assert each.recv(99) == b"hello %d\n" % each.getsockname()[1]


def test_the_address_of_a_server_with_programs_can_be_sent_to() -> None:
    """With --exec udp-serve tells its address as without, as udp-send takes it; peers count as connections."""
    command = f"{' '.join(NETKIT)} udp-send $NETKIT_ADDRESS hi --replies 1 --wait 20s"
    code, out, err = netkit("udp-serve", HERE, "--exec", "cat", "--stats", "--", "sh", "-c", command)
    assert (code, out, stats(err)["connections"]) == (0, b"hi", 1)
    assert re.match(r"netkit udp-serve: listening on 127\.0\.0\.1:[0-9]+\n", err)


_TWO_HOSTS = (
    "ip link set lo up",
    "mount -t tmpfs none /run",
    "ip netns add netkit-there",
    "ip link add near type veth peer name far netns netkit-there",
    "ip address add 192.0.2.1/24 broadcast 192.0.2.255 dev near",
    "ip address add fd00::1/64 dev near nodad",
    "ip link set near up",
    "ip -n netkit-there address add fd00::2/64 dev far nodad",
    "ip -n netkit-there address add 192.0.2.2/24 broadcast 192.0.2.255 dev far",
    "ip -n netkit-there link set far up",
)


@pytest.mark.parametrize(
    ("serve", "send"),
    [
        ("udp-serve :5000", "udp-send --broadcast 192.0.2.255 5000 hello"),
        ("udp-serve :5000", "udp-send --broadcast --source 192.0.2.1 '<broadcast>' 5000 hello"),
        ("udp-serve :5000 --join 239.1.2.3%far", "udp-send --source 192.0.2.1 239.1.2.3 5000 hello"),
        ("udp-serve :5000 --join ff15::1%far", "udp-send --source fd00::1 ff15::1%near 5000 hello"),
    ],
)
def test_two_hosts(serve: str, send: str) -> None:
    """Broadcast and multicast datagrams reach another host, and its reply comes back."""
    wrapper = separate(*_TWO_HOSTS)
    here = f"{sys.executable} -m netkit"
    script = f"""
        ip netns exec netkit-there {here} {serve} --count 1 --reply-with upper --port-file /run/port & server=$!
        while ! test -e /run/port; do :; done
        while ! ip link show near | grep -q 'state UP'; do :; done
        while ! ip -n netkit-there link show far | grep -q 'state UP'; do :; done
        ip route add default dev near
        {here} {send} --replies 1 --wait 10
        wait $server
    """
    done = subprocess.run([*wrapper, "sh", "-ec", script], capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, sorted([done.stdout[:5], done.stdout[5:]])) == (0, [b"HELLO", b"hello"]), done
