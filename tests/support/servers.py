"""Running the core's ``serve`` beside a script in one kernel, and simple clients for it."""

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
    """Send back all data."""
    await pump(stream, stream)
    return None


async def hold(stream: SocketStream) -> str | None:
    """Keep the client until cancelled."""
    await Event().wait()
    return None


class Client:
    """A blocking client, except for receiving, which waits in the kernel."""

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
        """Wait for data and receive it."""
        await kernel.readable(self.socket.fileno())
        data = self.socket.recv(65536)
        kernel.notify_closing(self.socket.fileno())
        return data

    async def exchange(self, data: bytes) -> bytes:
        """Send data, and receive the answer."""
        self.socket.sendall(data)
        return await self.receive()

    async def was_reset(self) -> bool:
        """Receive to the end; return whether it was a reset."""
        try:
            while await self.receive():
                pass
        except ConnectionResetError:
            return True
        return False


class Server:
    """A run of ``serve``: its events, its failure, and when it ended."""

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
        """The events of one type so far."""
        return [event for event in self.events if isinstance(event, kind)]


def serving(
    script: Callable[[Server], Awaitable[None]],
    handler: Handler = echo,
    *,
    endpoint: Endpoint = BARE,
    clock: Clock | None = None,
    **limits: Any,
) -> Server:
    """Serve while a script runs, and until the server ends by itself. The default clock jumps."""
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
