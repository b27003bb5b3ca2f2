"""Output of portcheck --wait: the board on a terminal, and lines or JSON elsewhere."""

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support import died_by, free_port, netkit, peer, read_all, running
from tests.support.namespaces import as_process_1
from tests.support.peers import outlast
from tests.support.terminals import Shown, on_terminal, watched

# -- lines


def test_a_line_at_the_start_per_change_and_at_the_end() -> None:
    """A line is printed at the start, for each change of a target, and at the end."""
    port, other = free_port(), free_port()
    words = [b"starting", b"starting", b"starting", b"ready"]
    args = [f"127.0.0.1:{port}", f"127.0.0.1:{other}", "--expect", "ready", "--wait", "1m", "--interval", "10ms"]
    with running("portcheck", *args, "-vv") as check:
        for _ in range(3):
            check.line(f"127.0.0.1:{port} is closed: connection refused; again in ")
        said = iter(words)
        with (
            peer(lambda client: client.sendall(next(said, words[-1])), port=port),
            peer(lambda client: client.sendall(words[-1]), port=other),
        ):
            done = check.finish()
    assert done.code == 0
    lines = [line.removeprefix("netkit portcheck: ") for line in done.err.splitlines() if "; again in " not in line]
    assert lines[0] == "waiting for 2 targets, at most 60 s"
    assert [line for line in lines if line.startswith(f"127.0.0.1:{port} ")][:-1] == [
        f"127.0.0.1:{port} is closed: connection refused",
        f"127.0.0.1:{port} is not ready: closed by the peer before a match",
    ]
    assert len(lines) == 7
    for at in (port, other):
        assert [line for line in lines if re.fullmatch(rf"127\.0\.0\.1:{at} is ready after [\d.]+ m?s", line)]
    assert re.fullmatch(r"2 of 2 ready after [\d.]+ m?s", lines[-1])


def test_objects() -> None:
    """--json has the same as events, and the error has the text."""
    with peer(read_all) as server:
        done = netkit("portcheck", server.address, "127.0.0.1:1", "--wait", "100ms", "--json")
    told = [json.loads(line) for line in done.err.splitlines()]
    waiting, *changed, checked, error = told
    assert (waiting["event"], waiting["targets"], waiting["duration_ms"]) == ("waiting", 2, 100.0)
    assert {(each["event"], each["target"], each["state"], each["ready"]) for each in changed} == {
        ("changed", server.address, "open", True),
        ("changed", "127.0.0.1:1", "closed", False),
    }
    assert (checked["event"], checked["targets"], checked["targets_ready"]) == ("checked", 2, 1)
    assert checked["states"] == {"open": 1, "closed": 1}
    assert (done.code, error["event"], error["exit_code"]) == (28, "error", 28)
    assert re.fullmatch(
        r"1 of 2 ready after [\d.]+ ms; not ready: 127\.0\.0\.1:1 \(connection refused, \d+ tr(y|ies)\)",
        error["error"]["message"],
    )


def test_a_range_is_ready_with_its_first_port() -> None:
    """A range of ports is ready with its first open port; the other ports are reported as they are."""
    with peer(read_all) as server:
        done = netkit("portcheck", f"127.0.0.1:1,{server.port}", "--wait", "1m")
    assert done.code == 0
    assert sorted(line.split(b"\t")[3] for line in done.out.splitlines()) == [b"closed", b"open"]
    assert re.search(r"^netkit portcheck: 1 of 1 ready after [\d.]+ m?s\n", done.err.splitlines(True)[-1])


def test_a_try_that_is_cut_short_says_nothing() -> None:
    """If time runs out during a try, the reason is that of the last complete try."""
    said = iter([b"-LOADING it reads its disk\r\n"])

    def serve(client: socket.socket) -> None:
        client.sendall(next(said, b""))
        outlast(client)

    with peer(serve) as server:
        done = netkit("portcheck", f"redis://{server.address}", "--wait", "2s")
    assert done.code == 28
    assert done.err.endswith(f"not ready: redis://{server.address} (LOADING it reads its disk, 2 tries)\n")
    assert b"not ready: LOADING it reads its disk" in done.out


def test_closed_is_what_is_waited_for() -> None:
    """With --closed an open port is not as wanted, and the words say "closed" for "ready"."""
    with peer(read_all) as server:
        done = netkit("portcheck", server.address, "127.0.0.1:1", "--closed", "--wait", "50ms")
    last = done.err.splitlines()[-1]
    assert done.code == 28
    assert re.fullmatch(
        rf"netkit portcheck: 1 of 2 closed after \d+ ms; not closed: {server.address} \(open, \d+ tr(y|ies)\)", last
    )


# -- on a terminal


def test_the_board_goes_and_the_summary_stays(tmp_path: Path) -> None:
    """The board is redrawn in place and removed at the end; one line and the results stay."""
    with peer(read_all) as server, open(tmp_path / "out", "wb") as out:
        args = ["portcheck", server.address, "127.0.0.1:1", "--wait", "700ms", "--progress"]
        code, data = on_terminal(*args, columns=200, stdout=out)
    assert code == 28
    assert b"waiting for 2 targets, 1 s left" in data
    assert re.search(rb"  127\.0\.0\.1:1 +\x1b\[31mclosed *\x1b\[0m +connection refused +try \d+ +\d\.\d s ago", data)
    assert 2 <= data.count(b"waiting for 2 targets") <= 5
    [shown] = Shown(200).lines(data)
    assert re.fullmatch(
        r"netkit portcheck: 1 of 2 ready after [\d.]+ ms; not ready: 127\.0\.0\.1:1 \(connection refused, \d+ tries\)",
        shown,
    )
    assert (tmp_path / "out").read_bytes().count(b"\n") == 2


def test_no_board_is_lines() -> None:
    """With --no-progress a terminal gets the same lines as a pipe, and with -q nothing."""
    args = ["portcheck", "127.0.0.1:1", "--wait", "50ms"]
    code, data = on_terminal(*args, "--no-progress", columns=200, stdout=2)
    lines = Shown(200).lines(data)
    assert code == 28
    assert lines[:2] == [
        "netkit portcheck: waiting for 1 target, at most 50 ms",
        "netkit portcheck: 127.0.0.1:1 is closed: connection refused",
    ]
    assert on_terminal(*args, "-q") == (28, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals) -> None:
    """A signal removes the board, and the process dies by the signal."""
    with watched("portcheck", "127.0.0.1:1", "--wait", "1h", "--progress", columns=40, rows=8) as netkit:
        netkit.until("closed")
        netkit.process.signal(number)
        assert netkit.end() == []
        assert died_by(netkit.process.wait()) is number


def test_as_process_1() -> None:
    """As process 1, which default signals do not end, SIGTERM is exit code 143."""
    with running("portcheck", "127.0.0.1:1", "--wait", "1h", wrapper=as_process_1()) as outside:
        outside.line("is closed")
        [child] = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        assert outside.wait() == 128 + signal.SIGTERM
