"""Receivers for a datagram server, which write datagrams to stdout, answer them, or stop the server."""

import socket
from collections.abc import Awaitable, Callable, Sequence

from netkit.core.address import Endpoint
from netkit.core.errors import Failure, Invalid
from netkit.core.events import Ignored, Observer
from netkit.core.local_address import can_be_bound
from netkit.core.search import Pattern, SearchTimeout
from netkit.core.sync import Event
from netkit.core.udp import MARK, Burst, Datagram, cut, is_multicast
from netkit.core.udp_server import Receiver
from netkit.services.broadcast import Output
from netkit.services.server import addressed
from netkit.services.udp.formatter import Formatter

Reply = Callable[[Datagram, Burst], Awaitable[None]]
"""Sends the answers to what was received."""

_ANSWERING = (7, 13, 17, 19, 37)  # echo, daytime, qotd, chargen, time: RFC 862 to 868
_DSCP = 0xFC  # the bits of the traffic class without ECN: RFC 2474


def in_turn(*receivers: Receiver) -> Receiver:
    """A receiver that calls all of these in order."""

    async def receive(sock: Datagram, bursts: list[Burst]) -> None:
        for each in receivers:
            await each(sock, bursts)

    return receive


def showing(form: Formatter, output: Output) -> Receiver:
    """Write what comes to stdout."""

    async def receive(sock: Datagram, bursts: list[Burst]) -> None:
        await output.write(b"".join([form(sock, burst) for burst in bursts]))

    return receive


def until(pattern: Pattern, stop: Event, observe: Observer) -> Receiver:
    """Set ``stop`` once a datagram matches. If a search takes too long, the rest of the burst is not searched."""

    async def receive(sock: Datagram, bursts: list[Burst]) -> None:
        for burst in bursts:
            try:
                if any(map(pattern.search, cut(burst.data, burst.size))):
                    stop.set()
            except SearchTimeout as failure:
                observe(Ignored(burst.peer.endpoint, str(failure)))

    return receive


def answering(reply: Reply, observe: Observer) -> Receiver:
    """Answer datagrams, and mark the answers; but not those that may be answers, or whose source would answer back.

    So a datagram with a forged source cannot make two such servers answer each other without end.
    """
    own: dict[Datagram, tuple[str, int]] = {}

    async def receive(sock: Datagram, bursts: list[Burst]) -> None:
        if sock not in own:
            if not sock.is_unix:
                sock.mark()
            own[sock] = sock.local.host or "", sock.local.port
        for burst in bursts:
            reason = refusal(burst, *own[sock])
            if not reason:
                try:
                    await reply(sock, burst)
                except Failure as failure:
                    reason = failure.reason
            if reason:
                observe(Ignored(burst.peer.endpoint, reason))

    return receive


def refusal(burst: Burst, own_host: str, own_port: int) -> str:
    """Why a datagram to a server at ``own_host`` and ``own_port`` must not be answered, "" if it may."""
    if isinstance(burst.peer.address, str | bytes):
        return "" if burst.peer.address else "its sender has no address"
    host, port = burst.peer.address[:2]
    if burst.traffic_class & _DSCP == MARK:
        return "it is an answer itself"
    if port in _ANSWERING:
        return f"port {port} would answer back"
    if port == 0:
        return "port 0 takes no answer"
    if is_multicast(host) or host == "255.255.255.255":
        return "its source is no single host"
    if port == own_port and (host == own_host or (own_host in ("0.0.0.0", "::") and can_be_bound(host))):
        return "it claims to come from here"
    return ""


def replying(text: bytes | None, name: str | None) -> Reply | None:
    """The reply with ``text``, in which {host} and {port} are the peer's, or that named "echo" or "upper"; or None."""
    if text is None:
        return {"echo": changed(bytes), "upper": changed(bytes.upper)}[name] if name else None

    async def reply(sock: Datagram, burst: Burst) -> None:
        for _ in range(burst.number):
            await sock.send(addressed(text, burst.peer.endpoint), burst.peer)

    return reply


def changed(change: Callable[[bytes], bytes]) -> Reply:
    """Send each datagram back through ``change``, which must not change its length."""

    async def reply(sock: Datagram, burst: Burst) -> None:
        await sock.send_cut(change(burst.data), burst.size, burst.peer)

    return reply


def check_groups(endpoint: Endpoint, groups: Sequence[str], family: int) -> None:
    """Raise Invalid for a multicast address to listen on, and for groups that are not of ``family``."""
    if endpoint.host and is_multicast(endpoint.host):
        raise Invalid(f"{endpoint.host} is a multicast group: write :{endpoint.port} --join {endpoint.host}")
    for group in groups:
        if family not in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in group else socket.AF_INET):
            raise Invalid(f"--join {group} does not apply: it is of the other family")
