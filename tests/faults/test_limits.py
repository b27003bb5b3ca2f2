"""Little of what a process may have: memory, processes, and an interpreter that checks more, or less, than usual."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable

import pytest

from tests.support import exchange, netkit, peer, read_all, running
from tests.support.cgroups import limited
from tests.support.data import PATTERN, digest
from tests.support.peers import connect, receive
from tests.support.processes import HERE, sound

MEMORY = 64 << 20
BLOCK = bytes(1 << 20)


@pytest.mark.fault("little memory")
@pytest.mark.parametrize("way", ["connect", "echo", "relay"])
def test_64_mb_of_memory_carry_any_number_of_bytes(way: str) -> None:
    """Twice as much goes through a process that may have so much, the kernel's buffers included."""

    def send(sock: socket.socket) -> None:
        for _ in range(2 * MEMORY // len(BLOCK)):
            sock.sendall(BLOCK)
        sock.shutdown(socket.SHUT_WR)

    with limited("memory", MEMORY) as wrapper, contextlib.ExitStack() as stack:
        if way == "connect":
            server = stack.enter_context(peer(send))
            client = stack.enter_context(running("connect", server.address, "--recv-only", wrapper=wrapper))
            assert count_zeros(client.out.read) == 2 * MEMORY
            assert client.wait() == 0
            return
        target = stack.enter_context(running("echo", HERE))
        words = ("echo", HERE) if way == "echo" else ("relay", HERE, f"127.0.0.1:{target.port}")
        ours = stack.enter_context(running(*words, wrapper=wrapper))
        sock = stack.enter_context(connect(ours.port))
        sender = threading.Thread(target=send, args=(sock,))
        sender.start()
        assert count_zeros(sock.recv) == 2 * MEMORY
        sender.join()
        ours.terminate()


def count_zeros(read: Callable[[int], bytes]) -> int:
    """Read to the end, and return how many bytes came, all of which are 0."""
    count = 0
    while data := read(len(BLOCK)):
        assert BLOCK.startswith(data)
        count += len(data)
    return count


@pytest.mark.fault("no process to spare")
def test_no_process_to_spare() -> None:
    """A client for whom no program can be started is reset with one line, and the server serves the next."""
    words = ("listen", HERE, "-k", "-v", "--exec", "cat")
    with limited("pids", 2) as wrapper, running(*words, wrapper=wrapper) as server:
        port = server.port
        with connect(port) as first:
            first.sendall(b"first")
            assert receive(first, 5) == b"first"
            with connect(port) as second, pytest.raises(ConnectionResetError):
                read_all(second)
            server.line("cannot run another program for now: resource temporarily unavailable")
            first.shutdown(socket.SHUT_WR)
            assert read_all(first) == b""
        server.line("ended first, exit code 0")  # and is no process any more
        assert exchange(port, b"third") == b"third"


CHECKED = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
UNCHECKED = {"PYTHONOPTIMIZE": "2"}


@pytest.mark.fault("interpreter in another mode")
@pytest.mark.parametrize("variables", [CHECKED, UNCHECKED], ids=["-X dev -W error", "-OO"])
def test_other_ways_to_run_python(variables: dict[str, str]) -> None:
    """No assertion does any work, no docstring is needed to run, nothing is left open, and nothing warns."""
    environment = {**os.environ, **variables}
    with running("upper", HERE, "--once", env=environment) as server:
        done = sound(netkit("connect", f"127.0.0.1:{server.port}", input=PATTERN, env=environment), 0)
        assert digest(done.out) == digest(PATTERN.upper())
        sound(server.finish(), 0)
    assert netkit("portcheck", "127.0.0.1:1", "--json", "--closed", env=environment).code == 0
    sound(netkit("pack", "u16", "70000", env=environment), 2)
    assert netkit("connect", "--help", env=environment).code == 0
