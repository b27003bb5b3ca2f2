"""Records of a conversation: the log for programs (--log), and the hex dump for people (--hexdump)."""

import fcntl
import json
import os
import re
import select
import signal
import socket
import stat
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from netkit.output.hexdump import dump
from tests.support import Finished, died_by, exchange, jam, netkit, peer, read_all, reset, running
from tests.support.logs import heard, octets, read_log
from tests.support.namespaces import separate
from tests.support.peers import connect, converse, send
from tests.support.processes import HERE, feed, settle

BULK = os.urandom(1_500_000)  # beyond the first MiB, from where on the kernel may move the bytes


# -- the log


def test_log_is_the_dialogue_in_its_order(tmp_path: Path) -> None:
    """The log has each piece in order, with direction, bytes, peer and time."""
    path = tmp_path / "log"
    talk = [b"220 ready\r\n", b"HELO me\n", b"250 \xff\x00\x1b[31m", "grüße\n".encode(), b"bye"]

    def talk_in_turn(sock: socket.socket) -> bytes:
        for checkpoint in range(0, 4, 2):
            sock.sendall(talk[checkpoint])
            assert sock.recv(100) == talk[checkpoint + 1]
        sock.sendall(talk[4])
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    with peer(talk_in_turn) as server, running("connect", server.address, "--log", str(path)) as process:
        for checkpoint in range(0, 4, 2):
            assert process.out.read(len(talk[checkpoint])) == talk[checkpoint]
            process.stdin.write(talk[checkpoint + 1])
        assert process.finish() == (0, talk[4], "")
        assert server.result() == b""
        port = server.port
    records = read_log(path)
    assert [octets(record) for record in records] == talk
    assert [record["direction"] for record in records] == ["received", "sent", "received", "sent", "received"]
    assert {(record["peer_address"], record["peer_port"]) for record in records} == {("127.0.0.1", port)}
    times = [record["time"] for record in records]
    assert times == sorted(times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time) for time in times)
    assert {tuple(sorted(set(record) - {"text"})) for record in records} == {
        ("data", "direction", "peer_address", "peer_port", "time")
    }


@pytest.mark.parametrize("name", ["connect", "listen"])
def test_log_of_bulk_is_whole(name: str, tmp_path: Path) -> None:
    """The log has all bytes of both directions, even of files that the kernel could move."""
    path = tmp_path / "log"
    answer = BULK[::-1]
    with (tmp_path / "input").open("w+b") as stdin, (tmp_path / "output").open("w+b") as stdout:
        stdin.write(BULK)
        stdin.seek(0)
        options: dict[str, Any] = {"stdin": stdin, "stdout": stdout}
        if name == "connect":
            with peer(lambda sock: converse(sock, answer)) as server:
                assert netkit("connect", server.address, "--log", str(path), **options).code == 0
                got = server.result()
        else:
            with running("listen", HERE, "--log", str(path), **options) as process:
                got = exchange(process.port, answer)
                assert process.wait() == 0
    assert got == BULK
    assert (tmp_path / "output").read_bytes() == answer
    records = read_log(path)
    assert heard(records, "sent") == BULK
    assert heard(records, "received") == answer


@pytest.mark.ipv6
def test_log_of_many_clients_tells_them_apart(tmp_path: Path) -> None:
    """The log tells clients apart by address and port, for IPv4 and IPv6."""
    path = tmp_path / "log"
    options = ("--keep", "--exec", "cat", "--greet", r"hello {port}\n", "--log", str(path))
    said: dict[tuple[str, int], bytes] = {}
    with running("listen", "0", *options) as process:
        port = process.port
        clients = [socket.create_connection((host, port)) for host in ("127.0.0.1", "::1", "127.0.0.1")]
        for client in clients:
            own = client.getsockname()[:2]
            greeting = f"hello {own[1]}\n".encode()
            assert client.recv(100) == greeting
            said[own] = f"I am {own[1]}".encode()
            client.sendall(said[own])
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == said[client.getsockname()[:2]]
            client.close()
    records = read_log(path)
    for own, words in said.items():
        mine = [record for record in records if (record["peer_address"], record["peer_port"]) == own]
        assert heard(mine, "received") == words
        assert heard(mine, "sent") == f"hello {own[1]}\n".encode() + words
        assert [record["direction"] for record in mine] == ["sent", "received", "sent"]
    assert sum(len(words) for words in said.values()) == len(heard(records, "received"))


def test_log_of_a_unix_socket_names_its_path(tmp_path: Path) -> None:
    """For a unix socket the log has the path, and no port."""
    path, log = tmp_path / "s", tmp_path / "log"
    with running("listen", f"unix:{path}", "--log", str(log)) as process:
        process.line("listening")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"hi")
        assert process.finish().out == b"hi"
    (record,) = read_log(log)
    assert (record["peer_address"], octets(record)) == (f"unix:{path}", b"hi")
    assert "peer_port" not in record


def test_log_of_sending_that_a_reset_cuts_short(tmp_path: Path) -> None:
    """After a reset the log has what was sent and no more, as --stats counts it."""
    path = tmp_path / "log"

    def stop(sock: socket.socket) -> None:
        jam(sock)
        reset(sock)

    with peer(stop) as server, (tmp_path / "input").open("w+b") as stdin:
        stdin.write(BULK * 10)
        stdin.seek(0)
        done = netkit("connect", server.address, "--log", str(path), "--json", "--stats", stdin=stdin)
    assert done.code == 55
    stats = json.loads(done.err.splitlines()[-1])
    sent = heard(read_log(path), "sent")
    assert sent
    assert (BULK * 10).startswith(sent)
    assert (stats["event"], stats["bytes_sent"], stats["exit_code"]) == ("stats", len(sent), 55)
    assert stats["bytes_acknowledged"] <= len(sent)


def test_log_is_private_and_appended_to(tmp_path: Path) -> None:
    """A new log has mode 0600 whatever the umask; an existing one keeps its mode and content."""
    path = tmp_path / "log"
    with peer(read_all) as server:
        netkit("connect", server.address, "--send", "one", "--log", str(path), umask=0)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o640)
        netkit("connect", server.address, "--send", "two", "--log", str(path))
    assert [octets(record) for record in read_log(path)] == [b"one", b"two"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def refused_logs(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield paths that are refused as a log, each with the reason."""
    target = folder / "target"
    target.write_text("precious")
    (folder / "link").symlink_to(target)
    yield folder / "link", "it is a symbolic link"
    (folder / "dangling").symlink_to(folder / "nothing")
    yield folder / "dangling", "it is a symbolic link"
    yield folder, "is a directory"
    os.mkfifo(folder / "fifo")
    yield folder / "fifo", "no such device or address"
    fd = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    yield folder / "fifo", "it is not a regular file"
    os.close(fd)
    yield Path("/dev/full"), "it is not a regular file"


@pytest.mark.fault("output file that is a link")
def test_log_that_is_refused_is_23_before_anything_is_dialled(tmp_path: Path) -> None:
    """Links, folders, FIFOs and devices are refused as a log, with one line, before anything connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for path, reason in refused_logs(tmp_path):
            done = netkit("connect", address, "--log", str(path))
            assert done == Finished(23, b"", f"netkit connect: cannot write log {path}: {reason}\n")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        done = netkit("listen", address, "--log", str(tmp_path))  # the port is in use, but the log is checked first
        assert done == Finished(23, b"", f"netkit listen: cannot write log {tmp_path}: is a directory\n")
    assert (tmp_path / "target").read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_log_that_may_not_be_written_is_23(tmp_path: Path) -> None:
    """A log without write permission is exit code 23."""
    path = tmp_path / "log"
    path.write_text("")
    path.chmod(0o400)
    wrapper = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []  # then root has to obey file modes
    done = netkit("connect", "127.0.0.1:1", "--log", str(path), wrapper=wrapper)
    assert done == Finished(23, b"", f"netkit connect: cannot write log {path}: permission denied\n")


def small_disk(folder: Path) -> list[str]:
    """Return a wrapper that mounts a disk of 64 KiB on a folder."""
    return separate(f"mount -t tmpfs -o size=64k none '{folder}'", network=False)


@pytest.mark.parametrize("limit", ["disk", "size"])
def test_log_that_fills_up_ends_connect_with_23(limit: str, tmp_path: Path) -> None:
    """If the log is full, connect exits with 23 and one line, and resets the connection."""
    path = tmp_path / "log"
    reason = "no space left on device" if limit == "disk" else "file too large"
    wrapper = small_disk(tmp_path) if limit == "disk" else ["prlimit", "--fsize=65536"]

    def pour(sock: socket.socket) -> None:
        while True:
            sock.sendall(BULK)

    with peer(pour) as server, running("connect", server.address, "--log", str(path), wrapper=wrapper) as process:
        out = process.read_all()
        assert process.finish() == (23, b"", f"netkit connect: cannot write log {path}: {reason}\n")
        assert isinstance(server.result(), ConnectionError)
    assert BULK.startswith(out[: len(BULK)])
    if limit == "size":
        assert path.stat().st_size == 65536


def test_log_that_fills_up_ends_a_server_with_23(tmp_path: Path) -> None:
    """If the log is full, a server exits with 23, resets all clients and ends their programs."""
    path = tmp_path / "log"
    options = ("--keep", "--log", str(path), "--exec", "cat")
    with running("listen", HERE, *options, wrapper=["prlimit", "--fsize=65536"]) as process:
        port = process.port
        with connect(port) as other:
            other.sendall(b"x")
            assert other.recv(1) == b"x"
            with connect(port) as client, suppress(ConnectionError):
                client.sendall(BULK)
            with pytest.raises(ConnectionResetError):
                other.recv(1)
        done = process.finish()
    assert done.code == 23
    assert done.err.splitlines()[1:] == [f"netkit listen: cannot write log {path}: file too large"]


# -- the hex dump

HEAD = re.compile(r"([<>]) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\S+) (\d+) B")
ROW = re.compile(r"[0-9a-f]{8,}: (?:[0-9a-f]{2} | {3}){16} [ -~]{1,16}")


def dumped(lines: list[str], name: str) -> dict[str, list[tuple[int, str]]]:
    """Return a dump's pieces for one peer: for each direction the size and the rows."""
    pieces: dict[str, list[tuple[int, str]]] = {"<": [], ">": []}
    current = None
    for line in lines:
        if head := HEAD.fullmatch(line):
            current = head
            if head[3] == name:
                pieces[head[1]].append((int(head[4]), ""))
        else:
            assert ROW.fullmatch(line), line
            assert current is not None
            if current[3] == name:
                size, rows = pieces[current[1]][-1]
                pieces[current[1]][-1] = (size, rows + line + "\n")
    return pieces


def check_rows(pieces: list[tuple[int, str]], data: bytes) -> None:
    """Assert that the rows are the dump of each piece of ``data``."""
    offset = 0
    for size, rows in pieces:
        assert rows == dump(data[offset : offset + size], offset)
        offset += size
    assert offset == len(data)


@pytest.mark.parametrize("option", ["--hexdump", "-vvv"])
def test_hexdump(option: str) -> None:
    """Each direction has its own offsets, which continue from piece to piece."""
    question, answer = BULK[:40_000], b"12345" + BULK[-30_000:]

    def answer_twice(sock: socket.socket) -> bytes:
        sock.sendall(answer[:5])
        data = read_all(sock)
        sock.sendall(answer[5:])
        return data

    with peer(answer_twice) as server, running("connect", server.address, option) as process:
        assert process.out.read(5) == answer[:5]
        feed(process, question)
        done = process.finish()
        assert done.code == 0
        assert done.out == answer[5:]
        assert server.result() == question
    lines = [line for line in done.err.splitlines() if not line.startswith("netkit connect: ")]
    pieces = dumped(lines, server.address)
    assert pieces["<"][0][0] == 5
    check_rows(pieces[">"], question)
    check_rows(pieces["<"], answer)
    said = len(done.err.splitlines()) - len(lines)
    assert said == (3 if option == "-vvv" else 0)  # trying, connected, closed


def test_hexdump_of_many_clients(tmp_path: Path) -> None:
    """Each piece names its client, and each client has its own offsets."""
    clients = {}
    with running("listen", HERE, "--keep", "--hexdump", "--exec", "cat", "--greet", "hi") as process:
        port = process.port
        for data in (BULK[:20], BULK[20:50]):
            with connect(port) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"hi" + data
                clients[f"127.0.0.1:{client.getsockname()[1]}"] = data
        process.signal(signal.SIGTERM)
        process.wait()
        lines = process.finish().err.splitlines()[1:]
    for name, data in clients.items():
        pieces = dumped(lines, name)
        check_rows(pieces["<"], data)
        check_rows(pieces[">"], b"hi" + data)


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | :"])
def test_stderr_that_takes_no_dump_changes_nothing(redirection: str) -> None:
    """If stderr is closed, full or without a reader, the conversation continues and succeeds."""
    script = f'set -o pipefail; "$@" {redirection}; exit $?'
    with peer(send(BULK)) as server:
        done = netkit("connect", server.address, "--hexdump", "--send", "hi", wrapper=["bash", "-c", script, "sh"])
        assert done.code == 0
        assert server.result() == b"hi"
    assert done.out == (b"" if ">/dev/null" in redirection else BULK)


@contextmanager
def full_pipe(room: int = 0) -> Iterator[tuple[int, int]]:
    """Make a pipe with room for only ``room`` bytes, a multiple of a page; yield its ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(select.PIPE_BUF))
    os.set_blocking(writing, True)
    if room:
        os.read(reading, room)
    try:
        yield reading, writing
    finally:
        for fd in (reading, writing):
            with suppress(OSError):
                os.close(fd)


@pytest.mark.parametrize(
    "options, room",
    [(["--hexdump"], 0), (["-vvv"], select.PIPE_BUF), (["--hexdump", "--stats"], 0), (["-v"], 0), (["--json"], 0)],
)
def test_stderr_that_nobody_reads_holds_no_signal(options: list[str], room: int) -> None:
    """SIGTERM ends netkit even while a full stderr holds up its output."""
    with (
        full_pipe(room) as (_, stderr),
        peer(send(b"hi")) as server,
        running("connect", server.address, *options, stderr=stderr) as process,
    ):
        process.stdin.write(BULK[:1000])
        settle(process)
        process.signal(signal.SIGTERM)
        assert died_by(process.wait()) is signal.SIGTERM


def test_dump_that_waits_for_its_reader_loses_nothing() -> None:
    """A slow reader of stderr slows the conversation down, and gets the whole dump."""
    with (
        full_pipe() as (reading, stderr),
        peer(send(BULK[:10_000])) as server,
        running("connect", server.address, "--hexdump", stderr=stderr) as process,
    ):
        os.close(stderr)
        process.stdin.write(BULK[:3000])
        process.stdin.close()
        with open(reading, "rb", closefd=False) as file:
            text = file.read().lstrip(b"\0").decode()
        assert process.read_all() == BULK[:10_000]
        assert process.wait() == 0
        assert server.result() == BULK[:3000]
    pieces = dumped(text.splitlines(), server.address)
    assert sum(size for size, _ in pieces["<"]) == 10_000
    assert sum(size for size, _ in pieces[">"]) == 3000


def test_talk_does_not_break_into_a_dump(tmp_path: Path) -> None:
    """While a dump waits for its reader, other lines are printed between its rows, never within one."""
    port_file = tmp_path / "port"
    options = ("--keep", "-vvv", "--exec", "cat", "--port-file", str(port_file))
    with full_pipe(2 * select.PIPE_BUF) as (reading, stderr):
        with running("listen", HERE, *options, stderr=stderr) as process:
            os.close(stderr)
            os.read(reading, 14 * select.PIPE_BUF)
            said = b""
            while b"\n" not in said:
                said += os.read(reading, 100_000).lstrip(b"\0")
            port = int(port_file.read_text())
            with connect(port) as first:
                first.sendall(BULK[:100_000])
                while not pipe_is_full(reading):
                    os.sched_yield()
                with connect(port) as second:
                    second.sendall(b"x")
                    settle(process)
                    for _ in range(40):  # in small pieces, so that there is room again in the middle of rows
                        said += os.read(reading, 5000)
            process.signal(signal.SIGKILL)
            process.wait()
        while data := os.read(reading, 100_000):
            said += data
    lines = said.decode().splitlines()[:-1]  # the last line may be cut off
    broken = [line for line in lines if not re.fullmatch(rf"{HEAD.pattern}|{ROW.pattern}|netkit listen: [ -~]+", line)]
    assert broken == []


def pipe_is_full(reading: int) -> bool:
    """Whether a pipe of 16 pages, which need not be filled up, has no room for another page."""
    waiting = int.from_bytes(fcntl.ioctl(reading, termios.FIONREAD, bytes(4)), "little")
    return waiting > 14 * select.PIPE_BUF
