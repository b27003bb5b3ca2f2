"""Joining many clients to one stdin and stdout: all get the same input (``listen --keep``)."""

from collections import deque
from collections.abc import Callable
from functools import partial

from netkit.core.connection import Ended
from netkit.core.errors import Exit, Failure
from netkit.core.events import CoreEvent, Cut, InputLeft, InputUnread
from netkit.core.kernel import Group
from netkit.core.policy import finish
from netkit.core.relay import Input
from netkit.core.stream import Connection, Counts
from netkit.core.sync import Condition, Event, Lock
from netkit.services.join import Conversation, Terminal
from netkit.services.server import Service

MAX_BEHIND = 1 << 20  # bytes that may wait for one client

_SMALL = 4096  # bytes: a queued chunk that is shorter is joined with the next, which saves objects


class Output:
    """The terminal's stdout, to which clients write in turn, a chunk at a time."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._turn = Lock()
        self._rest = b""  # of a chunk whose client was cancelled while it was written
        self._cut = Condition()

    async def run(self) -> None:
        """Write what is left of chunks, until cancelled. Raises Failure WRITE, also if stdout's reader leaves."""
        async with Group() as group:
            group.start_soon(self.terminal.reader_left())
            while True:
                await self._cut.wait()
                await self.write(b"")

    async def flush(self, stop: Event) -> None:
        """Wait until all is written. Raises Failure WRITE if that takes more than ``DRAIN`` seconds after ``stop``."""
        flushed = False

        async def write_rest() -> None:
            nonlocal flushed
            await self.write(b"")
            flushed = True

        await finish(write_rest(), stop)
        if not flushed:
            raise Failure(Exit.WRITE, "write to stdout", "its reader is too slow, and what came last is lost")

    async def write(self, data: bytes) -> None:
        """Write a chunk. If this is cancelled, ``run`` or the next call first writes the rest of it."""
        async with self._turn:
            whole, self._rest = self._rest + data, b""
            before = self.terminal.counts.sent
            try:
                await self.terminal.send(whole)
            except BaseException:
                self._rest = whole[self.terminal.counts.sent - before :]
                self._cut.notify_all()
                raise


class _SideCounts(Counts):
    """The counts of one of many sides. While it is ``writing``, all that moves to stdout has moved."""

    __slots__ = ("_moved_at", "_stdout", "writing")

    def __init__(self, stdout: Counts) -> None:
        self.writing = False
        self._stdout = stdout
        super().__init__()

    @property
    def moved_at(self) -> float:
        return max(self._moved_at, self._stdout.moved_at) if self.writing else self._moved_at

    @moved_at.setter
    def moved_at(self, at: float) -> None:
        self._moved_at = at


class Side:
    """Our side of one of many clients: what the client sends goes to stdout, which its end leaves open."""

    def __init__(self, output: Output) -> None:
        self.name = "stdin and stdout"
        self.counts = _SideCounts(output.terminal.counts)
        self._output = output

    async def send(self, data: bytes) -> None:
        self.counts.writing = True
        try:
            await self._output.write(data)
        finally:
            self.counts.writing = False
        self.counts.add_sent(len(data))

    async def send_eof(self) -> None:
        """Leave stdout open for the others."""

    def close(self) -> None:
        """Close nothing: the terminal is everybody's."""

    def abort(self) -> None:
        """Close nothing: the terminal is everybody's."""


class Broadcast:
    """Sends all of stdin, and its end, to each client that is connected.

    Stdin is read while there are clients, at the pace of the fastest. A client ``MAX_BEHIND`` bytes behind is reset.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.output = Output(terminal)
        self.subscribers: set[_Subscriber] = set()
        self.changed = Condition()
        self.ended = Event()
        self.taken = True  # whether a client has taken the last chunk

    async def feed(self) -> None:
        """Read stdin to its end, and run ``output`` until cancelled. Raises Failure: READ, or WRITE for stdout."""
        terminal = self.output.terminal
        async with Group() as group:
            group.start_soon(self.output.run())
            while not self.ended.is_set():
                await self._until(lambda: bool(self.subscribers))
                data = await terminal.recv()
                if not data:
                    self.end()
                    break
                self.taken = False
                given: set[_Subscriber] = set()
                while not self.taken and not given & self.subscribers:  # again if all left before one took it
                    await self._until(lambda: bool(self.subscribers))
                    given = self.subscribers.copy()
                    for subscriber in given:
                        subscriber.give(data)
                    await self._until(partial(self._may_go_on, given))

    def end(self) -> None:
        """End our input for all clients, whatever stdin may still bring."""
        self.ended.set()
        for subscriber in self.subscribers:
            subscriber.give(b"")
        self.changed.notify_all()

    def _may_go_on(self, given: "set[_Subscriber]") -> bool:
        """Whether a client waits for more, or all that were ``given`` the last chunk have left."""
        return not given & self.subscribers or any(subscriber.waits for subscriber in self.subscribers)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.changed.wait()


class _Subscriber(Side):
    """Our side of one client of a broadcast, with its queue of bytes from stdin."""

    def __init__(self, broadcast: Broadcast) -> None:
        super().__init__(broadcast.output)
        self.waits = False
        self.behind = Event()
        self._broadcast = broadcast
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._given = Condition()
        broadcast.subscribers.add(self)
        broadcast.changed.notify_all()

    def give(self, data: bytes) -> None:
        """Put bytes from stdin into the queue, or tell of its end."""
        if self._chunks and len(self._chunks[-1]) < _SMALL:
            self._chunks[-1] += data
        elif data:
            self._chunks.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_BEHIND:
            self.behind.set()
        self.waits = False
        self._given.notify_all()

    async def recv(self) -> bytes:
        while not self._chunks and not self._broadcast.ended.is_set():
            self.waits = True
            self._broadcast.changed.notify_all()
            await self._given.wait()
        if not self._chunks:
            return b""
        data = self._chunks.popleft()
        self._waiting_bytes -= len(data)
        if not self._chunks:
            self._broadcast.taken = True
        self.counts.add_received(len(data))
        return data

    def leave(self) -> None:
        """Get no more bytes of stdin."""
        self._broadcast.subscribers.discard(self)
        self._broadcast.changed.notify_all()


def keeping(terminal: Terminal, conversation: Conversation) -> Service:
    """Join each client to the terminal."""
    broadcast = Broadcast(terminal)

    def observe(event: CoreEvent) -> None:
        if not isinstance(event, InputLeft | InputUnread):  # wrong here, as stdin is still read for other clients
            conversation.observe(event)

    async def handle(stream: Connection) -> Ended:
        subscriber = _Subscriber(broadcast)

        async def keep_up() -> None:
            await subscriber.behind.wait()
            reason = f"it is {MAX_BEHIND >> 20} MiB behind"
            conversation.observe(Cut(stream.peer, reason))
            raise Failure(Exit.SEND, f"send to {stream.name}", reason)

        try:
            async with Group() as group:
                group.start_soon(keep_up())
                how = await conversation._replace(observe=observe).relay(subscriber, stream)
                group.cancel()
        finally:
            subscriber.leave()
        return how

    service = Service(handle, broadcast.feed, flush=broadcast.output.flush)
    if conversation.ending.input is Input.TERMINAL:  # Ctrl-C ends typed input, too
        return service._replace(interrupted=broadcast.end)
    return service
