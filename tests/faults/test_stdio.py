"""Standard streams that fail or are closed, full or shared, and limits: no byte is lost without an exit code."""

import contextlib
import fcntl
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tests.support import PATIENCE, Finished, cpu_seconds, died_by, exchange, free_port, netkit, peer, read_all, running
from tests.support.data import MIB, PATTERN, amount, digest
from tests.support.namespaces import separate
from tests.support.peers import connect, echo, outlast, push, receive, say_some, server_socket, wait_for_input
from tests.support.processes import HERE, lost, peak_memory, settle, sound
from tests.support.terminals import pipes, terminal

ALL_BYTES = bytes(range(256)) * 4000 + b"\r\n\r\r\n\n\xff\xfe\xc3" + os.urandom(4_000_000)


def redirected(redirection: str) -> tuple[str, ...]:
    """Return a wrapper that starts netkit with a redirection of the shell."""
    return ("sh", "-c", f'exec "$@" {redirection}', "sh")


# -- every byte, and memory that stays flat


@pytest.mark.fault("every byte there is", "full duplex")
@pytest.mark.parametrize("name", ["echo", "upper"])
def test_every_byte_comes_back(name: str) -> None:
    """All 256 byte values pass a client and a server both ways unchanged; upper only changes a to z."""
    wanted = ALL_BYTES.upper() if name == "upper" else ALL_BYTES
    with running(name, "127.0.0.1:0", "--once") as server:
        done = sound(netkit("connect", f"127.0.0.1:{server.port}", input=ALL_BYTES), 0)
        sound(server.finish(), 0)
    assert digest(done.out) == digest(wanted)


@pytest.mark.fault("every byte there is")
def test_every_byte_from_file_to_file(tmp_path: Path) -> None:
    """Regular files as stdin and stdout of both sides are transferred intact in both directions."""
    (tmp_path / "one").write_bytes(ALL_BYTES)
    (tmp_path / "two").write_bytes(ALL_BYTES[::-1])
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(open(tmp_path / name, "rb")) for name in ("one", "two"))
        got_one, got_two = (stack.enter_context(open(tmp_path / f"got {name}", "wb")) for name in ("one", "two"))
        server = stack.enter_context(running("listen", "127.0.0.1:0", stdin=one, stdout=got_two))
        sound(netkit("connect", f"127.0.0.1:{server.port}", stdin=two, stdout=got_one), 0)
        server.wait()
        sound(server.finish(), 0)
    assert digest((tmp_path / "got one").read_bytes()) == digest(ALL_BYTES)
    assert digest((tmp_path / "got two").read_bytes()) == digest(ALL_BYTES[::-1])


LINE = amount(64 * MIB, full=256 * MIB)


@pytest.mark.fault("giant line")
@pytest.mark.parametrize("name", ["echo", "upper"])
def test_a_line_of_many_mib(name: str) -> None:
    """A server answers before the end of a line, so that a long line takes no memory."""
    block = b"q" * MIB
    with running(name, "127.0.0.1:0", real=True) as server:
        port = server.port
        exchange(port, b"warm")
        before = peak_memory(server.pid)
        with connect(port) as client:
            sender = threading.Thread(target=lambda: [client.sendall(block) for _ in range(LINE // MIB)])
            sender.start()
            wanted = block.upper() if name == "upper" else block
            for _ in range(LINE // MIB):
                assert receive(client, len(block)) == wanted
            sender.join()
        assert peak_memory(server.pid) - before <= 16 * MIB


@pytest.mark.fault("giant line")
@pytest.mark.parametrize("options", [[], ["--label"]])
def test_a_line_of_many_mib_to_stdout(options: list[str]) -> None:
    """A long line from a client takes no memory in listen, with --label or without."""

    def send(sock: socket.socket) -> None:
        for _ in range(LINE // MIB):
            sock.sendall(b"q" * MIB)
        sock.shutdown(socket.SHUT_WR)

    words = ("listen", "127.0.0.1:0", "--keep", *options)
    with running(*words, stdin=subprocess.DEVNULL, real=True) as server, connect(server.port) as client:
        before = peak_memory(server.pid)
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        count = 0
        while count < LINE:
            count += server.out.read(MIB).count(b"q")
        sender.join()
        assert peak_memory(server.pid) - before <= 16 * MIB


@pytest.mark.parametrize("name", ["echo", "upper"])
def test_client_that_never_reads_is_held_back(name: str) -> None:
    """A client that does not read its answers cannot send on; this takes no memory, and other clients are served."""
    with running(name, "127.0.0.1:0", real=True) as server:
        port = server.port
        exchange(port, b"warm")
        before = peak_memory(server.pid)
        with connect(port) as client:
            push(client.fileno(), server)
            assert exchange(port, b"NEXT") == b"NEXT"
            assert peak_memory(server.pid) - before <= 16 << 20


# In front of ``python -m netkit ...``: runs it so that no call reads more than 333 bytes or writes more than 99, and
# writes the number of writes that were made shorter into a file.
SHORT = """
import os, socket, sys

calls = 0

def first(size, data):
    global calls
    calls += len(data) > size
    return memoryview(data)[:size]

read, write, preadv, pwritev = os.read, os.write, os.preadv, os.pwritev
os.read = lambda fd, size: read(fd, min(size, 333))
os.write = lambda fd, data: write(fd, first(99, data))
os.preadv = lambda fd, rooms, *how: preadv(fd, [memoryview(rooms[0])[:333]], *how)
os.pwritev = lambda fd, parts, *how: pwritev(fd, [first(99, parts[0])], *how)

class Short(socket.socket):
    def recv(self, size, *flags):
        return super().recv(min(size, 333), *flags)

    def send(self, data, *flags):
        return super().send(first(99, data), *flags)

socket.socket = Short
from netkit.__main__ import main
witness = sys.argv[1]
del sys.argv[1 : sys.argv.index("netkit") + 1]
code = main()
with open(witness, "w") as file:
    file.write(str(calls))
sys.exit(code)
"""


@pytest.mark.fault("short reads and writes")
def test_short_reads_and_writes(tmp_path: Path) -> None:
    """Calls that read or write only a few bytes each lose none, with pipes and with files."""
    data = ALL_BYTES[-600_000:]
    (tmp_path / "in").write_bytes(data)
    counts = [tmp_path / name for name in ("server", "pipes", "files")]
    by_server, by_pipes, by_files = ((sys.executable, "-c", SHORT, str(path)) for path in counts)
    with running("echo", "127.0.0.1:0", "--max-clients", "2", wrapper=by_server) as server:
        address = f"127.0.0.1:{server.port}"
        done = sound(netkit("connect", address, input=data, wrapper=by_pipes), 0)
        assert digest(done.out) == digest(data)
        with open(tmp_path / "in", "rb") as given, open(tmp_path / "out", "wb") as got:
            sound(netkit("connect", address, stdin=given, stdout=got, wrapper=by_files), 0)
        assert digest((tmp_path / "out").read_bytes()) == digest(data)
        sound(server.finish(), 0)
    assert all(int(path.read_text()) > 1000 for path in counts)


# -- stdout


@pytest.mark.fault("full device")
def test_full_device_is_23() -> None:
    """If stdout is a full device netkit fails with 23, and resets the peer, so that it does not see a clean end."""

    with peer(lambda sock: (sock.sendall(bytes(100_000)), sock.recv(1))) as server, open("/dev/full", "wb") as full:
        done = sound(netkit("connect", server.address, "--recv-only", stdout=full), 23)
        assert isinstance(server.result(), ConnectionResetError)
    assert done.err == "netkit connect: cannot write to stdout: no space left on device\n"


@pytest.mark.fault("disk that fills up")
def test_disk_that_fills_up_is_23(tmp_path: Path) -> None:
    """When the disk fills up the file has the exact beginning of the data, and the exit code is 23."""
    data = PATTERN * 10
    to_file = ["sh", "-c", f'"$@" > "{tmp_path}/file"; code=$?; cat "{tmp_path}/file"; exit $code', "sh"]
    wrapper = [*separate(f"mount -t tmpfs -o size=64k none '{tmp_path}'", network=False), *to_file]
    with peer(lambda sock: (sock.sendall(data), sock.recv(1))) as server:
        done = sound(netkit("connect", server.address, "--recv-only", wrapper=wrapper), 23)
        assert isinstance(server.result(), ConnectionResetError)
    assert done.err == "netkit connect: cannot write to stdout: no space left on device\n"
    assert digest(done.out) == digest(data[:65536])


@pytest.mark.fault("limit of file size")
def test_file_size_limit_is_23(tmp_path: Path) -> None:
    """A file at its size limit is 23 like other errors of stdout, and netkit does not die by SIGXFSZ."""
    with peer(lambda sock: sock.sendall(PATTERN)) as server, open(tmp_path / "file", "wb") as file:
        done = sound(netkit("connect", server.address, wrapper=("prlimit", "--fsize=1000"), stdout=file), 23)
    assert done.err == "netkit connect: cannot write to stdout: file too large\n"
    assert (tmp_path / "file").read_bytes() == PATTERN[:1000]


@pytest.mark.fault("reader of stdout leaves")
@pytest.mark.parametrize("way", ["connect", "listen"])
def test_reader_of_stdout_that_leaves(way: str) -> None:
    """With ``| head -1`` netkit ends silently by SIGPIPE at once, even if the peer is silent, which is reset."""
    with contextlib.ExitStack() as stack:
        if way == "connect":
            server = stack.enter_context(peer(lambda sock: (sock.sendall(b"first line\n"), sock.recv(1))))
            process = stack.enter_context(running("connect", server.address))
        else:
            process = stack.enter_context(running("listen", "127.0.0.1:0"))
            client = stack.enter_context(connect(process.port))
            client.sendall(b"first line\n")
        assert process.out.read(11) == b"first line\n"
        process.out.close()
        process.process.stdout = None
        assert died_by(process.wait()) is signal.SIGPIPE
        sound(process.finish(), -signal.SIGPIPE)
        if way == "connect":
            assert isinstance(server.result(), ConnectionResetError)
        else:
            with pytest.raises(ConnectionResetError):
                client.recv(1)


@pytest.mark.fault("reader of stdout leaves")
def test_reader_of_stdout_that_is_a_socket_leaves() -> None:
    """If stdout is a socket, the next write after its reader left ends netkit by SIGPIPE."""
    ours, theirs = socket.socketpair()
    go = threading.Event()

    def say_twice(sock: socket.socket) -> None:
        sock.sendall(b"once")
        assert go.wait(PATIENCE)
        sock.sendall(b"twice")
        outlast(sock)

    with ours, peer(say_twice) as server, running("connect", server.address, stdout=theirs) as process:
        theirs.close()
        assert receive(ours, 4) == b"once"
        ours.close()
        go.set()
        process.wait()
        sound(process.finish(), -signal.SIGPIPE)


def test_messages_follow_on_a_stdout_that_is_a_socket() -> None:
    """If stdout and stderr are one socket, as for a service of systemd, messages come after the peer's end, too."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        peer(lambda sock: sock.sendall(b"all\n")) as server,
        running("connect", server.address, "-v", stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process,
    ):
        theirs.close()
        first, *_, last = read_all(ours).splitlines()
        assert process.wait() == 0
    assert b" connected to " in first
    assert b" closed after " in last


def test_a_client_on_all_descriptors_sees_the_end() -> None:
    """If stdin, stdout and stderr are one socket, as from inetd, its other end sees the peer's end at once."""

    def speak_first(sock: socket.socket) -> bytes:
        sock.sendall(b"all")
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    ours, theirs = socket.socketpair()
    with (
        ours,
        peer(speak_first) as server,
        running("connect", server.address, "--hold", stdin=theirs, stdout=theirs, stderr=theirs) as process,
    ):
        theirs.close()
        assert read_all(ours) == b"all"
        ours.sendall(b"more")
        ours.shutdown(socket.SHUT_WR)
        assert server.result() == b"more"
        assert process.wait() == 0


@pytest.mark.fault("peer's broken pipe")
def test_peer_that_no_longer_reads_is_no_reader_of_stdout() -> None:
    """EPIPE of a connection is 55 with a message and a count of lost bytes, not a silent SIGPIPE."""

    address, listener = server_socket("unix")
    with listener, running("connect", address) as process:
        client, _ = listener.accept()
        with client:
            client.shutdown(socket.SHUT_RD)
            client.sendall(b"no more")
            assert process.out.read(7) == b"no more"
            process.stdin.write(bytes(1000))
            process.wait()
            done = sound(process.finish(), 55)
    assert lost(done) == (1000, 1000)
    assert f"cannot send to {address}: " in done.err


@pytest.mark.fault("closed stdout")
def test_closed_stdout() -> None:
    """With ``>&-`` the exit code is 23 if there was data to write, else 0."""
    wrapper = redirected(">&-")
    with peer(lambda sock: sock.sendall(bytes(1000))) as server:
        done = sound(netkit("connect", server.address, wrapper=wrapper), 23)
    assert done.err == "netkit connect: cannot write to stdout: bad file descriptor\n"
    with peer(read_all) as server:
        sound(netkit("connect", server.address, wrapper=wrapper, input=b"sent"), 0)
        assert server.result() == b"sent"


# -- stdin


def test_a_stdin_of_datagrams_is_read_whole() -> None:
    """If stdin is a datagram socket, as for a service of systemd, large datagrams are not cut."""
    stdin, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with stdin, sender, peer(lambda sock: receive(sock, 60_004)) as server:
        stdin.bind(("127.0.0.1", 0))
        sender.connect(stdin.getsockname())
        with running("connect", server.address, stdin=stdin):
            sender.send(PATTERN[:60_000])
            sender.send(b"next")
            assert server.result() == PATTERN[:60_000] + b"next"


@pytest.mark.fault("unreadable stdin")
@pytest.mark.parametrize(
    "given, reason",
    [
        (functools.partial(open, os.devnull, "wb"), "bad file descriptor"),
        (socket.socket, "transport endpoint is not connected"),
    ],
)
def test_unreadable_stdin_is_26(given: Callable[[], IO[bytes] | socket.socket], reason: str) -> None:
    """A stdin that cannot be read is 26, not an empty input, and the peer sees a reset."""
    with peer(lambda sock: sock.recv(1)) as server, given() as stdin:
        done = sound(netkit("connect", server.address, stdin=stdin), 26)
        assert isinstance(server.result(), ConnectionResetError)
    assert done.err == f"netkit connect: cannot read stdin: {reason}\n"


@pytest.mark.fault("empty stdin", "late answer")
@pytest.mark.parametrize(
    "name, redirection", [("connect", "</dev/null"), ("connect", "<&-"), ("listen", "</dev/null"), ("listen", "<&-")]
)
def test_empty_stdin_ends_our_direction_alone(name: str, redirection: str) -> None:
    """With an empty or closed stdin netkit sends its end, in listen after the client's, and still receives all data."""

    def answer(sock: socket.socket) -> None:
        assert read_all(sock) == b""
        sock.sendall(PATTERN)

    wrapper = redirected(redirection)
    if name == "connect":
        with peer(answer) as server:
            done = netkit("connect", server.address, wrapper=wrapper)
    else:
        with running("listen", "127.0.0.1:0", wrapper=wrapper) as process:
            with connect(process.port) as client:
                client.sendall(PATTERN)
                client.shutdown(socket.SHUT_WR)
                out = process.read_all()
                assert read_all(client) == b""
            done = process.finish()._replace(out=out)
    assert digest(sound(done, 0).out) == digest(PATTERN)


# -- stderr


@pytest.mark.fault("closed or full stderr")
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_stderr_that_takes_nothing_changes_no_exit_code(redirection: str) -> None:
    """A closed or full stderr changes neither exit codes nor what a server does."""
    wrapper = redirected(redirection)
    assert netkit("connect", f"127.0.0.1:{free_port()}", wrapper=wrapper) == Finished(7, b"", "")
    assert netkit("connect", "--no-such-option", wrapper=wrapper) == Finished(2, b"", "")
    with running("echo", "127.0.0.1:0", "--print-port", "--once", "-v", wrapper=wrapper) as server:
        assert exchange(int(server.out.readline()), b"served") == b"served"
        assert server.finish() == Finished(0, b"", "")


# -- limits


@pytest.mark.fault("unreadable stdin")
def test_a_folder_for_stdin_is_26(tmp_path: Path) -> None:
    """A directory as stdin is 26, except in a fresh interpreter, as Python itself refuses to start with one."""
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with peer(lambda sock: sock.recv(1)) as server:
            done = sound(netkit("connect", server.address, stdin=folder), 26)
            assert isinstance(server.result(), ConnectionResetError)
        assert done.err == "netkit connect: cannot read stdin: is a directory\n"
        started = netkit("connect", server.address, stdin=folder, real=True)
    finally:
        os.close(folder)
    assert started.code == 1
    assert started.err.startswith("Fatal Python error: init_sys_streams: <stdin> is a directory")


@pytest.mark.fault("few descriptors")
@pytest.mark.parametrize("limit", [5, 6, 7, 8, 10])
def test_few_descriptors_of_a_server(limit: int) -> None:
    """With too few descriptors a server fails with 45 and one line, with enough it listens."""
    wrapper = ("prlimit", f"--nofile={limit}")
    done = netkit("listen", "127.0.0.1:0", "--accept-timeout", "100ms", wrapper=wrapper)
    assert "nobody came" in done.err if done.code == 28 else "too many open files" in sound(done, 45).err
    assert done.code == 28 or limit < 10


@pytest.mark.fault("few descriptors")
@pytest.mark.parametrize("limit", [5, 6, 7, 8, 10])
def test_few_descriptors(limit: int) -> None:
    """With too few descriptors a client fails with 7 and one line, with enough it gets the whole answer."""
    with peer(lambda sock: sock.sendall(b"answer")) as server:
        done = netkit("connect", server.address, wrapper=("prlimit", f"--nofile={limit}"))
    if done.code:
        assert "too many open files" in sound(done, 7).err
    else:
        assert sound(done, 0).out == b"answer"
    assert done.code == 0 or limit < 10


@pytest.mark.fault("few descriptors")
@pytest.mark.parametrize(("words", "code"), [("sockets", 26), ("resolve localhost", 6), ("free-port", 45)])
def test_few_descriptors_of_a_look(words: str, code: int) -> None:
    """What looks at this machine fails with the exit code of what it could not look at, and with one line."""
    done = sound(netkit(*words.split(), wrapper=("prlimit", "--nofile=5")), code)
    assert (done.out, done.err) == (b"", f"netkit {words.split()[0]}: cannot go on: too many open files\n")


# -- what belongs to the caller


def flags(fd: int) -> int:
    """Return the status flags of an open file, which are shared with other processes that have it."""
    return fcntl.fcntl(fd, fcntl.F_GETFL)


@pytest.mark.fault("flags of shared descriptors")
@pytest.mark.parametrize("way", ["pipes", "terminal"])
def test_shared_descriptors_keep_their_flags(way: str) -> None:
    """netkit never changes the flags of stdin and stdout, or the terminal's modes, not even if it is killed."""
    with contextlib.ExitStack() as stack:
        if way == "pipes":
            given, feeding, showing, shown = stack.enter_context(pipes())
        else:
            feeding, given = stack.enter_context(terminal())
            showing, shown = feeding, given
            modes = termios.tcgetattr(given)
        before = flags(given), flags(shown)
        goes_on = stack.enter_context(peer(echo))
        ends = stack.enter_context(peer(lambda sock: sock.sendall(sock.recv(100))))
        for server, number in ((goes_on, signal.SIGTERM), (goes_on, signal.SIGKILL), (ends, None)):
            with running("connect", server.address, "--grace", "0", stdin=given, stdout=shown) as process:
                os.write(feeding, b"line\n")
                expected = b"line\n" if way == "pipes" else b"line\r\nline\r\n"  # a terminal echoes what is typed
                seen = b""
                while len(seen) < len(expected):
                    seen += os.read(showing, 100)
                assert seen == expected
                assert (flags(given), flags(shown)) == before
                if number is not None:
                    process.signal(number)
                assert died_by(process.wait()) is number
            assert (flags(given), flags(shown)) == before
        if way == "terminal":
            assert termios.tcgetattr(given) == modes


# -- idleness


@pytest.mark.fault("idle CPU")
def test_waiting_costs_no_cpu() -> None:
    """Waiting takes no CPU: without clients, with silent peers, full pipes, and terminals stopped or hung up."""
    with contextlib.ExitStack() as stack:
        start: Callable[..., object] = lambda *args, **popen: stack.enter_context(running(*args, real=True, **popen))  # noqa: E731
        silent = stack.enter_context(peer(say_some))
        ended = stack.enter_context(peer(lambda sock: (sock.shutdown(socket.SHUT_WR), outlast(sock))))
        endless = stack.enter_context(peer(lambda sock: [sock.sendall(PATTERN) for _ in range(10_000)]))
        ours, dead = stack.enter_context(terminal())
        os.close(ours)
        _, unread = stack.enter_context(terminal())
        _, frozen = stack.enter_context(terminal())
        termios.tcflow(frozen, termios.TCOOFF)
        waiting = {
            "a server without clients": start("echo", "127.0.0.1:0"),
            "a listener without a client": start("listen", "127.0.0.1:0"),
            "a silent peer": start("connect", silent.address),
            "a peer that ended": start("connect", ended.address, "--hold"),
            "a full pipe": start("connect", endless.address),
            "a terminal that nobody reads": start("connect", endless.address, stdout=unread),
            "a terminal stopped by Ctrl-S": start("connect", endless.address, stdout=frozen),
            "a dead terminal": start("connect", silent.address, stdin=dead),
        }
        for name in ("a server without clients", "a listener without a client"):
            assert waiting[name].port
        for name in ("a silent peer", "a dead terminal"):
            assert waiting[name].out.read(4) == b"some"
        assert waiting["a peer that ended"].read_all() == b""
        wait_for_input(waiting["a full pipe"].out)
        for process in waiting.values():
            settle(process)
        before = {name: cpu_seconds(process.pid) for name, process in waiting.items()}
        for _ in range(6):  # each takes more than 0.05 s of CPU
            sound(netkit("--help", real=True), 0)
        for name, process in waiting.items():
            assert cpu_seconds(process.pid) - before[name] <= 0.1, name  # a busy loop would use 0.3
            assert name == "a dead terminal" or process.process.poll() is None, name


PRINTED = [["--version"], ["--help"], [], ["help"], ["connect", "--help"], ["free-port"], ["address", "1.2.3.4"]]


@pytest.mark.parametrize(
    "args", [*PRINTED, ["services", "http"], ["resolve", "127.0.0.1"], ["echo", HERE, "--print-port"]], ids=" ".join
)
def test_text_that_a_full_disk_does_not_take(args: list[str]) -> None:
    """If stdout is full, every command that prints text fails with 23 and one line."""
    with open("/dev/full", "wb") as full:
        done = netkit(*args, stdout=full)
    assert done.code == 23
    [said] = done.complaints
    assert re.fullmatch(r"netkit( \S+)?: cannot write to stdout: no space left on device", said)


@pytest.mark.parametrize(
    "args, code", [(["address", "1.2.3.4"], 0), (["connect", "127.0.0.1:1"], 7), (["--version"], 0)]
)
def test_inspecting_python_is_no_traceback(args: list[str], code: int) -> None:
    """PYTHONINSPECT=1 changes neither the exit code nor the output, and causes no traceback."""
    plain, done = netkit(*args), netkit(*args, env={**os.environ, "PYTHONINSPECT": "1"})
    assert done.code == plain.code == code
    assert "Traceback" not in done.err and done.out == plain.out
