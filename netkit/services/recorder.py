"""Recording the bytes of connections: to a log for programs, or as a hex dump."""

from collections.abc import Callable
from typing import Protocol

from netkit.core.address import Endpoint
from netkit.core.errors import Failure
from netkit.core.layer import Wrapped
from netkit.core.stream import Connection


class Log(Protocol):
    """A log of bytes for programs."""

    def note(self, direction: str, peer: Endpoint, data: bytes) -> None:
        """Log bytes; ``direction`` is "sent" or "received". Raises Failure WRITE."""


class Dump(Protocol):
    """A hex dump of bytes."""

    async def show(self, direction: str, name: str, data: bytes, offset: int) -> None:
        """Show bytes; ``direction`` is "sent" or "received", ``offset`` that of the first byte in its direction."""


class _Recorded(Wrapped):
    """A connection that records what it receives, and what of the data sent the system has taken."""

    def __init__(self, stream: Connection, log: Log | None, dump: Dump | None) -> None:
        super().__init__(stream)
        self._log = log
        self._dump = dump

    async def recv(self) -> bytes:
        data = await super().recv()
        if data and self._log is not None:
            self._log.note("received", self.peer, data)
        if data and self._dump is not None:
            await self._dump.show("received", self.name, data, self.counts.received - len(data))
        return data

    async def send(self, data: bytes) -> None:
        before = self.counts.sent
        try:
            await super().send(data)
        except Failure:
            await self._show_sent(data, before)
            raise
        finally:
            taken = data[: self.counts.sent - before]
            if taken and self._log is not None:
                self._log.note("sent", self.peer, taken)
        await self._show_sent(data, before)

    async def _show_sent(self, data: bytes, before: int) -> None:
        taken = data[: self.counts.sent - before]
        if taken and self._dump is not None:
            await self._dump.show("sent", self.name, taken, before)


def recording(log: Log | None, dump: Dump | None) -> Callable[[Connection], Connection]:
    """A function that wraps a connection, so that its bytes are recorded in ``log`` and ``dump``."""
    return lambda stream: _Recorded(stream, log, dump)
