"""Data that the kernel moves for us: the same bytes, counts and failures as if we had copied it."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from netkit.core import connection, kernel, relay, splice
from netkit.core.flow import Flow
from netkit.core.kernel import Group, checkpoint, now
from netkit.core.pump import pump
from netkit.core.socket_stream import SocketStream
from netkit.core.stdio import FileStream
from tests import contract
from tests.clock import in_real_time, on_kernel
from tests.support import NETKIT, Finished, died_by, jam, netkit, peer, read_all, reset, running
from tests.support.data import check_same
from tests.support.peers import drip, tcp_sockets
from tests.support.streams import Steps

DATA = random.Random(1).randbytes(5_000_000)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Count the bytes that the kernel moves."""
    return Steps(monkeypatch)


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection over loopback."""
    one, other = tcp_sockets()
    with one, other:
        yield one, other


@contextmanager
def receiving(data: bytes = DATA) -> Iterator[socket.socket]:
    """A connection from which the data can be received, and then the end."""
    with connected() as (ours, theirs):
        sender = threading.Thread(target=lambda: (theirs.sendall(data), theirs.shutdown(socket.SHUT_WR)))
        sender.start()
        yield ours
        sender.join()


def collected(sock: socket.socket) -> tuple[threading.Thread, list[bytes]]:
    """Read a socket to its end in a thread."""
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(read_all(sock)))
    thread.start()
    return thread, found


def pumped(source: Any, sink: Any) -> relay.Flow:
    """Pump from one descriptor or socket to another until the end, and return the flow."""

    async def main() -> relay.Flow:
        flow = Flow()
        streams = [
            SocketStream(end, "the peer") if isinstance(end, socket.socket) else FileStream(*pair)
            for end, pair in ((source, (source, -1)), (sink, (-1, sink)))
        ]
        await pump(*streams, flow=flow)
        assert streams[0].counts.received == streams[1].counts.sent == flow.offered
        if isinstance(sink, socket.socket):
            await connection.acknowledged(streams[1])
        return flow

    return kernel.run(main())


# -- every combination of source and sink


def test_file_to_socket(steps: Steps, tmp_path: Path) -> None:
    """A regular file is sent with sendfile, from its current offset."""
    path = tmp_path / "file"
    path.write_bytes(b"already read" + DATA)
    with connected() as (ours, theirs), path.open("rb", buffering=0) as file:
        file.read(12)
        thread, found = collected(theirs)
        assert pumped(file.fileno(), ours).offered == len(DATA)
        thread.join()
    assert found == [DATA]
    assert steps.moved > len(DATA) // 2


def test_pipe_to_socket(steps: Steps) -> None:
    """A pipe is spliced, whatever the sizes of its writes, and its flags do not change."""
    read, write = os.pipe()
    with connected() as (ours, theirs), os.fdopen(read, "rb") as source:
        flags = fcntl.fcntl(read, fcntl.F_GETFL)
        thread, found = collected(theirs)
        filler = threading.Thread(target=lambda: _fill(write))
        filler.start()
        pumped(source.fileno(), ours)
        filler.join()
        thread.join()
        assert fcntl.fcntl(read, fcntl.F_GETFL) == flags
    assert found == [DATA]
    assert steps.moved > len(DATA) // 2


def _fill(write: int) -> None:
    with os.fdopen(write, "wb", buffering=0) as pipe:
        rest = memoryview(DATA)
        sizes = random.Random(2)
        while rest:
            rest = rest[pipe.write(rest[: sizes.choice((1, 100, 4096, 70_000))]) :]


def test_socket_to_pipe(steps: Steps) -> None:
    """A socket is spliced directly into a pipe, and a slow reader slows the peer down."""
    read, write = os.pipe()
    found: list[bytes] = []
    with receiving() as ours, os.fdopen(read, "rb") as pipe:
        reader = threading.Thread(target=lambda: found.append(pipe.read()))
        reader.start()
        pumped(ours, write)  # at the end ``write`` is replaced by /dev/null
        os.close(write)
        reader.join()
    assert found == [DATA]
    assert steps.moved > len(DATA) // 2


@pytest.mark.parametrize(("flags", "spliced"), [(os.O_WRONLY, True), (os.O_WRONLY | os.O_APPEND, False)])
def test_socket_to_file(steps: Steps, tmp_path: Path, flags: int, spliced: bool) -> None:
    """Data for a file is spliced through a pipe; to an appended file, which does not allow it, the data is copied."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    target = os.open(path, flags)
    with receiving() as ours:
        pumped(ours, target)
        os.close(target)
    assert path.read_bytes() == DATA
    assert (steps.moved > len(DATA)) is spliced  # twice: into the pipe and out of it


def test_socket_to_dev_null(steps: Steps) -> None:
    """Data for /dev/null is spliced as well."""
    with receiving() as ours, open(os.devnull, "wb") as null:
        assert pumped(ours, null.fileno()).offered == len(DATA)
    assert steps.moved > len(DATA)


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_the_end_of_a_burst_is_not_held_back(kind: str, tmp_path: Path) -> None:
    """After bulk data, which arrives in batches, a few bytes arrive at once, though the connection stays open."""

    async def main(ours: socket.socket, theirs: socket.socket, source: int, target: int) -> bytes:
        stream, sink = SocketStream(ours, "the peer"), FileStream(-1, target)
        least: list[int] = []

        async def until(count: int) -> None:
            latest = now() + 5
            while sink.counts.sent < count:
                assert now() < latest, f"{count - sink.counts.sent} bytes are held back"
                least.append(ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))
                await checkpoint()

        async with Group() as group:
            pumping = group.start_soon(pump(stream, sink))
            reading = group.start_soon(contract.read_all(FileStream(source, -1))) if kind == "pipe" else pumping
            sender = threading.Thread(target=theirs.sendall, args=(DATA + b"rest",))
            sender.start()
            await until(len(DATA) + 4)
            sender.join()
            assert max(least) > 1
            theirs.sendall(b"x")
            await until(len(DATA) + 5)
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            theirs.shutdown(socket.SHUT_WR)
        stream.close()
        return bytes(reading.result) if kind == "pipe" else (tmp_path / "file").read_bytes()

    with connected() as (ours, theirs), ExitStack() as stack:
        if kind == "pipe":
            ends = os.pipe()
        else:
            ends = os.open(tmp_path / "file", os.O_RDONLY | os.O_CREAT), os.open(tmp_path / "file", os.O_WRONLY)
        for fd in ends:
            stack.callback(os.close, fd)
        check_same(kernel.run(main(ours, theirs, *ends)), DATA + b"restx")


@pytest.mark.parametrize("kind", ["file to socket", "pipe to socket", "socket to pipe", "socket to file"])
def test_no_more_than_most_is_moved(kind: str, tmp_path: Path) -> None:
    """Bytes beyond ``most`` are left in the source, for others who read it."""
    (tmp_path / "source").write_bytes(DATA[:50_000])
    with (
        connected() as (one, other),
        open(tmp_path / "source", "rb") as file,
        open(tmp_path / "sink", "wb+") as sink,
        ExitStack() as stack,
    ):
        reader, writer = (stack.enter_context(open(fd, mode)) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        if kind == "pipe to socket":
            os.write(writer.fileno(), DATA[:50_000])
        if kind.startswith("socket"):
            other.sendall(DATA[:50_000])
            other.shutdown(socket.SHUT_WR)
        near = {"file": file.fileno(), "pipe": reader.fileno()}.get(kind.split()[0])
        far = {"file": sink.fileno(), "pipe": writer.fileno()}.get(kind.split()[2])

        async def main() -> tuple[int, int]:
            source = SocketStream(one, "the peer") if near is None else FileStream(near, near)
            target = SocketStream(one, "the peer") if far is None else FileStream(far, far)
            await splice.move(source, target, Flow(), 20_001)
            return source.counts.received, target.counts.sent

        assert kernel.run(main()) == (20_001, 20_001)
        rest = one.recv(50_000, socket.MSG_WAITALL) if near is None else os.read(near, 50_000)
        assert rest == DATA[20_001:50_000]


def test_little_is_copied(steps: Steps) -> None:
    """Less than a MiB is copied, not spliced."""
    with receiving(b"x" * 1000) as ours, open(os.devnull, "wb") as null:
        pumped(ours, null.fileno())
    assert steps.moved == 0


@in_real_time
async def test_what_has_to_be_looked_at_is_copied(steps: Steps, tmp_path: Path) -> None:
    """Data is copied if a change has to see it."""
    path = tmp_path / "file"
    path.write_bytes(DATA)

    with connected() as (ours, theirs), path.open("rb") as file:
        thread, found = collected(theirs)
        await pump(FileStream(file.fileno(), -1), SocketStream(ours, "the peer"), bytes.upper)
        thread.join()
        assert found == [DATA.upper()]
    assert steps.moved == 0


@in_real_time
async def test_data_for_a_socket_that_blocks_is_copied(steps: Steps) -> None:
    """splice(2) to a socket in blocking mode, whose flags are not ours to change, could block the process."""
    with receiving() as ours, connected() as (near, far):
        thread, found = collected(far)
        sink = FileStream(-1, near.fileno())
        await pump(SocketStream(ours, "the peer"), sink)
        sink.close()
        thread.join()
    assert found == [DATA]
    assert steps.moved == 0


class Loud(SocketStream):
    """A socket stream that only overrides ``recv``."""

    async def recv(self) -> bytes:
        return (await super().recv()).upper()


@in_real_time
async def test_what_overrides_recv_is_not_bypassed(steps: Steps, tmp_path: Path) -> None:
    """Data is not spliced past an overridden ``recv``."""
    with receiving() as ours, (tmp_path / "file").open("wb") as file:
        await pump(Loud(ours, "the peer"), FileStream(-1, file.fileno()))
    assert (tmp_path / "file").read_bytes() == DATA.upper()
    assert steps.moved == 0


@in_real_time
async def test_without_descriptors_for_a_pipe_it_is_copied(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If no pipe can be made for lack of descriptors, the data is copied."""

    def full() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    with receiving() as ours, (tmp_path / "file").open("wb") as file:
        monkeypatch.setattr(splice.os, "pipe", full)
        await pump(SocketStream(ours, "the peer"), FileStream(-1, file.fileno()))
    assert (tmp_path / "file").read_bytes() == DATA
    assert steps.moved == 0


# -- failures during the transfer


@pytest.mark.parametrize("how", ["cancelled", "reset"])
@pytest.mark.parametrize("kind", ["file", "pipe"])
@in_real_time
async def test_what_a_full_sink_did_not_take_counts_as_offered(kind: str, how: str, tmp_path: Path) -> None:
    """The bytes that the last step was about to move are offered and not sent; a flow to a full sink is not silent."""
    (tmp_path / "file").write_bytes(DATA * 4)
    with ExitStack() as stack:
        ours, theirs = stack.enter_context(connected())
        file = stack.enter_context((tmp_path / "file").open("rb"))
        reader, writer = (stack.enter_context(open(fd, mode)) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        fd = file.fileno() if kind == "file" else reader.fileno()
        sink, flow = SocketStream(ours, "the peer"), Flow()
        async with Group() as group:
            if kind == "pipe":
                group.start_soon(FileStream(-1, writer.fileno()).send(DATA * 4))
            pumping = group.start_soon(contract.failure_of(pump(FileStream(fd, -1), sink, flow=flow)))
            await contract.until_held_back(sink)
            assert flow.waiting_since is None
            if how == "reset":
                reset(theirs)
            else:
                pumping.cancel()
            await pumping.finished.wait()
            left = int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)
            group.cancel()
        assert flow.offered - sink.counts.sent == (1 << 20 if kind == "file" else left) > 0
        sink.close()


@on_kernel
async def test_a_sink_that_is_ready_and_takes_nothing_is_not_spun_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is tried again after pauses."""
    sendfile = os.sendfile

    def stubborn(*args: Any) -> int:
        if now() < 0.1:
            raise BlockingIOError
        return sendfile(*args)

    monkeypatch.setattr(splice.os, "sendfile", stubborn)
    (tmp_path / "file").write_bytes(b"at last")
    with connected() as (ours, theirs), (tmp_path / "file").open("rb") as file:
        sink = SocketStream(ours, "the peer")
        await splice.move(FileStream(file.fileno(), -1), sink, Flow())
        assert theirs.recv(10) == b"at last"
        sink.close()


@pytest.mark.parametrize("through", ["file", "pipe"])
def test_peer_that_leaves_in_the_middle_is_55_with_the_count(through: str, tmp_path: Path) -> None:
    """The count includes bytes that the kernel took and the peer did not, as when copying."""

    def leave(sock: socket.socket) -> int:
        got = 0
        while got < 2_000_000:
            got += len(sock.recv(65536))
        jam(sock)
        reset(sock)
        return got

    path = tmp_path / "file"
    path.write_bytes(DATA * 8)
    with peer(leave) as server, path.open("rb") as file:
        if through == "file":
            done = netkit("connect", server.address, stdin=file)
        else:
            done = netkit("connect", server.address, input=DATA * 8)
        taken = server.result()
    assert done.code == 55
    lost, offered = (int(word) for word in done.err.split("(")[1].split()[:3:2])
    assert 100_000 < lost <= offered <= len(DATA) * 8
    assert offered >= taken  # ``taken`` is at most what was offered; its last ACK may be missing


@pytest.mark.parametrize("sink", ["pipe", "file"])
def test_reset_in_the_middle_is_56_with_an_exact_prefix(sink: str, tmp_path: Path) -> None:
    """All data before the reset is written."""
    taken = threading.Event()

    def send(sock: socket.socket) -> None:
        sock.sendall(DATA)
        taken.wait(20)
        reset(sock)

    path = tmp_path / "out"
    with (
        peer(send) as server,
        path.open("wb") as file,
        running("connect", server.address, stdout=file if sink == "file" else subprocess.PIPE) as process,
    ):
        if sink == "pipe":
            assert process.read(len(DATA)) == DATA
        else:
            while path.stat().st_size < len(DATA):
                os.sched_yield()
            assert path.read_bytes() == DATA
        taken.set()
        assert process.wait() == 56
        process.line(f"connection reset by peer .after {len(DATA)} bytes.")


def test_reader_that_leaves_in_the_middle_ends_us_by_sigpipe() -> None:
    """If the reader of stdout leaves, netkit ends by SIGPIPE without a message, as filters do."""
    with peer(lambda sock: sock.sendall(DATA * 4)) as server, running("connect", server.address) as process:
        assert process.read(3_000_000) == DATA[:3_000_000]
        process.out.close()
        assert died_by(process.wait()) is signal.SIGPIPE
        assert process.said == []


def test_file_that_may_not_grow_is_23(tmp_path: Path) -> None:
    """At the file size limit netkit fails with its own message, and the file is an exact prefix."""
    path = tmp_path / "out"
    limit = 3_000_000
    with peer(lambda sock: sock.sendall(DATA)) as server, path.open("wb") as file:
        done = netkit("connect", server.address, stdout=file, wrapper=("prlimit", f"--fsize={limit}"))
    assert (done.code, done.err) == (23, "netkit connect: cannot write to stdout: file too large\n")
    assert path.read_bytes() == DATA[:limit]


def test_idle_input_after_bulk_still_ends_with_the_grace() -> None:
    """After bulk data a silent pipe is idle like any other input, and the grace applies."""
    got = threading.Event()

    def server(sock: socket.socket) -> int:
        left = len(DATA)
        while left:
            left -= len(sock.recv(min(left, 65536)))
        got.set()
        sock.sendall(b"enough")
        sock.shutdown(socket.SHUT_WR)
        return len(read_all(sock))

    with peer(server) as listening, running("connect", listening.address, "-v") as process:
        process.stdin.write(DATA)
        assert got.wait(20)
        assert process.wait() == 0
        process.line(f"input is still open and is left after {len(DATA)} bytes")
        assert listening.result() == 0


def test_idle_clock_counts_what_the_kernel_moves() -> None:
    """Data that the kernel moves restarts the idle timeout, so that a slow but steady peer is not idle."""

    def send(sock: socket.socket) -> None:
        sock.sendall(DATA)
        drip(sock, b"." * 16, 0.1)

    with peer(send) as server:
        done = netkit("connect", server.address, "--idle-timeout", "1500ms", "--recv-only")
    assert done == Finished(0, DATA + b"." * 16, "")


def test_signal_in_the_middle_ends_at_once() -> None:
    """Ctrl-C ends netkit at once, even while nothing reads its stdout."""
    with peer(lambda sock: sock.sendall(DATA * 4)) as server, running("connect", server.address) as process:
        assert process.out.read(2_000_000)
        process.signal(signal.SIGINT)
        assert died_by(process.wait(5)) is signal.SIGINT


def test_pipeline_of_files_and_sockets_is_whole(tmp_path: Path) -> None:
    """Data from file to socket to file between two netkit processes, both of which splice, arrives whole."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA * 4)
    line = f'"$0" -m netkit listen 0 -q > {target} -- sh -c \'"$0" -m netkit connect $NETKIT_ADDRESS < {source}\' "$0"'
    subprocess.run(["sh", "-c", line, NETKIT[0]], check=True, timeout=20, stdin=subprocess.DEVNULL)
    assert target.read_bytes() == source.read_bytes()


def test_stopped_terminal_in_the_middle_holds_no_signal() -> None:
    """With --raw on a terminal that is full, Ctrl-C ends netkit at once."""
    master, slave = os.openpty()
    try:
        with (
            peer(lambda sock: sock.sendall(DATA * 4)) as server,
            running("connect", server.address, "--raw", stdout=slave) as process,
        ):
            taken = 0
            while taken < 2_000_000:  # enough for bulk to begin; then nothing reads the terminal
                taken += len(os.read(master, 65536))
            process.signal(signal.SIGINT)
            assert died_by(process.wait(5)) is signal.SIGINT
    finally:
        os.close(slave)
        os.close(master)
