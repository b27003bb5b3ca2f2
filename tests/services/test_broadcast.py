"""Many clients that share one terminal, in memory: what each receives, and how much is held for each."""

import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN, Ended
from netkit.core.errors import Failure
from netkit.core.events import Cut
from netkit.core.kernel import Group, now, sleep
from netkit.core.relay import NEVER, Ending
from netkit.core.stream import Counts
from netkit.core.sync import Condition, Event
from netkit.services.broadcast import Output, keeping
from netkit.services.join import Conversation, Terminal
from netkit.services.reply import reply_to, replying
from netkit.services.server import Service
from tests import memory
from tests.clock import on_kernel

# -- a terminal in memory


class Desk:
    """A terminal in memory: a test types its stdin, and its stdout takes ``room`` bytes."""

    def __init__(self, *, room: int = 1 << 30) -> None:
        self.typed: list[bytes] = []
        self.reads = 0
        self.out = b""
        self.counts = Counts()
        self.room = room
        self.changed = Condition()

    def type(self, data: bytes) -> None:
        """Append ``data`` to stdin; b"" is its end."""
        self.typed.append(data)
        self.changed.notify_all()

    def drain(self) -> None:
        """Let stdout take bytes again."""
        self.room = 1 << 30
        self.changed.notify_all()

    async def recv(self) -> bytes:
        while not self.typed:
            await self.changed.wait()
        self.reads += 1
        return self.typed.pop(0)

    async def send(self, data: bytes) -> None:
        while data:
            while not self.room:
                await self.changed.wait()
            piece, data = data[: self.room], data[self.room :]
            self.room -= len(piece)
            self.out += piece
            self.counts.add_sent(len(piece))

    async def reader_left(self) -> None:
        await Event().wait()


class Client:
    """A client: ``stream`` is its end, ``served`` the time at which its handler ended."""

    def __init__(self, group: Group, service: Service, name: str) -> None:
        self.stream, self._servers = memory.pair()
        self._servers.name = name
        self._servers.peer = Endpoint(name, 1)  # type: ignore[attr-defined]
        self.served: float | None = None
        self.how = ""
        self.task = group.start_soon(self._serve(service))

    async def _serve(self, service: Service) -> None:
        end = self._servers.abort
        try:
            self.how = (await service.handler(self._servers) or Ended()).words  # type: ignore[arg-type]
            end = self._servers.close
        except OSError as error:
            self.how = str(error)
        finally:
            self.served = now()
            end()

    @property
    def incoming(self) -> bytearray:
        """The bytes that arrived and were not read yet."""
        return self.stream._in.buffer

    async def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (chunk := await self.stream.recv()):
            data += chunk
        return data


@asynccontextmanager
async def served(service: Service) -> AsyncIterator[Callable[[str], Client]]:
    """Run the service during the block, which makes clients by their names."""
    assert service.beside is not None
    async with Group() as group:
        group.start_soon(service.beside())
        yield lambda name: Client(group, service, name)
        group.cancel()


def broadcast(desk: Desk, ending: Ending = Ending(), observe: Callable[[object], None] = lambda event: None) -> Service:
    """Return the service that sends the desk's stdin to all clients."""
    return keeping(desk, Conversation(ending, lambda stream: [], observe))  # type: ignore[arg-type]


def replying_from(desk: Desk) -> Service:
    """Return the service that sends a reply to all clients."""
    conversation = Conversation(Ending(), lambda stream: [], lambda event: None)
    return replying(reply_to(b"reply", None), desk, conversation)  # type: ignore[arg-type]


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(20):
        await sleep(0)


# -- stdin for all clients


@on_kernel
async def test_stdin_waits_for_the_first_client_and_goes_to_all() -> None:
    """Stdin is read once there is a client; all get the same data, and later clients get the end, too."""
    desk = Desk()
    async with served(broadcast(desk)) as join:
        desk.type(b"first")
        await sleep(3600)
        assert desk.reads == 0
        one = join("one")
        assert await one.read(5) == b"first"
        two = join("two")
        await settle()
        desk.type(b"second")
        for client in (one, two):
            assert await client.read(6) == b"second"
        desk.type(b"")
        three = join("three")
        for client in (one, two, three):
            assert await client.read(1) == b""
        await sleep(3600)
        assert one.served is None  # it may still send
        await one.stream.send(b"late")
        for client in (one, two, three):
            await client.stream.send_eof()
        await settle()
        assert desk.out == b"late"
        assert [client.how for client in (one, two, three)] == ["input ended first"] * 3


@on_kernel
async def test_what_comes_while_nobody_is_there_waits_for_the_next() -> None:
    """Each client in turn gets the next data of stdin, and after its end later clients see the end at once."""
    desk = Desk()
    async with served(broadcast(desk)) as join:
        for word in (b"0", b"1", b"2"):
            desk.type(word)
            client = join("one after the other")
            await client.stream.send(b"!")
            assert await client.read(1) == word
            await client.stream.send_eof()
            assert await client.read(1) == b""
            await sleep(60)
            assert client.how == "peer ended first"
        desk.type(b"last")
        desk.type(b"")
        for wanted in (b"last", b"", b""):
            client = join("later")
            assert await client.read(5) == wanted
            await client.stream.send_eof()
            await settle()


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("cut", [False, True], ids=["ends", "is cut"])
@on_kernel
async def test_input_that_comes_as_the_only_client_leaves_is_for_the_next(cut: bool, turns: int) -> None:
    """A line that is typed while the last client leaves goes to it or to the next, in any turn of the loop."""
    desk = Desk()
    async with served(broadcast(desk, Ending(grace=0.0))) as join:
        first = join("first")
        await settle()
        if cut:
            first.task.cancel()
        else:
            await first.stream.send_eof()
        for _ in range(turns):
            await sleep(0)
        desk.type(b"line")
        await settle()
        second = join("second")
        await settle()
        assert first.incoming + second.incoming == b"line"


@pytest.mark.parametrize("turns", range(8))
@on_kernel
async def test_input_that_comes_as_a_client_is_cut_goes_to_each_that_stays_once(turns: int) -> None:
    """A line that is typed while a waiting client is cut is not given again to one that has it, but not yet taken."""
    desk = Desk()
    filling = bytes(2 * memory.CAPACITY)
    async with served(broadcast(desk)) as join:
        busy, waiting = join("busy"), join("waiting")
        await settle()
        desk.type(filling)
        await waiting.read(len(filling))
        await settle()
        waiting.task.cancel()
        for _ in range(turns):
            await sleep(0)
        desk.type(b"line")
        await settle()
        join("next")
        await settle()
        assert await busy.read(len(filling) + 4) == filling + b"line"
        await settle()
        assert not busy.incoming


@on_kernel
async def test_a_client_that_ends_leaves_stdin_to_the_others() -> None:
    """A client that leaves is no reason to report unread stdin."""
    desk = Desk()
    told: list[object] = []
    async with served(broadcast(desk, observe=told.append)) as join:
        client = join("client")
        desk.type(b"hello")
        assert await client.read(5) == b"hello"
        await client.stream.send(b"bye")
        await client.stream.send_eof()
        await sleep(60)
        assert (client.how, desk.out, told) == ("peer ended first", b"bye", [])


@on_kernel
async def test_hold_keeps_a_client_that_ended_until_stdin_does() -> None:
    """With --hold a client that has ended its direction still gets the data of stdin."""
    desk = Desk()
    async with served(broadcast(desk, Ending(hold=True))) as join:
        client = join("client")
        await client.stream.send_eof()
        await sleep(3600)
        desk.type(b"late")
        desk.type(b"")
        assert await client.read(5) == b"late"


@on_kernel
async def test_no_shutdown_keeps_the_end_of_stdin_to_itself() -> None:
    """With --no-shutdown the end of stdin is not sent to clients before they end themselves."""
    desk = Desk()
    async with served(broadcast(desk, Ending(shutdown=NEVER))) as join:
        one = join("one")
        desk.type(b"data")
        desk.type(b"")
        assert await one.read(4) == b"data"
        for client in (one, join("two")):
            await sleep(3600)
            assert client.served is None
            await client.stream.send_eof()
            assert await client.read(1) == b""
            assert client.how == "input ended first"


@on_kernel
async def test_a_client_alone_sets_the_pace() -> None:
    """A single client is never cut, however slow: stdin is read only after it took the data before."""
    desk = Desk()
    told: list[object] = []
    async with served(broadcast(desk, observe=told.append)) as join:
        for _ in range(40):
            desk.type(bytes(100_000))
        client = join("slow")
        await sleep(3600)
        assert desk.reads <= 3  # one in the connection, one being sent, one just read
        assert len(await client.read(4_000_000)) == 4_000_000
        assert not told


@on_kernel(limit=10_000)
async def test_who_falls_behind_is_cut_with_one_event_and_the_rest_miss_nothing() -> None:
    """A client more than 1 MiB behind the others is reset, not before; stdin is read at the pace of the fastest."""
    desk = Desk()
    told: list[object] = []
    async with served(broadcast(desk, observe=told.append)) as join:
        stuck, quick = join("stuck"), join("quick")
        await settle()
        for number in range(40):
            desk.type(b"%c" % number * 65_536)
            assert await quick.read(65_536) == b"%c" % number * 65_536
            # one is in its connection, one is being sent, 16 wait, and one more is too many
            assert bool(told) == (number >= 18), number
        assert [type(event) for event in told] == [Cut]
        assert stuck.how == "cannot send to stuck: it is 1 MiB behind"
        assert quick.served is None


@on_kernel(limit=100_000)
async def test_small_pieces_cost_a_client_that_never_reads_little_too() -> None:
    """Small pieces for a slow client have little overhead: 1 MiB of them takes at most 16 MiB of memory."""
    desk = Desk()
    count = 10_000
    tracemalloc.start()
    try:
        async with served(broadcast(desk)) as join:
            stuck, quick = join("stuck"), join("quick")
            await settle()
            desk.type(bytes(2 * memory.CAPACITY))  # fills the connection of the client that does not read
            await quick.read(2 * memory.CAPACITY)
            before, _ = tracemalloc.get_traced_memory()
            for number in range(count // 2):
                desk.type(b"%c%c" % divmod(number, 256))
                await quick.read(2)
            after, _ = tracemalloc.get_traced_memory()
            assert stuck.served is None
            assert after - before < 16 * count
    finally:
        tracemalloc.stop()


# -- stdout of all clients


@on_kernel
@pytest.mark.parametrize("cancelled", [False, True])
async def test_chunks_follow_each_other_on_a_full_stdout(cancelled: bool) -> None:
    """A chunk is written whole before the next, also after its client was cut when stdout had room for a part."""
    desk = Desk(room=3)
    output = Output(desk)  # type: ignore[arg-type]
    async with Group() as group:
        first = group.start_soon(output.write(b"first\n"))
        group.start_soon(output.write(b"second\n"))
        await settle()
        assert desk.out == b"fir"
        if cancelled:
            first.cancel()
        desk.drain()
    assert desk.out == b"first\nsecond\n"


@pytest.mark.parametrize("replies", [False, True], ids=["keep", "reply"])
@on_kernel
async def test_a_line_whose_client_is_cut_does_not_stay_torn(replies: bool) -> None:
    """The rest of a chunk is written once stdout takes it, also if nobody else writes."""
    desk = Desk(room=3)
    async with served(replying_from(desk) if replies else broadcast(desk)) as join:
        client = join("client")
        await client.stream.send(b"first\n")
        await settle()
        client.task.cancel()
        await sleep(3600)
        assert desk.out == b"fir"
        desk.drain()
        await settle()
        assert desk.out == b"first\n"


@pytest.mark.parametrize(("stopped_at", "drained_at"), [(None, 3600.0), (0.0, 0.5), (60.0, 60.5), (0.0, None)])
@pytest.mark.parametrize("replies", [False, True], ids=["keep", "reply"])
@on_kernel
async def test_the_end_waits_for_a_torn_line(replies: bool, stopped_at: float | None, drained_at: float | None) -> None:
    """The server ends once all is written, however late; DRAIN seconds after ``stop`` what is left is a failure."""
    desk = Desk(room=3)
    stop = Event()
    service = replying_from(desk) if replies else broadcast(desk)

    async def at(moment: float | None, action: Callable[[], None]) -> None:
        if moment is not None:
            await sleep(moment)
            action()

    async with served(service) as join, Group() as group:
        client = join("client")
        await client.stream.send(b"first\n")
        await settle()
        client.task.cancel()
        await settle()
        assert service.flush is not None
        group.start_soon(at(stopped_at, stop.set))
        group.start_soon(at(drained_at, desk.drain))
        if drained_at is None:
            with pytest.raises(Failure, match=r"cannot write to stdout: its reader is too slow"):
                await service.flush(stop)
            assert now() == DRAIN
        else:
            await service.flush(stop)
            assert (now(), desk.out) == (drained_at, b"first\n")


@on_kernel
async def test_what_is_not_written_is_not_kept() -> None:
    """With --send-only what clients send is dropped, and takes no memory."""
    output = Output(Terminal(writes=False))
    tracemalloc.start()
    try:
        for _ in range(100):
            await output.write(bytes(100_000))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# -- a reply to each client


async def serve_reply(desk: Desk, behave: Callable[[Client], Awaitable[None]]) -> Client:
    """Serve one client with a reply for an hour, and return it."""
    async with served(replying_from(desk)) as join:
        client = join("client")
        await behave(client)
        await sleep(3600)
    return client


@on_kernel
async def test_a_client_that_ends_is_let_go_at_once() -> None:
    """A client that has ended is closed at once, before the second that it has for this is over."""

    async def behave(client: Client) -> None:
        await client.stream.send(b"request")
        assert await client.read(100) == b"reply"
        await client.stream.send_eof()

    desk = Desk()
    client = await serve_reply(desk, behave)
    assert (client.served, desk.out) == (0, b"request")


@on_kernel
async def test_a_client_that_never_ends_is_let_go_after_a_second() -> None:
    """A client that is silent after the reply is closed after a second."""

    async def behave(client: Client) -> None:
        assert await client.read(100) == b"reply"

    client = await serve_reply(Desk(), behave)
    assert (client.served, client.how) == (1, "all was sent")


@on_kernel
async def test_a_client_that_still_sends_is_heard_out() -> None:
    """The second starts anew with each piece of a request."""

    async def behave(client: Client) -> None:
        for _ in range(5):
            await client.stream.send(b"piece ")
            await sleep(0.75)
        await client.stream.send_eof()

    desk = Desk()
    client = await serve_reply(desk, behave)
    assert (client.served, desk.out) == (3.75, b"piece " * 5)


@on_kernel
async def test_a_request_that_waits_for_a_slow_stdout_is_not_lost() -> None:
    """While stdout is full no client counts as silent, and the whole request is written later."""
    desk = Desk(room=0)

    async def behave(client: Client) -> None:
        await client.stream.send(bytes(50_000))
        await client.stream.send_eof()
        await sleep(60)
        desk.drain()

    await serve_reply(desk, behave)
    assert len(desk.out) == 50_000


@pytest.mark.parametrize("kind", ["keeping", "replying"])
@on_kernel
async def test_clients_that_wait_for_a_slow_stdout_are_not_idle(kind: str) -> None:
    """The idle timeout counts what moves to stdout for all who wait for it, and for nobody else; then it ends them."""
    desk = Desk(room=0)
    conversation = Conversation(Ending(), lambda stream: [], lambda event: None, idle_timeout=2)
    if kind == "keeping":
        service = keeping(desk, conversation)  # type: ignore[arg-type]
    else:
        service = replying(reply_to(b"reply", None), desk, conversation)  # type: ignore[arg-type]
    async with served(service) as join:
        one, two, silent = join("one"), join("two"), join("silent")
        await one.stream.send(bytes(10))
        await two.stream.send(bytes(10))
        for _ in range(15):
            await sleep(1.9)
            desk.room = 1
            desk.changed.notify_all()
        await settle()
        assert len(desk.out) == 15 and two.served is None
        assert silent.served is not None and silent.served < 3
        await sleep(2.1)
        assert two.served == pytest.approx(15 * 1.9 + 2)
        desk.drain()
