"""Streams in memory, with bounded buffers."""

import errno
import os

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure
from netkit.core.stream import Counts
from netkit.core.sync import Condition

CAPACITY = 64 * 1024


class _Pipe(Condition):
    """One direction of a connection: buffered bytes, and its end or reset. It notifies of each change."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray()
        self.ended = False
        self.broken: int | None = None


class MemoryStream:
    """One end of ``pair()``."""

    def __init__(self, name: str, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.name = name
        self.counts = Counts()
        self.peer = Endpoint()
        self._in = incoming
        self._out = outgoing
        self._closed = False

    async def recv(self) -> bytes:
        while True:
            if self._closed:
                raise Failure(Exit.RECV, f"receive from {self.name}", _error(errno.EBADF))
            if self._in.buffer:
                data = bytes(self._in.buffer[:16384])
                del self._in.buffer[: len(data)]
                self.counts.add_received(len(data))
                self._in.notify_all()
                return data
            if self._in.broken:
                raise Failure(Exit.RECV, f"receive from {self.name}", _error(self._in.broken))
            if self._in.ended:
                return b""
            await self._in.wait()

    async def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self._closed or self._out.broken or self._out.ended:
                code = errno.EBADF if self._closed else self._out.broken or errno.EPIPE
                raise Failure(Exit.SEND, f"send to {self.name}", _error(code))
            room = CAPACITY - len(self._out.buffer)
            if not room:
                await self._out.wait()
                continue
            self._out.buffer += rest[:room]
            self.counts.add_sent(len(rest[:room]))
            rest = rest[room:]
            self._out.notify_all()

    async def send_eof(self) -> None:
        self._out.ended = True
        self._out.notify_all()

    async def shutdown(self) -> None:
        await self.send_eof()

    def unacknowledged(self) -> int:
        return 0

    def raise_if_reset(self) -> None:
        if self._in.broken:
            raise Failure(Exit.RECV, f"receive from {self.name}", _error(self._in.broken))

    def probe(self) -> None:
        """Do nothing: a closed end is seen at once."""

    async def peer_left(self) -> None:
        while not self._in.broken and not (self._in.ended and (self._out.ended or self._out.broken)):
            await (self._out if self._in.ended else self._in).wait()
        self.raise_if_reset()

    def close(self) -> None:
        self._closed = True
        self._out.ended = True
        if not self._in.ended:
            self._in.broken = errno.EPIPE
        self._in.notify_all()
        self._out.notify_all()

    def abort(self) -> None:
        if not self._closed:
            self._out.broken = errno.ECONNRESET
        self.close()


def pair() -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a connection in memory."""
    one, other = _Pipe(), _Pipe()
    return MemoryStream("memory a", one, other), MemoryStream("memory b", other, one)


class _Acknowledged(MemoryStream):
    """An end whose bytes are acknowledged once the other end has received them."""

    def unacknowledged(self) -> int:
        return len(self._out.buffer)


def acknowledging_pair() -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a connection, ``peer`` and the peer itself, whose reading is what acknowledges."""
    near, far = pair()
    return _Acknowledged("peer", near._in, near._out), far


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
