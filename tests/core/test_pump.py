"""``pump`` passes small messages on in steps of the loop, with the same bytes, counts and failures as in its task."""

import errno
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from netkit.core import kernel
from netkit.core.connection import idle_clock
from netkit.core.errors import Exit, Failure
from netkit.core.flow import Flow
from netkit.core.kernel import Group, Task, now, sleep
from netkit.core.pump import Change, Done, pump
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import SMALLEST_READ
from tests.clock import in_real_time, on_kernel
from tests.memory import CAPACITY, MemoryStream, pair
from tests.support import reset
from tests.support.peers import tcp_sockets


class Wakes:
    """Records each wake-up of a task."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._woken: list[Task] = []
        wake = Task.wake

        def noted(task: Task, *args: Any, **options: Any) -> None:
            self._woken.append(task)
            wake(task, *args, **options)

        monkeypatch.setattr(Task, "wake", noted)

    def of(self, task: Task) -> int:
        return self._woken.count(task)


@pytest.fixture
def wakes(monkeypatch: pytest.MonkeyPatch) -> Wakes:
    """Record which tasks are woken."""
    return Wakes(monkeypatch)


class Pumped:
    """A pump between two connections, in a task; ``writer`` and ``reader`` are the sockets of their peers."""

    def __init__(self, pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair) -> None:
        self.writer, ours = pair()
        self.reader, other = pair()
        self.writer.setblocking(False)
        self.reader.setblocking(False)
        self.source, self.sink_socket = SocketStream(ours, "the source"), other
        self.sink = SocketStream(other, "the sink")
        self.flow = Flow()
        self.failure: Failure | None = None
        self.source_ended: bool | None = None

    async def run(self, change: Change | None = None) -> None:
        try:
            self.source_ended = await pump(self.source, self.sink, change, flow=self.flow)
        except Failure as failure:
            self.failure = failure

    async def received(self, count: int) -> bytes:
        """Return what the reader gets: ``count`` bytes, or fewer if the stream ends."""
        data = b""
        while len(data) < count:
            await kernel.readable(self.reader.fileno())
            if not (more := self.reader.recv(count - len(data))):
                break
            data += more
        return data

    async def __aenter__(self) -> "Pumped":
        return self

    async def __aexit__(self, *raised: object) -> None:
        kernel.notify_closing(self.reader.fileno())
        for end in (self.source, self.sink, self.writer, self.reader):
            end.close()


def held_back(data: bytes) -> bytes:
    """A change that returns some bytes only at the end."""
    return data.upper() if data else b"<held>"


def done_at_the_end(data: bytes) -> bytes:
    """A change like ``held_back``, which finds only in what it held that it is done."""
    if not data:
        raise Done(b"<held>")
    return data.upper()


def to_the_dot(data: bytes) -> bytes:
    """A change that is done at the first dot."""
    before, dot, _ = data.partition(b".")
    if dot:
        raise Done(before)
    return data


def fill(sock: socket.socket) -> int:
    """Send until the socket is full, and return the number of bytes."""
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(4096))
    except BlockingIOError:
        return sent


@pytest.mark.parametrize("change", [None, bytes.upper])
@pytest.mark.parametrize("pair", [socket.socketpair, tcp_sockets])
@in_real_time
async def test_messages_pass_without_waking_the_task(wakes: Wakes, pair: Any, change: Change | None) -> None:
    """Messages pass without waking the task, which is woken only at the end, to end the sink."""
    async with Pumped(pair) as pumped, Group() as group:
        task = group.start_soon(pumped.run(change))
        for number in range(20):
            message = b"message %d" % number
            pumped.writer.send(message)
            assert await pumped.received(len(message)) == (change or bytes)(message)
        assert wakes.of(task) == 0
        assert pumped.source.counts.received == pumped.sink.counts.sent == pumped.flow.offered == 190
        pumped.writer.shutdown(socket.SHUT_WR)
        assert await pumped.received(1) == b""
        await task.finished.wait()
        assert pumped.source_ended is True


@in_real_time
async def test_a_change_that_swallows_a_message_sends_nothing(wakes: Wakes) -> None:
    """If a change returns nothing for a message, nothing is sent, and later messages pass as usual."""

    def letters(data: bytes) -> bytes:
        return data.strip(b"-") if data else b"!"

    async with Pumped() as pumped, Group() as group:
        task = group.start_soon(pumped.run(letters))
        for message in (b"--", b"-a-"):
            pumped.writer.send(message)
            await sleep(0)
        assert await pumped.received(1) == b"a"
        assert wakes.of(task) == 0
        pumped.writer.shutdown(socket.SHUT_WR)
        assert await pumped.received(5) == b"!"
        assert pumped.flow.offered == 2


@pytest.mark.parametrize("change", [None, lambda data: data.translate(bytes(range(255, -1, -1)))])
@on_kernel(limit=100_000)
async def test_a_sink_that_is_full_holds_the_source_up_and_loses_nothing(change: Change | None) -> None:
    """While the sink is full the pump holds at most one read and the flow is not silent; all data arrives in order."""
    chunks = random.Random(1)
    sent = got = b""
    async with Pumped() as pumped, Group() as group:
        task = group.start_soon(pumped.run(change))
        for _ in range(5):
            await sleep(0)
            while pumped.flow.waiting_since is not None:  # until the sink is full
                message = chunks.randbytes(chunks.randrange(1, SMALLEST_READ))
                sent += message[: pumped.writer.send(message)]
                await sleep(0)
            held = pumped.flow.offered - pumped.sink.counts.sent
            assert 0 < held < SMALLEST_READ
            assert pumped.source.counts.received == pumped.flow.offered
            got += await pumped.received(len(sent) - len(got))
        for message in (b"to the task", b"to a step"):
            sent += message
            pumped.writer.send(message)
            got += await pumped.received(len(message))
        pumped.writer.shutdown(socket.SHUT_WR)
        await task.finished.wait()
        got += await pumped.received(SMALLEST_READ)
    assert got == (change(sent) if change else sent)


@pytest.mark.parametrize("full", [False, True])
@in_real_time
async def test_a_change_that_is_done_ends_the_sink_after_its_last_byte(full: bool) -> None:
    """When the change is done, the last byte is sent before the end, even if the sink is full at first."""
    async with Pumped() as pumped, Group() as group:
        task = group.start_soon(pumped.run(to_the_dot))
        pumped.writer.send(b"ab")
        assert await pumped.received(2) == b"ab"
        before = fill(pumped.sink_socket) if full else 0
        pumped.writer.send(b"cd.ef")
        await sleep(0)
        assert await pumped.received(before + 5) == bytes(before) + b"cd"
        await task.finished.wait()
        assert pumped.source_ended is False
        assert pumped.flow.offered == pumped.sink.counts.sent == 4


@pytest.mark.parametrize(("told", "change"), [(False, held_back), (True, held_back), (False, done_at_the_end)])
@in_real_time
async def test_a_reset_of_the_source_is_its_failure(told: bool, change: Change) -> None:
    """The failure is RECV, even if ``raise_if_reset`` took the error before; the data held by the change is sent."""
    async with Pumped(tcp_sockets) as pumped, Group() as group:
        task = group.start_soon(pumped.run(change))
        pumped.writer.send(b"a")
        assert await pumped.received(1) == b"A"
        reset(pumped.writer)
        while told:  # until the reset has arrived; no step runs meanwhile
            try:
                pumped.source.raise_if_reset()
            except Failure:
                break
        await task.finished.wait()
        assert pumped.failure is not None
        assert (pumped.failure.exit, pumped.failure.errno) == (Exit.RECV, errno.ECONNRESET)
        assert await pumped.received(6) == b"<held>"


@in_real_time
async def test_a_reset_of_the_sink_is_its_failure() -> None:
    """The data read for the sink counts as offered, and the change is not called again to return what it holds."""
    ends: list[bytes] = []

    def noting(data: bytes) -> bytes:
        ends.append(data)
        return data

    async with Pumped(tcp_sockets) as pumped, Group() as group:
        task = group.start_soon(pumped.run(noting))
        pumped.writer.send(b"ab")
        assert await pumped.received(2) == b"ab"
        kernel.notify_closing(pumped.reader.fileno())
        reset(pumped.reader)
        await kernel.hung_up(pumped.sink_socket.fileno())
        pumped.writer.send(b"cd")
        await task.finished.wait()
        assert pumped.failure is not None
        assert (pumped.failure.exit, pumped.failure.errno) == (Exit.SEND, errno.ECONNRESET)
        assert (pumped.flow.offered, pumped.sink.counts.sent) == (4, 2)
    assert ends == [b"ab", b"cd"]


@pytest.mark.parametrize("which", ["source", "sink"])
@in_real_time
async def test_a_stream_that_is_closed_ends_the_pump_and_its_number_is_not_used(which: str) -> None:
    """The pump fails, and does not touch a new connection that has the closed descriptor's number."""
    async with Pumped() as pumped, Group() as group:
        task = group.start_soon(pumped.run())
        pumped.writer.send(b"ab")
        assert await pumped.received(2) == b"ab"
        stream = pumped.source if which == "source" else pumped.sink
        number = stream._fd
        stream.close()
        one, other = socket.socketpair()
        with one, other:
            assert number in (one.fileno(), other.fileno())
            if which == "sink":
                pumped.writer.send(b"cd")
            await task.finished.wait()
            for end in (one, other):
                with pytest.raises(BlockingIOError):
                    end.recv(1, socket.MSG_DONTWAIT)
        assert pumped.failure is not None
        expected = Exit.RECV if which == "source" else Exit.SEND
        assert (pumped.failure.exit, pumped.failure.errno) == (expected, errno.EBADF)


@in_real_time
async def test_bytes_that_were_given_back_come_first(wakes: Wakes) -> None:
    """Data from ``unread`` is passed on by the task, and later data in steps."""
    async with Pumped() as pumped, Group() as group:
        pumped.source.counts.add_received(3)
        pumped.source.unread(b"abc")
        pumped.writer.send(b"def")
        task = group.start_soon(pumped.run())
        assert await pumped.received(6) == b"abcdef"
        before = wakes.of(task)
        pumped.writer.send(b"ghi")
        assert await pumped.received(3) == b"ghi"
        assert wakes.of(task) == before
        assert pumped.source.counts.received == 9
        pumped.writer.shutdown(socket.SHUT_WR)


@in_real_time
async def test_steps_are_taken_again_after_large_reads(wakes: Wakes) -> None:
    """Large reads are passed on by the task, and later small messages in steps again."""
    data = random.Random(2).randbytes(1_000_000)

    async with Pumped(tcp_sockets) as pumped, Group() as group:
        task = group.start_soon(pumped.run(bytes.swapcase))
        sending = group.start_soon(SocketStream(pumped.writer, "the source's peer").send(data))
        assert await pumped.received(len(data)) == data.swapcase()
        await sending.finished.wait()
        assert wakes.of(task) > 0
        for _ in range(2):  # the task may still wait for a read of its own
            before = wakes.of(task)
            pumped.writer.send(b"x")
            assert await pumped.received(1) == b"X"
        assert wakes.of(task) == before
        pumped.writer.shutdown(socket.SHUT_WR)


@on_kernel
async def test_a_step_starts_the_clocks_of_silence_anew() -> None:
    """Each message passed on in a step restarts --idle-timeout of both streams and the grace of the flow."""
    async with Pumped() as pumped, Group() as group:
        group.start_soon(pumped.run())
        found: list[tuple[str, float]] = []

        async def idle(stream: SocketStream) -> None:
            with pytest.raises(Failure):
                await idle_clock(stream, 10)
            found.append((stream.name, now()))

        async def silent() -> None:
            assert await pumped.flow.silent(lambda: 10)
            found.append(("the flow", now()))

        tasks = [group.start_soon(each) for each in (idle(pumped.source), idle(pumped.sink), silent())]
        for _ in range(5):
            await sleep(6)
            pumped.writer.send(b"x")
            assert await pumped.received(1) == b"x"
        assert now() == 30
        for task in tasks:
            await task.finished.wait()
        pumped.writer.close()
    assert sorted(found) == [("the flow", 40), ("the sink", 40), ("the source", 40)]


@in_real_time
async def test_urgent_data_keeps_its_place() -> None:
    """Urgent data is received in its place, and no data around it is lost."""
    async with Pumped(tcp_sockets) as pumped, Group() as group:
        group.start_soon(pumped.run())
        for data, flags in ((b"ab", 0), (b"!", socket.MSG_OOB), (b"cd", 0), (b"?", socket.MSG_OOB)):
            pumped.writer.send(data, flags)
        assert await pumped.received(6) == b"ab!cd?"
        pumped.writer.shutdown(socket.SHUT_WR)


@on_kernel
async def test_the_flow_tells_how_a_direction_fares() -> None:
    """``offered`` counts bytes, and ``waiting_since`` is set while we wait for the source, not for the sink."""
    fed, source = pair()
    sink, taker = pair()
    flow = Flow()
    async with Group() as group:
        group.start_soon(pump(source, sink, flow=flow))
        await sleep(5)
        assert (flow.waiting_since, flow.offered) == (0, 0)
        await fed.send(b"abc")
        await sleep(5)
        assert (flow.waiting_since, flow.offered) == (5, 3)
        await fed.send(bytes(CAPACITY))
        await sleep(5)
        assert flow.waiting_since is None
        assert not flow.ended.is_set()
        await fed.send_eof()
        while await taker.recv():
            pass
        await flow.ended.wait()
    assert flow.offered == CAPACITY + 3


class Noted(bytes):
    """Bytes that count in ``gone`` how many were freed."""

    gone = 0

    def __del__(self) -> None:
        Noted.gone += len(self)


@on_kernel
async def test_what_was_passed_on_is_not_kept() -> None:
    """A pump that waits for data does not hold the data that it has passed on."""

    class Source(MemoryStream):
        async def recv(self) -> bytes:
            return Noted(await super().recv())

    ours, theirs = pair()
    source = Source("source", ours._in, ours._out)
    sink, reader = pair()
    async with Group() as group:
        group.start_soon(pump(source, sink))
        await theirs.send(bytes(50_000))
        received = 0
        while received < 50_000:
            received += len(await reader.recv())
        await sleep(1)
        assert Noted.gone >= 50_000
        group.cancel()
