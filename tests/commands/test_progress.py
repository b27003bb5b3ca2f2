"""Progress of connect, listen and fetch: only on a terminal, never in the way of data, and removed at the end."""

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

from tests.support import PATIENCE, peer, read_all, reset
from tests.support.data import MIB
from tests.support.peers import address, outlast
from tests.support.processes import tool
from tests.support.startup import DRIVER
from tests.support.terminals import read_until_hung_up, stop, terminal, watched

SIZE = 64 * MIB
ROW = r"^sent ━.* +\d+%  [\d.]+ .?i?B/64 MiB +[\d.]+ .?i?B/s  (\d+:\d\d|-:--)$"
SENT = r"^sent {} in [\d.]+ m?s \([\d.]+ .?i?B/s\), all acknowledged{}$"
UNKNOWN = r"^(sent|received) +[\d.]+ .?i?B +[\d.]+ .?i?B/s  \d+:\d\d$"


@pytest.fixture
def big(tmp_path: Path) -> Iterator[IO[bytes]]:
    """A file of 64 MiB."""
    with open(tmp_path / "big", "w+b") as file:
        file.truncate(SIZE)
        yield file


class Slow:
    """A peer that reads once and then nothing until ``go`` is set."""

    def __init__(self, then: Callable[[socket.socket], Any] = read_all) -> None:
        self.go = threading.Event()
        self._then = then

    def __call__(self, sock: socket.socket) -> Any:
        first = sock.recv(MIB)
        assert self.go.wait(PATIENCE)
        rest = self._then(sock)
        return len(first) + len(rest) if isinstance(rest, bytes) else rest


def test_a_file_that_is_sent(big: IO[bytes]) -> None:
    """After half a second a bar shows percent, bytes, rate and time; at the end a summary replaces it."""
    slow = Slow()
    with peer(slow) as there, watched("connect", there.address, "--send-only", stdin=big) as netkit:
        netkit.until(ROW)
        assert len(netkit.lines) == 1
        slow.go.set()
        [line] = netkit.end()
        assert re.search(SENT.format("64.0 MiB", ""), line)
        assert netkit.process.wait() == 0
        assert there.result() == SIZE


def test_a_file_that_nobody_answers(big: IO[bytes]) -> None:
    """A file without an answer is noted in the summary, without a hint; with -v the usual line at the end says it."""
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
    """If nothing comes back, a question from a pipe gets a hint, and the content of a file does not."""
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


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_terminal_that_goes_away(unbuffered: str, big: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the terminal goes away, the transfer still completes."""
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


def test_a_file_that_is_received(tmp_path: Path) -> None:
    """listen shows the bytes received below its ready line, which stays; a greeting is not counted."""
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


def test_an_answer_on_the_terminal_takes_its_place(big: IO[bytes]) -> None:
    """When an answer is printed on the terminal, the row is removed and does not come back."""
    slow = Slow(lambda sock: (sock.sendall(b"an answer\n"), outlast(sock)))
    clock = ("--idle-timeout", "3s")  # longer than the time between two updates
    with peer(slow) as there, watched("connect", there.address, "--progress", "--raw", *clock, stdin=big) as netkit:
        netkit.until(ROW)
        slow.go.set()
        netkit.until("^an answer$")
        answer, failure = netkit.end()
        assert answer == "an answer" and "(--idle-timeout)" in failure
        assert "━".encode() not in netkit.data.partition(b"an answer")[2]
        assert netkit.process.wait() == 28


def test_lines_come_whole_and_last(big: IO[bytes]) -> None:
    """-v, --stats and failures are printed as whole lines, after the row is removed."""
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
    """With progress for both directions the bytes still go by sendfile(2) and splice(2)."""
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
        received = netkit.process.read(16 * MIB)
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
    """After Ctrl-S on the terminal the transfer continues and completes."""
    slow = Slow()
    with peer(slow) as there, watched("connect", there.address, "--send-only", "--progress", stdin=big) as netkit:
        netkit.until(ROW)
        stop(netkit.ours, netkit.theirs)
        slow.go.set()
        assert there.result() == SIZE
        assert netkit.process.wait(PATIENCE) == 0


def test_interrupted(big: IO[bytes]) -> None:
    """Ctrl-C ends it by the signal, and the row is removed."""
    slow = Slow()
    with peer(slow) as there, watched("connect", there.address, "--send-only", "--progress", stdin=big) as netkit:
        netkit.until(ROW)
        netkit.process.signal(signal.SIGINT)
        assert netkit.process.wait() == -signal.SIGINT
        assert netkit.end() == []
        slow.go.set()


def test_what_is_short_shows_nothing(big: IO[bytes]) -> None:
    """A transfer of less than half a second writes nothing to the terminal."""
    big.truncate(10_000)  # which the system takes at once, without a server that accepts
    with (
        socket.create_server(("127.0.0.1", 0)) as there,
        watched("connect", address(there), "--send-only", stdin=big) as netkit,
    ):
        assert netkit.end() == []
        assert netkit.process.wait() == 0
        assert netkit.data == b""


def test_no_progress_shows_nothing(big: IO[bytes]) -> None:
    """With --no-progress nothing is shown, also for a long transfer."""
    args = ("--send-only", "--no-progress", "--idle-timeout", "700ms")
    with peer(outlast) as there, watched("connect", there.address, *args, stdin=big) as netkit:
        [failure] = netkit.end()
        assert "(--idle-timeout)" in failure
        assert netkit.data.count(b"\n") == 1 and b"\x1b" not in netkit.data
        assert netkit.process.wait() == 28


@pytest.mark.parametrize("on_terminal", [True, False])
def test_nothing_is_loaded_that_draws_nothing(on_terminal: bool) -> None:
    """rich is only imported to draw something: never in a pipe, not even with FORCE_COLOR."""
    # Where it would be drawn, it ends at once; elsewhere after the half second from which on it would be drawn.
    options = ["--send-only"] if on_terminal else ["--timeout", "700ms"]
    with socket.create_server(("127.0.0.1", 0)) as there, terminal() as (ours, theirs):
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, "connect", address(there), *options],
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
    "args",
    [
        ["connect", "127.0.0.1:1", "--progress", "--exec", "cat"],
        ["connect", "127.0.0.1:1", "--progress", "--recv-only"],
        ["listen", "0", "--progress", "--", "true"],
    ],
)
def test_where_there_is_none(args: list[str]) -> None:
    """--progress is a usage error if no progress can be shown."""
    with watched(*args) as netkit:
        assert "no file or pipe is sent or received" in " ".join(netkit.end())
        assert netkit.process.wait() == 2


# -- fetch


class Halting:
    """An HTTP server that sends half of a body of 64 MiB, and the rest when ``go`` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        sock.sendall(bytes(SIZE // 2))
        assert self.go.wait(PATIENCE)
        sock.sendall(bytes(SIZE // 2))


def test_a_url_that_is_fetched(tmp_path: Path) -> None:
    """After half a second a bar shows percent, bytes, rate and time left; at the end a summary replaces it."""
    file, server = tmp_path / "file", Halting()
    with peer(server) as there, watched("fetch", "-o", str(file), f"http://{there.address}/") as netkit:
        netkit.until(r"^received ━.* +50%  32 MiB/64 MiB +[\d.]+ .?i?B/s  (\d+:\d\d|-:--)$")
        assert len(netkit.lines) == 1
        server.go.set()
        [told] = netkit.end()
        assert re.fullmatch(r"received 64\.0 MiB in [\d.]+ m?s( \([\d.]+ .?i?B/s\))?", told)
        assert netkit.process.wait() == 0
    assert file.stat().st_size == SIZE


def test_an_answer_on_the_terminal_is_all_that_is_there() -> None:
    """If the body is printed on the terminal, no progress is shown."""

    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello ")
        outlast(sock)

    clock = ("--timeout", "2s")  # longer than the half second after which progress appears
    with peer(serve) as there, watched("fetch", *clock, f"http://{there.address}/") as netkit:
        [line, *_] = netkit.end()
        assert line.startswith("hello netkit fetch: ")
        assert netkit.data.startswith(b"hello netkit fetch: ") and b"\x1b" not in netkit.data
