"""``netkit relay`` from the command line: all bytes both ways, cut streams, relay loops and options."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import (
    NETKIT,
    PATIENCE,
    Peer,
    Running,
    died_by,
    exchange,
    free_port,
    netkit,
    peer,
    read_all,
    reset,
    running,
)
from tests.support.certificates import Pki
from tests.support.data import DATA, MIB, OTHER, check_same
from tests.support.logs import read_log
from tests.support.partners import run
from tests.support.peers import connect, converse, is_reset, is_silent, push, until_reset, wait_for_refusal
from tests.support.processes import HERE, peak_memory, settle, strace
from tests.support.relays import answering, secured_by, target


@contextlib.contextmanager
def serving(*options: str, behaviour: Any = answering, **how: Any) -> Iterator[tuple[Running, Peer]]:
    """Run a relay to a target; ``how`` is as for ``running``."""
    with peer(behaviour) as there, running("relay", HERE, there.address, *options, **how) as server:
        yield server, there


# -- bytes


@pytest.mark.fault("every byte there is")
@pytest.mark.parametrize(
    ("near", "far"), [("tcp", "tcp"), ("tcp", "tls"), ("tls", "tcp"), ("tls", "tls"), ("unix", "tcp"), ("tcp", "unix")]
)
def test_every_byte_goes_both_ways(near: str, far: str, pki: Pki, tmp_path: Path) -> None:
    """All bytes pass both ways, the answer also after the client's end, and nothing is printed."""
    ours = pki.good.options() if near == "tls" else ()
    theirs = ["--cafile", pki.ca] if far == "tls" else []
    listen = {"tcp": HERE, "tls": f"tls:{HERE}", "unix": f"unix:{tmp_path}/s"}[near]
    with (
        target(far, answering, pki, tmp_path) as there,
        running("relay", listen, there.address, *ours, *theirs, "--shutdown-after", "0") as server,
    ):
        if near == "unix":
            server.line("listening on unix:")
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{tmp_path}/s")
                got = converse(client, DATA)
        elif near == "tls":
            address = f"tls:127.0.0.1:{server.port}"
            done = run([*NETKIT, "connect", address, "--cafile", pki.ca, "--shutdown-after", "0"], DATA)
            assert (done.code, done.err) == (0, "")
            got = done.out
        else:
            got = exchange(server.port, DATA)
        check_same(got, OTHER)
        check_same(there.result(), DATA)
        assert server.terminate().complaints == []


def test_a_late_answer_is_complete() -> None:
    """A target may answer long after the client's end."""
    asked, gate = threading.Event(), threading.Event()

    def late(sock: socket.socket) -> None:
        assert read_all(sock) == b"question"
        asked.set()
        gate.wait(PATIENCE)
        sock.sendall(OTHER)

    with serving(behaviour=late) as (server, _), connect(server.port) as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert asked.wait(PATIENCE)
        settle(server)
        assert is_silent(client)
        gate.set()
        check_same(read_all(client), OTHER)
        assert server.terminate().complaints == []


def test_a_target_that_ends_first_still_hears_the_client() -> None:
    """After the target has ended its direction, the client can still send."""

    def ending(sock: socket.socket) -> bytes:
        sock.sendall(b"no more from here")
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    with serving(behaviour=ending) as (server, there), connect(server.port) as client:
        assert read_all(client) == b"no more from here"
        client.sendall(DATA)
        client.shutdown(socket.SHUT_WR)
        check_same(there.result(), DATA)
        assert server.terminate().complaints == []


def test_bulk_stays_in_the_kernel(tmp_path: Path) -> None:
    """Most of 8 MiB passes from socket to socket by splice(2)."""
    calls = tmp_path / "calls"
    data = os.urandom(8 * MIB)
    with serving("--once", wrapper=strace("trace=splice", log=calls)) as (server, there):
        check_same(exchange(server.port, data), OTHER)
        check_same(there.result(), data)
        assert server.wait() == 0
    moved = sum(int(count) for count in re.findall(r"\)\s+= (\d+)$", calls.read_text(), re.MULTILINE))
    assert moved > 12 * MIB  # each byte into a pipe and out of it


def test_two_hundred_clients_at_once() -> None:
    """200 clients are connected at the same time, and each gets its own bytes."""
    data = [os.urandom(20_000) for _ in range(200)]
    with running("echo", HERE) as there, running("relay", HERE, f"127.0.0.1:{there.port}") as server:
        port = server.port
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(port)) for _ in data]
            for client, each in zip(clients, data, strict=True):
                client.sendall(each)
                client.shutdown(socket.SHUT_WR)
            assert [read_all(client) for client in clients] == data
        assert server.terminate().complaints == []


@pytest.mark.fault("client that never reads")
def test_a_client_that_never_reads_costs_no_memory_and_holds_up_nobody() -> None:
    """If a client does not read, its target is held back, other clients are served, and memory stays flat."""
    stuck = threading.Event()

    def pouring(sock: socket.socket) -> int | None:
        if sock.recv(10) != b"pour":
            return sock.sendall(b"served")
        poured = push(sock.fileno(), server)
        stuck.set()
        return poured

    with peer(pouring) as there, running("relay", HERE, there.address, real=True) as server:
        port = server.port
        with connect(port) as client:
            assert greeted(port) == b"served"
            before = peak_memory(server.pid)
            client.sendall(b"pour")
            assert stuck.wait(PATIENCE)
            assert greeted(port) == b"served"
            assert peak_memory(server.pid) - before < 8 * MIB


def greeted(port: int) -> bytes:
    """Send a greeting and return the answer."""
    with connect(port) as client:
        client.sendall(b"hello")
        return read_all(client)


# -- streams that are cut


def resetting(sock: Any) -> None:
    """Reset the connection in the middle of an answer."""
    sock.sendall(b"half an ans")
    if sock.recv(100) == b"question":
        reset(sock)


def untold(sock: Any) -> None:
    """End the TCP stream without close_notify."""
    sock.recv(100)
    sock.sendall(b"half an ans")
    sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("near", "kind", "behaviour", "why"),
    [
        ("tcp", "tcp", resetting, "connection reset by peer"),
        ("tls", "tls", resetting, "connection reset by peer"),
        ("tcp", "tls", untold, "close_notify"),
        ("tls", "tls", untold, "close_notify"),
    ],
    ids=["reset", "reset under tls", "tls without its end to tcp", "tls without its end to tls"],
)
def test_a_short_answer_never_looks_whole(
    near: str, kind: str, behaviour: Any, why: str, pki: Pki, tmp_path: Path
) -> None:
    """The client gets the part that was received and then a reset, and one line on stderr names the target."""
    ours = pki.good.options() if near == "tls" else ()
    theirs = ["--cafile", pki.ca] if kind == "tls" else []
    listen = f"tls:{HERE}" if near == "tls" else HERE
    with (
        target(kind, behaviour, pki, tmp_path) as there,
        running("relay", listen, there.address, *ours, *theirs) as server,
        connect(server.port) as bare,
        secured_by(pki, bare) if near == "tls" else bare as client,
    ):
        if behaviour is resetting:
            assert client.recv(100) == b"half an ans"
        client.sendall(b"question")
        assert until_reset(client) == (b"" if behaviour is resetting else b"half an ans")
        (line,) = server.terminate().complaints
        assert re.search(why, line) and there.address in line
        assert line.startswith("netkit relay: ")


@pytest.mark.parametrize("data", [b"", b"hello"], ids=["silent", "talking"])
def test_a_target_that_refuses_resets_the_client(data: bytes) -> None:
    """If the target refuses, the client is reset, and one line says why."""
    there = f"127.0.0.1:{free_port()}"
    with running("relay", HERE, there) as server:
        assert is_reset(server.port, data)
        (line,) = server.terminate().complaints
        assert re.search(rf"cannot connect to {there}: connection refused", line)


class Hearing:
    """A target that reads to the end; ``came`` is set once it has received something."""

    def __init__(self) -> None:
        self.came = threading.Event()

    def __call__(self, sock: socket.socket) -> bytes:
        data = sock.recv(100)
        self.came.set()
        return data + read_all(sock)


@pytest.mark.parametrize("near", ["tcp", "tls"])
def test_a_client_that_is_cut_resets_the_target(near: str, pki: Pki) -> None:
    """A client's reset, or an end of TLS without close_notify, resets the target, and TCP's is not reported."""
    hearing = Hearing()
    listen = (f"tls:{HERE}", *pki.good.options()) if near == "tls" else (HERE,)
    with (
        peer(hearing) as there,
        running("relay", listen[0], there.address, *listen[1:]) as server,
        connect(server.port) as bare,
        secured_by(pki, bare) if near == "tls" else bare as client,
    ):
        client.sendall(b"half a ques")
        assert hearing.came.wait(PATIENCE)
        if near == "tls":
            client.shutdown(socket.SHUT_WR)
        else:
            reset(client)
        assert isinstance(there.result(), ConnectionResetError)
        assert near == "tls" or server.terminate().complaints == []


def test_a_plain_client_of_tls_never_reaches_the_target(pki: Pki) -> None:
    """The target is only connected once the client's handshake is done, and other clients are served."""
    words = pki.good.options()
    with peer(answering) as there, running("relay", f"tls:{HERE}", there.address, *words) as server:
        port = server.port
        with connect(port) as silent, connect(port) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                read_all(plain)
            client = ("connect", f"tls:127.0.0.1:{port}", "--cafile", pki.ca, "--shutdown-after", "0")
            done = netkit(*client, input=b"hello")
            assert done.code == 0
            check_same(done.out, OTHER)
            assert there.result() == b"hello"
            assert there.results.empty()
            silent.close()


def test_a_target_with_a_bad_certificate_gets_no_byte(pki: Pki, tmp_path: Path) -> None:
    """If the target's certificate is not trusted, the client is reset, one line says why, and no data is sent."""
    with target("tls", read_all, pki, tmp_path) as there, running("relay", HERE, there.address) as server:
        assert is_reset(server.port, b"a secret")
        assert isinstance(there.result(), OSError)
        (line,) = server.terminate().complaints
        assert f"cannot trust {there.address}: issuer " in line


# -- relay loops


@pytest.mark.parametrize("how", ["literal", "name", "wildcard", "mapped", "tls"])
def test_a_relay_to_itself_ends_at_once(how: str) -> None:
    """A relay to itself resets its client, says why, and does not open connections without end."""
    port = free_port()
    listen, there = {
        "literal": (f"127.0.0.1:{port}", f"127.0.0.1:{port}"),
        "name": (f"{port}", f"localhost:{port}"),
        "wildcard": (f":{port}", f":{port}"),
        "mapped": (f"{port}", f"[::ffff:127.0.0.1]:{port}"),
        "tls": (f"127.0.0.1:{port}", f"tls:127.0.0.1:{port}"),
    }[how]
    with running("relay", listen, there, "--stats") as server:
        server.line("listening")
        with socket.create_connection(("127.0.0.2" if how == "wildcard" else "127.0.0.1", port)) as client:
            assert until_reset(client) == b""
        *lines, last = server.terminate().complaints
        assert lines and any("that is this relay itself" in line for line in lines)
        assert json.loads(last)["connections"] <= 4


@pytest.mark.parametrize("spelling", ["same", "other", "link"])
def test_a_unix_relay_to_itself(spelling: str, tmp_path: Path) -> None:
    """The same path is a usage error; another spelling of it is detected with the first client."""
    path = tmp_path / "s"
    (tmp_path / "link").symlink_to(path)
    there = {"same": path, "other": f"{tmp_path}/./s", "link": tmp_path / "link"}[spelling]
    if spelling == "same":
        done = netkit("relay", f"unix:{path}", f"unix:{there}")
        assert (done.code, done.err) == (2, f"netkit relay: unix:{path} is this relay itself\n")
        assert not path.exists()
        return
    with running("relay", f"unix:{path}", f"unix:{there}", "--stats") as server, socket.socket(socket.AF_UNIX) as one:
        server.line("listening")
        one.settimeout(PATIENCE)
        one.connect(str(path))
        assert one.recv(10) == b""
        *lines, last = server.terminate().complaints
        assert lines and all("that is this relay itself" in line for line in lines)
        assert json.loads(last)["connections"] <= 4


def test_a_ring_of_two_is_capped() -> None:
    """Two relays to each other open --max-conns connections at most, and then wait without spinning."""
    port = free_port()
    with (
        running("relay", HERE, f"127.0.0.1:{port}", "--max-conns", "10", "-w", "1h", real=True) as one,
        running("relay", f"127.0.0.1:{port}", f"127.0.0.1:{one.port}", "--max-conns", "10", "-v", real=True) as two,
    ):
        two.line("listening")
        with connect(port):
            for _ in range(10):
                two.line("connection from")
            for each in (one, two):
                settle(each)  # a process that spins would never settle
            two.signal(signal.SIGTERM)
            wait_for_refusal(port)
            two.signal(signal.SIGTERM)  # the second signal skips the drain
            assert died_by(two.wait()) is signal.SIGTERM
        assert len(re.findall(r"connection from \S+:\d+$", two.finish().err, re.MULTILINE)) == 10


# -- options


def test_idle_clock_resets_both() -> None:
    """--idle-timeout resets both sides of an idle connection, and the relay goes on."""
    with serving("--idle-timeout", "1s", "-v") as (server, there):
        port = server.port
        with connect(port) as client:
            client.sendall(b"half a ques")
            assert until_reset(client) == b""
        assert isinstance(there.result(), ConnectionResetError)
        check_same(exchange(port, b"hello"), OTHER)
        server.line("nothing moved for 1 s")


def test_until() -> None:
    """--until ends the relay with 0, once the data of a client matches; the data is passed on."""
    with serving("--until", "bye") as (server, there):
        check_same(exchange(server.port, b"good bye"), OTHER)
        assert there.result() == b"good bye"
        assert server.wait() == 0


def test_a_greeting_and_a_command(tmp_path: Path) -> None:
    """COMMAND gets the address, its exit code is returned, and --greet is sent before the target's data."""
    code = (
        "import os, socket, sys; s = socket.create_connection((os.environ['NETKIT_HOST'], os.environ['NETKIT_PORT']));"
        "s.shutdown(1); data = s.makefile('rb').read(); s.close();"
        "sys.exit(7 if data[:3] == b'hi ' and len(data) > 9 else 1)"
    )
    with peer(answering) as there:
        done = netkit("relay", HERE, there.address, "-q", "--greet", "hi ", "--", sys.executable, "-c", code)
        assert done == (7, b"", "")
        assert there.result() == b""


def test_what_is_told_in_json(tmp_path: Path) -> None:
    """--json and --stats count connections and bytes of clients, and --log has the data of the client's side."""
    log = tmp_path / "log"
    with serving("--json", "--stats", "--once", "--log", str(log)) as (server, _):
        listening = json.loads(server.line("listening")[0] and server.said[-1])
        check_same(exchange(listening["local_port"], b"hello"), OTHER)
        assert server.wait() == 0
        told = [json.loads(line) for line in server.finish().err.splitlines()]
    assert {each["command"] for each in told} == {"relay"}
    *_, last = told
    assert last["event"] == "stats" and last["connections"] == 1
    assert (last["bytes_received"], last["bytes_sent"]) == (5, len(OTHER))
    records = read_log(log)
    assert (records[0]["direction"], records[0]["text"]) == ("received", "hello")
    assert {each["direction"] for each in records[1:]} == {"sent"}


def test_a_cut_is_told_in_json() -> None:
    """With --json a target that refuses is an event with the client and the reason."""
    with running("relay", HERE, f"127.0.0.1:{free_port()}", "--json") as server:
        server.line("listening")
        assert is_reset(json.loads(server.said[-1])["local_port"])
        server.line('"event": "cut"')
        told = json.loads(server.said[-1])
        assert told["peer_address"] == "127.0.0.1" and "connection refused" in told["reason"]


def test_hexdump() -> None:
    """--hexdump shows the bytes of both directions."""
    with serving("--hexdump", "--once", behaviour=lambda sock: sock.sendall(sock.recv(9).upper())) as (server, _):
        assert exchange(server.port, b"hello") == b"HELLO"
        said = server.finish().err
    assert re.search(r"^< .* 5 B$", said, re.MULTILINE) and "hello" in said
    assert re.search(r"^> .* 5 B$", said, re.MULTILINE) and "HELLO" in said


def test_drain_resets_the_rest() -> None:
    """Clients that are still connected a second after a signal are reset on both sides."""
    hearing = Hearing()
    with serving(behaviour=hearing) as (server, there), connect(server.port) as client:
        client.sendall(b"half a ques")
        assert hearing.came.wait(PATIENCE)
        server.signal(signal.SIGTERM)
        assert until_reset(client) == b""
        assert isinstance(there.result(), ConnectionResetError)
        assert died_by(server.wait()) is signal.SIGTERM
