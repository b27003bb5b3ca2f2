"""Limits of memory and processes, and other modes of the interpreter."""

import contextlib
import hashlib
import os
import random
import socket
import threading
from collections.abc import Callable

import pytest

from tests.support import exchange, netkit, peer, read_all, running
from tests.support.cgroups import limited
from tests.support.data import MIB, PATTERN, amount, digest
from tests.support.peers import connect, is_reset, receive
from tests.support.processes import HERE, sound
from tests.support.refusals import refused

MEMORY = 64 * MIB
BLOCK = random.Random(3).randbytes(MIB)
BYTES = amount(2 * MEMORY, full=1024 * MIB)


@pytest.mark.fault("little memory")
@pytest.mark.parametrize("way", ["connect", "echo", "relay"])
def test_64_mib_of_memory_carry_any_number_of_bytes(way: str) -> None:
    """A process limited to 64 MiB, including the kernel's buffers, transfers much more data intact."""
    sent, came = hashlib.sha256(), hashlib.sha256()

    def send(sock: socket.socket) -> None:
        for number in range(BYTES // len(BLOCK)):
            block = number.to_bytes(8) + BLOCK[8:]
            sock.sendall(block)
            sent.update(block)
        sock.shutdown(socket.SHUT_WR)

    def take(read: Callable[[int], bytes]) -> int:
        count = 0
        while data := read(len(BLOCK)):
            came.update(data)
            count += len(data)
        return count

    with limited("memory", MEMORY) as wrapper, contextlib.ExitStack() as stack:
        if way == "connect":
            server = stack.enter_context(peer(send))
            client = stack.enter_context(running("connect", server.address, "--recv-only", wrapper=wrapper))
            assert take(client.out.read) == BYTES
            assert client.wait() == 0
        else:
            target = stack.enter_context(running("echo", HERE))
            words = ("echo", HERE) if way == "echo" else ("relay", HERE, f"127.0.0.1:{target.port}")
            ours = stack.enter_context(running(*words, wrapper=wrapper))
            sock = stack.enter_context(connect(ours.port))
            sender = threading.Thread(target=send, args=(sock,))
            sender.start()
            assert take(sock.recv) == BYTES
            sender.join()
            ours.terminate()
    assert came.digest() == sent.digest()


@pytest.mark.fault("no process to spare")
def test_no_process_to_spare() -> None:
    """If no program can be started for a client, it is reset with one line, and later clients are served."""
    words = ("listen", HERE, "-k", "-v", "--exec", "cat")
    with limited("pids", 2) as wrapper, running(*words, wrapper=wrapper) as server:
        port = server.port
        with connect(port) as first:
            first.sendall(b"first")
            assert receive(first, 5) == b"first"
            assert is_reset(port)
            server.line("cannot run another program for now: resource temporarily unavailable")
            first.shutdown(socket.SHUT_WR)
            assert read_all(first) == b""
        server.line("ended first, exit code 0")  # its process was waited for
        assert exchange(port, b"third") == b"third"


CHECKED = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
UNCHECKED = {"PYTHONOPTIMIZE": "2"}


@pytest.mark.fault("interpreter in another mode")
@pytest.mark.parametrize("variables", [CHECKED, UNCHECKED], ids=["-X dev -W error", "-OO"])
def test_other_ways_to_run_python(variables: dict[str, str]) -> None:
    """netkit works without assertions and docstrings, and in dev mode causes no warnings, as of unclosed files."""
    environment = {**os.environ, **variables}
    with running("upper", HERE, "--once", env=environment) as server:
        done = sound(netkit("connect", f"127.0.0.1:{server.port}", input=PATTERN, env=environment), 0)
        assert digest(done.out) == digest(PATTERN.upper())
        sound(server.finish(), 0)
    assert netkit("portcheck", "127.0.0.1:1", "--json", "--closed", env=environment).code == 0
    sound(netkit("pack", "u16", "70000", env=environment), 2)
    for words in (("connect", "--help"), ("help", "free-port")):
        assert netkit(*words, env=environment) == netkit(*words)


@pytest.mark.fault("little memory")
@pytest.mark.parametrize(
    ("words", "input"),
    [(("pack", "--max-size", "2G", "2000000000x"), b""), (("unpack", "--max-size", "2G", "str"), bytes(MEMORY))],
    ids=["pack", "unpack"],
)
def test_more_than_there_is_memory_for(words: tuple[str, ...], input: bytes) -> None:
    """A record for which there is no memory is 63 with one line, and no bug."""
    done = sound(netkit(*words, input=input, wrapper=("prlimit", f"--data={MEMORY}")), 63)
    assert (done.out, done.err) == (b"", f"netkit {words[0]}: cannot go on: cannot allocate memory\n")


def out_of_memory(*_: object, **__: object) -> None:
    """Fail as what needs more memory than there is."""
    raise MemoryError


def out_of_memory_again(*_: object, **__: object) -> None:
    """The same, and fail once more while that is handled."""
    try:
        raise MemoryError
    finally:
        raise RuntimeError


@pytest.mark.fault("little memory")
@pytest.mark.parametrize("fail", [out_of_memory, out_of_memory_again])
@pytest.mark.parametrize(
    ("words", "at"),
    [
        (("resolve", "localhost"), "netkit.output.resolve.answers"),
        (("address", "::1"), "netkit.services.address.explain"),
    ],
)
def test_memory_that_runs_out_elsewhere(
    words: tuple[str, ...],
    at: str,
    fail: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """So it is wherever the memory runs out, also if more fails then."""
    monkeypatch.setattr(at, fail)
    assert refused(capfd, *words, code=63) == "cannot go on: cannot allocate memory"
