"""Progress of connect, listen and fetch: on a terminal alone, in nobody's way, and gone at the end."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support import NETKIT, PATIENCE, peer, read_all, reset
from tests.support.data import MIB
from tests.support.peers import outlast
from tests.support.processes import tool
from tests.support.startup import DRIVER
from tests.support.terminals import COLUMNS, Shown, read_until_hung_up, resize, stop, terminal

SIZE = 64 * MIB
ROW = r"^sent ━.* +\d+%  [\d.]+ .?i?B/64 MiB +[\d.]+ .?i?B/s  (\d+:\d\d|-:--)$"
SENT = r"^sent {} in [\d.]+ m?s \([\d.]+ .?i?B/s\), all acknowledged{}$"
UNKNOWN = r"^(sent|received) +[\d.]+ .?i?B +[\d.]+ .?i?B/s  \d+:\d\d$"


class Watched:
    """A netkit on a terminal."""

    def __init__(self, ours: int, theirs: int, columns: int, process: "subprocess.Popen[bytes]") -> None:
        self.ours = ours
        self.theirs = theirs
        self.process = process
        self.data = b""
        self.lines: list[str] = []
        self._shown = Shown(columns)

    def read(self) -> list[str]:
        """Wait for more, and return the lines that are to be seen then."""
        self._note(os.read(self.ours, 65536))
        return self.lines

    def until(self, pattern: str) -> str:
        """Wait for a line that ``pattern`` is found in, and return it."""
        while True:
            for line in self.lines:
                if re.search(pattern, line):
                    return line
            self.read()

    def end(self) -> list[str]:
        """Wait for the end, and return the lines that are left on the terminal."""
        with contextlib.suppress(OSError):
            os.close(self.theirs)
        self._note(read_until_hung_up(self.ours))
        return self.lines

    def _note(self, data: bytes) -> None:
        self.data += data
        self.lines = self._shown.lines(data)


@contextlib.contextmanager
def watched(
    *args: str, columns: int = COLUMNS, stdin: Any = None, stdout: Any = None, wrapper: tuple[str, ...] = ()
) -> Iterator[Watched]:
    """Run netkit with stderr, and stdin and stdout unless given, on a terminal."""
    with terminal() as (ours, theirs):
        resize(theirs, columns)
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        process = subprocess.Popen(
            [*wrapper, *NETKIT, *args],
            stdin=theirs if stdin is None else stdin,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env={**clean, "TERM": "xterm"},
        )
        try:
            yield Watched(ours, theirs, columns, process)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


@pytest.fixture
def big(tmp_path: Path) -> Iterator[IO[bytes]]:
    """A file of 64 MiB."""
    with open(tmp_path / "big", "w+b") as file:
        file.truncate(SIZE)
        yield file


class Slow:
    """A peer that reads what fits and then nothing, until it is told to ``go`` on."""

    def __init__(self, then: Callable[[socket.socket], Any] = read_all) -> None:
        self.go = threading.Event()
        self._then = then

    def __call__(self, sock: socket.socket) -> Any:
        first = sock.recv(MIB)
        assert self.go.wait(PATIENCE)
        rest = self._then(sock)
        return len(first) + len(rest) if isinstance(rest, bytes) else rest


@pytest.mark.parametrize("columns", [80, 120])
def test_a_file_that_is_sent(columns: int, big: IO[bytes]) -> None:
    """After half a second there is a bar with percent, bytes, rate and time; what it came to takes its place."""
    slow = Slow()
    with peer(slow) as there, watched("connect", there.address, "--send-only", stdin=big, columns=columns) as netkit:
        row = netkit.until(ROW)
        assert len(netkit.lines) == 1 and len(row) <= columns
        slow.go.set()
        [line] = netkit.end()
        assert re.search(SENT.format("64.0 MiB", ""), line)
        assert netkit.process.wait() == 0
        assert there.result() == SIZE


def test_a_file_that_nobody_answers(big: IO[bytes]) -> None:
    """That nothing came back is said, and is no reason for a hint; with -v the line that is there anyway says it."""
    for options, words in (
        ((), SENT.format("64.0 MiB", "; received nothing")),
        (("-v",), " closed after .*64.0 MiB sent"),
    ):
        slow = Slow()
        big.seek(0)
        with peer(slow) as there, watched("connect", there.address, "--progress", *options, stdin=big) as netkit:
            netkit.until("^sent")
            slow.go.set()
            assert re.search(words, netkit.end()[-1])
            assert netkit.process.wait() == 0


def test_a_question_that_nobody_answers() -> None:
    """Who asked, and hears nothing, may want the hint; a file's content asks nothing."""
    with tempfile.TemporaryFile() as file:
        file.write(b"ruok")
        for stdin, hinted in ((subprocess.PIPE, True), (file, False)):
            file.seek(0)
            with peer(read_all) as there, watched("connect", there.address, stdin=stdin) as netkit:
                if netkit.process.stdin is not None:
                    netkit.process.stdin.write(b"ruok")
                    netkit.process.stdin.close()
                assert any("nothing came back" in line for line in netkit.end()) is hinted
                assert netkit.process.wait() == 0


def test_what_is_there_to_send_begins_where_stdin_is(big: IO[bytes]) -> None:
    """A file that was read in part before has so much less to send."""
    slow = Slow()
    os.lseek(big.fileno(), 16 * MIB, os.SEEK_SET)
    with peer(slow) as there, watched("connect", there.address, "--send-only", "--progress", stdin=big) as netkit:
        assert "/48 MiB " in netkit.until("sent")
        slow.go.set()
        assert netkit.end()[0].startswith("sent 48.0 MiB in ")
        assert there.result() == 48 * MIB


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_terminal_that_goes_away(unbuffered: str, big: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can see the picture any more, the transfer goes on to its end."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    slow = Slow()
    with (
        peer(slow) as there,
        watched("connect", there.address, "--send-only", "--progress", stdin=big, stdout=subprocess.DEVNULL) as netkit,
        open(os.devnull) as null,
    ):
        netkit.until(ROW)
        for end in (netkit.theirs, netkit.ours):
            os.dup2(null.fileno(), end)
        slow.go.set()
        assert netkit.process.wait(PATIENCE) == 0
        assert there.result() == SIZE


def test_a_pipe_that_is_sent() -> None:
    """Where nobody knows how much there is, the row has bytes, rate and time, once there are any."""
    slow = Slow()
    with (
        peer(slow) as there,
        watched("connect", there.address, "--send-only", "--progress", stdin=subprocess.PIPE) as netkit,
    ):
        assert netkit.process.stdin is not None
        netkit.process.stdin.write(bytes(MIB))
        netkit.process.stdin.flush()
        assert re.search(UNKNOWN, netkit.until("sent +[1-9]"))
        slow.go.set()
        netkit.until("sent 1.0 MiB")
        netkit.process.stdin.close()
        assert netkit.end()[0].startswith("sent 1.0 MiB in ")
        assert netkit.process.wait() == 0


def test_a_file_that_is_received(tmp_path: Path) -> None:
    """Listen shows what it gets, and no greeting, below the line that says where it listens, which stays."""
    with (
        open(tmp_path / "got", "wb") as got,
        watched(
            "listen", "127.0.0.1:0", "--progress", "--greet", "hello", stdin=subprocess.DEVNULL, stdout=got
        ) as netkit,
    ):
        ready = netkit.until(r"listening on 127.0.0.1:\d+")
        with socket.create_connection(("127.0.0.1", int(ready.rpartition(":")[2])), timeout=PATIENCE) as client:
            assert client.recv(5, socket.MSG_WAITALL) == b"hello"
            client.sendall(bytes(3 * MIB))
            assert re.search(UNKNOWN, netkit.until(r"received 3\.0 MiB"))
            assert len(netkit.lines) == 2
        first, last = netkit.end()
        assert first == ready and last.startswith("received 3.0 MiB in ")
        assert netkit.process.wait() == 0
    assert (tmp_path / "got").stat().st_size == 3 * MIB


def test_typing_is_not_disturbed(tmp_path: Path) -> None:
    """Where somebody types, nothing moves for the little that comes before, nor after the first line was typed."""

    def converse(sock: socket.socket) -> bytes:
        sock.sendall(b"hello\n")
        typed = sock.recv(100)
        sock.sendall(bytes(MIB))
        sock.recv(100)
        return typed

    path = tmp_path / "got"
    with (
        peer(converse) as there,
        open(path, "wb") as got,
        watched("connect", there.address, "--progress", stdout=got) as netkit,
    ):
        while path.stat().st_size < len("hello\n"):
            os.sched_yield()
        os.write(netkit.ours, b"typed\n")
        while path.stat().st_size < MIB:
            os.sched_yield()
        os.write(netkit.ours, b"more\n")
        assert there.result() == b"typed\n"
        assert netkit.end() == ["typed", "more"]
        assert b"\x1b" not in netkit.data


def test_an_answer_on_the_terminal_takes_its_place(big: IO[bytes]) -> None:
    """With the first byte that is shown the row is wiped, and does not come back."""
    slow = Slow(lambda sock: (sock.sendall(b"an answer\n"), outlast(sock)))
    clock = ("--idle-timeout", "700ms")  # longer than between two pictures
    with peer(slow) as there, watched("connect", there.address, "--progress", "--raw", *clock, stdin=big) as netkit:
        netkit.until(ROW)
        slow.go.set()
        netkit.until("^an answer$")
        answer, failure = netkit.end()
        assert answer == "an answer" and "(--idle-timeout)" in failure
        assert "━".encode() not in netkit.data.partition(b"an answer")[2]
        assert netkit.process.wait() == 28


def test_lines_come_whole_and_last(big: IO[bytes]) -> None:
    """What -v and --stats say and a failure are lines of their own, with nothing of the row before them."""
    slow = Slow(reset)
    with (
        peer(slow) as there,
        watched("connect", there.address, "--progress", "-v", "--stats", stdin=big, columns=500) as netkit,
    ):
        netkit.until(ROW)
        slow.go.set()
        lines = netkit.end()
        assert netkit.process.wait() == 55
    beginnings = ["netkit connect: connected to ", f"netkit connect: {there.address} closed after "]
    beginnings += [f"netkit connect: cannot send to {there.address}: ", '{"command": "connect", "event": "stats", ']
    assert len(lines) == 4
    assert all(line.startswith(beginning) for line, beginning in zip(lines, beginnings, strict=True)), lines


def test_the_kernel_still_moves_the_bytes(big: IO[bytes], tmp_path: Path) -> None:
    """With a row for each way to be seen, bytes go by sendfile(2) and splice(2) as they do without."""
    calls = tmp_path / "calls"
    wrapper = (tool("strace"), "-qq", "-o", str(calls), "-e", "trace=sendfile,splice")
    go = threading.Event()

    def answer(sock: socket.socket) -> int:
        sock.sendall(bytes(16 * MIB))
        go.wait(PATIENCE)
        return len(read_all(sock))

    with (
        peer(answer) as there,
        watched("connect", there.address, "--progress", stdin=big, stdout=subprocess.PIPE, wrapper=wrapper) as netkit,
    ):
        assert netkit.process.stdout is not None
        received = netkit.process.stdout.read(16 * MIB)
        netkit.until(r"received  16 MiB")
        assert [line.split()[0] for line in netkit.lines] == ["sent", "received"]
        go.set()
        assert netkit.end()[0].endswith(", all acknowledged; received 16.0 MiB")
        assert netkit.process.wait() == 0
        assert len(received) == 16 * MIB and there.result() == SIZE
    log = calls.read_text()
    moved = {
        call: sum(int(count) for count in re.findall(rf"^{call}\(.*\) += (\d+)$", log, re.MULTILINE))
        for call in ("sendfile", "splice")
    }
    assert moved["sendfile"] > SIZE - 4 * MIB and moved["splice"] > 12 * MIB


def test_a_stopped_terminal_delays_nothing(big: IO[bytes]) -> None:
    """After Ctrl-S the transfer goes on, and ends, with nobody to look at it."""
    slow = Slow()
    with peer(slow) as there, watched("connect", there.address, "--send-only", "--progress", stdin=big) as netkit:
        netkit.until(ROW)
        stop(netkit.ours, netkit.theirs)
        slow.go.set()
        assert there.result() == SIZE
        assert netkit.process.wait(PATIENCE) == 0


def test_interrupted(big: IO[bytes]) -> None:
    """Ctrl-C ends it by the signal, and leaves no row behind."""
    slow = Slow()
    with peer(slow) as there, watched("connect", there.address, "--send-only", "--progress", stdin=big) as netkit:
        netkit.until(ROW)
        netkit.process.send_signal(signal.SIGINT)
        assert netkit.process.wait() == -signal.SIGINT
        assert netkit.end() == []
        slow.go.set()


def test_what_is_short_shows_nothing(big: IO[bytes]) -> None:
    """A transfer of less than half a second writes nothing at all to the terminal."""
    big.truncate(100_000)
    with peer(read_all) as there, watched("connect", there.address, "--send-only", stdin=big) as netkit:
        assert netkit.end() == []
        assert netkit.process.wait() == 0
        assert netkit.data == b""


def test_no_progress_shows_nothing(big: IO[bytes]) -> None:
    """However long it takes."""
    args = ("--send-only", "--no-progress", "--idle-timeout", "700ms")
    with peer(outlast) as there, watched("connect", there.address, *args, stdin=big) as netkit:
        [failure] = netkit.end()
        assert "(--idle-timeout)" in failure
        assert netkit.data.count(b"\n") == 1 and b"\x1b" not in netkit.data
        assert netkit.process.wait() == 28


@pytest.mark.parametrize("on_terminal", [True, False])
def test_nothing_is_loaded_that_draws_nothing(on_terminal: bool) -> None:
    """rich is imported once there is something to draw: never in a pipe, however long it takes, FORCE_COLOR or not."""
    with peer(read_all if on_terminal else outlast) as there, terminal() as (ours, theirs):
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, "connect", there.address, "--timeout", "700ms"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=theirs if on_terminal else subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "FORCE_COLOR": "1"},
        )
        os.close(theirs)
        _, said = process.communicate(b"x", timeout=PATIENCE)
        modules = set((said or read_until_hung_up(ours)).decode().split())
    assert process.returncode == (0 if on_terminal else 28)
    assert "netkit.services.progress" in modules
    assert not modules & {"rich", "netkit.output.terminal"}


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["connect", "127.0.0.1:1"], "no file or pipe is sent or received"),
        (["connect", "127.0.0.1:1", "--exec", "cat"], "no file or pipe is sent or received"),
        (["connect", "127.0.0.1:1", "--hexdump"], "the dump is shown there"),
        (["connect", "127.0.0.1:1", "-q"], "--quiet and --progress exclude each other"),
        (["connect", "127.0.0.1:1", "--json"], "--json and --progress exclude each other"),
        (["listen", "0", "--keep"], "it would show one client"),
        (["listen", "0", "--", "true"], "no file or pipe is sent or received"),
    ],
)
def test_where_there_is_none(args: list[str], reason: str) -> None:
    """To ask for progress where there can be none is a mistake."""
    command, *rest = args
    stdin = subprocess.DEVNULL if {"--hexdump", "-q", "--json"} & set(args) else None
    with watched(command, "--progress", *rest, stdin=stdin) as netkit:
        assert reason in " ".join(netkit.end())
        assert netkit.process.wait() == 2


# -- fetch


class Halting:
    """An HTTP server that sends half of a body of 64 MiB, and the other half when it is told to ``go`` on."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        sock.sendall(bytes(SIZE // 2))
        assert self.go.wait(PATIENCE)
        sock.sendall(bytes(SIZE // 2))


@pytest.mark.parametrize("columns", [80, 120])
def test_a_url_that_is_fetched(columns: int, tmp_path: Path) -> None:
    """After half a second there is a bar with percent, bytes, rate and time left; at the end what it came to."""
    file, server = tmp_path / "file", Halting()
    with (
        peer(server) as there,
        watched("fetch", "-o", str(file), f"http://{there.address}/", columns=columns) as netkit,
    ):
        row = netkit.until(r"^received ━.* +50%  32 MiB/64 MiB +[\d.]+ .?i?B/s  (\d+:\d\d|-:--)$")
        assert len(netkit.lines) == 1 and len(row) <= columns
        server.go.set()
        [told] = netkit.end()
        assert re.fullmatch(r"received 64\.0 MiB in [\d.]+ m?s( \([\d.]+ .?i?B/s\))?", told)
        assert netkit.process.wait() == 0
    assert file.stat().st_size == SIZE


def test_an_answer_on_the_terminal_is_all_that_is_there() -> None:
    """What is fetched to a terminal is not mixed with how far it is."""

    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello ")
        outlast(sock)

    clock = ("--timeout", "700ms")  # longer than the half second after which something would move
    with peer(serve) as there, watched("fetch", *clock, f"http://{there.address}/") as netkit:
        [line, *_] = netkit.end()
        assert line.startswith("hello netkit fetch: ")
        assert netkit.data.startswith(b"hello netkit fetch: ") and b"\x1b" not in netkit.data


@pytest.mark.parametrize("option", [(), ("--head",), ("-q",), ("--json",)])
def test_nothing_to_show_of_a_url(option: tuple[str, ...]) -> None:
    """--progress is a mistake where nothing would be shown, and nobody is asked."""
    stdout = None if not option else subprocess.DEVNULL
    with watched("fetch", "--progress", *option, "http://127.0.0.1:1/", stdout=stdout) as netkit:
        netkit.end()
        assert netkit.data.count(b"\n") == 1 and b"--progress" in netkit.data
        assert netkit.process.wait() == 2
