"""Streams of real sockets, and counting the bytes that the kernel moves for them."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from netkit.core import splice
from netkit.core.socket_stream import SocketStream


class Steps:
    """Counts in ``moved`` the bytes that splice(2) and sendfile(2) move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moved = 0
        for name in ("splice", "sendfile"):
            monkeypatch.setattr(splice.os, name, self._counting(getattr(os, name)))

    def _counting(self, call: Any) -> Any:
        def counted(*args: Any, **options: Any) -> int:
            count: int = call(*args, **options)
            self.moved += count
            return count

        return counted


@asynccontextmanager
async def streams_of(sockets: tuple[socket.socket, socket.socket]) -> AsyncIterator[tuple[SocketStream, SocketStream]]:
    """Make streams of two connected sockets, and close them."""
    a, b = SocketStream(sockets[0], "a"), SocketStream(sockets[1], "b")
    try:
        yield a, b
    finally:
        a.close()
        b.close()
