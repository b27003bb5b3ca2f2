"""UDP sockets: datagrams arrive whole, a client receives only from its target, and offload makes no difference."""

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core import udp
from netkit.core.address import Endpoint
from netkit.core.dial import Dialling
from netkit.core.errors import Exit, Failure
from netkit.core.events import Opened
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.udp import LARGEST, MARK, Burst, Datagram, cut
from tests.support import free_port
from tests.support.datagrams import HOSTS, Room, in_room, run
from tests.support.properties import examples


async def receive(sock: Datagram, number: int) -> list[bytes]:
    """Receive ``number`` datagrams."""
    return [(await sock.receive())[0] for _ in range(number)]


# -- whole datagrams


@pytest.mark.fault("largest datagram")
@pytest.mark.parametrize("host", HOSTS)
@in_room
async def test_every_size_arrives_whole(room: Room, host: str) -> None:
    """Datagrams of 0 bytes, of 1 byte and up to the largest arrive whole in both directions."""
    sizes = (0, 1, 1400, 9000, 16385, LARGEST)
    server = (await room.bind(Endpoint(host, 0))).sockets[0]
    client = await room.connect(server.local)
    for size in sizes:
        await client.send(b"x" * size)
        data, peer = await server.receive()
        assert data == b"x" * size
        await server.send(data, peer)
        assert await client.receive() == (data, client_peer(server))
    assert (client.sent, client.sent_bytes) == (len(sizes), sum(sizes))
    assert (client.received, client.received_bytes) == (len(sizes), sum(sizes))
    assert (server.sent, server.received) == (len(sizes), len(sizes))


def test_a_stranger_who_keeps_sending_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram that is dropped, as it comes from another user, is a read like any other: the others get a turn."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    sock = Datagram(ours, "ours", owner_only=True)
    more = iter([b"second", b"third"])
    monkeypatch.setattr(udp, "is_stranger", lambda owner: bool(theirs.send(next(more))))
    theirs.send(b"first")
    assert (sock.take(2), sock.received) == ([], 0)
    sock.close()
    theirs.close()


def client_peer(server: Datagram) -> udp.Peer:
    """Return a server's address as the peer of a client."""
    return udp.Peer(server._sock.getsockname())


@pytest.mark.fault("datagram too large")
@in_room
async def test_more_than_fits_is_55_and_nothing_leaves(room: Room) -> None:
    """A datagram that is too large fails with SEND and the system's reason, and nothing is sent."""
    server = (await room.bind()).sockets[0]
    client = await room.connect(server.local)
    with pytest.raises(Failure, match="message too long") as caught:
        await client.send(b"x" * (LARGEST + 1))
    assert caught.value.exit is Exit.SEND
    assert (client.sent, client.sent_bytes) == (0, 0)
    assert server.take() == []


@in_room
async def test_two_peers_get_their_own_answers(room: Room) -> None:
    """A server answers each client, however their datagrams interleave."""
    server = (await room.bind()).sockets[0]
    one, other = await room.connect(server.local), await room.connect(server.local)
    for word in (b"1", b"2", b"3"):
        await one.send(b"one" + word)
        await other.send(b"other" + word)
    for _ in range(6):
        data, peer = await server.receive()
        await server.send(data.upper(), peer)
    assert await receive(one, 3) == [b"ONE1", b"ONE2", b"ONE3"]
    assert await receive(other, 3) == [b"OTHER1", b"OTHER2", b"OTHER3"]


@in_room
async def test_a_client_hears_its_target_alone(room: Room) -> None:
    """A client does not receive datagrams from others than its target."""
    server = (await room.bind()).sockets[0]
    client = await room.connect(server.local)
    stranger = await room.connect(client.local)
    await stranger.send(b"forged")
    await client.send(b"?")
    _, peer = await server.receive()
    await server.send(b"true", peer)
    assert await receive(client, 1) == [b"true"]


# -- offload


def received_by_anybody(send: Callable[[Datagram], Awaitable[None]], number: int) -> list[bytes]:
    """Return the datagrams that a socket without offload receives from ``send``."""

    async def script(room: Room) -> list[bytes]:
        sink = room.plain()
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        client = await room.connect(Endpoint(*sink.getsockname()))
        await send(client)
        return [sink.recv(1 << 16) for _ in range(number)]

    found: list[bytes] = run(script)
    return found


def refuse_offload(sock: Datagram) -> None:
    """Make the system refuse segmentation, which needs checksums."""
    sock._sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_NO_CHECK", 11), 1)


LENGTHS = st.tuples(st.integers(0, 40_000), st.integers(1, 3_000)).filter(lambda pair: pair[0] // pair[1] < 150)


@pytest.mark.parametrize("refused", [False, True])
@given(lengths=LENGTHS)
@examples(25)
def test_bulk_is_cut_where_asked(refused: bool, lengths: tuple[int, int]) -> None:
    """The same datagrams arrive whether the system splits the data or we do."""
    length, size = lengths
    data = bytes(n % 251 for n in range(length))
    wanted = list(cut(data, size))

    async def send(client: Datagram) -> None:
        if refused:
            refuse_offload(client)
        await client.send_cut(data, size)
        assert (client.sent, client.sent_bytes) == (len(wanted), length)

    assert received_by_anybody(send, len(wanted)) == wanted


@pytest.mark.parametrize("size", [1, 64, 1400, 40_000, LARGEST])
@pytest.mark.parametrize("refused", [False, True])
@in_room
async def test_bulk_arrives_as_it_was_cut(room: Room, size: int, refused: bool) -> None:
    """Whether or not the system joins datagrams, they are received as they were sent."""
    data = bytes(n % 253 for n in range(3 * size + size // 2))
    server = (await room.bind()).sockets[0]
    client = await room.connect(server.local)
    if refused:
        refuse_offload(client)
    await client.send_cut(data, size)
    assert await receive(server, 4 if size > 1 else 3) == list(cut(data, size))
    assert server.received == client.sent and server.received_bytes == len(data)


@in_room
async def test_bulk_goes_by_few_system_calls(room: Room) -> None:
    """A thousand datagrams of one size are sent and received with few system calls."""
    server = (await room.bind()).sockets[0]
    client = await room.connect(server.local)
    await client.send_cut(b"x" * 64_000, 64)
    await server.ready()
    bursts = server.take()
    assert sum(burst.number for burst in bursts) == 1000
    assert len(bursts) <= 16
    await client.send_cut(b"x" * 60_000 * 4, 60_000)
    assert [len(server.take()) for _ in range(3)] == [3, 1, 0]  # each call takes only as much as fits a CPU cache


def test_a_system_that_cuts_less_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older systems split into at most 64 segments, newer ones into 128; a larger number fails with EINVAL."""
    monkeypatch.setattr(udp, "_MAX_SEGMENTS", 1023)  # more than any system allows

    async def send(client: Datagram) -> None:
        await client.send_cut(b"ab" * 200, 2)
        assert client._segments == 64

    assert received_by_anybody(send, 200) == [b"ab"] * 200


@in_room
async def test_many_datagrams_are_taken_at_one_wake_up(room: Room) -> None:
    """One ``take`` reads at most 64 times, so that a busy socket does not delay other tasks."""
    server = (await room.bind()).sockets[0]
    sender = room.plain()
    for _ in range(100):
        sender.sendto(b"x", server._sock.getsockname())
    await server.ready()
    assert [len(server.take()) for _ in range(3)] == [64, 36, 0]


def test_a_burst_can_be_shortened() -> None:
    """``first`` returns whole datagrams."""
    burst = Burst(b"aabbc", 2, udp.Peer(("", 1)))
    assert burst.number == 3
    assert burst.first(2).data == b"aabb" and burst.first(2).number == 2
    assert burst.first(3) is burst
    assert Burst(b"", 0, burst.peer).number == 1


# -- errors


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("by", ["send", "receive", "take"])
@in_room
async def test_a_closed_port_is_7(room: Room, host: str, by: str) -> None:
    """If the port is closed, the next call fails with CONNECT, and only once."""
    server = await room.bind(Endpoint(host, 0))
    client = await room.connect(server.endpoints[0])
    server.close()
    await client.send(b"anybody?")
    with pytest.raises(Failure) as caught:
        if by == "receive":
            await client.receive()
        await client.ready()
        if by == "send":
            await client.send(b"really nobody?")
        client.take()
    assert caught.value.exit is Exit.CONNECT
    assert str(caught.value) == f"cannot send to {server.endpoints[0]}: connection refused ({host})"
    assert client.take() == []
    with pytest.raises(DeadlineExceeded), deadline(now() + 0.05):  # the error does not keep the socket ready
        await client.ready()


@pytest.mark.ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("port", [False, True], ids=["any port", "source port"])
@in_room
async def test_the_next_address_takes_what_the_first_refused(room: Room, host: str, port: bool) -> None:
    """Datagrams that the first address refused are sent again to the next one, in order and only once."""
    server = await room.bind(Endpoint(host, 0))
    how = Dialling(source=("", free_port())) if port else Dialling()
    client = await room.connect(Endpoint("", server.port), how)

    async def hear() -> None:
        assert await receive(client, 1) == [b"heard"]

    async with Group() as group:
        group.start_soon(hear())
        await sleep(0)  # it waits at the socket that will be closed
        words = [b"one", b"two", b"three"]
        for word in words:
            await client.send(word)
        client.check()
        for word in words:
            data, peer = await server.sockets[0].receive()
            assert data == word
            assert how.source is None or peer.endpoint.port == how.source[1]
        await server.sockets[0].send(b"heard", peer)
    assert server.sockets[0].take() == []


@in_room
async def test_if_all_addresses_refuse_that_is_a_failure(room: Room) -> None:
    """If all addresses refuse, sending fails with CONNECT."""
    server = await room.bind(Endpoint("", 0))
    client = await room.connect(Endpoint("", server.port))
    server.close()
    await client.send(b"x")
    with pytest.raises(Failure, match="connection refused") as caught:
        client.check()
    assert caught.value.exit is Exit.CONNECT


@in_room
async def test_closing_wakes_the_reader(room: Room) -> None:
    """A ``receive`` that waits fails when the socket is closed."""
    server = (await room.bind()).sockets[0]

    async def wait() -> None:
        with pytest.raises(Failure) as caught:
            await server.receive()
        assert caught.value.errno == errno.EBADF

    async with Group() as group:
        group.start_soon(wait())
        await sleep(0)
        server.close()
        server.close()


@in_room
async def test_patience_that_runs_out_loses_nothing(room: Room) -> None:
    """After a deadline ended ``receive``, the next call gets the datagrams that arrive later."""
    server = (await room.bind()).sockets[0]
    with pytest.raises(DeadlineExceeded), deadline(now() + 0.01):
        await server.receive()
    client = await room.connect(server.local)
    await client.send_cut(b"aabb", 2)
    assert await receive(server, 2) == [b"aa", b"bb"]


@pytest.mark.ipv6
@in_room
async def test_broadcast_wants_to_be_asked_for(room: Room) -> None:
    """The system refuses a broadcast address unless ``broadcast`` is set."""
    with pytest.raises(Failure, match="permission denied") as caught:
        await room.connect(Endpoint("255.255.255.255", 9))
    assert caught.value.exit is Exit.CONNECT and "--broadcast" in caught.value.detail
    await room.connect(Endpoint("255.255.255.255", 9), broadcast=True)


@in_room
async def test_a_socket_never_talks_to_itself(room: Room) -> None:
    """A client socket is never bound to the address and port of its target or of another client."""
    taken = (await room.connect(Endpoint("127.0.0.1", 9), Dialling(source=("127.0.0.1", 0)))).local.port
    first = await room.connect(Endpoint("127.0.0.1", 9), Dialling(source=("127.0.0.2", taken)))
    with pytest.raises(Failure, match="cannot use source") as caught:  # not shared with another client either
        await room.connect(Endpoint("127.0.0.1", 9), Dialling(source=("127.0.0.2", first.local.port)))
    assert caught.value.exit is Exit.BIND
    free = await room.bind()
    free.close()
    with pytest.raises(Failure, match="refused"):
        await room.connect(free.endpoints[0], Dialling(source=("127.0.0.1", free.port)))


@in_room
async def test_a_closed_socket_can_be_asked_for_what_was_dropped(room: Room) -> None:
    """The count is asked for after a failure, too, which may have closed the socket, and which must be what is told."""
    client = await room.connect(Endpoint("127.0.0.1", 9))
    client.close()
    assert client.dropped() == 0


@in_room
async def test_what_was_dropped_is_counted(room: Room) -> None:
    """If nothing was joined, the kernel's count of dropped datagrams is exact."""
    server = (await room.bind()).sockets[0]
    room.overflow(server)
    await server.ready()
    while server.take():
        pass
    assert 0 < server.received < 100
    assert server.dropped() == 100 - server.received


@pytest.mark.ipv6
@pytest.mark.parametrize("host", HOSTS)
@in_room
async def test_a_marked_answer_is_known_as_one(room: Room, host: str) -> None:
    """A marked socket sends with DSCP 1, and the receiver sees that."""
    one, other = (await room.bind(Endpoint(host, 0))).sockets[0], (await room.bind(Endpoint(host, 0))).sockets[0]
    target = client_peer(other)
    await one.send(b"question", target)
    one.mark()
    await one.send(b"answer", target)
    await other.ready()
    seen = other.take()
    if len(seen) == 1:
        await other.ready()
        seen += other.take()
    assert [burst.traffic_class for burst in seen] == [0, MARK]


@pytest.mark.ipv6
@pytest.mark.parametrize("host", HOSTS)
@in_room
async def test_hops_are_set(room: Room, host: str) -> None:
    """TTL and hop limit are set as given."""
    sink = room.plain(host)
    if ":" in host:
        sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        sink.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
    client = await room.connect(Endpoint(host, sink.getsockname()[1]), hops=7)
    await client.send(b"x")
    (told,) = sink.recvmsg(10, 100)[1]
    assert told[2][0] == 7


@in_room
async def test_the_observer_hears_where_datagrams_will_go(room: Room) -> None:
    """``connect`` reports the addresses, and sends nothing."""
    server = (await room.bind()).sockets[0]
    events: list[Any] = []
    client = await room.connect(server.local, observe=events.append)
    assert events == [Opened(str(server.local), server.local, client.local)]
    assert server.take() == []
