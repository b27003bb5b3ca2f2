"""``serve`` on the kernel beside a script, and clients without a loop of their own."""

import socket
from collections.abc import Awaitable, Callable
from typing import Any

from netkit.core import kernel
from netkit.core.address import Endpoint
from netkit.core.connection import Handler
from netkit.core.errors import Failure
from netkit.core.kernel import Clock, Group, now, sleep
from netkit.core.policy import Policy
from netkit.core.pump import pump
from netkit.core.socket_stream import SocketStream
from netkit.core.sync import Event
from netkit.core.tcp_server import Listener, listen, serve
from tests.clock import PatientClock
from tests.support.processes import PATIENCE

BARE = Endpoint(None, 0)  # as in ``netkit listen 0``


async def echo(stream: SocketStream) -> str | None:
    """Send back what comes."""
    await pump(stream, stream)
    return None


async def hold(stream: SocketStream) -> str | None:
    """Keep the client for as long as one is let."""
    await Event().wait()
    return None


class Client:
    """A client without a loop of its own: what it does is done when the call returns."""

    def __init__(self, listener: Listener, number: int = 0) -> None:
        endpoint = listener.endpoints[number]
        if endpoint.path is not None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(endpoint.path)
        else:
            self.socket = socket.create_connection((endpoint.host, endpoint.port), PATIENCE)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def receive(self) -> bytes:
        """Receive what is there, when it is there."""
        await kernel.readable(self.socket.fileno())
        data = self.socket.recv(65536)
        kernel.notify_closing(self.socket.fileno())
        return data

    async def exchange(self, data: bytes) -> bytes:
        """Send, and receive what comes back."""
        self.socket.sendall(data)
        return await self.receive()

    async def was_reset(self) -> bool:
        """Receive to the end, and tell whether it was a reset."""
        try:
            while await self.receive():
                pass
        except ConnectionResetError:
            return True
        return False


class Server:
    """``serve`` beside a test: how it goes and when it ends."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.stop = Event()
        self.ended_at: float | None = None
        self.failure: Failure | None = None
        self.events: list[Any] = []

    async def run(self, handler: Handler, **limits: Any) -> None:
        try:
            await serve(self.listener, handler, stop=self.stop, policy=Policy(**limits), observe=self.events.append)
        except Failure as failure:
            self.failure = failure
        self.ended_at = now()

    def seen(self, kind: type) -> list[Any]:
        """The events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


def serving(
    script: Callable[[Server], Awaitable[None]],
    handler: Handler = echo,
    *,
    endpoint: Endpoint = BARE,
    clock: Clock | None = None,
    **limits: Any,
) -> Server:
    """Serve while a script runs, and until the server ends by itself; on a clock that jumps unless another is given."""
    result: list[Server] = []

    async def main() -> None:
        listener = await listen(endpoint, observe=print)
        server = Server(listener)
        result.append(server)
        try:
            async with Group() as group:
                group.start_soon(server.run(handler, **limits))
                await sleep(0)
                await script(server)
        finally:
            listener.close()

    kernel.run(main(), clock=clock or PatientClock())
    return result[0]
