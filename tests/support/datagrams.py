"""Sockets for tests of datagrams, ours and plain ones, which are closed at the end."""

import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import wraps
from inspect import signature
from typing import Any

import pytest

from netkit.core import kernel, udp
from netkit.core import udp_server as binding
from netkit.core.address import Endpoint
from netkit.core.kernel import deadline, now
from netkit.core.udp import Datagram
from netkit.core.udp_server import Bound
from tests.support.processes import PATIENCE

HERE = Endpoint("127.0.0.1", 0)
BARE = Endpoint(None, 0)  # as in ``netkit udp-serve 0``
HOSTS = ("127.0.0.1", "::1")


class Room:
    """Opens the sockets of a script, and closes them at its end."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    async def bind(self, endpoint: Endpoint = HERE, **options: Any) -> Bound:
        bound = await binding.bind(endpoint, **options)
        self._stack.callback(bound.close)
        return bound

    async def connect(self, endpoint: Endpoint, *how: Any, **options: Any) -> Datagram:
        sock = await udp.connect(endpoint, *how, **options)
        self._stack.callback(sock.close)
        return sock

    def plain(self, host: str = "127.0.0.1") -> socket.socket:
        """A plain socket of Python's."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._stack.callback(sock.close)
        sock.settimeout(PATIENCE)
        sock.bind((host, 0))
        return sock

    def overflow(self, server: Datagram) -> None:
        """Send 100 datagrams of 100 bytes to a socket, and give it room for a few of them."""
        server._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sender = self.plain()
        for _ in range(100):
            sender.sendto(b"x" * 100, server._sock.getsockname())


def run(script: Callable[[Room], Awaitable[Any]], clock: kernel.Clock | None = None) -> Any:
    """Run a script on the kernel. One that hangs fails."""

    async def main() -> Any:
        with ExitStack() as stack, deadline(now() + (PATIENCE if clock is None else 1e9)):
            return await script(Room(stack))

    return kernel.run(main(), clock=clock)


def in_room(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make an ordinary test of one that is a script with more parameters, and run it on the kernel."""

    @wraps(test)
    def run_test(**parameters: Any) -> None:
        run(lambda room: test(room, **parameters))

    whole = signature(test)
    _, *others = whole.parameters.values()
    run_test.__signature__ = whole.replace(parameters=others)  # type: ignore[attr-defined]
    return pytest.mark.loopback(run_test)
