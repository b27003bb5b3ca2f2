"""Making sockets, and binding those of a server: one port number for all its addresses."""

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Observer
from netkit.core.kernel import notify_closing
from netkit.core.lookup import Address, lookup

Opener = Callable[[int, tuple[Any, ...]], socket.socket]
"""Makes a bound socket, from family and socket address."""

PRIVATE = 0o600  # the mode of a socket file
_PORT_TRIES = 128
_UNPRIVILEGED = 1024  # the first port that anybody may bind: ip(7), ip_unprivileged_port_start
_IPV6_OWN = ("::", "::1")
_HINTS: dict[int | None, str] = {
    errno.EADDRNOTAVAIL: "this machine has no such address; :{port} takes all that it has",
    errno.EADDRINUSE: "netkit sockets --listening --port {port} shows who has it; port 0 takes a free one",
}


@contextmanager
def new_socket(family: int, kind: int) -> Iterator[socket.socket]:
    """A socket that does not block, closed if the block fails."""
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        yield sock
    except BaseException:
        notify_closing(sock.fileno())
        sock.close()
        raise


async def addresses_of(endpoint: Endpoint, *, family: int, numeric: bool, observe: Observer) -> list[Address]:
    """A server's addresses: loopback for a bare port, all interfaces for an empty host. Raises Failure RESOLVE."""
    if endpoint.host:
        return await lookup(endpoint, family, numeric=numeric, observe=observe)
    ipv4, ipv6 = ("127.0.0.1", "::1") if endpoint.host is None else ("0.0.0.0", "::")
    hosts = {int(socket.AF_INET): ipv4, int(socket.AF_INET6): ipv6}
    return [Address(each, (host, endpoint.port)) for each, host in hosts.items() if family in (0, each)]


def bind_all(wanted: Sequence[tuple[Address, Opener]], endpoint: Endpoint) -> list[socket.socket]:
    """A socket for each address wanted, all with one port number; port 0 is one that is free for all of them.

    A machine without IPv6 is forgiven that it has neither :: nor ::1, as long as another address is left. Raises
    Failure BIND.
    """
    for _ in range(_PORT_TRIES):
        sockets = _bind_once(wanted, endpoint.port)
        if sockets:
            return sockets
    raise Failure(Exit.BIND, f"listen on {endpoint}", f"no port is free for all families in {_PORT_TRIES} tries")


def _bind_once(wanted: Sequence[tuple[Address, Opener]], port: int) -> list[socket.socket]:
    """The sockets; none if the number that the system chose for the first is taken elsewhere."""
    sockets: list[socket.socket] = []
    missing: Failure | None = None
    with ExitStack() as opened:
        for address, open_socket in wanted:
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockaddr = (address.host, chosen, *address.sockaddr[2:])
            try:
                with doing(Exit.BIND, f"listen on {Endpoint(address.host, chosen)}"):
                    sockets.append(opened.enter_context(open_socket(address.family, sockaddr)))
            except Failure as failure:
                failure.hint = _HINTS.get(failure.errno, "").format(port=chosen)
                if failure.errno == errno.EACCES and chosen < _UNPRIVILEGED:
                    failure.hint = f"ports below {_UNPRIVILEGED} need privileges; try 8080"
                if address.host in _IPV6_OWN and failure.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    missing = failure
                elif sockets and port == 0 and failure.errno == errno.EADDRINUSE:
                    return []
                else:
                    raise
        if missing is not None and not sockets:
            raise missing
        opened.pop_all()
        return sockets


def bind_unix(sock: socket.socket, path: str, mode: int) -> None:
    """Bind a unix socket to a path with this mode, in the place of a file that a killed server left. Raises OSError."""
    before = os.umask(~mode & 0o777)  # so that it never has another mode, not for a moment
    try:
        sock.bind(os.fsencode(path))
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_stale(path):
            raise
        os.unlink(path)
        sock.bind(os.fsencode(path))
    finally:
        os.umask(before)


def _is_stale(path: str) -> bool:
    """Whether ``path`` is a socket file that no socket is bound to, left by a server that was killed."""
    if path.startswith("\0") or not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    # By a datagram socket: one for streams that is bound says EPROTOTYPE, and its server notices nothing.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(os.fsencode(path)) == errno.ECONNREFUSED


class SocketFile:
    """The file of a unix socket that was bound just now; an abstract one has none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._made = None if path.startswith("\0") else identity(path)

    def remove(self) -> None:
        """Remove it, if it is still ours: before the socket is closed, so that its inode cannot be another's yet."""
        if self._made is not None and identity(self._path) == self._made:
            with suppress(OSError):  # the folder may have become read-only; the next start takes a dead path over
                os.unlink(self._path)
        self._made = None


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode, which tell a file from another that took its name later; None if there is none."""
    with suppress(OSError):
        status = os.lstat(path)
        return status.st_dev, status.st_ino
    return None
