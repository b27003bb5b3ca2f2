"""Joining a connection to stdin and stdout, and what kind of input stdin is."""

import os
import re
import signal
import stat
from collections.abc import Callable, Sequence

from netkit.core.connection import Ended, Handler, idle_clock
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
INTERRUPTED = Ended("interrupted")

_LINES_AT_ONCE = 500  # lines that are written before others get their turn

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class Terminal(FileStream):
    """Stdin and stdout as a stream; a ``text`` takes the place of stdin.

    Without ``reads`` stdin is not read: ``recv`` waits forever. Without ``writes`` what is sent is dropped. With
    ``by_line`` each line is written by itself.
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
        """Read stdin, or return the text and then b""."""
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
        """End stdout, so that its reader sees the end."""
        if self._writes:
            await super().send_eof()


def input_kind(*, program: bool, reads: bool) -> Input:
    """The kind of our input: of a program, of stdin, or NONE if stdin is not read."""
    if program:
        return Input.PROGRAM
    if not reads:
        return Input.NONE
    return Input.TERMINAL if os.isatty(STDIN) else Input.PIPE


def is_file(kind: Input) -> bool:
    """Whether our input is a regular file."""
    return kind is Input.PIPE and stat.S_ISREG(os.fstat(STDIN).st_mode)


def is_null(kind: Input) -> bool:
    """Whether our input is /dev/null, which also replaces a stdin that was closed at our start."""
    status = os.fstat(STDIN)
    return kind is Input.PIPE and stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev


class Conversation(Record):
    """How connections are joined to our side (stdin and stdout, or a program).

    ``incoming`` returns makers of the changes for bytes from a connection, ``outgoing`` makes that for bytes to it.
    A conversation fails once nothing has moved for ``idle_timeout`` seconds.
    """

    ending: Ending
    incoming: Callable[[Connection], Sequence[Callable[[], Change]]]
    observe: Observer
    outgoing: Callable[[], Change] | None = None
    idle_timeout: float | None = None

    async def relay(self, ours: Stream, stream: Connection) -> Ended:
        """Join our side and a connection; see ``relay`` of core/relay.py. Raises Failure TIMEOUT as well."""
        joined = relay(
            ours,
            stream,
            self.ending,
            outgoing=self.outgoing and self.outgoing(),
            incoming=fresh(self.incoming(stream)),
            observe=self.observe,
        )
        if self.idle_timeout is None:  # a group for each client would take memory
            return await joined
        async with Group() as group:
            group.start_soon(idle_clock(stream, self.idle_timeout, ours=ours))
            how = await joined
            group.cancel()
        return how

    async def talk(self, ours: Stream, stream: Connection) -> Ended:
        """Join as ``relay`` does; if our input is typed, Ctrl-C is its end, and ``INTERRUPTED`` is returned.

        Raises Failure SIGNAL if the peer has not acknowledged all of it, and for other signals.
        """
        if self.ending.input is not Input.TERMINAL:
            return await self.relay(ours, stream)
        how = INTERRUPTED

        async def interrupted() -> None:
            if await next_signal() != signal.SIGINT or stream.unacknowledged():
                raise Failure(Exit.SIGNAL, f"go on with {stream.name}", "interrupted")
            group.cancel()

        async with Group() as group:
            group.start_soon(interrupted())
            how = await self.relay(ours, stream)
            group.cancel()
        return how


async def leave(stream: Connection) -> None:
    """A handler that does nothing, so that the connection ends at once: all that is wanted is that it was made."""


def joining(open_terminal: Callable[[], Terminal], conversation: Conversation) -> Handler:
    """A handler that joins a connection to the terminal. Raises Failure as ``relay``, and if stdout's reader leaves."""

    async def handle(stream: Connection) -> Ended:
        terminal = open_terminal()
        try:
            async with Group() as group:
                group.start_soon(terminal.reader_left())
                how = await conversation.talk(terminal, stream)
                group.cancel()
        finally:
            terminal.close()
        return how

    return handle
