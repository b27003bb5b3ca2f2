"""Binding sockets: one port number for all addresses of a server."""

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Observer
from netkit.core.lookup import Address, lookup

Opener = Callable[[int, tuple[Any, ...]], socket.socket]
"""Makes the socket of a server, bound, from family and socket address."""

_PORT_TRIES = 128
_HINTS: dict[int | None, str] = {
    errno.EACCES: "ports below 1024 need privileges; try 8080",
    errno.EADDRINUSE: "netkit sockets --listening --port {port} shows who has it; port 0 takes a free one",
}

_IPV6_OWN = ("::", "::1")


async def addresses_of(endpoint: Endpoint, *, family: int, numeric: bool, observe: Observer) -> list[Address]:
    """Return what a server at ``endpoint`` binds; raise Failure RESOLVE for the name."""
    if endpoint.host:
        return await lookup(endpoint, family, numeric=numeric, observe=observe)
    hosts = ("127.0.0.1", "::1") if endpoint.host is None else ("0.0.0.0", "::")
    families = (socket.AF_INET, socket.AF_INET6)
    return [
        Address(int(f), (host, endpoint.port)) for f, host in zip(families, hosts, strict=True) if family in (0, int(f))
    ]


def bind_all(wanted: Sequence[tuple[Address, Opener]], endpoint: Endpoint) -> list[socket.socket]:
    """Return a socket for each address wanted, all with one port number; raise Failure BIND.

    Port 0 is a number that is free for all of them. A machine without IPv6 is forgiven that it has neither :: nor ::1,
    as long as another address is left.
    """
    for _ in range(_PORT_TRIES):
        sockets = _bind_once(wanted, endpoint.port)
        if sockets:
            return sockets
    raise Failure(Exit.BIND, f"listen on {endpoint}", f"no port is free for all families in {_PORT_TRIES} tries")


def _bind_once(wanted: Sequence[tuple[Address, Opener]], port: int) -> list[socket.socket]:
    """Return the sockets; [] if the number that the system chose for the first is taken elsewhere."""
    sockets: list[socket.socket] = []
    missing: Failure | None = None
    try:
        for address, open_socket in wanted:
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockaddr = (address.host, chosen, *address.sockaddr[2:])
            try:
                with doing(Exit.BIND, f"listen on {Endpoint(address.host, chosen)}"):
                    sockets.append(open_socket(address.family, sockaddr))
            except Failure as failure:
                failure.hint = _HINTS.get(failure.errno, "").format(port=chosen)
                if address.host in _IPV6_OWN and failure.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    missing = failure
                elif sockets and port == 0 and failure.errno == errno.EADDRINUSE:
                    _close_all(sockets)
                    return []
                else:
                    raise
        if missing is not None and not sockets:
            raise missing
        return sockets
    except BaseException:
        _close_all(sockets)
        raise


def _close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
