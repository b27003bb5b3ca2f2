"""``connect --telnet`` with other telnet servers, and ``listen --telnet`` with other telnet clients."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import NETKIT, PATIENCE, peer, running
from tests.support.forkserver import Process
from tests.support.processes import HERE, tool
from tests.support.terminals import terminal

LOGIN = """#!/bin/sh
echo "type $TERM is ready"
while read -r line && [ "$line" != bye ]; do
    echo "got <$line> on $(stty size)."
done
"""


@pytest.fixture(params=["telnetd", "busybox"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Run a telnetd for each client, as inetd does, with a script instead of login."""
    login = tmp_path / "login"
    login.write_text(LOGIN)
    login.chmod(0o755)
    argv = {
        "telnetd": lambda: [tool("telnetd"), "-E", str(login)],
        "busybox": lambda: [busybox("telnetd"), "telnetd", "-i", "-l", str(login)],
    }[request.param]()

    def serve(sock: socket.socket) -> int:
        environment = {**os.environ, "TERM": "none"}  # which a telnetd keeps that does not ask for the type
        return subprocess.run(argv, stdin=sock, stdout=sock, stderr=subprocess.DEVNULL, env=environment).returncode

    with peer(serve) as there:
        yield there


def busybox(applet: str) -> str:
    """Return the path of busybox, and skip the test if it lacks the applet."""
    path = tool("busybox")
    if applet not in subprocess.run([path, "--list"], capture_output=True, text=True).stdout.split():
        pytest.skip(f"busybox has no {applet}")
    return path


def read_until(fd: int, words: bytes) -> bytes:
    """Read what is written to a terminal until these words are in it."""
    shown = b""
    while words not in shown:
        shown += os.read(fd, 1000)
    return shown


def test_a_telnetd_on_a_terminal(server: Any) -> None:
    """telnetd gets the type and size of the terminal and the typed lines, which are echoed; its end ends connect."""
    with terminal() as (ours, theirs):
        environment = {**os.environ, "TERM": "vt220"}
        argv = [*NETKIT, "connect", server.address, "--telnet"]
        process = Process(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        before = read_until(ours, b" is ready")
        assert b"\xff" not in before
        asked = b"type vt220 " in before
        assert asked or b"type none " in before
        os.write(ours, b"hello there\n")
        shown = read_until(ours, b"got <hello there> on 30 100.")
        echoes = shown.count(b"hello there") - 1
        assert echoes == (1 if asked else 2)  # busybox also echoes if it was asked not to
        os.write(ours, b"bye\n")
        assert process.wait(PATIENCE) == 0
        server.result()


def test_a_telnetd_from_a_pipe(server: Any) -> None:
    """Without a terminal lines are exchanged with telnetd, with --no-shutdown as it ends at a half-close.

    telnetd offers to echo, and again when it has our refusal, which may be amid the conversation. A refusal that comes
    when it has left gets a reset, so two lines are exchanged: the second line's answer comes after both offers.
    """
    with running("connect", server.address, "--telnet", "--no-shutdown", "-C") as client:
        came = b""
        for line in (b"hello there", b"and again"):
            client.stdin.write(line + b"\n")
            client.stdin.flush()
            while b"got <" + line not in came:
                came += client.out.readline()
        assert b"\xff" not in came
        client.stdin.write(b"bye\n")
        client.stdin.close()
        client.read_all()
        assert client.finish() == (0, b"", "")


@pytest.mark.parametrize("name", ["inetutils-telnet", "busybox"])
def test_their_client(name: str) -> None:
    """A telnet client exchanges data with listen, which removes the negotiation and escapes 0xff."""
    with running("listen", HERE, "--telnet") as listener, terminal() as (ours, theirs):
        argv, typed = {
            # A hyphen before the port makes it negotiate from the beginning.
            "inetutils-telnet": lambda: ([tool("inetutils-telnet")], f"open 127.0.0.1 -{listener.port}\n"),
            "busybox": lambda: ([busybox("telnet"), "telnet", "127.0.0.1", str(listener.port)], ""),
        }[name]()
        with running(argv=argv, stdin=theirs, stdout=theirs, stderr=theirs) as client:
            os.write(ours, typed.encode())
            read_until(ours, b"Connected to 127.0.0.1")
            listener.stdin.write(b"name? 100 % \xff ")
            listener.stdin.flush()
            read_until(ours, b"name? 100 % \xff ")
            os.write(ours, b"me \xff\n")
            assert listener.out.readline() in (b"me \xff\r\n", b"me \xff\n")
            listener.stdin.close()
            read_until(ours, b"Connection closed by foreign host")
            client.wait()
        assert listener.wait() == 0
