"""The objects of a client are freed when it leaves, without waiting for the garbage collector."""

import gc
import socket
import struct
from collections.abc import Callable

import pytest

from netkit.core.address import Endpoint
from netkit.core.connection import Handler
from netkit.core.dial import Dialling
from netkit.core.errors import without_frames
from netkit.core.events import Closed, ignore
from netkit.core.kernel import Clock
from netkit.core.relay import AT_ONCE, Ending, Input
from netkit.services.echo import echo
from netkit.services.exec import running
from netkit.services.join import Conversation, Terminal, joining
from netkit.services.relay import forwarding
from tests.support.peers import Peer, free_port, peer, read_all
from tests.support.servers import Client, Server, serving

Leaving = Callable[[Client], None]


def ending(client: Client) -> None:
    """Send a word and our end."""
    client.socket.sendall(b"word")
    client.socket.shutdown(socket.SHUT_WR)


def resetting(client: Client) -> None:
    """Send a word, and reset the connection."""
    client.socket.sendall(b"word")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


def conversation(input: Input) -> Conversation:
    """A conversation of clients with this kind of input."""
    return Conversation(ending=Ending(input=input, shutdown=AT_ONCE), incoming=lambda stream: [], observe=ignore)


def to(port: int) -> Handler:
    """A relay to a port on loopback."""
    there = Endpoint("127.0.0.1", port)
    return forwarding(there, lambda client: Dialling(), changes=lambda: [], keepalive=None, observe=ignore)


HANDLERS: dict[str, Callable[[Peer], Handler]] = {
    "echo": lambda there: echo(),
    "echo under a clock": lambda there: echo(idle_timeout=5),
    "relay": lambda there: to(there.port),
    "relay to nobody": lambda there: to(free_port()),
    "program": lambda there: running(["cat"], conversation(Input.PROGRAM), lambda code: None, alone=False),
    "terminal": lambda there: joining(lambda: Terminal(text=b"typed", writes=False), conversation(Input.PIPE)),
}


@pytest.mark.parametrize("leave", [ending, resetting])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.process] * (name == "program")) for name in HANDLERS]
)
def test_no_circle_is_left_of_a_client(name: str, leave: Leaving) -> None:
    """The collector finds no objects of netkit after clients that ended or reset."""
    found: list[str] = []

    async def script(server: Server) -> None:
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        for served in range(1, 4):
            with Client(server.listener) as client:
                leave(client)
                while len(server.seen(Closed)) < served:
                    await server.listener.left.wait()
        gc.collect()
        found.extend(type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("netkit."))
        server.stop.set()

    try:
        with peer(read_all) as there:
            serving(script, HANDLERS[name](there), clock=Clock())
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert found == []


def test_errors_that_led_to_each_other_hold_no_frames() -> None:
    """Frames of causes, contexts and members of groups are dropped, even if an error is its own cause."""
    errors: list[BaseException] = []
    try:
        try:
            raise OSError("first")
        except OSError as error:
            errors.append(error)
            raise ExceptionGroup("group", [error]) from error
    except ExceptionGroup as group:
        errors.append(group)
        with pytest.raises(OSError, match="last") as caught:
            last = OSError("last")
            raise last from last
        errors.append(caught.value)
    for error in errors[1:]:
        without_frames(error)
    assert [(error.__traceback__, error.__context__) for error in errors] == [(None, None)] * 3
