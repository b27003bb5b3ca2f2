"""The progress of a conversation."""

import os
import socket
from collections.abc import Sequence

import pytest

from netkit.core import kernel
from netkit.core.flow import Transfer
from netkit.core.kernel import DeadlineExceeded, deadline, now
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import Connection
from netkit.core.sync import Event
from netkit.services.progress import Moving, Shown, Ways


def test_what_is_sent_is_what_was_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only acknowledged bytes are shown as sent, not those that the system still holds for a slow peer."""
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    seen: list[Moving] = []
    rows: list[Sequence[Transfer]] = []

    async def show(moving: Moving) -> None:
        seen.append(moving)
        await Event().wait()

    async def send(stream: Connection) -> None:
        try:
            with deadline(now() + 0.05):
                await stream.send(bytes(20_000_000))
        except DeadlineExceeded:
            rows.append(seen[0]())

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as ours, listener.accept()[0]:

            async def main() -> None:
                stream = SocketStream(ours, "the peer")
                await Shown(show, None, Ways(reads=True, writes=False), None).around(send)(stream)  # type: ignore[arg-type]
                [[row]] = rows
                assert 0 < row.moved < 100_000 < stream.counts.sent

            kernel.run(main())
