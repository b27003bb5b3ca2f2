"""This process's own stdin and stdout as one end of a conversation."""

import os
import re
import signal
import stat
from collections.abc import Callable, Sequence

from netkit.core.connection import Handler, with_idle_timeout
from netkit.core.errors import Exit, Failure
from netkit.core.events import Observer
from netkit.core.kernel import Group, next_signal, sleep
from netkit.core.pump import Change, fresh
from netkit.core.record import Record
from netkit.core.relay import Ending, Input, relay
from netkit.core.stdio import FileStream
from netkit.core.stream import Connection, RawEnd, Stream
from netkit.core.sync import Event

STDIN, STDOUT = 0, 1

_LINES_AT_ONCE = 500  # lines that are written before others get their turn

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class Terminal(FileStream):
    """Stdin and stdout, or in place of stdin a ``text`` that is fixed beforehand.

    ``reads`` False leaves stdin alone: nothing comes and it never ends. ``writes`` False drops what is sent.
    ``by_line`` writes each line by itself.
    """

    def __init__(
        self, *, text: bytes | None = None, reads: bool = True, writes: bool = True, by_line: bool = False
    ) -> None:
        super().__init__(STDIN, STDOUT)
        self._text = text
        self._by_line = by_line
        self._reads = reads
        self._writes = writes

    def raw_source(self) -> RawEnd | None:
        return super().raw_source() if self._reads and self._text is None else None

    def raw_sink(self) -> RawEnd | None:
        return super().raw_sink() if self._writes and not self._by_line else None

    async def recv(self) -> bytes:
        """What was typed, piped or given as text."""
        if self._text is not None:
            data, self._text = self._text, b""
            return data
        if not self._reads:
            await Event().wait()
        return await super().recv()

    async def send(self, data: bytes) -> None:
        """Write to stdout."""
        if not self._writes:
            return
        for number, piece in enumerate(_LINE.findall(data) if self._by_line else (data,), 1):
            await super().send(piece)
            if number % _LINES_AT_ONCE == 0:
                await sleep(0)

    async def send_eof(self) -> None:
        """End stdout, so that its reader goes on."""
        if self._writes:
            await super().send_eof()


def input_kind(*, program: bool, reads: bool) -> Input:
    """What our input is: a program's output, what stdin is, or nothing if it is not read."""
    if program:
        return Input.PROGRAM
    if not reads:
        return Input.NONE
    return Input.TERMINAL if os.isatty(STDIN) else Input.PIPE


def is_file(kind: Input) -> bool:
    """Whether our input is a regular file."""
    return kind is Input.PIPE and stat.S_ISREG(os.fstat(STDIN).st_mode)


def is_null(kind: Input) -> bool:
    """Whether our input is /dev/null, which is also put in the place of a stdin that was closed at our start."""
    status = os.fstat(STDIN)
    return kind is Input.PIPE and stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev


class Conversation(Record):
    """How connections are joined to our side, whatever that is.

    ``incoming`` returns makers of what the bytes of a connection go through, ``outgoing`` makes what those for it do.
    Once nothing has moved for ``idle_timeout`` seconds it fails.
    """

    ending: Ending
    incoming: Callable[[Connection], Sequence[Callable[[], Change]]]
    observe: Observer
    outgoing: Callable[[], Change] | None = None
    idle_timeout: float | None = None

    async def relay(self, ours: Stream, stream: Connection) -> str:
        """Join our side and a connection. Returns and raises what the core's ``relay`` does."""
        return await relay(
            ours,
            stream,
            self.ending,
            outgoing=self.outgoing and self.outgoing(),
            incoming=fresh(self.incoming(stream)),
            observe=self.observe,
        )


async def leave(stream: Connection) -> None:
    """The handler for who has seen enough once a connection stands: it says nothing, and the end is sent."""


def joining(open_terminal: Callable[[], Terminal], conversation: Conversation) -> Handler:
    """A handler that joins a connection to the terminal. It fails as ``relay`` does, or if our reader left."""

    async def handle(stream: Connection) -> str:
        how = ""

        async def interrupted() -> None:
            nonlocal how
            number = await next_signal()
            if number != signal.SIGINT or stream.unacknowledged():
                raise Failure(Exit.SEND, f"go on with {stream.name}", "interrupted")
            how = "interrupted"  # what was typed has ended, and the peer has all of it: that is an end, and no cut
            group.cancel()

        terminal = open_terminal()
        group = Group()
        try:
            async with group:
                group.start_soon(terminal.reader_left())
                if conversation.ending.input is Input.TERMINAL:
                    group.start_soon(interrupted())
                how = await conversation.relay(terminal, stream)
                group.cancel()
        finally:
            terminal.close()
        return how

    return with_idle_timeout(handle, conversation.idle_timeout)
