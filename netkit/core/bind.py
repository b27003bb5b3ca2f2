"""Binding the sockets of a server, with one port number for all its addresses, and the files of unix sockets."""

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Observer
from netkit.core.kernel import notify_closing
from netkit.core.lookup import Address, lookup

Opener = Callable[[int, tuple[Any, ...]], socket.socket]
"""Opens a bound socket, from a family and a socket address. Raises OSError."""

PRIVATE = 0o600  # the default mode of a socket file
OWNER = struct.Struct("=iII")  # ucred: unix(7)
_PORT_TRIES = 128
_UNPRIVILEGED = 1024  # the first port that anybody may bind: ip(7), ip_unprivileged_port_start
_IPV6_OWN = ("::", "::1")
_MAPPED = bytes(10) + b"\xff\xff"
_HINTS: dict[int | None, str] = {
    errno.EADDRNOTAVAIL: "this machine has no such address; :{port} takes all that it has",
    errno.EADDRINUSE: "netkit sockets --listening --port {port} shows who has it; port 0 takes a free one",
}


@contextmanager
def new_socket(family: int, kind: int) -> Iterator[socket.socket]:
    """A new non-blocking socket, which is closed only if the block raises."""
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        yield sock
    except BaseException:
        notify_closing(sock.fileno())
        sock.close()
        raise


async def addresses_of(endpoint: Endpoint, *, family: int, numeric: bool, observe: Observer) -> list[Address]:
    """The addresses to bind: loopback if the host is None, all interfaces if it is "". Raises Failure RESOLVE."""
    if endpoint.host:
        found = await lookup(endpoint, family, numeric=numeric, observe=observe)
        return found if family else [_unmapped(address) for address in found]
    ipv4, ipv6 = ("127.0.0.1", "::1") if endpoint.host is None else ("0.0.0.0", "::")
    hosts = {int(socket.AF_INET): ipv4, int(socket.AF_INET6): ipv6}
    return [Address(each, (host, endpoint.port)) for each, host in hosts.items() if family in (0, each)]


def _unmapped(address: Address) -> Address:
    """IPv4 for an IPv4-mapped address (RFC 4291), to which no socket for IPv6 alone can be bound."""
    if address.family == socket.AF_INET6:
        packed = socket.inet_pton(socket.AF_INET6, address.host.partition("%")[0])
        if packed.startswith(_MAPPED):
            return Address(int(socket.AF_INET), (socket.inet_ntoa(packed[len(_MAPPED) :]), address.sockaddr[1]))
    return address


def bind_all(wanted: Sequence[tuple[Address, Opener]], endpoint: Endpoint) -> list[socket.socket]:
    """Open a socket for each address, all with one port number; for port 0 one that is free for all of them.

    On a machine without IPv6, :: and ::1 are left out, as long as another address remains. Raises Failure BIND.
    """
    for _ in range(_PORT_TRIES):
        sockets = _bind_once(wanted, endpoint.port)
        if sockets:
            return sockets
    raise Failure(Exit.BIND, f"listen on {endpoint}", f"no port is free for all families in {_PORT_TRIES} tries")


def _bind_once(wanted: Sequence[tuple[Address, Opener]], port: int) -> list[socket.socket]:
    """Open the sockets; return [] if the port that the system chose for the first is in use at another address."""
    sockets: list[socket.socket] = []
    missing: Failure | None = None
    with ExitStack() as opened:
        for address, open_socket in wanted:
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockaddr = (address.sockaddr[0], chosen, *address.sockaddr[2:])
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
    """Bind a unix socket to a path, with this file mode. Replaces the file of a server that is gone. Raises OSError."""
    before = os.umask(~mode & 0o777)  # chmod would leave a moment with another mode
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
    """Whether ``path`` is a socket file to which no socket is bound, as a killed server leaves it."""
    if path.startswith("\0") or not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    # Probe with a datagram socket: a bound stream socket then gives EPROTOTYPE, and its server notices nothing.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(os.fsencode(path)) == errno.ECONNREFUSED


def is_owner_only(path: str, mode: int) -> bool:
    """Whether a server at ``path`` has to deny other users by itself: an abstract socket has no file with a mode."""
    return path.startswith("\0") and not mode & 0o066


def is_stranger(owner: bytes) -> bool:
    """Whether the owner of a socket or datagram, a packed ``OWNER``, is another user than ours and root."""
    return OWNER.unpack(owner)[1] not in (os.geteuid(), 0)


class SocketFile:
    """The file of a unix socket that was just bound. An abstract socket has none, and one without path (None)."""

    def __init__(self, path: str | None) -> None:
        self._path = path or ""
        self._made = None if self._path.startswith("\0") else identity(self._path)

    def remove(self) -> None:
        """Remove the file if it is still ours. Call it before the socket is closed: later the inode may be reused."""
        if self._made is not None and identity(self._path) == self._made:
            with suppress(OSError):  # such as in a folder that became read-only; the next start replaces the file
                os.unlink(self._path)
        self._made = None


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode, by which a file differs from a later one at the same path; None if there is no file."""
    with suppress(OSError):
        status = os.lstat(path)
        return status.st_dev, status.st_ino
    return None
