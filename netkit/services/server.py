"""Running a server command: its sockets, how long it serves, its port file, and the COMMAND that runs meanwhile."""

import os
import re
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit.core.address import Endpoint
from netkit.core.bind import identity
from netkit.core.connection import DRAIN, Ended, Handler
from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Cut, Listening, Observer, ignore
from netkit.core.kernel import Cancelled, Group, Task, next_signal, sleep
from netkit.core.policy import Policy
from netkit.core.search import SearchTimeout
from netkit.core.stream import Connection
from netkit.core.sync import Event
from netkit.core.tcp_server import Acceptor, listen, serve

if TYPE_CHECKING:
    from netkit.core.udp_server import Bound, Receiver


class Service(NamedTuple):
    """What a server does: ``handler`` is for each client, ``receiver`` for the datagrams that come to the same port.

    With ``converses`` a client is a peer of datagrams, as it is where ``udp:`` is written before the address.
    ``beside`` runs as long as the server. ``interrupted`` is called at Ctrl-C, before open connections are drained.
    ``flush`` is called after the last client, with the event that ends the server early; it writes what is still to be
    written, or raises Failure.
    """

    handler: Handler | None = None
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None
    receiver: "Receiver | None" = None
    converses: bool = False
    interrupted: Callable[[], None] = lambda: None
    flush: Callable[[Event], Coroutine[Any, Any, None]] | None = None


class Sockets(NamedTuple):
    """The sockets of a server: for connections, for datagrams, or for both, with one port number."""

    listener: Acceptor | None = None
    bound: "Bound | None" = None

    @property
    def listening(self) -> list[Listening]:
        streams, datagrams = [], []
        if self.listener is not None:
            protocol = self.listener.protocol
            streams = [Listening(each, protocol, converses=protocol == "udp") for each in self.listener.endpoints]
        if self.bound is not None:
            datagrams = [Listening(each, "udp", bool(streams)) for each in self.bound.endpoints]
        return streams + datagrams

    @property
    def port(self) -> int | None:
        """The port number of all its sockets, None for a unix socket."""
        return next(each.port for each in self if each is not None)

    def close(self) -> None:
        for each in self:
            if each is not None:
                each.close()


async def open_sockets(
    endpoint: Endpoint,
    service: Service,
    *,
    groups: Sequence[str] = (),
    family: int,
    numeric: bool,
    mode: int,
    observe: Observer,
) -> Sockets:
    """Open the sockets that the service needs. ``groups`` are multicast addresses. The caller closes the sockets.

    Raises Failure: BIND, or RESOLVE for the name.
    """
    if endpoint.udp or service.converses:
        from netkit.core.udp_server import bind
        from netkit.core.udp_stream import DatagramListener

        bound = await bind(endpoint, family=family, numeric=numeric, mode=mode, observe=observe)
        return Sockets(DatagramListener(bound, observe, named_udp=endpoint.udp))
    if service.receiver is None:
        return Sockets(await listen(endpoint, family=family, numeric=numeric, mode=mode, observe=observe))
    from netkit.core.udp_server import bind, bind_both

    if service.handler is not None:
        return Sockets(*await bind_both(endpoint, family=family, numeric=numeric, observe=observe))
    bound = await bind(endpoint, family=family, numeric=numeric, groups=groups, mode=mode, observe=observe)
    return Sockets(None, bound)


async def keep_serving(
    sockets: Sockets,
    service: Service,
    policy: Policy,
    command: Sequence[str] = (),
    *,
    ready: Callable[[], Coroutine[Any, Any, None]],
    stop: Event,
    duration: float | None,
    one_shot: bool,
    observe: Observer,
) -> int:
    """Serve until a limit of ``policy``, ``stop``, ``duration`` seconds, a signal, or COMMAND's end; close the sockets.

    ``ready`` is called once signals are handled. Returns COMMAND's exit code, or 0. Raises the failures of the servers
    and of ``service.beside``.

    After a signal open connections get ``DRAIN`` seconds to end. A ``one_shot`` server is one side of a conversation
    instead: a signal cancels it, and the failure of its client is raised, unless COMMAND's exit code is not 0.
    """
    telling: Task | None = None
    running: Task | None = None
    hurry = Event()
    code = 0
    failures: list[Failure] = []

    async def serve_clients() -> None:
        failed = failures.append if one_shot else ignore
        async with Group() as serving:
            if (listener := sockets.listener) and (handler := service.handler):
                if not one_shot:
                    handler = _reporting(handler, observe)
                serving.start_soon(serve(listener, handler, stop=stop, policy=policy, observe=observe, failed=failed))
            if (bound := sockets.bound) and (receiver := service.receiver):
                from netkit.core import udp_server

                serving.start_soon(udp_server.serve(bound, receiver, stop=stop, policy=policy, observe=observe))

    async def stop_at_signal() -> None:
        if await next_signal() == signal.SIGINT:
            service.interrupted()
        for task in (telling, running):
            if task is not None:
                task.cancel()
        stop.set()

    async def stop_in_time(seconds: float) -> None:
        await sleep(seconds)
        if running is not None:
            running.cancel()
        stop.set()

    async def run_command() -> None:
        nonlocal code
        try:
            code = await _run(command, _environment(sockets.listening[0].local), hurry, observe)
        finally:
            stop.set()

    try:
        async with Group() as group:
            if not one_shot:
                group.start_soon(stop_at_signal())
                await sleep(0)
            telling = group.start_soon(ready())
            await telling.finished.wait()
            if command and not stop.is_set():
                running = group.start_soon(run_command())
            if service.beside is not None:
                group.start_soon(service.beside())
            if duration is not None:
                group.start_soon(stop_in_time(duration))
            try:
                await serve_clients()
                if running is not None:
                    await running.finished.wait()
                if service.flush is not None:
                    try:
                        await service.flush(stop)
                    except Failure as failure:  # COMMAND's exit code comes first
                        failures.append(failure)
            except Cancelled:
                if stop.is_set():
                    hurry.set()
                raise
            group.cancel()
    finally:
        sockets.close()
    if failures and not code:
        raise failures[0]
    return code


def addressed(text: bytes, peer: Endpoint) -> bytes:
    """Replace {host} and {port} in a text by those of ``peer``, and {{ by a brace."""
    words = {b"{{": b"{", b"{host}": (peer.host or "").encode(), b"{port}": b"%d" % peer.port if peer.host else b""}
    return re.sub(rb"\{\{|\{host\}|\{port\}", lambda found: words[found[0]], text)


def welcoming(handler: Handler, greet: bytes | None, keepalive: float | None) -> Handler:
    """A handler that first turns keepalive on, after so many seconds, and sends ``greet``: see ``addressed``."""
    if greet is None and keepalive is None:
        return handler

    async def handle(stream: Connection) -> Ended | None:
        if keepalive is not None:
            stream.keep_alive(keepalive)
        if greet is not None:
            await stream.send(addressed(greet, stream.peer))
        return await handler(stream)

    return handle


def _reporting(handler: Handler, observe: Observer) -> Handler:
    """A handler that reports a client in whose data a search took too long."""

    async def handle(stream: Connection) -> Ended | None:
        try:
            return await handler(stream)
        except SearchTimeout as failure:
            observe(Cut(stream.peer, str(failure)))
            raise

    return handle


@contextmanager
def port_file(path: str | None, port: int | None) -> Iterator[None]:
    """Keep a file with the port number at ``path`` while the block runs. It is created atomically, by a rename.

    Raises Failure WRITE, also if that would replace anything but a regular file or a link.
    """
    if path is None:
        yield
        return
    action = f"write port file {path}"
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise Failure(Exit.WRITE, action, "it is not a regular file")
    with doing(Exit.WRITE, action):
        made = _write_whole(path, f"{port}\n".encode())
    try:
        yield
    finally:
        if identity(path) == made:
            with suppress(OSError):  # it is gone, or we may not remove it any more
                os.unlink(path)


def _write_whole(path: str, content: bytes) -> tuple[int, int]:
    beside = f"{path}.{os.getpid()}.tmp"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, content)
        status = os.fstat(fd)
        os.rename(beside, path)
    except OSError:
        os.unlink(beside)
        raise
    finally:
        os.close(fd)
    return status.st_dev, status.st_ino


def _environment(endpoint: Endpoint) -> dict[str, str]:
    """Our environment, and for COMMAND the address of the server; that of a wildcard is loopback.

    A unix socket has no host and no port, not even those of a server in whose COMMAND we run.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host or "", endpoint.host)
    told = {"NETKIT_ADDRESS": str(endpoint._replace(host=host))}
    if endpoint.path is None:
        told |= {"NETKIT_HOST": host or "", "NETKIT_PORT": str(endpoint.port)}
    others = {name: value for name, value in os.environ.items() if name not in ("NETKIT_HOST", "NETKIT_PORT")}
    return {**others, **told}


async def _run(command: Sequence[str], environment: dict[str, str], hurry: Event, observe: Observer) -> int:
    """Run COMMAND with our stdin, stdout and stderr; return its exit code, 128+n after signal n.

    It has its own process group, unless one of them is a terminal, which it could not read from another group. When
    this is cancelled it gets SIGTERM, and SIGKILL after ``DRAIN`` seconds, or once ``hurry`` is set.
    """
    from netkit.services.process import Process

    process = Process(command, environment, own_group=not any(map(os.isatty, range(3))))
    try:
        return await process.ended()
    finally:
        await process.end(DRAIN, observe, hurry)
