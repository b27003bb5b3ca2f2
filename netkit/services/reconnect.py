"""Sending one input over several connections: after a lost one the peer is dialled again, and no line is lost."""

from collections.abc import Awaitable, Callable
from typing import Any

from netkit.core.connection import Ended, Handler
from netkit.core.errors import Exit, Failure
from netkit.core.events import InputLeft, InputUnread, Reconnecting
from netkit.core.kernel import Group, now, sleep
from netkit.core.stream import Connection
from netkit.services.join import INTERRUPTED, Conversation, Terminal

_PAUSE = 0.25  # s at least between two dials
_BROKEN = (Exit.SEND, Exit.RECV, Exit.PARTIAL)  # how a conversation fails whose peer has ended or reset
_MAX_LINE = 1 << 20  # bytes of a line that are kept; of a longer one only unacknowledged bytes are sent again
_PIECE = 64 * 1024


class Resumable:
    """Our stdin and stdout as a stream that outlives one connection.

    Bytes from stdin are kept until the peer has acknowledged the whole line. The next connection begins with the first
    line that is not acknowledged, so a peer may get bytes twice.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.name = terminal.name
        self.counts = terminal.counts
        self.ended = False
        self._terminal = terminal
        self._kept = bytearray()
        self._next = 0  # index in ``_kept`` of the next byte to send
        self._dropped = 0  # bytes sent over this connection that are not kept any more
        self._stream: Connection | None = None

    def attach(self, stream: Connection) -> None:
        """Begin a new connection with the first byte that is kept."""
        self._stream = stream
        self._next = self._dropped = 0

    def detach(self) -> int:
        """Leave a connection that has ended, before it is closed. Returns how many bytes are not acknowledged."""
        lost = self._release()
        self._stream = None
        return lost

    def _release(self) -> int:
        """Drop the lines that are acknowledged completely. Returns how many bytes are not acknowledged."""
        if self._stream is None:
            return 0
        acknowledged = self._stream.counts.sent - self._stream.unacknowledged() - self._dropped
        done = self._kept.rfind(b"\n", 0, acknowledged) + 1
        if len(self._kept) - done > _MAX_LINE:
            done = acknowledged
        del self._kept[:done]
        self._dropped += done
        self._next -= done
        return len(self._kept) - (acknowledged - done)

    async def recv(self) -> bytes:
        self._release()
        if self._next == len(self._kept):
            if self.ended:
                return b""
            data = await self._terminal.recv()
            self.ended = not data
            self._kept += data
        data = bytes(self._kept[self._next : self._next + _PIECE])
        self._next += len(data)
        return data

    async def send(self, data: bytes) -> None:
        await self._terminal.send(data)

    async def send_eof(self) -> None:
        """Leave stdout open for the next connection."""

    def close(self) -> None:
        """Close the terminal."""
        self._terminal.close()

    def abort(self) -> None:
        """Close the terminal."""
        self._terminal.close()


async def reconnecting(
    open_terminal: Callable[[], Terminal],
    conversation: Conversation,
    converse: Callable[[Handler, bool], Awaitable[None]],
) -> None:
    """Join the terminal to one connection after the other, until its input has ended and is acknowledged.

    ``converse`` gets a handler and whether this is a repetition; it dials, and runs the handler on the connection.
    Raises the failures of dialling, and those of ``relay`` of core/relay.py except for a broken connection.
    """
    terminal = open_terminal()
    ours = Resumable(terminal)
    unacknowledged = 0
    again = False

    def observe(event: Any) -> None:
        if not isinstance(event, InputLeft | InputUnread):
            conversation.observe(event)

    async def handle(stream: Connection) -> Ended:
        nonlocal unacknowledged
        ours.attach(stream)
        try:
            how = await conversation._replace(observe=observe).talk(ours, stream)
            ours.ended = ours.ended or how is INTERRUPTED
            return how
        finally:
            unacknowledged = ours.detach()

    try:
        async with Group() as group:
            group.start_soon(terminal.reader_left())
            while True:
                begun = now()
                try:
                    await converse(handle, again)
                except Failure as failure:
                    if failure.exit not in _BROKEN or (ours.ended and not unacknowledged):
                        raise
                    reason = str(failure)
                else:
                    if ours.ended:
                        break
                    reason = "the peer ended"
                again = True
                conversation.observe(Reconnecting(reason))
                await sleep(max(begun + _PAUSE - now(), 0))
            group.cancel()
    finally:
        ours.close()
