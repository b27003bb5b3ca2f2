"""The progress of a conversation."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from netkit.core import kernel
from netkit.core.flow import Transfer
from netkit.core.kernel import DeadlineExceeded, deadline, now
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import Connection
from netkit.core.sync import Event
from netkit.services import progress
from netkit.services.join import STDIN, STDOUT
from netkit.services.progress import Moving, Shown, Ways
from tests import memory
from tests.clock import on_kernel
from tests.support.terminals import pipes

LITTLE, MUCH = 6, 64 * 1024


@on_kernel
@pytest.mark.parametrize(
    ("terminals", "sent", "received", "rows"),
    [
        ([], 0, 0, [("received", 0)]),
        ([], LITTLE, LITTLE, [("sent", LITTLE), ("received", LITTLE)]),
        ([STDOUT], 0, 0, []),
        ([STDOUT], LITTLE, 0, [("sent", LITTLE)]),
        ([STDOUT], LITTLE, LITTLE, []),  # the answer takes its place
        ([STDIN], 0, LITTLE, []),
        ([STDIN], 0, MUCH, [("received", MUCH)]),
        ([STDIN], LITTLE, MUCH, []),  # a line was typed
    ],
)
async def test_rows(
    terminals: list[int], sent: int, received: int, rows: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A greeting is not counted, and nothing is shown of what is typed, or of an answer on the terminal."""
    monkeypatch.setattr(os, "isatty", lambda fd: fd in terminals)
    monkeypatch.setattr(Ways, "total", lambda ways: None)
    seen: list[Moving] = []

    async def show(moving: Moving) -> None:
        seen.append(moving)
        await Event().wait()

    async def converse(stream: Connection) -> None:
        await kernel.sleep(0)
        stream.counts.add_sent(sent)
        stream.counts.add_received(received)
        assert [(row.name, row.moved) for row in seen[0]()] == rows

    stream, _ = memory.pair()
    await stream.send(b"greeting")
    wiped = (lambda: b"") if STDOUT in terminals else None
    await Shown(show, None, Ways(reads=True, writes=True), wiped).around(converse)(stream)  # type: ignore[arg-type]


def test_what_is_there_to_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is sent from its position on. The amount is unknown for a pipe, a file in /proc, and with changes."""

    def total(fd: int, *, long: bool = True) -> int | None:
        monkeypatch.setattr(progress, "STDIN", fd)
        return Ways(reads=True, writes=False, long=long).total()

    (tmp_path / "file").write_bytes(bytes(100))
    with (tmp_path / "file").open("rb") as file, open("/proc/version") as odd, pipes() as (pipe, *_):
        assert [total(fd) for fd in (file.fileno(), odd.fileno(), pipe)] == [100, None, None]
        assert total(file.fileno(), long=False) is None
        for position, rest in ((30, 70), (200, 0)):
            file.seek(position)
            assert total(file.fileno()) == rest


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
