"""How conversations end: when our end is sent, what a peer's end means, and how peers that left are detected."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import NETKIT, Finished, Running, jam, netkit, peer, read_all, reset, running
from tests.support.certificates import Pki
from tests.support.data import DATA, check_same
from tests.support.namespaces import separate
from tests.support.peers import address, connect, is_silent, push
from tests.support.processes import HERE, children, descriptors, settle, sound
from tests.support.secured import Secured
from tests.support.terminals import terminal

# -- when our end is sent


@pytest.mark.parametrize(
    ("options", "code", "out"),
    [
        (["--send", "ruok"], 0, b""),
        (["--send", "ruok", "--until", "imok"], 0, b"imok"),
        (["--send", "ruok", "--max-bytes", "4"], 0, b"imok"),
        (["--send", "ruok", "--no-shutdown"], 0, b"imok"),
        (["--send", "ruok", "--shutdown-after", "1h"], 0, b"imok"),
        (["--send", "ruok", "--max-bytes", "5"], 8, b"imok"),
        (["--send", "ruok", "--until", "none"], 8, b"imok"),
        (["--send", "ruok", "--until", "imok", "--shutdown-after", "0"], 8, b""),
    ],
)
def test_a_server_that_drops_who_half_closes(options: list[str], code: int, out: bytes) -> None:
    """If an option asks for an answer, our end is sent after it; otherwise at once, as usual for TCP.

    ZooKeeper, for example, drops clients that half-close. An answer that is too short is exit code 8.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        process = stack.enter_context(running("connect", address(server), *options, stdin=subprocess.DEVNULL))
        client = stack.enter_context(server.accept()[0])
        assert client.recv(4) == b"ruok"
        settle(process)
        if is_silent(client):
            client.sendall(b"imok")
        client.close()
        done = process.finish()
    assert (done.code, done.out) == (code, out)


@pytest.mark.parametrize("options", [["--until", "none"], ["--max-bytes", "9"]], ids=lambda options: options[0])
def test_what_did_not_come_is_one_line(options: list[str]) -> None:
    """If the peer ends before the wanted answer, there is one line, without another one for the open input."""

    def answer(sock: socket.socket) -> None:
        assert sock.recv(3) == b"one"
        sock.sendall(b"hello")

    with peer(answer) as server, running("connect", server.address, *options) as process:
        process.stdin.write(b"one")
        assert process.read_all() == b"hello"
        assert process.wait() == 8
        sound(process.finish(), 8)


# -- what the peer's end means


def forgetful() -> list[str]:
    """Return a wrapper for a network whose system forgets closed connections at once, not after 60 s."""
    return separate("ip link set lo up", "echo 0 > /proc/sys/net/ipv4/tcp_fin_timeout")


@pytest.mark.parametrize("options", [[], ["--hold"], ["--send-only"]], ids=["pipe", "hold", "send-only"])
@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_nobody_waits_for_somebody_who_left(way: str, options: list[str], tmp_path: Path) -> None:
    """A peer that closed is detected by a probe, which is answered by a reset; the exit code is 0."""
    script = """
import socket, subprocess, sys, time
way, netkit = sys.argv[1], sys.argv[2:]
server = socket.create_server(("127.0.0.1", 0)) if way == "tcp" else socket.socket(socket.AF_UNIX)
if way == "unix":
    server.bind("s")
    server.listen()
address = "127.0.0.1:%d" % server.getsockname()[1] if way == "tcp" else "unix:s"
process = subprocess.Popen([*netkit, address], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
process.stdin.write(b"x")
process.stdin.flush()
peer, _ = server.accept()
peer.recv(1)
peer.close()
print(process.wait(30), process.stderr.read())
"""
    argv = [*forgetful(), sys.executable, "-c", script, way, *NETKIT, "connect", *options]
    done = subprocess.run(argv, capture_output=True, cwd=tmp_path, timeout=60)
    assert done.stdout.startswith(b"0 b"), done


def test_a_relay_lets_go_of_who_left() -> None:
    """A relay detects clients that closed while their target stays open, and closes their descriptors."""
    script = """
import os, socket, subprocess, sys
target = socket.create_server(("127.0.0.1", 0), backlog=64)
argv = [*sys.argv[1:], "127.0.0.1:%d" % target.getsockname()[1]]
relay = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
port = int(relay.stderr.readline().decode().rsplit(":", 1)[1])
descriptors = lambda: len(os.listdir(f"/proc/{relay.pid}/fd"))
before = descriptors()
quiet = socket.create_connection(("127.0.0.1", port))
far, _ = target.accept()
kept = []
for _ in range(20):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.send(b"x")
        kept.append(target.accept()[0])
        assert kept[-1].recv(1) == b"x"
    assert kept[-1].recv(1) == b""
for one in kept:
    try:
        assert one.recv(1) == b""
    except ConnectionResetError:
        pass
while descriptors() > before + 2:
    os.sched_yield()
far.send(b"still here")
assert quiet.recv(10) == b"still here"
relay.terminate()
relay.wait()
print("gone")
"""
    argv = [*forgetful(), sys.executable, "-c", script, *NETKIT, "relay", HERE]
    done = subprocess.run(argv, capture_output=True, timeout=60)
    assert done.stdout == b"gone\n", done


def test_a_peer_that_half_closed_is_kept() -> None:
    """A peer that only half-closed answers the probe, and is kept until our input ends."""
    script = """
import os, socket, subprocess, sys
server = socket.create_server(("127.0.0.1", 0))
argv = [*sys.argv[1:], "127.0.0.1:%d" % server.getsockname()[1]]
process = subprocess.Popen(argv, stdin=subprocess.PIPE)
peer, _ = server.accept()
peer.shutdown(socket.SHUT_WR)
def probes():
    names, values = (line.split() for line in open("/proc/net/netstat") if line.startswith("TcpExt:"))
    return int(values[names.index("TCPKeepAlive")])
while not probes():
    assert process.poll() is None
    os.sched_yield()
process.stdin.write(b"late")
process.stdin.close()
data = b""
while chunk := peer.recv(10):
    data += chunk
print(process.wait(), data)
"""
    argv = [*forgetful(), sys.executable, "-c", script, *NETKIT, "connect"]
    done = subprocess.run(argv, capture_output=True, timeout=60)
    assert done.stdout == b"0 b'late'\n", done


# -- resets, also while both directions are blocked


def flood(where: str, server: Running) -> None:
    """Send to an address without reading until no more is taken, then reset."""
    host, _, port = where.rpartition(":")
    sock = socket.socket(socket.AF_UNIX if host == "unix" else socket.AF_INET)
    sock.connect(port if host == "unix" else (host, int(port)))
    push(sock.fileno(), server)
    sock.close() if host == "unix" else reset(sock)


@pytest.mark.parametrize("how", ["exec", "exec unix", "relay", "relay unix", "relay to tls", "echo"])
def test_hostile_clients_leave_nothing_behind(how: str, tmp_path: Path, pki: Pki) -> None:
    """Clients that flood, never read and reset leave no programs and descriptors, and the next client is served."""
    where = f"unix:{tmp_path}/s" if "unix" in how else HERE
    with contextlib.ExitStack() as stack:
        words = ["echo", where]
        if how.startswith("exec"):
            words = ["listen", where, "--keep", "--exec", "cat"]
        elif how.startswith("relay"):
            tls = "tls:" if "tls" in how else ""
            echo = stack.enter_context(running("echo", f"{tls}{HERE}", *(pki.good.options() if tls else ())))
            words = ["relay", where, f"{tls}127.0.0.1:{echo.port}", *(["--cafile", pki.ca] if tls else [])]
        server = stack.enter_context(running(*words))
        at = server.line(r"listening on (\S+)$")[1]
        before = descriptors(server.pid)
        for _ in range(3):
            flood(at, server)
        wait_until(lambda: descriptors(server.pid) <= before and not children(server.pid))
        assert netkit("connect", at, input=b"next") == Finished(0, b"next", "")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, by polling; the time-out of the test limits it."""
    while not condition():
        os.sched_yield()


def test_hostile_targets_leave_nothing_behind() -> None:
    """A target that floods, never reads and resets leaves no descriptors in a relay, and ends connect --exec."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        with running("relay", HERE, address(target)) as server:
            port = server.port
            before = descriptors(server.pid)
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    far = target.accept()[0]
                    push(far.fileno(), server)
                    push(client.fileno(), server)
                    reset(far)
                    wait_until(lambda: descriptors(server.pid) <= before)
        with running("connect", address(target), "--exec", "cat") as program:
            far = target.accept()[0]
            push(far.fileno(), program)
            reset(far)
            assert program.wait() in (55, 56)


@pytest.mark.fault("urgent data")
@pytest.mark.parametrize("way", ["connect to pipe", "connect to file", "listen to file"])
def test_urgent_data_passes_in_its_place(way: str, tmp_path: Path) -> None:
    """A byte sent as urgent data, which splice stops at, is passed on in its place."""

    def send(sock: socket.socket) -> None:
        sock.sendall(DATA * 14)
        sock.send(b"!", socket.MSG_OOB)
        sock.sendall(DATA)
        sock.shutdown(socket.SHUT_WR)
        read_all(sock)

    command, _, sink = way.split()
    with peer(send) as server, contextlib.ExitStack() as stack:
        stdout = stack.enter_context((tmp_path / "out").open("w+b")) if sink == "file" else subprocess.PIPE
        at = server.address if command == "connect" else "127.0.0.1:0"
        process = stack.enter_context(running(command, at, stdin=subprocess.DEVNULL, stdout=stdout))
        if command == "listen":
            with connect(process.port) as client:
                send(client)
        data = process.read_all() if sink == "pipe" else b""
        assert process.wait() == 0
    check_same(data or (tmp_path / "out").read_bytes(), DATA * 14 + b"!" + DATA)


# -- a stdin with several readers


def test_two_who_read_one_stdin_block_nobody() -> None:
    """Two processes that read the same pipe do not block each other, and a signal ends one of them at once."""
    reader, writer = os.pipe()
    with contextlib.ExitStack() as stack:
        stdin = stack.enter_context(open(reader, "rb"))
        pipe = stack.enter_context(open(writer, "wb", buffering=0))
        clients = []
        for _ in range(2):
            server = stack.enter_context(peer(read_all))
            clients.append(stack.enter_context(running("connect", server.address, "-v", stdin=stdin)))
            clients[-1].line("connected to")
        for number in range(300):
            pipe.write(b"%03d\n" % number)
        clients[0].signal(signal.SIGTERM)
        assert clients[0].wait() == -signal.SIGTERM
        pipe.close()
        assert clients[1].wait() == 0


# -- Ctrl-C while stdin is a terminal


@pytest.mark.parametrize("words", ["connect", "connect --reconnect 10s", "listen"])
def test_ctrl_c_ends_what_was_typed(words: str) -> None:
    """Ctrl-C ends typed input: the peer sees an end and no reset, and netkit dies by the signal."""
    with terminal() as (keyboard, stdin), contextlib.ExitStack() as stack:
        command, *options = words.split()
        if command == "connect":
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            process = stack.enter_context(running("connect", address(listener), *options, stdin=stdin))
            there = stack.enter_context(listener.accept()[0])
        else:
            process = stack.enter_context(running("listen", HERE, stdin=stdin))
            there = stack.enter_context(connect(process.port))
        os.write(keyboard, b"typed\n")
        assert there.recv(6) == b"typed\n"
        process.signal(signal.SIGINT)
        assert there.recv(1) == b""
        there.close()
        assert process.wait() == -signal.SIGINT


def test_ctrl_c_ends_what_all_clients_get() -> None:
    """Ctrl-C on the terminal of listen --keep ends the input of its clients, which can then end too."""
    with terminal() as (keyboard, stdin), running("listen", HERE, "--keep", "-v", stdin=stdin) as server:
        port = server.port
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        for _ in clients:
            server.line("connection from")
        os.write(keyboard, b"hello\n")
        for client in clients:
            assert client.recv(6) == b"hello\n"
        server.signal(signal.SIGINT)
        for client in clients:
            assert client.recv(1) == b""
            client.close()
        assert server.wait() == -signal.SIGINT


# -- replies with the address of the client


def test_a_reply_names_its_client() -> None:
    """{host} and {port} in --reply are the client's, and {{ is a literal brace."""
    with running("listen", HERE, "--reply", "Hello {host} {port} {{host}\\n", "--max-clients", "1") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            ours = client.getsockname()[1]
            assert read_all(client) == b"Hello 127.0.0.1 %d {host}\n" % ours
        assert server.wait() == 0


def test_portcheck_hears_a_rejection_after_the_handshake(pki: Pki) -> None:
    """portcheck sees a TLS 1.3 alert for a missing client certificate after the handshake (35)."""
    with running("listen", f"tls:{HERE}", "--keep", *pki.good.options(), "--cafile", pki.ca) as server:
        target = f"tls:127.0.0.1:{server.port}"
        for options in ([], ["--settle", "1s"]):
            done = netkit("portcheck", target, "--cafile", pki.ca, *options)
            assert done.code == 35
            assert b"certificate_required" in done.out
        done = netkit("portcheck", target, "--cafile", pki.ca, *pki.client.options())
        assert (done.code, b"open" in done.out) == (0, True)


# -- --reconnect


def test_reconnect_goes_on_with_the_first_line_that_was_not_acknowledged() -> None:
    """--reconnect connects again after a reset or an end, and every line of stdin arrives."""

    def take(server: socket.socket, wanted: bytes) -> socket.socket:
        client = server.accept()[0]
        assert client.recv(len(wanted), socket.MSG_WAITALL) == wanted
        return client

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        running("connect", address(server), "--reconnect", "10s") as process,
    ):
        process.stdin.write(b"one\ntwo\n")
        reset(take(server, b"one\ntwo\n"))
        process.line(r"connection reset by peer .*; connecting again$")
        process.stdin.write(b"three\n")
        client = take(server, b"three\n")
        client.sendall(b"bye")
        client.close()
        process.line("the peer ended; connecting again$")
        process.stdin.write(b"four\n")
        process.stdin.close()
        client = take(server, b"four\n")
        assert client.recv(1) == b""
        client.close()
        assert process.wait() == 0
        assert process.read_all() == b"bye"


def test_reconnect_sends_again_what_was_never_read() -> None:
    """After a reset the unread bytes are sent again, from the start of the first lost line."""
    lines = b"".join(b"%07d\n" % number for number in range(1_000_000))
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        running("connect", address(server), "--reconnect", "10s") as process,
    ):
        feeder = threading.Thread(target=lambda: (process.stdin.write(lines), process.stdin.close()))
        feeder.start()
        first = server.accept()[0]
        seen = first.recv(1000, socket.MSG_WAITALL)
        jam(first)
        reset(first)
        process.line("connecting again")
        second = server.accept()[0]
        rest = read_all(second)
        second.close()
        feeder.join()
        assert process.wait() == 0
    assert seen == lines[:1000]
    assert rest and lines.endswith(rest)
    assert rest[7:8] == b"\n", "it goes on at the beginning of a line"


def test_reconnect_gives_up_after_its_time() -> None:
    """If the server does not come back in time, the exit code is 28, with the last reason."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        running("connect", address(server), "--reconnect", "300ms") as process,
    ):
        process.stdin.write(b"x\n")
        client = server.accept()[0]
        assert client.recv(2) == b"x\n"
        server.close()
        reset(client)
        assert process.wait() == 28
        process.line(r"still (connection refused|no answer within \S+ m?s) after 300 ms")


@pytest.mark.parametrize("instead", ["an end in the handshake", "a reset in the handshake", "nobody behind a proxy"])
def test_reconnect_goes_on_until_its_server_is_back(instead: str, pki: Pki) -> None:
    """--reconnect tries again after an end without close_notify, and while another accepts in place of the server."""
    proxied = "proxy" in instead
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        way = ["localhost:9", "--proxy", f"http://{address(server)}"] if proxied else [address(server)]
        words = ("connect", "--tls", *way, "--cafile", pki.ca, "--reconnect", "20s")
        process = stack.enter_context(running(*words, "--shutdown-after", "0"))

        def take(line: bytes) -> Secured:
            client = stack.enter_context(server.accept()[0])
            if proxied:
                assert client.recv(1000).startswith(b"CONNECT ")
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            secured = Secured(client, pki.server()).do_handshake()
            process.stdin.write(line)
            assert secured.read_exactly(len(line)) == line
            return secured

        first = take(b"one\n")
        first.send(b"and")
        first.sock.close()
        process.line(r"it ended without close_notify .*; connecting again$")
        for _ in range(2):
            client = server.accept()[0]
            assert client.recv(1000)
            reset(client) if "reset" in instead else client.close()
        last = take(b"two\n")
        process.stdin.close()
        assert last.read_all() == b""
        last.end()
        assert process.finish().code == 0


@pytest.mark.parametrize(
    ("patience", "then", "code", "reason"),
    [
        ("300ms", "ends", 28, r"cannot secure .*: still (the peer ended in|connection reset|no answer).* after 300 ms"),
        ("1h", "has an expired certificate", 60, "certificate has expired"),
    ],
)
def test_reconnect_says_why_its_server_is_not_back(patience: str, then: str, code: int, reason: str, pki: Pki) -> None:
    """A server that ends every handshake is exit code 28 with this reason; one with another certificate is 60."""
    contexts = [pki.server()]

    def behave(sock: socket.socket) -> None:
        if contexts:
            with contextlib.suppress(ssl.SSLError):
                Secured(sock, contexts.pop()).do_handshake()
            reset(sock)

    with peer(behave) as server:
        words = ("connect", f"tls:{server.address}", "--cafile", pki.ca, "--reconnect", patience)
        with running(*words) as process:
            process.line("connecting again$")
            if "certificate" in then:
                contexts.append(pki.server(pki.bad("expired")))
            assert process.wait() == code
            process.line(reason)
