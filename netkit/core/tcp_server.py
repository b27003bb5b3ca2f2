"""Servers of connections: one port number for all families, an accept loop that nothing stops, and an end in order."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from netkit.core.address import Endpoint, from_socket
from netkit.core.bind import PRIVATE, SocketFile, addresses_of, bind_all, bind_unix, new_socket
from netkit.core.connection import Handler, serve_connection
from netkit.core.errors import Exit, Failure, doing, without_frames
from netkit.core.events import Accepted, Denied, Observer, Paused
from netkit.core.kernel import DeadlineExceeded, Group, Task, deadline, notify_closing, now, readable
from netkit.core.layer import Layer
from netkit.core.policy import FULL, Admission, Full, Policy, finish
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import Connection
from netkit.core.sync import Condition, Event

_BACKLOG = 4096  # the system caps it; a client for whom there was no room sends its SYN again after a second
_MAX_BURST = 64  # clients accepted of one socket before the others get their turn
_FULL_PAUSE = 0.25  # s until what the system had no room for is tried again
# What goes wrong with one connection, not with the listener: accept(2), "Error handling". ENONET is Linux's.
_PASSING_NAMES = "ECONNABORTED EPERM EPROTO ENOPROTOOPT ENETDOWN ENETUNREACH EHOSTDOWN EHOSTUNREACH EOPNOTSUPP ENONET"
_PASSING = {getattr(errno, name, None) for name in _PASSING_NAMES.split()}


class Acceptor(Protocol):
    """Where clients come: ``sockets`` at ``endpoints``, which it owns. Who ends with a client notifies ``left``."""

    endpoints: list[Endpoint]
    port: int | None
    left: Condition

    @property
    def sockets(self) -> Sequence[Any]:
        """Each is asked by itself."""

    async def run(self) -> None:
        """Do what has to be done beside accepting, and return when there is nothing."""

    async def ready(self, sock: Any) -> None:
        """Wait until somebody may have come to one of the sockets."""

    async def accept(self, sock: Any, observe: Observer) -> Connection | None:
        """Take who has come to one of the sockets, None if nobody has. Raises Failure BIND."""

    def close(self) -> None:
        """Take nobody new. Closing twice is nothing."""


class Listener:
    """Sockets that listen at ``endpoints``, which it owns. Who ends with a client notifies ``left``: there is room."""

    def __init__(self, sockets: list[socket.socket], path: str | None = None, mode: int = PRIVATE) -> None:
        self.sockets = sockets
        self._for_others = bool(mode & 0o066)
        self.endpoints = [from_socket(sock.getsockname()) for sock in sockets]
        self._file = SocketFile(path) if path is not None else None
        self._path = path
        self.port = None if path is not None else self.endpoints[0].port  # the one of all its sockets
        self.left = Condition()
        self._full = Full()

    async def run(self) -> None:
        """Do nothing: the system listens."""

    async def ready(self, sock: socket.socket) -> None:
        await readable(sock.fileno())

    async def accept(self, sock: socket.socket, observe: Observer) -> SocketStream | None:
        """Take the next client that has come to one of the sockets, None if there is none to take now.

        What goes wrong with one client is not an error. Waits only where the system has no room for another.
        """
        try:
            client, address = sock.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _PASSING:
                await self._await_room(sock, error, observe)
            return None
        if self._path is None:
            return SocketStream(client, peer=from_socket(address))
        if not self._is_stranger(client):
            return SocketStream(client, peer=self.endpoints[0])
        client.close()
        observe(Denied(self.endpoints[0], "another user"))
        return None

    async def _await_room(self, sock: socket.socket, error: OSError, observe: Observer) -> None:
        """Let a moment pass, or a client leave, where the system is full. Raises Failure BIND for any other error."""
        if error.errno not in FULL:
            raise Failure(Exit.BIND, f"accept on {from_socket(sock.getsockname())}", error) from error
        self._full.report("accept another client", error, observe)
        with suppress(DeadlineExceeded), deadline(now() + _FULL_PAUSE):
            await self.left.wait()

    def close(self) -> None:
        """Stop listening, and remove the socket file if it is still ours. Closing twice is nothing."""
        if self._file is not None:
            self._file.remove()
        for sock in self.sockets:
            if sock.fileno() >= 0:
                notify_closing(sock.fileno())
                sock.close()

    def _is_stranger(self, client: socket.socket) -> bool:
        """An abstract socket has no file mode, so unless others are allowed only the own user and root may use it."""
        if self._for_others or self._path is None or not self._path.startswith("\0"):
            return False
        _, uid, _ = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return uid not in (os.geteuid(), 0)


async def listen(
    endpoint: Endpoint, *, family: int = 0, numeric: bool = False, mode: int = PRIVATE, observe: Observer
) -> Listener:
    """Listen on the addresses of ``endpoint``: see ``addresses_of``.

    ``mode`` is that of a unix socket's file; an abstract one takes other users' clients if it lets group or others in.
    Raises Failure: BIND, or RESOLVE for the name.
    """
    if endpoint.path is not None:
        with doing(Exit.BIND, f"listen on {endpoint}"):
            return Listener([_listen_unix(endpoint.path, mode)], endpoint.path, mode)
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
    """Serve clients side by side until ``stop``, or until ``policy.limit`` of them have been served.

    At ``stop`` the listener closes, open connections get ``DRAIN`` seconds to end, and the rest are reset. What goes
    wrong with one client is reported, handed to ``failed``, and ends that client alone. Closes the listener.

    Raises Failure: TIMEOUT if nobody came within ``policy.accept_timeout``, for each client that is still wanted, READ
    or WRITE if a file of ours failed.
    """
    admission = Admission(policy, listener.endpoints[0])
    accepting, serving, beside = Group(), Group(), Group()
    pending: dict[Connection, Task] = {}  # clients of whom a proxy has still to tell who they are

    def count() -> bool:
        """Count a client, if it is within the limit. The last one that is wanted sends the others away."""
        taken = admission.take()
        if admission.full:
            accepting.cancel()
            for task in pending.values():
                task.cancel()
        return bool(taken)

    told = False

    async def accept(sock: Any) -> None:
        nonlocal told
        while True:
            await listener.ready(sock)
            for turn in range(_MAX_BURST):
                if len(serving) >= policy.max_conns:
                    if not turn:  # somebody waits
                        if not told:
                            told = True
                            observe(Paused("serve another client", f"at most {policy.max_conns} (--max-conns)"))
                        await listener.left.wait()
                    break
                stream = await listener.accept(sock, observe)
                if stream is None:
                    break
                take_in(stream)
                if admission.full:
                    break

    def take_in(stream: Connection) -> None:
        if not admission.admits(stream.peer.host or ""):
            observe(Denied(stream.peer, "not allowed"))
            stream.abort()
        elif policy.told:
            observe(Accepted(stream.peer))
            pending[stream] = serving.start_soon(serve_one(stream, judged(stream)))
        elif count():
            observe(Accepted(stream.peer))
            serving.start_soon(serve_one(stream, policy.layers))
        else:
            stream.abort()

    def judged(stream: Connection) -> list[Layer]:
        """The layers with one behind the first, which admits and counts a client by the address that it has there."""

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
        except OSError as error:  # reported by ``serve_connection``, and this client's alone
            without_frames(error)
            if isinstance(error, Failure):
                failed(error)
                if error.exit in (Exit.READ, Exit.WRITE):  # our own stdin, stdout or files, and so everybody's
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
    """A socket that listens. Raises OSError."""
    with new_socket(family, socket.SOCK_STREAM) as sock:
        # A restart goes through at once, over connections in TIME_WAIT; a second listener does not.
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
