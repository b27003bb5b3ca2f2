"""Name resolution by the system's resolver (getaddrinfo), in threads, so that a slow resolver does not block the loop.

Tasks that look up the same name at the same time share one call.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from netkit.core.address import Endpoint, family_of, host_of
from netkit.core.errors import Exit, Failure, Invalid, doing
from netkit.core.events import Observer, Resolved
from netkit.core.kernel import DeadlineExceeded, deadline, now, to_shared_thread
from netkit.core.units import duration

FAMILY_NAMES = {int(socket.AF_INET): "IPv4", int(socket.AF_INET6): "IPv6"}
_LOOPBACK = ("::1", "127.0.0.1")
_NOT_FOUND = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None), getattr(socket, "EAI_ADDRFAMILY", None)}


class Address(NamedTuple):
    """A family and a socket address, as connect(2) and bind(2) take them."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    @property
    def host(self) -> str:
        """The numeric host, zone included."""
        return host_of(self.sockaddr)


async def lookup(endpoint: Endpoint, family: int, *, numeric: bool = False, observe: Observer) -> list[Address]:
    """The addresses of an endpoint, each once, in the resolver's order. An empty host is loopback.

    ``family`` is AF_UNSPEC or the only one wanted. Raises Failure RESOLVE; Invalid for a name if ``numeric``.
    """
    host, port = endpoint.host or "", endpoint.port
    if not host:
        return [found for text in _LOOPBACK for found in _literal(text, port) if family in (found.family, 0)]
    literal = family_of(host)
    if literal is not None:
        if family not in (literal, socket.AF_UNSPEC):
            raise Failure(Exit.RESOLVE, f"resolve {host}", f"no {FAMILY_NAMES[family]} address")
        return _literal(host, port)
    if numeric:
        check_numeric(host)
    begun = now()
    found, _ = await canonical(host, port, family)
    observe(Resolved(host, tuple(address.host for address in found), now() - begun))
    return found


@contextmanager
def resolving(host: object, timeout: float) -> Iterator[None]:
    """Raise Failure TIMEOUT if the block, which looks ``host`` up, takes longer than ``timeout`` seconds."""
    try:
        with deadline(now() + timeout):
            yield
    except DeadlineExceeded:
        raise Failure(Exit.TIMEOUT, f"resolve {host}", f"no answer within {duration(timeout)}") from None


async def canonical(host: str, port: int, family: int) -> tuple[list[Address], str | None]:
    """The addresses of a name, each once, in the resolver's order; and its canonical name (AI_CANONNAME), if any.

    Raises Failure RESOLVE.
    """
    with doing(Exit.RESOLVE, f"resolve {host}"):
        return await to_shared_thread(_known, host, port, family)


async def reverse(host: str) -> str:
    """The name of an IP address. Raises Failure RESOLVE."""
    [address] = _literal(host, 0)
    try:
        flags = socket.NI_NAMEREQD | socket.NI_NUMERICSERV
        return (await to_shared_thread(socket.getnameinfo, address.sockaddr, flags))[0]
    except socket.gaierror as error:
        reason = "no name" if error.errno == socket.EAI_NONAME else _reason(error, 0)
        raise Failure(Exit.RESOLVE, f"resolve {host}", reason) from error
    except OSError as error:
        raise Failure(Exit.RESOLVE, f"resolve {host}", error) from error


def check_numeric(host: str) -> None:
    """Raise Invalid for a name."""
    if family_of(host) is None:
        raise Invalid(f"host {host!r} is a name, and --numeric allows addresses alone")


def _literal(host: str, port: int) -> list[Address]:
    address, _, zone = host.partition("%")
    if not zone and ":" not in host:
        return [Address(socket.AF_INET, (host, port))]
    with suppress(OSError):  # getaddrinfo accepts the name of an interface only for link-local addresses
        host = f"{address}%{socket.if_nametoindex(zone)}" if zone else host
    try:
        return [_address(found) for found in _getaddrinfo(host, port, socket.AF_UNSPEC, socket.AI_NUMERICHOST)]
    except socket.gaierror as error:
        reason = f"zone {zone} is no interface that this address can have" if zone else _reason(error, 0)
        raise Failure(Exit.RESOLVE, f"resolve {host}", reason) from error


def _known(host: str, port: int, family: int) -> tuple[list[Address], str | None]:
    try:
        answers = _getaddrinfo(host, port, family, socket.AI_CANONNAME)
    except socket.gaierror as error:
        if family and error.errno == socket.EAI_NONAME:  # does the name not exist, or has it no such address?
            _known(host, port, socket.AF_UNSPEC)
        raise Failure(Exit.RESOLVE, f"resolve {host}", _reason(error, family)) from error
    except UnicodeError:  # the canonical name is not valid text
        answers = _getaddrinfo(host, port, family)
    return list(dict.fromkeys(map(_address, answers))), answers[0][3] or None


def _getaddrinfo(host: str, port: int, family: int, flags: int = 0) -> list[Any]:
    # As bytes: Python would encode a str by its own codec, which is IDNA 2003.
    return socket.getaddrinfo(
        host.encode(), port, family, socket.SOCK_STREAM, socket.IPPROTO_TCP, flags | socket.AI_NUMERICSERV
    )


def _address(answer: Any) -> Address:
    return Address(int(answer[0]), answer[4])


def _reason(error: socket.gaierror, family: int) -> str:
    if error.errno == socket.EAI_NONAME and not family:
        return "name not found"
    if error.errno in _NOT_FOUND:
        return f"no {FAMILY_NAMES.get(family, 'IP')} address"
    if error.errno == socket.EAI_AGAIN:
        return "temporary failure of the resolver"
    return f"the resolver failed: {error.strerror}"
