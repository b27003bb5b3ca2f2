"""Recording what goes over a connection: to a log that a program reads, or as a hex dump for a person."""

from collections.abc import Callable
from typing import Protocol

from netkit.core.address import Endpoint
from netkit.core.connection import Handler
from netkit.core.layer import Wrapped
from netkit.core.stream import Connection


class Log(Protocol):
    """Where bytes are noted for a program."""

    def note(self, direction: str, peer: Endpoint, data: bytes) -> None:
        """Note bytes that were ``sent`` or ``received``; raise Failure WRITE."""


class Dump(Protocol):
    """Where bytes are shown to a person."""

    async def show(self, direction: str, name: str, data: bytes, offset: int) -> None:
        """Show bytes that were ``sent`` or ``received``; ``offset`` is where they stand in their direction."""


class _Recorded(Wrapped):
    """A connection whose bytes are noted as they come and as they are taken."""

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
        finally:
            taken = data[: self.counts.sent - before]
            if taken and self._log is not None:
                self._log.note("sent", self.peer, taken)
        if self._dump is not None:
            await self._dump.show("sent", self.name, taken, before)


def recording(log: Log | None, dump: Dump | None) -> Callable[[Connection], Connection]:
    """What makes of a connection one whose bytes are noted in ``log`` and shown by ``dump``."""
    return lambda stream: _Recorded(stream, log, dump)


def recorded(handler: Handler, record: Callable[[Connection], Connection]) -> Handler:
    """The handler, with what goes over each connection recorded."""

    async def handle(stream: Connection) -> str | None:
        return await handler(record(stream))

    return handle
