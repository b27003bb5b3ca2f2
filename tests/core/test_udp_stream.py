"""Datagrams as connections: what a server keeps of them until it is read, and that it reports what it does not."""

import errno
import socket
from pathlib import Path

import pytest

from netkit.core import kernel
from netkit.core.address import Endpoint, from_socket
from netkit.core.events import Accepted, CoreEvent, Dropped, Ignored, ignore
from netkit.core.kernel import Group
from netkit.core.policy import Policy
from netkit.core.stream import Connection
from netkit.core.sync import Event
from netkit.core.tcp_server import serve
from netkit.core.udp import LARGEST_UNIX, Burst, Peer
from netkit.core.udp_server import bind
from netkit.core.udp_stream import DatagramListener
from tests.support.datagrams import BARE, HERE, HOSTS, Room, in_room


def test_the_largest_datagram_of_a_unix_socket_is_kept(tmp_path: Path) -> None:
    """If nothing else waits, a datagram is kept although it alone reaches the limit of what may wait."""

    async def main() -> None:
        listener = DatagramListener(await bind(Endpoint(path=f"{tmp_path}/s")), ignore)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST_UNIX)
            try:
                client.sendto(bytes(LARGEST_UNIX), f"{tmp_path}/s")
            except OSError as error:
                listener.close()
                assert error.errno == errno.EMSGSIZE
                pytest.skip("net.core.wmem_max allows no datagram of 1 MiB")
        async with Group() as group:
            group.start_soon(listener.run())
            await listener.ready(listener.sockets[0])
            stream = await listener.accept(listener.sockets[0], ignore)
            assert stream is not None
            listener.close()
            assert len(await stream.recv()) == LARGEST_UNIX
            stream.close()

    kernel.run(main())


@in_room
async def test_what_waits_is_limited_in_all(room: Room) -> None:
    """Many peers together hold 16 MiB; beyond it one without any holds a burst, and room that becomes free counts."""
    listener = DatagramListener(await room.bind(), ignore)
    burst = Burst(bytes(1 << 16), 1 << 16, Peer(("127.0.0.1", 1)))
    *streams, late = [listener._begin(listener.sockets[0], Peer(("127.0.0.1", port))) for port in range(1, 101)]
    while any([stream.take(burst) for stream in streams]):
        assert listener.held_bytes <= 16 << 20
    assert listener.held_bytes > (16 << 20) - burst.weight
    assert await streams[0].recv()
    assert streams[0].take(burst) and not streams[1].take(burst)
    assert late.take(burst) and not late.take(burst)
    for stream in (*streams, late):
        stream.close()
    assert listener.held_bytes == 0
    listener.close()


@pytest.mark.ipv6
@pytest.mark.parametrize("hosts", [HOSTS[:1] * 3, HOSTS], ids=["one socket", "two sockets"])
@in_room
async def test_who_comes_at_the_same_time_as_the_only_client_is_ignored_with_a_word(
    room: Room, hosts: list[str]
) -> None:
    """Of the peers whose datagrams wait when the server starts one is served; the others are reported."""
    bound = await room.bind(BARE)
    peers = [room.plain(host) for host in hosts]
    for peer, host in zip(peers, hosts, strict=True):
        peer.sendto(b"hi", (host, bound.port))
    events: list[CoreEvent] = []
    reported = Event()

    def observe(event: CoreEvent) -> None:
        events.append(event)
        if sum(isinstance(event, Ignored) for event in events) == len(peers) - 1:
            reported.set()

    async def handle(stream: Connection) -> None:
        assert await stream.recv() == b"hi"
        await reported.wait()

    listener = DatagramListener(bound, observe)
    await serve(listener, handle, stop=Event(), policy=Policy(limit=1), observe=observe)
    (served,) = [event.peer._replace(udp=False) for event in events if isinstance(event, Accepted)]
    others = {from_socket(peer.getsockname()) for peer in peers} - {served}
    assert {event.peer: event.reason for event in events if isinstance(event, Ignored)} == dict.fromkeys(
        others, "another conversation is going on"
    )


@in_room
async def test_datagrams_that_the_system_dropped_are_reported(room: Room) -> None:
    """Their number, a lower bound where some may be joined, is reported at the end, once."""
    bound = await room.bind(HERE)
    (sock,) = bound.sockets
    room.overflow(sock)
    events: list[CoreEvent] = []
    listener = DatagramListener(bound, events.append)
    async with Group() as group:
        group.start_soon(listener.run())
        await listener.ready(sock)
        stream = await listener.accept(sock, ignore)
        assert stream is not None
        listener.close()
        stream.close()
        listener.close()
    assert events == [Dropped(100 - sock.received, True)]
