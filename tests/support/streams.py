"""Streams of real sockets, and which way of the kernel their bytes took."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from netkit.core import splice
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import Stream


class Steps:
    """How often each of the kernel's ways was taken, and how many bytes it moved."""

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
async def streams_of(sockets: tuple[socket.socket, socket.socket]) -> AsyncIterator[tuple[Stream, Stream]]:
    """Make streams of two connected sockets, and close them."""
    a, b = SocketStream(sockets[0], "a"), SocketStream(sockets[1], "b")
    try:
        yield a, b
    finally:
        a.close()
        b.close()
