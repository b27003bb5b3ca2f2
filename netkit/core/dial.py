"""Connecting a client: Happy Eyeballs over all addresses of a name (RFC 8305), the layers, one timeout for all."""

import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import TypeVar

from netkit.core.address import Endpoint, family_of, from_socket
from netkit.core.bind import new_socket
from netkit.core.errors import Exit, Failure, describe, doing
from netkit.core.events import Connected, Missed, Observer, Trying, ignore
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep, writable
from netkit.core.layer import Layer, through
from netkit.core.lookup import Address, lookup
from netkit.core.persistence import persist
from netkit.core.record import Record
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import Connection
from netkit.core.sync import Event
from netkit.core.units import duration

C = TypeVar("C")
S = TypeVar("S")
STAGGER = 0.25  # s between attempts: RFC 8305, section 5
UNREACHED = (Exit.PROXY_NAME, Exit.RESOLVE, Exit.CONNECT, Exit.TIMEOUT)
"""How dialling fails while a target is not there, or is not reached."""
NOT_BACK = (*UNREACHED, Exit.PROXY, Exit.TLS, Exit.PROTOCOL, Exit.SEND, Exit.RECV)
"""How dialling a target that was there before fails until it is back, also if another accepts in its place."""
_BACKLOG_PAUSE = 0.01  # s between tries: with a full backlog a unix socket gives EAGAIN, and no event tells of room
_UNIX_HINTS = {
    errno.ENOENT: "no server has made it yet? netkit sockets --unix --listening shows those there are",
    errno.ECONNREFUSED: "the server that made it has gone; netkit sockets --unix --listening shows those there are",
    errno.EACCES: "only who may write to the socket's file may connect: see ls -l",
}


class TimeLimit:
    """Limits all steps of dialling together to ``seconds`` from now on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = now() + seconds

    @contextmanager
    def during(self, action: str, detail: str = "") -> Iterator[None]:
        """Limit the block, one step. Raises Failure TIMEOUT, with this action and detail, once the time is over."""
        try:
            with deadline(self._due):
                yield
        except DeadlineExceeded:
            reason, hint = f"no answer within {duration(self._seconds)}", "a firewall may drop packets; -w waits longer"
            raise Failure(Exit.TIMEOUT, action, reason, detail=detail, hint=hint) from None


class Dialling(Record):
    """How to dial.

    ``family`` is AF_INET, AF_INET6 or AF_UNSPEC. ``timeout`` is the seconds for all steps, the handshakes of the layers
    included. ``source`` is our own address and port ("" and 0: any). ``layers`` are applied in order, the one next to
    the wire first. ``connect`` makes the connection; None is ``open_connection``. ``check``, called before anything is
    sent, raises Failure for a connection that must not be used. ``choose`` selects the addresses to try of those found,
    or raises Failure. ``interface`` is the network interface that all packets must leave by.
    """

    family: int = socket.AF_UNSPEC
    numeric: bool = False
    timeout: float = 10.0
    source: tuple[str, int] | None = None
    layers: Sequence[Layer] = ()
    connect: "Connect | None" = None
    check: Callable[[Connection], None] | None = None
    choose: Callable[[list[Address]], list[Address]] = list
    interface: str | None = None


Connect = Callable[[Endpoint, Dialling, TimeLimit, Observer, Group | None], Awaitable[Connection]]
"""Makes the connection to a target, raising the failures of ``dial``. The tasks of its layers are in the group."""


async def dial(
    target: Endpoint, how: Dialling = Dialling(), observe: Observer = ignore, group: Group | None = None
) -> Connection:
    """Connect, go through the layers, and return a stream that the caller closes.

    The tasks of the layers are started in ``group``, which must be given if there are layers. The caller cancels it
    before it closes the stream, as ``serve_connection`` does.

    Raises Failure: RESOLVE; CONNECT; BIND for our own address; TIMEOUT after ``how.timeout``; what the layers raise,
    such as CERT and TLS; and what ``how.connect`` raises, such as PROXY.
    """
    limit = TimeLimit(how.timeout)
    connect = how.connect or open_connection
    stream = await connect(target, how, limit, observe, group)
    if not how.layers:
        return stream
    assert group is not None, "layers need a group"
    try:
        with limit.during(f"secure the connection to {target}", "" if how.connect else stream.peer.host or ""):
            return await through(stream, how.layers, group)
    except BaseException:
        stream.abort()
        raise


async def open_connection(
    target: Endpoint, how: Dialling, limit: TimeLimit, observe: Observer, group: Group | None = None
) -> SocketStream:
    """Connect directly to one of the addresses of ``target``. The ``Connect`` that is used unless another is given."""
    begun = now()
    if target.path is not None:
        with limit.during(f"connect to {target}"):
            stream, address = await _connect_unix(target, target.path), target
    else:
        with limit.during(f"resolve {target.host}"):
            addresses = await candidates(target, how, observe)
        with limit.during(f"connect to {target}", ", ".join(address.host for address in addresses)):
            stream, address = await _connect_tcp(target, addresses, how, observe)
    observe(Connected(str(target), address, stream.local, now() - begun))
    if how.check is not None:
        try:
            how.check(stream)
        except BaseException:
            stream.abort()
            raise
    return stream


async def dial_until(
    target: Endpoint,
    patience: float,
    how: Dialling = Dialling(),
    observe: Observer = ignore,
    group: Group | None = None,
    again: Container[Exit] = UNREACHED,
) -> Connection:
    """As ``dial``, but retry for ``patience`` seconds, as long as it fails with a code in ``again``.

    By default that is while the target, or a proxy on the way, is not resolved, refuses, or does not answer.
    """

    async def attempt(seconds: float) -> Connection:
        return await dial(target, how._replace(timeout=seconds), observe, group)

    return await persist(attempt, patience, again, timeout=how.timeout, observe=observe)


async def race(candidates: Sequence[C], attempt: Callable[[C], Awaitable[S]], drop: Callable[[S], None]) -> S | None:
    """Start attempts ``STAGGER`` seconds apart, or as soon as the last one has failed; return the first success.

    ``attempt`` raises OSError for a candidate that fails. If all do, None is returned. A Failure ends the race and is
    raised. ``drop`` is called to close the result of an attempt that also succeeded.
    """
    winners: list[S] = []
    group = Group()

    async def one(candidate: C, failed: Event) -> None:
        try:
            result = await attempt(candidate)
        except Failure:
            raise
        except OSError:
            failed.set()
            return
        if winners:
            drop(result)
        else:
            winners.append(result)
            group.cancel()

    try:
        async with group:
            for candidate in candidates:
                failed = Event()
                group.start_soon(one(candidate, failed))
                with suppress(DeadlineExceeded), deadline(now() + STAGGER):
                    await failed.wait()
    except BaseException:
        for winner in winners:
            drop(winner)
        raise
    return winners[0] if winners else None


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Alternate between the families, starting with that of the resolver's first address (RFC 8305, section 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    return [address for turn in zip_longest(*families.values()) for address in turn if address is not None]


async def candidates(target: Endpoint, how: Dialling, observe: Observer) -> list[Address]:
    """Look up the addresses to try, in order. Raises Failure RESOLVE, and what ``how.choose`` raises."""
    try:
        found = how.choose(await lookup(target, how.family, numeric=how.numeric, observe=observe))
    except Failure as failure:
        if family_of(target.host or "") is None:
            failure.hint = failure.hint or f"netkit resolve {target.host} shows what the resolver says"
        raise
    source = how.source[0] if how.source else ""
    if source:
        found = [address for address in found if address.family == family_of(source)]
        if not found:
            raise Failure(Exit.RESOLVE, f"resolve {target.host}", f"no address of the family of source {source}")
    return interleave(found)


async def _connect_tcp(
    target: Endpoint, addresses: list[Address], how: Dialling, observe: Observer
) -> tuple[SocketStream, Endpoint]:
    begun = now()
    missed: dict[str, list[str]] = {}
    last: OSError | None = None

    async def attempt(address: Address) -> tuple[SocketStream, Endpoint]:
        nonlocal last
        started = now()
        observe(Trying(address.host))
        try:
            stream = await _connect(address, how, str(target))
        except Failure:
            raise
        except OSError as error:
            last = error
            missed.setdefault(describe(error), []).append(address.host)
            observe(Missed(address.host, describe(error), now() - started))
            raise
        return stream, stream.peer

    winner = await race(addresses, attempt, lambda second: second[0].close())
    if winner is not None:
        return winner
    refused = last is not None and last.errno == errno.ECONNREFUSED
    hint = f"nothing listens there yet? netkit portcheck {target} --wait 30s" if refused else ""
    after = f"after {duration(now() - begun)}"
    reason: str | OSError = "no address answered"
    details = [f"{', '.join(hosts)}: {why}" for why, hosts in missed.items()]
    if len(missed) == 1 and last is not None:
        reason, [details] = last, missed.values()
    detail = ", ".join([*details, after])
    raise Failure(Exit.CONNECT, f"connect to {target}", reason, detail=detail, hint=hint) from last


async def _connect(address: Address, how: Dialling, name: str) -> SocketStream:
    with new_socket(address.family, socket.SOCK_STREAM) as sock:
        bind_own_end(sock, address, how)
        code = errno.EINTR
        while code == errno.EINTR:
            code = sock.connect_ex(address.sockaddr)
        if code in (errno.EINPROGRESS, errno.EALREADY):
            await writable(sock.fileno())
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        # A reset can only come after the handshake, so the connection was made, and may have data to be read.
        if code not in (0, errno.ECONNRESET, errno.EPIPE):
            raise OSError(code, os.strerror(code))
        refuse_self(sock)
        return SocketStream(sock, name, peer=from_socket(address.sockaddr), reset=code)


def refuse_self(sock: socket.SocketType) -> None:
    """Raise ConnectionRefusedError for a socket that is connected to itself, and must then be closed.

    That happens if the ephemeral port chosen for it is the one it connects to. After an ordinary close a TCP port would
    be in TIME_WAIT for a minute, and could not be taken by the server that is waited for.
    """
    try:
        is_self = sock.getsockname() == sock.getpeername()
    except OSError:  # it has been reset meanwhile
        return
    if is_self:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def bind_own_end(sock: socket.socket, address: Address, how: Dialling) -> None:
    """Bind a socket, before it connects to ``address``, to ``how.interface`` and ``how.source``; raise Failure BIND."""
    if how.interface is not None:
        _bind_to_interface(sock, how.interface)
    if how.source is not None:
        _bind_source(sock, address, how.source)


def _bind_to_interface(sock: socket.socket, name: str) -> None:
    with doing(Exit.BIND, f"use interface {name}"):
        option = getattr(socket, "SO_BINDTODEVICE", None)  # Linux: socket(7)
        if option is None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        sock.setsockopt(socket.SOL_SOCKET, option, os.fsencode(name))


def _bind_source(sock: socket.socket, address: Address, source: tuple[str, int]) -> None:
    host, port = source
    any_host = "::" if address.family == socket.AF_INET6 else "0.0.0.0"
    with doing(Exit.BIND, f"use source {Endpoint(host or any_host, port)}"):
        if port and sock.type == socket.SOCK_STREAM:  # with this option two datagram sockets would share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(socket.getaddrinfo(host or any_host, port, address.family, socket.SOCK_STREAM)[0][4])


async def _connect_unix(target: Endpoint, path: str) -> SocketStream:
    with doing(Exit.CONNECT, f"connect to {target}"), new_socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        while True:
            try:
                sock.connect(os.fsencode(path))
                return SocketStream(sock, str(target), peer=target)
            except BlockingIOError:
                await sleep(_BACKLOG_PAUSE)
            except OSError as error:
                hint = _UNIX_HINTS.get(error.errno or 0, "")
                raise Failure(Exit.CONNECT, f"connect to {target}", error, hint=hint) from error
