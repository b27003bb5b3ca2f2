"""Datagram sockets (UDP and unix): sending and receiving, with segmentation offload, and clients of a target.

Consecutive datagrams of equal size are sent in one system call (UDP_SEGMENT) and received in one (UDP_GRO). Where the
system refuses, and over unix sockets, each is sent and received by itself. The datagrams are the same either way.
"""

import errno
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from netkit.core.address import Endpoint, family_of, from_socket
from netkit.core.bind import OWNER, is_stranger, new_socket
from netkit.core.dial import Dialling, bind_own_end, candidates, refuse_self
from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Carried, Observer, Opened, ignore
from netkit.core.kernel import notify_closing, readable, sleep, writable
from netkit.core.lookup import Address, resolving

Data = bytes | memoryview
D = TypeVar("D", bytes, memoryview)
LARGEST = 65507  # bytes that fit into a datagram over IPv4: 65535 less the headers of RFC 791 and RFC 768
LARGEST_UNIX = 1 << 20  # bytes that we ask for; net.core.wmem_max allows about 200 KiB by default
MARK = 1 << 2  # DSCP 1 in the traffic class
OVERHEAD = 64  # bytes that a waiting datagram counts besides its own, so that empty ones are bounded, too
# What Python's socket module does not name: linux/in.h, linux/in6.h, linux/udp.h, asm-generic/socket.h.
IP_PKTINFO, IP_RECVTOS = 8, 13
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_SO_MEMINFO, _DROPS = 55, 8
_UDP_SEGMENT, _UDP_GRO = 103, 104
_ERROR = struct.Struct("=IBBBxII")  # sock_extended_err: linux/errqueue.h
_LINUX = sys.platform == "linux"
_BUFFER = 4 << 20  # bytes asked for as SO_RCVBUF; net.core.rmem_max may allow less
_MAX_READ = 1 << 16
_MAX_ANCILLARY = 256  # bytes of the control messages of one datagram
_MAX_SEGMENTS = 128  # UDP_MAX_SEGMENTS; 64 before Linux 6.9
_OLD_MAX_SEGMENTS = 64
_MAX_READS = 64  # of one socket before the others get their turn
_MAX_BYTES = 128 * 1024  # the same in bytes: more would fall out of the processor's cache before they are used
_NO_OFFLOAD = (errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP)
_MAX_UNHEARD = 1 << 18  # bytes that are kept to be sent again to the next address
_NOBODY = "nothing receives there yet? netkit udp-serve does"
_FULL_PAUSE = 0.001  # s until a send is tried again after ENOBUFS: no event tells when an interface's queue has room


class Peer(NamedTuple):
    """Where a datagram came from, and our address to which it was sent.

    ``address`` is a socket address as of recvmsg; that of a unix socket is its path, "" if it is not bound. ``local``
    is our address, packed, b"" if the socket has just one. What is sent to the peer has it as its source.
    """

    address: Any
    local: bytes = b""

    @property
    def endpoint(self) -> Endpoint:
        return from_socket(self.address)

    def __str__(self) -> str:
        return str(self.endpoint)


class Burst(NamedTuple):
    """Datagrams of one peer from one read: ``data`` is cut every ``size`` bytes; the last one may be shorter."""

    data: bytes
    size: int
    peer: Peer
    traffic_class: int = 0

    @property
    def number(self) -> int:
        return _pieces(self.data, self.size)

    @property
    def weight(self) -> int:
        """The bytes that it counts while it waits in a queue."""
        return len(self.data) + OVERHEAD * self.number

    def first(self, number: int) -> "Burst":
        """The burst with at most its first ``number`` datagrams."""
        return self if self.number <= number else self._replace(data=self.data[: number * self.size])


def cut(data: D, size: int) -> Iterator[D]:
    """Yield ``data`` in pieces of ``size`` bytes; the last one may be shorter. Empty data is one empty piece."""
    for start in range(0, len(data) or 1, size):
        yield data[start : start + size]


def at_once(size: int, segments: int = _MAX_SEGMENTS) -> int:
    """How many bytes one system call can send at most, in datagrams of ``size`` bytes."""
    return max(min(segments, LARGEST // size), 1) * size


def _pieces(data: Data, size: int) -> int:
    return -(-len(data) // size) if data else 1


class Datagram:
    """A datagram socket, which it owns. ``sent``, ``received``, ``sent_bytes`` and ``received_bytes`` count datagrams.

    ``name`` is its target, or for a server its own address. If it has a target, an ICMP error for a datagram that was
    sent is raised by the next call, as Failure CONNECT. ``owner_only`` is for abstract unix sockets: it drops what
    other users than ours and root send.
    """

    def __init__(self, sock: socket.socket, name: str, target: Any = None, *, owner_only: bool = False) -> None:
        self.name = name
        self.sent = self.sent_bytes = 0
        self.received = self.received_bytes = 0
        self._held: deque[tuple[bytes, Peer]] = deque()
        self._error: OSError | None = None
        self._owner_only = owner_only
        self._use(sock, target)

    def _use(self, sock: socket.socket, target: Any) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self.is_unix = sock.family == socket.AF_UNIX
        self._ipv6 = sock.family == socket.AF_INET6
        self._class = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if self._ipv6 else (socket.IPPROTO_IP, socket.IP_TOS)
        self._target = target  # the default address of send(), if the socket is not connected
        self._segments = _MAX_SEGMENTS if _LINUX and not self.is_unix else 1
        # Whether one read may return many datagrams (UDP_GRO).
        self.joined = not self.is_unix and try_option(sock, socket.IPPROTO_UDP, _UDP_GRO, 1)
        if self._owner_only:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if self.is_unix:  # limits the length of a datagram
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)

    @property
    def local(self) -> Endpoint:
        return from_socket(self._sock.getsockname())

    @property
    def target(self) -> Endpoint:
        return from_socket(self._sock.getpeername() if self._target is None else self._target)

    def reached_by(self, peer: Peer) -> Endpoint:
        """Our address to which a peer has sent."""
        if not peer.local:
            return self.local
        host = socket.inet_ntop(socket.AF_INET6 if self._ipv6 else socket.AF_INET, peer.local)
        return from_socket((host, self.local.port, *peer.address[2:]))

    async def receive(self) -> tuple[bytes, Peer]:
        """Wait for a datagram and return it with its peer. An empty datagram is b"", which does not mean an end."""
        while not self._held:
            await self.ready()
            for burst in self.take(1):
                self._held += ((data, burst.peer) for data in cut(burst.data, burst.size))
        return self._held.popleft()

    async def ready(self) -> None:
        """Wait until ``take`` may return something."""
        sock = self._sock
        try:
            await readable(self._fd)
        except OSError as error:
            if sock is self._sock:  # else it was closed for the next one
                raise self._failure(error) from error

    def check(self) -> None:
        """Raise Failure CONNECT if an ICMP error has come back that no call has raised yet."""
        while code := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            error = OSError(code, os.strerror(code))
            if not self._moves_on(error):
                raise self._failure(error)

    def _moves_on(self, error: OSError) -> bool:
        """Whether to go on after this error. A client may have switched to the next address of its target."""
        return False

    def take(self, reads: int = _MAX_READS) -> list[Burst]:
        """Return what has arrived, in order, by at most so many ``reads``; [] if nothing has. Never waits.

        An error after the first read is raised by the next call. Raises Failure.
        """
        bursts: list[Burst] = []
        try:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            before = self.received_bytes
            for _ in range(reads):
                if (burst := self._read()) is not None:
                    bursts.append(burst)
                if self.received_bytes - before >= _MAX_BYTES:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            if bursts:
                self._error = error
            elif not self._moves_on(error):
                raise self._failure(error) from error
        return bursts

    def _read(self) -> Burst | None:
        if self.is_unix:
            return self._read_unix()
        data, told, _, address = self._sock.recvmsg(_MAX_READ, _MAX_ANCILLARY)
        size, local, traffic_class = len(data) or 1, b"", 0
        for level, kind, value in told:
            if level == socket.IPPROTO_UDP:
                if kind == _UDP_GRO:
                    size = int.from_bytes(value, sys.byteorder)
            elif kind == IP_PKTINFO and level == socket.IPPROTO_IP:
                local = value[4:8]  # ipi_spec_dst
            elif kind == socket.IPV6_PKTINFO and level == socket.IPPROTO_IPV6:
                local = b"" if value[0] == 0xFF else value[:16]  # a multicast address cannot be a source
            else:  # IP_TOS is one byte, IPV6_TCLASS an int
                traffic_class = int.from_bytes(value, sys.byteorder)
        return self._counted(Burst(data, size, Peer(address, local), traffic_class))

    def _read_unix(self) -> Burst | None:
        """Read a datagram; None if it came from another user. The buffer has no room for passed descriptors."""
        room = socket.CMSG_SPACE(OWNER.size) if self._owner_only else 0
        data, told, _, address = self._sock.recvmsg(LARGEST_UNIX, room)
        if any(is_stranger(owner) for _, _, owner in told):
            return None
        return self._counted(Burst(data, len(data) or 1, Peer(address or "")))

    def _counted(self, burst: Burst) -> Burst:
        self.received += burst.number
        self.received_bytes += len(burst.data)
        return burst

    def first(self, number: int, burst: Burst) -> Burst:
        """The first datagrams of a burst, at most ``number``; the others do not count as received."""
        wanted = burst.first(number)
        self.received -= burst.number - min(number, burst.number)
        self.received_bytes -= len(burst.data) - len(wanted.data)
        return wanted

    async def send(self, data: bytes, peer: Peer | None = None) -> None:
        """Send one datagram to ``peer``, by default to the target. Raises Failure: SEND if too long, CONNECT."""
        await self.send_cut(data, max(len(data), 1), peer)

    async def send_cut(self, data: Data, size: int, peer: Peer | None = None, *, traffic_class: int = 0) -> None:
        """Send ``data`` in datagrams of ``size`` bytes; the last one may be shorter. No data is one empty datagram.

        A ``traffic_class`` of 0 is that of the socket.
        """
        marks = [(*self._class, struct.pack("=i", traffic_class))] if traffic_class and not self.is_unix else []
        rest = memoryview(data)
        while True:
            piece = rest[: at_once(size, self._segments)]
            many = len(piece) > size
            try:
                segments = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))] if many else []
                await self._put(piece, segments + marks, peer)
            except OSError as error:
                if self._moves_on(error):
                    continue
                if not many or error.errno not in _NO_OFFLOAD:
                    raise self._failure(error) from error
                self._segments = _OLD_MAX_SEGMENTS if self._segments > _OLD_MAX_SEGMENTS else 1
                continue
            self._count_sent(piece, size)
            rest = rest[len(piece) :]
            if not rest:
                return

    def _count_sent(self, data: memoryview, size: int) -> None:
        self.sent += _pieces(data, size)
        self.sent_bytes += len(data)

    async def _put(self, data: memoryview, beside: list[tuple[int, int, bytes]], peer: Peer | None) -> None:
        address = self._target
        if peer is not None:
            address = peer.address
            if address == "":
                raise OSError(None, "the receiver has no address")
            if peer.local:
                beside.append(self._leaving_from(peer))
        while True:
            try:
                self._sock.sendmsg((data,), beside, 0, address)
                return
            except BlockingIOError:
                if self.is_unix and address is not None:  # the receiver's queue, and no event tells when it has room
                    raise OSError(None, "its queue is full") from None
                await writable(self._fd)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                await sleep(_FULL_PAUSE)

    def _leaving_from(self, peer: Peer) -> tuple[int, int, bytes]:
        if self._ipv6:
            return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, peer.local + struct.pack("=I", peer.address[3])
        return socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=I4s4x", 0, peer.local)

    def mark(self) -> None:
        """Mark all that is sent with DSCP 1, by which netkit knows an answer that must not be answered again."""
        self._sock.setsockopt(*self._class, MARK)

    def dropped(self) -> int:
        """How many datagrams the system dropped unread, 0 once it is closed.

        If ``joined``, it is a minimum: those joined by GRO count as one.
        """
        if not _LINUX or self._fd < 0:
            return 0
        numbers = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_DROPS + 1))
        return int(struct.unpack_from("=I", numbers, 4 * _DROPS)[0])

    def close(self) -> None:
        """Close the socket and wake the tasks that wait for it. A second call has no effect."""
        if self._fd >= 0:
            notify_closing(self._fd)
            self._fd = -1
            self._sock.close()

    def _failure(self, error: OSError) -> Failure:
        exit = Exit.SEND if error.errno == errno.EMSGSIZE else Exit.CONNECT
        hint = _NOBODY if error.errno == errno.ECONNREFUSED else ""
        return Failure(exit, f"send to {self.name}", error, detail=", ".join(self._witnesses()), hint=hint)

    def _witnesses(self) -> list[str]:
        """Who sent the ICMP errors. This empties the error queue: until then, the socket polls as ready."""
        seen: dict[str, None] = {}
        with suppress(OSError):  # BlockingIOError when the queue is empty; or the socket is closed
            while _LINUX:
                _, told, _, _ = self._sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
                seen.update((_offender(value), None) for _, kind, value in told if kind in (_IP_RECVERR, _IPV6_RECVERR))
        return [who for who in seen if who]


Opening = Callable[[], tuple[socket.socket, Any]]
"""Opens a socket to an address; returns it and its target, None if it is connected. Raises OSError."""


class DatagramClient(Datagram):
    """The socket of a client. It switches to the next address of its target if one refuses before any answer.

    Up to 256 KiB of what was sent last are then sent again. Refusals after the first answer, or by the last address,
    are failures, unless ``keep_going``: then they are counted in ``refused``. ``opened`` is called for each address
    that is used, before anything is sent to it, and may raise Failure.
    """

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        target: Any,
        others: Sequence[Opening] = (),
        *,
        keep_going: bool = False,
        opened: "Callable[[DatagramClient], None]",
    ) -> None:
        super().__init__(sock, name, target)
        self.refused = 0
        self._opened = opened
        self._keep_going = keep_going
        self._others = deque(others)
        self._unheard: deque[tuple[bytes, int]] = deque()
        self._unheard_bytes = 0

    def _moves_on(self, error: OSError) -> bool:
        if error.errno != errno.ECONNREFUSED:
            return False
        while self._others and not self.received:
            opening = self._others.popleft()
            try:
                try:
                    sock, target = opening()
                except Failure:  # BIND: the source port that was asked for is still that of our socket
                    self.close()
                    sock, target = opening()
            except OSError:
                continue
            self.close()
            self._use(sock, target)
            self._opened(self)
            with suppress(OSError):
                for data, size in self._unheard:
                    for datagram in cut(data, size):
                        sock.sendmsg((datagram,), (), 0, target)
                return True
        if not self._keep_going or self._fd < 0:
            return False
        self.refused += 1
        self._witnesses()
        return True

    def _count_sent(self, data: memoryview, size: int) -> None:
        super()._count_sent(data, size)
        if self._others and not self.received:
            self._unheard.append((bytes(data), size))
            self._unheard_bytes += len(data)
            while self._unheard_bytes > _MAX_UNHEARD and len(self._unheard) > 1:
                self._unheard_bytes -= len(self._unheard.popleft()[0])


def carried(sockets: Sequence[Datagram], seconds: float) -> Carried:
    """The event with the totals of the sockets, over so many seconds."""
    return Carried(
        datagrams_received=sum(sock.received for sock in sockets),
        bytes_received=sum(sock.received_bytes for sock in sockets),
        datagrams_sent=sum(sock.sent for sock in sockets),
        bytes_sent=sum(sock.sent_bytes for sock in sockets),
        seconds=seconds,
    )


async def connect(
    target: Endpoint,
    how: Dialling = Dialling(),
    *,
    broadcast: bool = False,
    hops: int | None = None,
    any_source: bool = False,
    keep_going: bool = False,
    addresses: Sequence[Address] | None = None,
    check: Callable[[Endpoint], None] = ignore,
    observe: Observer = ignore,
) -> DatagramClient:
    """Open a socket with a target, which the caller closes. Nothing is sent.

    It receives only from the target, unless that is a broadcast or multicast address, or with ``any_source``: then from
    all who answer. ``hops`` is the TTL or hop limit. ``keep_going`` is as for DatagramClient. Without ``addresses`` the
    name is looked up. ``check`` is called with each address that is used, and may raise Failure.

    Raises Failure: RESOLVE, CONNECT, BIND for our own address, TIMEOUT for a look-up longer than ``how.timeout``.
    """

    def opened(client: DatagramClient) -> None:
        try:
            check(client.target)
        except BaseException:
            client.close()
            raise
        observe(Opened(str(target), client.target, client.local))

    if target.path is not None:
        return _connect_unix(target, target.path, opened)
    if addresses is None:
        with resolving(target.host, how.timeout):
            addresses = await candidates(target, how, observe)
    openings = [partial(_open, address, how, broadcast, hops, any_source) for address in addresses]
    failures: list[OSError] = []
    for number, opening in enumerate(openings, 1):
        try:
            sock, to = opening()
        except Failure:
            raise
        except OSError as error:
            failures.append(error)
        else:
            found = DatagramClient(sock, str(target), to, openings[number:], keep_going=keep_going, opened=opened)
            opened(found)
            return found
    first = failures[0]
    details = [address.host for address in addresses]
    if first.errno == errno.EACCES and not broadcast:
        details.append("udp-send --broadcast allows broadcast addresses")
    raise Failure(Exit.CONNECT, f"send to {target}", first, detail=", ".join(details)) from first


def _connect_unix(target: Endpoint, path: str, opened: Callable[[DatagramClient], None]) -> DatagramClient:
    """Open a socket with a target. On Linux it gets an abstract name from the system, so that the target can answer."""
    with (
        doing(Exit.CONNECT, f"send to {target}", hint=_NOBODY),
        new_socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        if _LINUX:
            sock.bind("")
        sock.connect(os.fsencode(path))
        found = DatagramClient(sock, str(target), None, opened=opened)
    opened(found)
    return found


def _open(
    address: Address, how: Dialling, broadcast: bool, hops: int | None, any_source: bool
) -> tuple[socket.socket, Any]:
    """Open a socket that sends to an address; return it and that address, None if it is connected. Raises OSError."""
    ipv6 = address.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if ipv6 else socket.IPPROTO_IP
    with new_socket(address.family, socket.SOCK_DGRAM) as sock:
        bind_own_end(sock, address, how)
        if broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if hops is not None:
            sock.setsockopt(level, socket.IPV6_UNICAST_HOPS if ipv6 else socket.IP_TTL, hops)
            sock.setsockopt(level, socket.IPV6_MULTICAST_HOPS if ipv6 else socket.IP_MULTICAST_TTL, hops)
        try_option(sock, level, _IPV6_RECVERR if ipv6 else _IP_RECVERR, 1)
        try_option(sock, level, socket.IPV6_RECVTCLASS if ipv6 else IP_RECVTOS, 1)
        if broadcast or any_source or is_multicast(address.host):
            if how.source is None:
                sock.bind(("", 0))  # so that our port is known before anything is sent
            return sock, address.sockaddr
        sock.connect(address.sockaddr)
        refuse_self(sock)
        return sock, None


def is_multicast(host: str) -> bool:
    """Whether an address literal is a multicast address."""
    family = family_of(host)
    if family is None:
        return False
    first = socket.inet_pton(family, host.partition("%")[0])[0]
    return first == 0xFF if family == socket.AF_INET6 else first >> 4 == 0xE


def try_option(sock: socket.socket, level: int, option: int, value: int) -> bool:
    """Set an option that only Linux has. Returns whether that worked."""
    if _LINUX:  # elsewhere the number may mean something else
        with suppress(OSError):
            sock.setsockopt(level, option, value)
            return True
    return False


def _offender(value: bytes) -> str:
    """The sender of the error of an IP_RECVERR message, "" for this machine: ip(7), SO_EE_OFFENDER."""
    address = value[_ERROR.size :]
    family = int.from_bytes(address[:2], sys.byteorder)
    places: dict[int, slice] = {socket.AF_INET: slice(4, 8), socket.AF_INET6: slice(8, 24)}
    return socket.inet_ntop(family, address[places[family]]) if family in places else ""
