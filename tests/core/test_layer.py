"""Layers between a connection and its conversation, for clients and for servers."""

import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from netkit.core import kernel
from netkit.core.address import Endpoint
from netkit.core.connection import Ended, acknowledged, serve_connection
from netkit.core.dial import Dialling, dial, dial_until
from netkit.core.errors import Exit, Failure
from netkit.core.events import Closed, ignore
from netkit.core.kernel import Group, Task, now, sleep
from netkit.core.layer import Changed, Layer, Wrapped, through, unread
from netkit.core.pump import pump
from netkit.core.relay import Ending, relay
from netkit.core.socket_stream import SocketStream
from netkit.core.stdio import FileStream
from netkit.core.stream import Connection, Counts, raw_source
from netkit.core.sync import Condition, Event
from tests import contract, memory
from tests.clock import in_real_time, on_kernel
from tests.contract import Check, check_stream, fails, failure_of, pattern, read_all, read_exactly, wait_for
from tests.support.peers import tcp_sockets
from tests.support.servers import Client, Server, serving
from tests.support.streams import Steps, streams_of

HERE = "127.0.0.1"

# -- a layer that changes what goes through it


def doubling() -> Layer:
    """A layer that sends every line twice."""

    async def layer(stream: Connection, group: Group) -> Connection:
        rest = b""

        def double(data: bytes) -> bytes:
            nonlocal rest
            *lines, rest = (rest + data).split(b"\n")
            whole = b"".join((line + b"\n") * 2 for line in lines)
            return whole if data else rest * 2

        return Changed(stream, outgoing=double)

    return layer


@asynccontextmanager
async def changed() -> AsyncIterator[tuple[Any, Any]]:
    """A connection on which both ends swap the case of all data."""
    ours, theirs = tcp_sockets()
    async with Group() as group:
        a = await through(SocketStream(ours, "a"), [swap], group)
        b = await through(SocketStream(theirs, "b"), [swap], group)
        yield a, b
        a.close()
        b.close()


async def swap(stream: Connection, group: Group) -> Connection:
    """Swap upper and lower case in both directions."""
    return Changed(stream, incoming=bytes.swapcase, outgoing=lambda data: bytes(data).swapcase())


@contract.every_check(contract.TCP)
def test_contract(check: Check) -> None:
    """A connection with a layer that changes its data keeps the contract."""
    check_stream(changed, check)


@in_real_time
async def test_payload_is_counted_and_not_what_becomes_of_it() -> None:
    """Counts are of the data given to ``send``, not of what the layer makes of it."""
    async with streams_of(tcp_sockets()) as (a, b), Group() as group:
        stream = await through(a, [doubling()], group)
        await stream.send(b"one\ntwo\nthr")
        assert await read_exactly(b, 16) == b"one\none\ntwo\ntwo\n"
        await stream.send(b"ee")
        assert stream.counts.sent == 13
        assert stream.unacknowledged() >= 2, "what the layer holds is not there"
        await stream.send_eof()
        await acknowledged(stream)
        assert (stream.counts.sent, stream.unacknowledged()) == (13, 0)
        assert await read_all(b) == b"threethree"


@pytest.mark.parametrize("end", [Changed.send_eof, Changed.shutdown])
@in_real_time
async def test_what_a_layer_holds_goes_before_the_end(end: Callable[[Any], Awaitable[None]]) -> None:
    """Both ``send_eof`` and ``shutdown`` first send the data that the layer holds, and send it once."""
    async with streams_of(tcp_sockets()) as (a, b), Group() as group:
        stream = await through(a, [doubling()], group)
        await stream.send(b"last")
        await end(stream)
        await stream.send_eof()
        assert await read_all(b) == b"lastlast"


@on_kernel
async def test_what_came_before_a_reset_is_received_and_then_the_reset() -> None:
    """Data that the layer holds is received first, and then every call fails with the reset."""
    near, far = memory.pair()
    held: list[bytes] = []

    def hold(data: bytes) -> bytes:
        held.append(data)
        return b"" if data else b"".join(held)

    stream: Any = Changed(near, incoming=hold)
    await far.send(b"the beginning")
    async with Group() as group:
        reading = group.start_soon(stream.recv())
        while not held:
            await sleep(0)
        far.abort()
    assert reading.result == b"the beginning"
    for _ in range(2):
        with pytest.raises(Failure) as caught:
            await stream.recv()
        assert caught.value.exit is Exit.RECV


# -- a layer with a task


class Late(Wrapped):
    """Sends all data a second later, with its own queue, counts and task."""

    def __init__(self, stream: Connection, group: Group) -> None:
        super().__init__(stream)
        self.counts = Counts()
        self._queue: deque[tuple[float, bytes]] = deque()
        self._changed = Condition()
        group.start_soon(self._carry())

    async def send(self, data: bytes) -> None:
        self.counts.add_sent(len(data))
        self._queue.append((now() + 1, data))
        self._changed.notify_all()

    async def send_eof(self) -> None:
        while self._queue:
            await self._changed.wait()
        await super().send_eof()

    def unacknowledged(self) -> int:
        return super().unacknowledged() + sum(len(data) for _, data in self._queue)

    async def _carry(self) -> None:
        while True:
            while not self._queue:
                await self._changed.wait()
            due, data = self._queue[0]
            await sleep(due - now())
            await super().send(data)
            self._queue.popleft()
            self._changed.notify_all()


async def late(stream: Connection, group: Group) -> Connection:
    """Send all data a second later."""
    return Late(stream, group)


@on_kernel
async def test_an_end_goes_behind_what_a_layer_still_holds() -> None:
    """A relay through a layer that delays data waits for all of it, and then for the end."""
    local, keyboard = memory.pair()
    near, far = memory.pair()
    async with Group() as group:
        stream = await through(near, [late], group)
        arrived = group.start_soon(read_all(far))
        joined = group.start_soon(relay(local, stream, Ending(send_only=True), observe=ignore))
        await keyboard.send(b"question")
        await keyboard.send_eof()
        await sleep(0.5)
        assert (stream.counts.sent, stream.unacknowledged()) == (8, 8)
        assert not joined.finished.is_set()
        await wait_for(joined)
        assert now() == pytest.approx(1)
        await wait_for(arrived)
        await far.send_eof()
        group.cancel()
    assert arrived.result == b"question"


@in_real_time
async def test_what_a_layer_runs_ends_before_the_connection_is_closed() -> None:
    """The task of a layer is cancelled before the connection is closed, however the conversation ends."""

    async def served(handler: Callable[[Any], Any]) -> tuple[BaseException | None, Any, bytes]:
        ours, theirs = tcp_sockets()
        far = SocketStream(theirs, "far")
        endings: list[BaseException] = []
        events: list[Any] = []

        async def listens(stream: Connection, group: Group) -> Connection:
            async def listen() -> None:
                try:
                    await stream.recv()
                except BaseException as error:
                    endings.append(error)
                    raise

            group.start_soon(listen())
            await sleep(0)
            return stream

        failure = await failure_of(serve_connection(SocketStream(ours, "us"), handler, events.append, [listens]))
        try:
            came = await read_all(far)
        except Failure:
            came = b"reset"
        far.close()
        assert [type(error) for error in endings] == [kernel.Cancelled]
        return failure, events, came

    async def well(stream: Any) -> Ended:
        await stream.send(b"bye")
        return Ended("well")

    async def badly(stream: Any) -> None:
        raise Failure(Exit.PROTOCOL, "understand", "nonsense")

    failure, [closed], came = await served(well)
    assert (failure, closed.reason, came) == (None, "well", b"bye")
    failure, [closed], came = await served(badly)
    assert (str(failure), came) == (closed.reason, b"reset")


@on_kernel
async def test_a_layer_that_fails_beside_ends_the_conversation() -> None:
    """The failure of a layer's task is that of the connection."""

    async def breaks(stream: Connection, group: Group) -> Connection:
        async def fail() -> None:
            await sleep(1)
            raise Failure(Exit.PROTOCOL, "carry on", "the line broke")

        group.start_soon(fail())
        return stream

    async with streams_of(tcp_sockets()) as (a, _):
        with pytest.raises(Failure) as caught:
            await serve_connection(a, lambda stream: Event().wait(), ignore, [breaks])
        assert caught.value.reason == "the line broke"


# -- dialling and serving


async def greeted(stream: Connection, group: Group) -> Connection:
    """A handshake in which each side sends one word."""
    await stream.send(b"hello")
    assert await read_exactly(stream, 5) == b"hello"
    return stream


class Presented(Wrapped):
    """A connection whose peer has another address."""

    peer = Endpoint("192.0.2.1", 4711)


async def presented(stream: Connection, group: Group) -> Connection:
    """Give a connection another address of its peer."""
    return Presented(stream)


def test_counts_begin_behind_the_last_layer_on_both_sides() -> None:
    """Counts do not include what the layers exchange, and the peer's address is that of the last layer."""
    seen: list[Any] = []

    async def handler(stream: Any) -> None:
        seen.append((stream.peer, stream.counts.sent, stream.counts.received))
        await stream.send(await read_exactly(stream, 4))

    async def script(server: Server) -> None:
        async with Group() as group:
            how = Dialling(layers=[greeted])
            stream = await dial(server.listener.endpoints[0], how, group=group)
            assert (stream.counts.sent, stream.counts.received, stream.unacknowledged()) == (0, 0, 0)
            await stream.send(b"echo")
            assert await read_all(stream) == b"echo"
            assert (stream.counts.sent, stream.counts.received) == (4, 4)
            stream.close()
        server.stop.set()

    server = serving(script, handler, layers=[greeted, presented])
    assert seen == [(Presented.peer, 0, 0)]
    [closed] = server.seen(Closed)
    assert (closed.peer, closed.bytes_received, closed.bytes_sent) == (Presented.peer, 4, 4)


def test_an_attempt_that_fails_leaves_nothing_running() -> None:
    """When ``dial_until`` dials again, the tasks of the failed attempt's layers have ended."""
    tasks: list[Task] = []

    async def runs(stream: Connection, group: Group) -> Connection:
        tasks.append(group.start_soon(Event().wait()))
        return stream

    async def refuses_once(stream: Connection, group: Group) -> Connection:
        if len(tasks) == 1:
            raise Failure(Exit.CONNECT, "connect through the proxy", "it is not there yet")
        return stream

    async def script(server: Server) -> None:
        async with Group() as group:
            how = Dialling(layers=[runs, refuses_once])
            stream = await dial_until(server.listener.endpoints[0], 5, how, group=group)
            assert [task.finished.is_set() for task in tasks] == [True, False]
            await stream.send(b"echo")
            assert await stream.recv() == b"echo"
            group.cancel()
            stream.close()
        with Client(server.listener) as another:  # the server still accepts
            assert await another.exchange(b"echo") == b"echo"
        server.stop.set()

    assert serving(script).failure is None
    assert len(tasks) == 2


# -- data received along with a handshake

BANNER = b"220 ready when you are\r\n"


async def after_the_banner(stream: Connection, group: Group) -> Connection:
    """Read a line, and unread the data that came with it."""
    came = b""
    while b"\n" not in came:
        came += await stream.recv()
    assert came[: len(BANNER)] == BANNER
    return unread(stream, came[len(BANNER) :])


@contextmanager
def talkative(data: bytes) -> Iterator[Endpoint]:
    """A server that sends its banner and ``data`` at once."""
    with socket.create_server((HERE, 0)) as listener:

        def talk() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(BANNER + data)

        thread = threading.Thread(target=talk)
        thread.start()
        yield Endpoint(HERE, listener.getsockname()[1])
        thread.join()


def test_a_handshake_costs_no_zero_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Data that came with a banner is received first, then the kernel moves the rest, and all is counted once."""
    steps = Steps(monkeypatch)
    data = pattern(contract.PAST_PROMOTION)
    with talkative(data) as target, (tmp_path / "got").open("wb") as file:

        async def main() -> None:
            async with Group() as group:
                stream = await dial(target, Dialling(layers=[after_the_banner]), group=group)
                assert isinstance(stream, SocketStream)
                assert raw_source(stream) is None, "what was given back would be passed by"
                first = await stream.recv()
                assert data.startswith(first)
                assert raw_source(stream) is not None
                stream.unread(first)
                await pump(stream, FileStream(file.fileno(), file.fileno()), half_close=False)
                assert stream.counts.received == len(data)
                stream.close()

        kernel.run(main())
    assert (tmp_path / "got").read_bytes() == data
    assert steps.moved > len(data) // 2


@in_real_time
async def test_what_was_given_back_comes_in_its_order() -> None:
    """Of several calls of ``unread``, the data of the last is received first; a closed stream has none."""
    async with streams_of(tcp_sockets()) as (a, b):
        await b.send(b"one two three")
        came = await read_exactly(a, 13)
        a.unread(came[8:])
        a.unread(came[:8])
        assert a.counts.received == 0
        assert await a.recv() == came
        a.unread(came)
        a.close()
        await fails(a.recv(), Exit.RECV)


@on_kernel
async def test_a_connection_over_another_gives_back_too() -> None:
    """``unread`` works on connections other than sockets, too."""
    near, far = memory.pair()
    await far.send(BANNER + b"and more")
    await far.send_eof()
    stream = await through(near, [after_the_banner], Group())
    assert stream.counts.received == 0
    assert await stream.recv() == b"and more"
    assert await stream.recv() == b""
    assert stream.counts.received == 8
