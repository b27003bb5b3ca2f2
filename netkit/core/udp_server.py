"""Servers of datagrams: binding, multicast groups, and a receive loop with its limits and its orderly stop."""

import errno
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from netkit.core.address import Endpoint, family_of, from_socket
from netkit.core.bind import (
    PRIVATE,
    Opener,
    SocketFile,
    addresses_of,
    bind_all,
    bind_unix,
    is_owner_only,
    new_socket,
)
from netkit.core.errors import Exit, Failure, Invalid, doing
from netkit.core.events import Dropped, Ignored, Observer, ignore
from netkit.core.kernel import Group, now, sleep
from netkit.core.lookup import Address
from netkit.core.policy import Admission, Policy, finish
from netkit.core.sync import Event, Lock
from netkit.core.tcp_server import Listener, listen_tcp
from netkit.core.udp import IP_PKTINFO, IP_RECVTOS, Burst, Datagram, carried, is_multicast, try_option
from netkit.core.units import duration

_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29  # linux/in.h, linux/in6.h
REPORTS = 10.0  # s between two reports of drops
_WILDCARDS = ("0.0.0.0", "::")

Receiver = Callable[[Datagram, list[Burst]], Awaitable[None]]
"""Handles the datagrams that came to one socket, in order; answers must be sent by the same socket."""


class Bound:
    """The sockets of a server, which it owns. ``endpoints`` are the addresses they are bound to, all with one ``port``.

    The ``port`` of a unix socket is None. ``owner_only`` is as for Datagram.
    """

    def __init__(self, sockets: Sequence[socket.socket], *, owner_only: bool = False) -> None:
        self.endpoints = [from_socket(sock.getsockname()) for sock in sockets]
        first = self.endpoints[0]
        self.port = first.port if first.path is None else None
        self.sockets = [
            Datagram(sock, str(name), owner_only=owner_only) for sock, name in zip(sockets, self.endpoints, strict=True)
        ]
        self._file = SocketFile(first.path)
        self._reported = 0
        self._looked_at = now()

    def report_drops(self, observe: Observer, pause: float = 0.0) -> None:
        """Report how many datagrams the system dropped, if there are new ones and the last look is ``pause`` s ago."""
        if now() - self._looked_at < pause:
            return
        self._looked_at = now()
        dropped = sum(sock.dropped() for sock in self.sockets)
        if dropped > self._reported:
            self._reported = dropped
            observe(Dropped(dropped, any(sock.joined for sock in self.sockets)))

    def close(self) -> None:
        """Close the sockets, and remove the socket file if it is still ours. A second call has no effect."""
        self._file.remove()
        for sock in self.sockets:
            sock.close()


async def bind(
    endpoint: Endpoint,
    *,
    family: int = 0,
    numeric: bool = False,
    groups: Sequence[str] = (),
    mode: int = PRIVATE,
    observe: Observer = ignore,
) -> Bound:
    """Bind the addresses of ``endpoint``: see ``addresses_of``. The caller closes what is returned.

    ``mode`` is the file mode of a unix socket. An abstract one accepts other users if it has a bit for group or others.
    ``groups`` are multicast addresses to join, on the interface of their zone (``239.1.1.1%eth0``), else on that of
    ``endpoint``. Raises Failure: BIND, or RESOLVE for the name.
    """
    if endpoint.path is not None:
        with doing(Exit.BIND, f"listen on {endpoint}"), new_socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            bind_unix(sock, endpoint.path, mode)
            return Bound([sock], owner_only=is_owner_only(endpoint.path, mode))
    addresses = await addresses_of(endpoint, family=family, numeric=numeric, observe=observe)
    opener = partial(_open, shared=True) if groups else _open
    wanted: list[tuple[Address, Opener]] = [(address, opener) for address in addresses]
    for group in groups:
        with doing(Exit.BIND, f"join {group}"):
            wanted.append(_membership(group, endpoint, addresses))
    return Bound(bind_all(wanted, endpoint))


async def bind_both(endpoint: Endpoint, *, family: int, numeric: bool, observe: Observer) -> tuple[Listener, Bound]:
    """Bind all addresses for TCP and for UDP, with one port number. Raises Failure as ``bind`` does."""
    addresses = await addresses_of(endpoint, family=family, numeric=numeric, observe=observe)
    openers: tuple[Opener, Opener] = (listen_tcp, _open)
    sockets = bind_all([(address, opener) for opener in openers for address in addresses], endpoint)
    listening = [sock for sock in sockets if sock.type == socket.SOCK_STREAM]
    return Listener(listening), Bound([sock for sock in sockets if sock.type == socket.SOCK_DGRAM])


def _open(
    family: int, sockaddr: tuple[Any, ...], *, shared: bool = False, membership: tuple[int, int, bytes] | None = None
) -> socket.socket:
    """Open a bound socket that reports the destination of datagrams (PKTINFO) if it is bound to a wildcard address.

    ``membership`` is the socket option that joins a multicast group. Raises OSError.
    """
    ipv6 = family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if ipv6 else socket.IPPROTO_IP
    with new_socket(family, socket.SOCK_DGRAM) as sock:
        if ipv6:
            sock.setsockopt(level, socket.IPV6_V6ONLY, 1)
        if shared:  # several programs may receive from a group; do not receive from groups that only others joined
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try_option(sock, level, _IPV6_MULTICAST_ALL if ipv6 else _IP_MULTICAST_ALL, 0)
        if sockaddr[0] in _WILDCARDS:
            try_option(sock, level, socket.IPV6_RECVPKTINFO if ipv6 else IP_PKTINFO, 1)
        try_option(sock, level, socket.IPV6_RECVTCLASS if ipv6 else IP_RECVTOS, 1)
        if membership is None:
            sock.bind(sockaddr)
            return sock
        try:
            sock.bind(sockaddr)
            sock.setsockopt(*membership)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            detail = f"{sockaddr[0]}%INTERFACE says where"
            raise Failure(Exit.BIND, f"join {sockaddr[0]}", error, detail=detail) from error
        return sock


def _membership(group: str, endpoint: Endpoint, addresses: Sequence[Address]) -> tuple[Address, Opener]:
    """The address of a socket that receives from one group and nothing else, and the function that opens it."""
    host, _, zone = group.partition("%")
    index = socket.if_nametoindex(zone) if zone else 0
    if ":" in host:
        if not zone and endpoint.host is None:
            index = next((number for number, name in socket.if_nameindex() if name.startswith("lo")), 0)
        address = Address(int(socket.AF_INET6), (host, 0, 0, index))
        request = socket.inet_pton(socket.AF_INET6, host) + struct.pack("=I", index)
        membership = socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request
    else:
        ours = next((address.host for address in addresses if address.family == socket.AF_INET), "0.0.0.0")
        address = Address(int(socket.AF_INET), (host, 0))
        request = socket.inet_aton(host) + socket.inet_aton(ours) + struct.pack("=I", index)  # ip_mreqn: ip(7)
        membership = socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request
    return address, partial(_open, shared=True, membership=membership)


def parse_group(text: str) -> str:
    """Read a multicast address, ``%INTERFACE`` allowed; raise Invalid for anything else."""
    host, percent, zone = text.partition("%")
    if family_of(host) is None or not is_multicast(host):
        raise Invalid(f"{text!r} is not a multicast address, such as 239.1.2.3 or ff15::1%eth0")
    if percent and not zone:
        raise Invalid(f"{text!r} has an empty zone")
    return text


async def serve(
    bound: Bound, handler: Receiver, *, stop: Event, policy: Policy = Policy(), observe: Observer = ignore
) -> None:
    """Pass datagrams to the handler, in order, until ``stop`` or ``policy.limit`` datagrams; then close the sockets.

    The handler is called for one socket at a time. After ``stop`` what has arrived already is still passed to it, for
    at most ``DRAIN`` seconds. Raises Failure TIMEOUT after ``accept_timeout`` or ``idle_timeout`` of the policy, and
    what the handler raises.
    """
    admission = Admission(policy, bound.endpoints[0])
    serving = Group()
    turn = Lock()
    begun = moved_at = now()

    async def receive(sock: Datagram) -> None:
        while True:
            await sock.ready()
            async with turn:
                await hand_over(sock, sock.take())

    async def hand_over(sock: Datagram, bursts: list[Burst]) -> None:
        nonlocal moved_at
        bound.report_drops(observe, REPORTS)
        taken = []
        for burst in bursts:
            number = 0
            if admission.admits(burst.peer.endpoint.host or ""):
                number = admission.take(burst.number)
            else:
                observe(Ignored(burst.peer.endpoint, "not allowed"))
            wanted = sock.first(number, burst)
            if number:
                taken.append(wanted)
        if taken:
            await handler(sock, taken)
            moved_at = now()
        if admission.full:
            serving.cancel()

    async def hand_over_the_rest() -> None:
        async with turn:
            for sock in bound.sockets:
                while bursts := sock.take():
                    await hand_over(sock, bursts)
                    await sleep(0)

    async def await_silence(patience: float, *, in_order: bool) -> None:
        if policy.accept_timeout is not None:
            await admission.came.wait()
        while now() < (due := (now() if turn.locked() else moved_at) + patience):  # a busy handler is not silence
            await sleep(due - now())
        if in_order:
            serving.cancel()
            return
        action = f"serve on {bound.endpoints[0]}"
        raise Failure(Exit.TIMEOUT, action, f"nothing came for {duration(patience)}", detail="--idle-timeout")

    try:
        async with serving:
            for sock in bound.sockets:
                serving.start_soon(receive(sock))
            serving.start_soon(admission.await_next())
            if policy.idle_timeout is not None:
                serving.start_soon(await_silence(policy.idle_timeout, in_order=False))
            if policy.until_idle is not None:
                serving.start_soon(await_silence(policy.until_idle, in_order=True))
            await stop.wait()
            await finish(hand_over_the_rest(), stop)
            serving.cancel()
    finally:
        bound.report_drops(observe)
        observe(carried(bound.sockets, now() - begun))
        bound.close()
