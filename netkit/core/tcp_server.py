"""Servers of connections: listening on TCP and unix sockets, the accept loop with its limits, an orderly stop."""

import errno
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from netkit.core.address import Endpoint, from_socket
from netkit.core.bind import (
    OWNER,
    PRIVATE,
    SocketFile,
    addresses_of,
    bind_all,
    bind_unix,
    is_owner_only,
    is_stranger,
    new_socket,
)
from netkit.core.connection import Handler, serve_connection
from netkit.core.errors import Exit, Failure, doing, without_frames
from netkit.core.events import Accepted, Denied, Observer, Paused
from netkit.core.kernel import DeadlineExceeded, Group, Task, deadline, notify_closing, now, readable
from netkit.core.layer import Layer
from netkit.core.policy import FULL, Admission, Full, Policy, finish
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import Connection
from netkit.core.sync import Condition, Event

_BACKLOG = 4096  # the system caps it; a client that finds the queue full sends its SYN again after a second
_MAX_BURST = 64  # clients accepted from one socket before the others get their turn
_FULL_PAUSE = 0.25  # s until accept(2) is tried again after EMFILE, ENOMEM and the like
# Errors of one connection and not of the listener: accept(2), "Error handling". Only Linux has ENONET.
_PASSING_NAMES = "ECONNABORTED EPERM EPROTO ENOPROTOOPT ENETDOWN ENETUNREACH EHOSTDOWN EHOSTUNREACH EOPNOTSUPP ENONET"
_PASSING = {getattr(errno, name, None) for name in _PASSING_NAMES.split()}


class Acceptor(Protocol):
    """What ``serve`` accepts connections from: ``sockets``, which it owns, with the addresses ``endpoints``.

    ``protocol`` is "tcp" or "udp". ``serve`` notifies ``left`` when a client has left.
    """

    protocol: str
    endpoints: list[Endpoint]
    port: int | None
    left: Condition

    @property
    def sockets(self) -> Sequence[Any]:
        """The listening sockets; ``ready`` and ``accept`` are called with each."""

    async def run(self) -> None:
        """Do the work beside accepting, if there is any; it is cancelled when the server ends."""

    async def ready(self, sock: Any) -> None:
        """Wait until a client may have come to the socket."""

    async def accept(self, sock: Any, observe: Observer) -> Connection | None:
        """Accept a client from the socket, None if there is none. Raises Failure BIND."""

    def close(self) -> None:
        """Stop accepting. A second call has no effect."""


class Listener:
    """An Acceptor with listening stream sockets. After a client has left, ``left`` tells of room for another.

    ``owner_only`` is for abstract unix sockets: it denies other users than ours and root.
    """

    protocol = "tcp"

    def __init__(self, sockets: list[socket.socket], *, owner_only: bool = False) -> None:
        self.sockets = sockets
        self.endpoints = [from_socket(sock.getsockname()) for sock in sockets]
        first = self.endpoints[0]
        self.port = first.port if first.path is None else None  # the one of all its sockets
        self.left = Condition()
        self._owner_only = owner_only
        self._file = SocketFile(first.path)
        self._full = Full()

    async def run(self) -> None:
        """Do nothing: the system's kernel completes connections by itself."""

    async def ready(self, sock: socket.socket) -> None:
        await readable(sock.fileno())

    async def accept(self, sock: socket.socket, observe: Observer) -> SocketStream | None:
        """Accept the next client from the socket; None if there is none now, or it was lost or turned away.

        An error of one connection is not raised. Waits only while the system has no room for another descriptor.
        """
        try:
            client, address = sock.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _PASSING:
                await self._await_room(sock, error, observe)
            return None
        if self._owner_only and is_stranger(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, OWNER.size)):
            client.close()
            observe(Denied(self.endpoints[0], "another user"))
            return None
        return SocketStream(client, peer=self.endpoints[0] if self.port is None else from_socket(address))

    async def _await_room(self, sock: socket.socket, error: OSError, observe: Observer) -> None:
        """If the system is full, wait for a client to leave or ``_FULL_PAUSE``. Raises Failure BIND for others."""
        if error.errno not in FULL:
            raise Failure(Exit.BIND, f"accept on {from_socket(sock.getsockname())}", error) from error
        self._full.report("accept another client", error, observe)
        with suppress(DeadlineExceeded), deadline(now() + _FULL_PAUSE):
            await self.left.wait()

    def close(self) -> None:
        """Stop listening, and remove the socket file if it is still ours. A second call has no effect."""
        self._file.remove()
        for sock in self.sockets:
            if sock.fileno() >= 0:
                notify_closing(sock.fileno())
                sock.close()


async def listen(
    endpoint: Endpoint, *, family: int = 0, numeric: bool = False, mode: int = PRIVATE, observe: Observer
) -> Listener:
    """Listen on the addresses of ``endpoint``: see ``addresses_of``. The caller closes the Listener.

    ``mode`` is the file mode of a unix socket. An abstract one accepts other users if it has a bit for group or others.
    Raises Failure: BIND, or RESOLVE for the name.
    """
    if endpoint.path is not None:
        with doing(Exit.BIND, f"listen on {endpoint}"):
            return Listener([_listen_unix(endpoint.path, mode)], owner_only=is_owner_only(endpoint.path, mode))
    addresses = await addresses_of(endpoint, family=family, numeric=numeric, observe=observe)
    return Listener(bind_all([(address, listen_tcp) for address in addresses], endpoint))


async def serve(
    listener: Acceptor,
    handler: Handler,
    *,
    stop: Event,
    policy: Policy = Policy(),
    observe: Observer,
    failed: Callable[[Failure], None] = lambda failure: None,
) -> None:
    """Serve clients concurrently until ``stop`` is set, or until ``policy.limit`` of them have been served.

    At ``stop`` the listener closes, open connections get ``DRAIN`` seconds to end, and the rest are reset. The failure
    of one client is reported, handed to ``failed``, and ends that client only. Closes the listener.

    Raises Failure: TIMEOUT if a client that is wanted does not come within ``policy.accept_timeout``, READ or WRITE if
    a file of ours failed.
    """
    admission = Admission(policy, listener.endpoints[0])
    accepting, serving, beside = Group(), Group(), Group()
    pending: dict[Connection, Task] = {}  # not counted yet: the proxy has still to tell who the client is

    def count() -> bool:
        """Count a client, and tell whether it is within the limit. The last one ends accepting, and ``pending``."""
        taken = admission.take()
        if admission.full:
            accepting.cancel()
            for task in pending.values():
                task.cancel()
        return bool(taken)

    paused = False  # whether that was reported

    async def accept(sock: Any) -> None:
        nonlocal paused
        while True:
            await listener.ready(sock)
            for turn in range(_MAX_BURST):
                if admission.full:  # by a client of another socket: ours stays unaccepted
                    return
                if len(serving) >= policy.max_conns:
                    if not turn:  # a client is waiting in the backlog
                        if not paused:
                            paused = True
                            observe(Paused("serve another client", f"at most {policy.max_conns} (--max-conns)"))
                        await listener.left.wait()
                    break
                stream = await listener.accept(sock, observe)
                if stream is None:
                    break
                take_in(stream)

    def take_in(stream: Connection) -> None:
        if not admission.admits(stream.peer.host or ""):
            observe(Denied(stream.peer, "not allowed"))
            stream.abort()
        elif policy.told:
            observe(Accepted(stream.peer))
            pending[stream] = serving.start_soon(serve_one(stream, judged(stream)))
        else:
            count()
            observe(Accepted(stream.peer))
            serving.start_soon(serve_one(stream, policy.layers))

    def judged(stream: Connection) -> list[Layer]:
        """The layers, with one after the first that admits and counts the client by the address which that has told."""

        async def judge(told: Connection, group: Group) -> Connection:
            del pending[stream]
            if not admission.admits(told.peer.host or ""):
                observe(Denied(told.peer, "not allowed"))
                raise OSError("not allowed")
            if not count():
                raise OSError("nobody else is served")
            return told

        return [policy.layers[0], judge, *policy.layers[1:]]

    async def serve_one(stream: Connection, layers: Sequence[Layer]) -> None:
        try:
            await serve_connection(stream, handler, observe, layers)
        except OSError as error:  # ``serve_connection`` has reported it, and it concerns this client only
            without_frames(error)
            if isinstance(error, Failure):
                failed(error)
                if error.exit in (Exit.READ, Exit.WRITE):  # our own stdin, stdout or files: it concerns all clients
                    raise
        finally:
            if pending.pop(stream, None) is not None:
                count()
            listener.left.notify_all()

    try:
        async with beside, serving:
            beside.start_soon(listener.run())
            async with accepting:
                for sock in listener.sockets:
                    accepting.start_soon(accept(sock))
                accepting.start_soon(admission.await_all())
                await stop.wait()
                accepting.cancel()
            listener.close()
            await finish(serving.emptied(), stop)
            serving.cancel()
            beside.cancel()
    finally:
        listener.close()


def listen_tcp(family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
    """Open a listening socket, which the caller closes. Raises OSError."""
    with new_socket(family, socket.SOCK_STREAM) as sock:
        # Allows a restart while old connections are in TIME_WAIT. A second listener still gets EADDRINUSE.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        sock.listen(_BACKLOG)
        return sock


def _listen_unix(path: str, mode: int) -> socket.socket:
    with new_socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        bind_unix(sock, path, mode)
        sock.listen(_BACKLOG)
        return sock
