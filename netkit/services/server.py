"""What every server shares: how long it serves, the port it tells, and the command it runs meanwhile."""

import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN, Handler
from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Listening, Observer, ignore
from netkit.core.kernel import Cancelled, DeadlineExceeded, Group, Task, deadline, next_signal, now, sleep
from netkit.core.policy import Policy
from netkit.core.stream import Connection
from netkit.core.sync import Event
from netkit.core.tcp_server import Listener, identity, listen, serve

if TYPE_CHECKING:
    from netkit.core.udp_server import Bound, Receiver

_COMMAND_POLL = 0.02  # s, once COMMAND was asked to end


class Service(NamedTuple):
    """What a server does: ``handler`` for each client, and ``beside`` for as long as it runs.

    ``receiver`` gets the datagrams that come to the same port, and to ``groups`` if there is no handler: at most
    ``most`` of them.
    """

    handler: Handler | None = None
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None
    receiver: "Receiver | None" = None
    groups: Sequence[str] = ()
    most: int | None = None


class Sockets(NamedTuple):
    """What a server is reached by: clients, datagrams, or both on one port number."""

    listener: Listener | None = None
    bound: "Bound | None" = None

    @property
    def listening(self) -> list[Listening]:
        """What there is to tell about them."""
        streams = [Listening(endpoint) for endpoint in self.listener.endpoints] if self.listener else []
        if self.bound is None:
            return streams
        return streams + [Listening(endpoint, "udp", bool(streams)) for endpoint in self.bound.endpoints]

    @property
    def port(self) -> int | None:
        """The one port number, None for a unix socket."""
        endpoint = self.listening[0].local
        return None if endpoint.path is not None else endpoint.port

    def close(self) -> None:
        """Close them. Closing twice is nothing."""
        for each in self:
            if each is not None:
                each.close()


async def open_sockets(
    endpoint: Endpoint, service: Service, *, family: int, numeric: bool, mode: int, observe: Observer
) -> Sockets:
    """Return what the service needs; raise Failure BIND, or RESOLVE for the name."""
    if service.receiver is None:
        return Sockets(await listen(endpoint, family=family, numeric=numeric, mode=mode, observe=observe))
    from netkit.core.udp_server import bind, bind_both

    if service.handler is not None:
        return Sockets(*await bind_both(endpoint, family=family, numeric=numeric, observe=observe))
    groups = service.groups
    return Sockets(None, await bind(endpoint, family=family, numeric=numeric, groups=groups, observe=observe))


async def keep_serving(
    sockets: Sockets,
    service: Service,
    policy: Policy,
    command: Sequence[str] = (),
    *,
    ready: Callable[[], None],
    idle_timeout: float | None = None,
    stop: Event,
    duration: float | None,
    one_shot: bool,
    observe: Observer,
) -> int:
    """Serve until a limit, ``stop``, ``duration`` seconds, a signal or the end of COMMAND; close the sockets.

    Returns COMMAND's exit code, or 0. ``ready`` is called once a signal would end all this in order. Should what runs
    beside the service fail, that is raised. Without any datagram for ``idle_timeout`` seconds it fails.

    The first signal lets open connections end. A ``one_shot`` server is one side of a conversation instead: a signal
    cuts it, and its failure is raised, unless COMMAND's code tells of another.
    """
    hurry = Event()
    code = 0
    failures: list[Failure] = []

    async def stop_after(wait: Awaitable[object]) -> None:
        await wait
        stop.set()

    async def run_command() -> None:
        nonlocal code
        try:
            code = await _run(command, _environment(sockets.listening[0].local), hurry)
        finally:
            stop.set()

    async def serve_all() -> None:
        async with Group() as serving:
            if sockets.listener is not None and service.handler is not None:
                failed = failures.append if one_shot else ignore
                serving.start_soon(
                    serve(sockets.listener, service.handler, stop=stop, policy=policy, observe=observe, failed=failed)
                )
            if sockets.bound is not None and service.receiver is not None:
                from netkit.core.udp_server import Limits
                from netkit.core.udp_server import serve as receive

                limits = Limits(service.most, policy.admits, policy.accept_timeout, idle_timeout)
                serving.start_soon(receive(sockets.bound, service.receiver, stop=stop, limits=limits, observe=observe))

    try:
        async with Group() as group:
            running: Task | None = None
            if not one_shot:
                group.start_soon(stop_after(_signalled(lambda: running.cancel() if running else None)))
                await sleep(0)
            ready()
            if command:
                running = group.start_soon(run_command())
            if service.beside is not None:
                group.start_soon(service.beside())
            if duration is not None:
                group.start_soon(stop_after(sleep(duration)))
            try:
                await serve_all()
                if running is not None:
                    if stop.is_set():
                        running.cancel()
                    await running.finished.wait()
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


def welcoming(handler: Handler, greet: bytes | None, keepalive: float | None) -> Handler:
    """Return the handler with what comes before it: keepalive, and a greeting that may name {host} and {port}."""

    async def handle(stream: Connection) -> str | None:
        if keepalive is not None:
            stream.keep_alive(keepalive)
        if greet is not None:
            host, port = (stream.peer.host, str(stream.peer.port)) if stream.peer.host else ("", "")
            await stream.send(greet.replace(b"{host}", host.encode()).replace(b"{port}", port.encode()))
        return await handler(stream)

    return handle


@contextmanager
def port_file(path: str | None, port: int | None) -> Iterator[None]:
    """Keep a file with the port number at ``path`` while the block runs. It appears whole, by a rename."""
    if path is None:
        yield
        return
    with doing(Exit.WRITE, f"write port file {path}"):
        made = _write_whole(path, f"{port}\n".encode())
    try:
        yield
    finally:
        if identity(path) == made:
            with suppress(OSError):  # gone, or no longer ours to remove
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


async def _signalled(then: Callable[[], None]) -> None:
    await next_signal()
    then()


def _environment(endpoint: Endpoint) -> dict[str, str]:
    """Return our environment with what COMMAND needs to dial us; a wildcard is dialled on loopback."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    if endpoint.path is not None:
        return {**os.environ, "NETKIT_ADDRESS": str(endpoint)}
    host = loopback.get(endpoint.host or "", endpoint.host or "")
    dialable = endpoint._replace(host=host)
    return {
        **os.environ,
        "NETKIT_HOST": host,
        "NETKIT_PORT": str(endpoint.port),
        "NETKIT_ADDRESS": str(dialable),
    }


async def _run(command: Sequence[str], environment: dict[str, str], hurry: Event) -> int:
    """Run COMMAND on our stdin, stdout and stderr, and return its exit code, 128+n after signal n.

    Cancelled, it gets SIGTERM, and SIGKILL if it is still there after the drain, or as soon as there is ``hurry``.
    """
    from netkit.services.exec import ended, start

    process = start(command, environment)
    try:
        return await ended(process)
    except Cancelled:
        process.terminate()
        try:
            with deadline(now() + DRAIN):
                while process.poll() is None and not hurry.is_set():
                    await sleep(_COMMAND_POLL)
        except DeadlineExceeded:
            pass
        if process.poll() is None:
            process.kill()
            process.wait()
        raise
