"""Blocked outputs, runaway patterns and stubborn programs: a signal still ends netkit, and clients are served."""

import contextlib
import os
import re
import signal
import socket
import sys
import termios
from collections.abc import Iterator

import pytest

from tests.support import died_by, exchange, free_port, netkit, peer, reset, running
from tests.support.peers import connect, echo, outlast, read_all, receive, say_some, udp
from tests.support.processes import HERE, Running, settle
from tests.support.terminals import terminal

RUNAWAY = "(a+)+$"
BAIT = b"a" * 40 + b"b"


@contextlib.contextmanager
def full(kind: str) -> Iterator[int]:
    """Yield the writing end of a full pipe or terminal."""
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            ends = os.pipe()
            for end in ends:
                stack.callback(os.close, end)
            writing = ends[1]
        else:
            _, writing = stack.enter_context(terminal())
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(4096) if kind == "pipe" else b"x")
        if kind == "terminal":  # the system may still move written bytes, and so make room
            termios.tcflow(writing, termios.TCOOFF)
        os.set_blocking(writing, True)
        yield writing


def dies(process: Running) -> None:
    """Send SIGTERM once the process is idle, and check that it dies by it."""
    settle(process)
    process.signal(signal.SIGTERM)
    assert died_by(process.wait()) is signal.SIGTERM


def served(port: int) -> socket.socket:
    """Connect to a server that cannot print its ready line."""
    while True:
        try:
            return connect(port)
        except ConnectionRefusedError:
            os.sched_yield()


def begin_a_page(sock: socket.socket) -> None:
    """Send the beginning of a page, then nothing."""
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    say_some(sock)


kinds = pytest.mark.parametrize("kind", ["pipe", "terminal"])
talks = pytest.mark.parametrize(("talk", "kind"), [("-vvv", "terminal"), ("--json", "pipe")])


# -- stderr


@talks
@pytest.mark.parametrize("name", ["echo", "upper", "relay", "listen"])
def test_server_whose_stderr_takes_nothing(name: str, talk: str, kind: str) -> None:
    """A server whose stderr is full still serves clients, also several at a time, and dies by a signal."""
    with full(kind) as stderr, peer(echo) as target:
        port = free_port()
        words = {"relay": [target.address], "listen": ["--keep", "--exec", "cat"]}.get(name, [])
        with running(name, f"127.0.0.1:{port}", *words, talk, stderr=stderr) as server:
            with served(port) as first:
                first.sendall(b"A")
                assert receive(first, 1) == b"A"
                for _ in range(3):
                    assert exchange(port, b"B" * 5000) == b"B" * 5000
            dies(server)


@talks
@pytest.mark.parametrize("words", [["echo", "--udp"], ["upper", "--udp"], ["udp-serve", "--reply-with", "echo"]])
def test_datagrams_while_stderr_takes_nothing(words: list[str], talk: str, kind: str) -> None:
    """A server of datagrams whose stderr is full still answers each datagram."""
    with full(kind) as stderr, udp() as client:
        port = free_port()
        with running(words[0], f"127.0.0.1:{port}", *words[1:], talk, "--deny", "127.0.0.2", stderr=stderr) as server:
            settle(server)
            with socket.socket(type=socket.SOCK_DGRAM) as denied:
                denied.bind(("127.0.0.2", 0))
                for _ in range(5):
                    denied.sendto(b"A", ("127.0.0.1", port))
                    client.sendto(b"A", ("127.0.0.1", port))
                    assert client.recv(10) == b"A"
            dies(server)


@talks
@pytest.mark.parametrize("name", ["connect", "fetch", "portcheck", "udp-send", "resolve"])
def test_client_whose_stderr_takes_nothing(name: str, talk: str, kind: str) -> None:
    """A client whose stderr is full still works, and dies by a signal."""
    with full(kind) as stderr, peer(say_some) as server, peer(begin_a_page) as site, udp() as silent:
        port = silent.getsockname()[1]
        words = {
            "connect": [server.address, "--stats"],
            "fetch": [f"http://{site.address}/"],
            "portcheck": [f"127.0.0.1:{free_port()}", "--wait", "1h", "--interval", "10ms"],
            "udp-send": ["127.0.0.1", str(port), "x", "--wait", "1h"],
            "resolve": ["h.test", "--server", f"127.0.0.1:{port}", "-w", "1h"],
        }[name]
        if (name, talk) == ("portcheck", "--json"):
            words.append("-vv")
        with running(name, *words, talk, stderr=stderr) as process:
            if name in ("connect", "fetch"):
                assert process.out.read(4) == b"some"
            elif name in ("udp-send", "resolve"):
                assert silent.recv(1000)
            dies(process)


def test_what_stderr_did_not_take_is_counted_once_it_does() -> None:
    """When stderr takes data again, the queued messages come first, and then the number of dropped ones."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reader, open(writing, "wb", buffering=0) as stderr:
        os.set_blocking(writing, False)
        while stderr.write(bytes(4096)):
            pass
        os.set_blocking(writing, True)
        port = free_port()
        with running("echo", f"127.0.0.1:{port}", "-v", stderr=stderr) as server:
            served(port).close()
            for _ in range(700):
                assert exchange(port, b"x") == b"x"
            text, told, dropped = b"", 0, None
            while dropped is None or told + int(dropped[1]) < 2 * 701:
                text += reader.read(65536).lstrip(b"\0")
                told = len(re.findall(b" connection from | closed after ", text))
                dropped = re.search(rb"netkit echo: (\d+) messages dropped: stderr took no more\n", text)
            assert told + int(dropped[1]) == 2 * 701
            assert text.startswith(b"netkit echo: listening on 127.0.0.1:%d\n" % port)
            assert text[dropped.end() :].count(b"\n") <= 1  # the last client may have ended after that
            dies(server)


# -- stdout


@kinds
@pytest.mark.parametrize("name", ["connect", "listen", "listen --keep", "udp-serve", "fetch", "portcheck", "resolve"])
def test_stdout_that_takes_nothing(name: str, kind: str) -> None:
    """If stdout is full, netkit waits for its reader, but dies by a signal."""
    data = b"HTTP/1.0 200 OK\r\n\r\n" + b"text\n" * 20  # no terminal gets binary data from fetch
    with full(kind) as stdout, peer(lambda sock: (sock.sendall(data), outlast(sock))) as server:
        port = free_port()
        words = {
            "connect": [server.address],
            "listen": [f"127.0.0.1:{port}"],
            "listen --keep": [f"127.0.0.1:{port}"],
            "udp-serve": [HERE],
            "fetch": [f"http://{server.address}/"],
            "portcheck": ["127.0.0.1:1-200", "--all", "--closed"],
            "resolve": ["127.0.0.1"],
        }[name]
        with running(*name.split(), *words, stdout=stdout) as process:
            if name.startswith("listen"):
                with served(port) as client:
                    client.sendall(data)
                    dies(process)
            elif name == "udp-serve":
                with udp() as client:
                    client.sendto(data, ("127.0.0.1", process.port))
                    dies(process)
            else:
                dies(process)


@kinds
@pytest.mark.parametrize(
    "words", [["--version"], ["help"], ["echo", HERE, "--print-port"], ["sockets", "--watch", "1s"]]
)
def test_answer_that_stdout_does_not_take(words: list[str], kind: str) -> None:
    """A command that only prints also dies by SIGTERM while stdout is full."""
    with full(kind) as stdout, running(*words, stdout=stdout) as process:
        if words[0] in ("echo", "sockets"):
            settle(process)
        process.signal(signal.SIGTERM)
        assert died_by(process.wait()) is signal.SIGTERM


# -- patterns


@pytest.mark.parametrize("words", [["--timeout", "1h"], ["--json"], ["--max-bytes", "1000"]])
def test_pattern_of_connect_that_runs_away(words: list[str]) -> None:
    """connect gives up with 8 if --until takes too long to match, and the message has the pattern."""
    with peer(lambda sock: (sock.sendall(BAIT), outlast(sock))) as server:
        done = netkit("connect", server.address, "--until", RUNAWAY, *words)
    assert done.code == 8
    assert f"cannot search what came: looking for '{RUNAWAY}' takes more than 200 ms" in done.err.splitlines()[-1]


@pytest.mark.parametrize("words", [[], ["--udp", "--send", "?"], ["--wait", "1s"]])
def test_pattern_of_portcheck_that_runs_away(words: list[str]) -> None:
    """If --expect takes too long to match, the verdict has the pattern, also in the last attempt of --wait."""
    with contextlib.ExitStack() as stack:
        if "--udp" in words:
            address = f"127.0.0.1:{stack.enter_context(running('udp-serve', HERE, '--reply', BAIT.decode())).port}"
        else:
            address = stack.enter_context(peer(lambda sock: (sock.sendall(BAIT), read_all(sock)))).address
        done = netkit("portcheck", address, "--expect", RUNAWAY, *words)
    assert done.code == (28 if "--wait" in words else 8)
    assert f"looking for '{RUNAWAY}' takes more than 200 ms" in done.err


@pytest.mark.parametrize("name", ["echo", "upper", "relay", "listen"])
def test_pattern_of_a_server_that_runs_away(name: str) -> None:
    """A client whose data makes --until take too long is reset; others are served, and a match ends the server."""
    with peer(echo) as target:
        words = {"relay": [target.address], "listen": ["--keep", "--exec", "cat"]}.get(name, [])
        with running(name, HERE, *words, "--until", f"{RUNAWAY}|bye") as server:
            port = server.port
            with connect(port) as other:
                with connect(port) as client:
                    client.sendall(BAIT)
                    server.line(r"connection from \S+ reset: cannot search what came: looking for '.*' takes more")
                    with contextlib.suppress(ConnectionResetError):
                        assert client.recv(100) in (b"", BAIT)
                other.sendall(b"X")
                assert receive(other, 1) == b"X"
                reset(other)
            assert exchange(port, b"bye")
            assert server.wait() == 0


def test_pattern_of_datagrams_that_runs_away() -> None:
    """A datagram that makes --until take too long is ignored, which -v reports; a later match ends the server."""
    with running("udp-serve", HERE, "--until", f"{RUNAWAY}|bye", "-v") as server, udp() as client:
        client.connect(("127.0.0.1", server.port))
        client.send(BAIT)
        server.line(r"datagram from \S+ ignored: cannot search what came: looking for '.*' takes more")
        client.send(b"bye")
        assert server.wait() == 0


# -- programs


STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setpgid(0, os.getpgid(os.getppid()))
print("here", flush=True)
signal.pause()
"""


def test_command_that_will_not_end() -> None:
    """A COMMAND that left its process group and ignores SIGTERM is killed after the drain."""
    command = [sys.executable, "-c", STUBBORN]
    with running("echo", HERE, "--", *command) as server:
        port = server.port
        assert server.out.readline() == b"here\n"
        server.signal(signal.SIGTERM)
        assert died_by(server.wait()) is signal.SIGTERM
        assert server.read_all() == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
