"""Binding: the sockets of a server for datagrams, one port number for all of them, and what they receive."""

import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from netkit.core.address import Endpoint, family_of, from_socket
from netkit.core.bind import Opener, addresses_of, bind_all
from netkit.core.connection import DRAIN
from netkit.core.errors import Exit, Failure, Invalid, doing
from netkit.core.events import Dropped, Ignored, Observer, ignore, span
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.lookup import Address
from netkit.core.policy import nobody_came
from netkit.core.sync import Event, Lock
from netkit.core.tcp_server import Listener, listen_tcp
from netkit.core.udp import IP_PKTINFO, IP_RECVTOS, Burst, Datagram, Peer, carried, is_multicast, try_option

_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29  # linux/in.h, linux/in6.h

_REPORTS = 10.0  # s between two reports of drops

_WILDCARDS = ("0.0.0.0", "::")


Receiver = Callable[[Datagram, list[Burst]], Awaitable[None]]
"""Takes what came to one socket, in its order; answers leave by the same."""


class Bound:
    """The sockets of a server, which it owns; ``endpoints`` are their real addresses, with one port number."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self.endpoints = [from_socket(sock.getsockname()) for sock in sockets]
        self.sockets = [Datagram(sock, str(name)) for sock, name in zip(sockets, self.endpoints, strict=True)]

    @property
    def port(self) -> int:
        """The one port number."""
        return self.endpoints[0].port

    def dropped(self) -> Dropped:
        """Return what the kernel dropped so far."""
        return Dropped(sum(sock.dropped() for sock in self.sockets), any(sock.joined for sock in self.sockets))

    def close(self) -> None:
        """Close them. Closing twice is nothing."""
        for sock in self.sockets:
            sock.close()


async def bind(
    endpoint: Endpoint,
    *,
    family: int = 0,
    numeric: bool = False,
    groups: Sequence[str] = (),
    observe: Observer = ignore,
) -> Bound:
    """Return the sockets of a server: a bare port is loopback, an empty host every interface, a name all its addresses.

    ``groups`` are multicast addresses to join, on the interface of their zone (``239.1.1.1%eth0``), else on that of
    ``endpoint``. Raises Failure: BIND, or RESOLVE for the name.
    """
    addresses = await addresses_of(endpoint, family=family, numeric=numeric, observe=observe)
    opener = _open_shared if groups else open_udp
    wanted: list[tuple[Address, Opener]] = [(address, opener) for address in addresses]
    for group in groups:
        with doing(Exit.BIND, f"join {group}"):
            wanted.append(_membership(group, endpoint, addresses))
    return Bound(bind_all(wanted, endpoint))


async def bind_both(
    endpoint: Endpoint, *, family: int = 0, numeric: bool = False, observe: Observer = ignore
) -> tuple[Listener, Bound]:
    """Return a listener for TCP and the sockets for UDP, all on one port number; raise Failure as ``bind`` does."""
    addresses = await addresses_of(endpoint, family=family, numeric=numeric, observe=observe)
    wanted: list[tuple[Address, Opener]] = [(address, listen_tcp) for address in addresses]
    sockets = bind_all(wanted + [(address, open_udp) for address in addresses], endpoint)
    streams = [sock for sock in sockets if sock.type == socket.SOCK_STREAM]
    return Listener(streams), Bound([sock for sock in sockets if sock.type == socket.SOCK_DGRAM])


def open_udp(family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
    """Return a bound socket that tells of each datagram how it was addressed; raise OSError."""
    return _open(family, sockaddr, shared=False)


def _open_shared(family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
    return _open(family, sockaddr, shared=True)


def _open(family: int, sockaddr: tuple[Any, ...], *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        ipv6 = family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if ipv6 else socket.IPPROTO_IP
        if ipv6:
            sock.setsockopt(level, socket.IPV6_V6ONLY, 1)
        if shared:  # a group has many receivers; and a group that another program joined is not ours
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try_option(sock, level, _IPV6_MULTICAST_ALL if ipv6 else _IP_MULTICAST_ALL, 0)
        if sockaddr[0] in _WILDCARDS:
            try_option(sock, level, socket.IPV6_RECVPKTINFO if ipv6 else IP_PKTINFO, 1)
        try_option(sock, level, socket.IPV6_RECVTCLASS if ipv6 else IP_RECVTOS, 1)
        sock.bind(sockaddr)
        return sock
    except BaseException:
        sock.close()
        raise


def _membership(group: str, endpoint: Endpoint, addresses: Sequence[Address]) -> tuple[Address, Opener]:
    """Return the address and the maker of a socket that hears one group and nothing else."""
    host, _, zone = group.partition("%")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    index = socket.if_nametoindex(zone) if zone else 0
    if family == socket.AF_INET6:
        if not zone and endpoint.host is None:
            index = _loopback()
        level, option = socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP
        request = socket.inet_pton(family, host) + struct.pack("=I", index)
    else:
        ours = next((address.host for address in addresses if address.family == family), "0.0.0.0")
        level, option = socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP
        request = socket.inet_aton(host) + socket.inet_aton(ours) + struct.pack("=I", index)  # ip_mreqn: ip(7)

    def join(family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
        sock = _open_shared(family, sockaddr)
        try:
            sock.setsockopt(level, option, request)
            return sock
        except BaseException:
            sock.close()
            raise

    return Address(int(family), (host, 0, 0, index) if family == socket.AF_INET6 else (host, 0)), join


def is_ours(host: str) -> bool:
    """Tell whether an address is one of this machine's."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def parse_group(text: str) -> str:
    """Read a multicast address, ``%INTERFACE`` allowed; raise Invalid for anything else."""
    host, percent, zone = text.partition("%")
    if family_of(host) is None or not is_multicast(host):
        raise Invalid(f"{text!r} is not a multicast address, such as 239.1.2.3 or ff15::1%eth0")
    if percent and not zone:
        raise Invalid(f"{text!r} has an empty zone")
    return text


class Limits(NamedTuple):
    """How many datagrams are served, from where, and for how many seconds there may be none. None is no limit.

    ``admits`` is asked with a sender's host. ``accept_timeout`` is for the first, ``idle_timeout`` for each.
    """

    most: int | None = None
    admits: Callable[[str], bool] | None = None
    accept_timeout: float | None = None
    idle_timeout: float | None = None


async def serve(
    bound: Bound,
    handler: Receiver,
    *,
    stop: Event,
    limits: Limits = Limits(),
    observe: Observer = ignore,
) -> None:
    """Hand over what comes, in its order, until ``stop`` or ``limits.most`` datagrams, and close the sockets.

    The handler is called for one socket at a time. At ``stop`` what has come already is still handed over, for at most
    ``DRAIN`` seconds. Raises Failure TIMEOUT when nothing came for too long, and what the handler raises.
    """
    server = _Server(bound, handler, stop, limits, observe)
    try:
        async with Group() as clocks:
            if limits.accept_timeout is not None:
                clocks.start_soon(server.await_first(limits.accept_timeout))
            if limits.idle_timeout is not None:
                clocks.start_soon(server.await_silence(limits.idle_timeout))
            async with Group() as receiving:
                for sock in bound.sockets:
                    receiving.start_soon(server.receive(sock))
                await stop.wait()
                server.interrupt()
                try:
                    with deadline(now() + DRAIN):
                        await receiving.emptied()
                        await server.drain()
                except DeadlineExceeded:
                    receiving.cancel()
            clocks.cancel()
    finally:
        server.report()
        observe(carried(bound.sockets, now() - server.begun))
        bound.close()


class _Server:
    def __init__(self, bound: Bound, handler: Receiver, stop: Event, limits: Limits, observe: Observer) -> None:
        self.bound = bound
        self.handler = handler
        self.stop = stop
        self.limits = limits
        self.observe = observe
        self.left = limits.most
        self.came = Event()
        self.begun = self.moved_at = now()
        self.waiting: dict[Datagram, Group] = {}
        self.turn = Lock()
        self.busy = False
        self.reported_at = self.begun
        self.dropped = 0

    async def receive(self, sock: Datagram) -> None:
        while not self.stop.is_set():
            async with Group() as waiting:  # a scope of its own: cancelled, it has lost nothing
                self.waiting[sock] = waiting
                await sock.ready()
            async with self.turn:
                await self.handle(sock, sock.take())

    async def handle(self, sock: Datagram, bursts: list[Burst]) -> None:
        if now() - self.reported_at >= _REPORTS:
            self.report()
        if self.limits.admits is not None:
            bursts = [burst for burst in bursts if self.admit(burst.peer, self.limits.admits)]
        if self.left is not None:
            bursts = self.counted(bursts, self.left)
        if bursts:
            self.came.set()
            self.busy = True
            await self.handler(sock, bursts)
            self.busy = False
            self.moved_at = now()

    def admit(self, peer: Peer, admits: Callable[[str], bool]) -> bool:
        admitted = admits(peer.address[0])
        if not admitted:
            self.observe(Ignored(peer.endpoint, "not allowed"))
        return admitted

    def counted(self, bursts: list[Burst], left: int) -> list[Burst]:
        """Return no more than the ``left`` datagrams that are still wanted."""
        wanted: list[Burst] = []
        for burst in bursts:
            if left:
                wanted.append(burst.first(left))
                left -= wanted[-1].number
        self.left = left
        if not left:
            self.stop.set()
        return wanted

    def interrupt(self) -> None:
        for waiting in self.waiting.values():
            waiting.cancel()

    async def drain(self) -> None:
        for sock in self.bound.sockets:
            while self.left != 0 and (bursts := sock.take()):
                await self.handle(sock, bursts)
                await sleep(0)

    async def await_first(self, patience: float) -> None:
        try:
            with deadline(now() + patience):
                await self.came.wait()
        except DeadlineExceeded:
            raise nobody_came(self.bound.endpoints[0], patience) from None

    async def await_silence(self, patience: float) -> None:
        """Raise Failure once nothing came for so long. What waits while the handler is busy is not silence."""
        if self.limits.accept_timeout is not None:
            await self.came.wait()
        while True:
            due = (now() if self.busy else self.moved_at) + patience
            if now() >= due:
                action = f"serve on {self.bound.endpoints[0]}"
                raise Failure(Exit.TIMEOUT, action, f"nothing came for {span(patience)}", detail="--idle-timeout")
            await sleep(due - now())

    def report(self) -> None:
        self.reported_at = now()
        dropped = self.bound.dropped()
        if dropped.number > self.dropped:
            self.dropped = dropped.number
            self.observe(dropped)


def _loopback() -> int:
    """Return the index of the loopback interface."""
    return next((index for index, name in socket.if_nameindex() if name.startswith("lo")), 0)
