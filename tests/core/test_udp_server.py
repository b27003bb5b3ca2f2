"""Bound UDP sockets: they receive from everyone, answer from the address that was asked, and serve until stopped."""

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN
from netkit.core.dial import Dialling
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.events import Carried, Dropped, Ignored
from netkit.core.kernel import Group, now, sleep
from netkit.core.policy import Policy
from netkit.core.sync import Event
from netkit.core.udp import Burst, Datagram, cut
from netkit.core.udp_server import Bound, parse_group, serve
from tests.clock import PatientClock
from tests.support.datagrams import BARE, HOSTS, Room, in_room, run

# -- addresses


@pytest.mark.ipv6
@in_room
async def test_a_bare_port_is_loopback_with_one_number(room: Room) -> None:
    """A bare port binds both loopback addresses with one port number."""
    bound = await room.bind(BARE)
    assert [endpoint.host for endpoint in bound.endpoints] == list(HOSTS)
    assert {endpoint.port for endpoint in bound.endpoints} == {bound.port} and bound.port
    only = await room.bind(BARE, family=int(socket.AF_INET6))
    assert [endpoint.host for endpoint in only.endpoints] == ["::1"]


@in_room
async def test_a_port_is_never_shared_unawares(room: Room) -> None:
    """A second server on a port fails with BIND, although the system would let two datagram sockets share it."""
    first = await room.bind()
    with pytest.raises(Failure, match="address already in use") as caught:
        await room.bind(first.endpoints[0])
    assert caught.value.exit is Exit.BIND


@pytest.mark.ipv6
@pytest.mark.parametrize(("asked", "number"), [("127.0.0.1", 0), ("127.0.0.5", 0), ("::1", 1)])
@in_room
async def test_an_answer_leaves_from_the_address_that_was_asked(room: Room, asked: str, number: int) -> None:
    """A server on all interfaces answers from the address that was asked, so that a connected client receives it."""
    bound = await room.bind(Endpoint("", 0))
    server = bound.sockets[number]
    client = await room.connect(Endpoint(asked, bound.port))
    await client.send(b"who?")
    data, peer = await server.receive()
    assert peer.local == socket.inet_pton(socket.AF_INET6 if ":" in asked else socket.AF_INET, asked)
    assert peer.endpoint == client.local and str(peer) == str(client.local)
    assert server.reached_by(peer) == client.target == Endpoint(asked, bound.port)
    await server.send(data, peer)
    assert (await client.receive())[0] == b"who?"


@pytest.mark.ipv6
@pytest.mark.parametrize(("host", "zone"), [(None, ""), ("", "%lo")])
@in_room
async def test_a_group_is_heard_by_all_who_joined_it(room: Room, host: str | None, zone: str) -> None:
    """Two servers can share a group's port; both get what is sent to it once, and answer from a unicast address."""
    group = "239.251.7.1"
    first = await room.bind(Endpoint(host, 0), groups=[group + zone])
    second = await room.bind(Endpoint(host, first.port), groups=[group + zone])
    assert first.endpoints[-1] == Endpoint(group, first.port)
    source = Dialling(source=("127.0.0.1", 0))
    client = await room.connect(Endpoint(group, first.port), source)
    stranger = await room.connect(Endpoint("239.251.7.2", first.port), source)
    await stranger.send(b"for others")
    await client.send(b"for all")
    for bound in (first, second):
        data, peer = await bound.sockets[-1].receive()
        assert data == b"for all"
        await bound.sockets[-1].send(b"heard", peer)
        assert [sock.take() for sock in bound.sockets] == [[]] * 3
    for _ in range(2):
        data, peer = await client.receive()
        assert data == b"heard" and peer.endpoint.host == "127.0.0.1"


@pytest.mark.parametrize("text", ["239.1.2.3", "224.0.0.1", "ff02::1%lo", "ff15::1", "239.1.2.3%lo"])
def test_groups_are_read(text: str) -> None:
    """A group is a multicast address of either family, perhaps with an interface."""
    assert parse_group(text) == text


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1", "fe80::1%lo", "example.org", "239.1.2", "255.255.255.255", "ff02::1%"]
)
def test_groups_that_are_none(text: str) -> None:
    """Anything else is refused, and the message names it."""
    with pytest.raises(Invalid) as caught:
        parse_group(text)
    assert repr(text) in str(caught.value)


@in_room
async def test_a_group_on_an_interface_that_is_none_is_45(room: Room) -> None:
    """A missing interface fails with BIND and the reason."""
    with pytest.raises(Failure, match="no interface with this name") as caught:
        await room.bind(BARE, groups=["239.1.2.3%nosuch0"])
    assert caught.value.exit is Exit.BIND


# -- serving


class Served:
    """Runs ``serve``, and keeps its datagrams, its events and how it ended."""

    def __init__(self, bound: Bound, pause: float) -> None:
        self.bound = bound
        self.pause = pause
        self.stop = Event()
        self.data: list[bytes] = []
        self.events: list[Any] = []
        self.failure: Failure | None = None
        self.ended_at: float | None = None
        self.busy = 0

    async def take(self, sock: Datagram, bursts: list[Burst]) -> None:
        assert not self.busy, "one socket at a time"
        self.busy += 1
        await sleep(self.pause)
        for burst in bursts:
            self.data += cut(burst.data, burst.size)
        self.busy -= 1

    async def run(self, **limits: Any) -> None:
        try:
            await serve(self.bound, self.take, stop=self.stop, policy=Policy(**limits), observe=self.events.append)
        except Failure as failure:
            self.failure = failure
        self.ended_at = now()


def serving(script: Callable[[Room, Served], Awaitable[None]], *, pause: float = 0, **limits: Any) -> Served:
    """Serve while a script runs, and then until the server ends; the handler takes ``pause`` seconds."""
    result: list[Served] = []

    async def main(room: Room) -> None:
        served = Served(await room.bind(BARE), pause)
        result.append(served)
        async with Group() as group:
            group.start_soon(served.run(**limits))
            await sleep(0)
            await script(room, served)

    run(main, PatientClock())
    return result[0]


async def talk(room: Room, served: Served, data: bytes, size: int, number: int = 0) -> None:
    """Send datagrams of ``size`` bytes to one of a server's addresses."""
    client = await room.connect(served.bound.endpoints[number])
    await client.send_cut(data, size)


def says(*sent: tuple[bytes, int, int], stops: bool = False) -> Callable[[Room, Served], Awaitable[None]]:
    """A script that talks: each has the data, the size of its datagrams, and the number of the address."""

    async def script(room: Room, served: Served) -> None:
        for each in sent:
            await talk(room, served, *each)
        if stops:
            served.stop.set()

    return script


def test_a_count_ends_the_server_in_the_middle_of_a_burst() -> None:
    """The handler gets exactly as many datagrams as the limit, even if a burst has more."""
    served = serving(says((b"aabbccdd", 2, 0)), limit=3)
    assert served.data == [b"aa", b"bb", b"cc"] and served.failure is None


@pytest.mark.ipv6
def test_what_came_before_the_end_is_still_handed_over() -> None:
    """At ``stop`` the datagrams that are still queued, on all sockets, are handled."""
    assert sorted(serving(says((b"abc", 1, 0), (b"def", 1, 1), stops=True)).data) == [
        b"a",
        b"b",
        b"c",
        b"d",
        b"e",
        b"f",
    ]


def test_a_stuck_handler_gets_a_second_to_end() -> None:
    """After ``stop`` the handler may go on for DRAIN seconds, and is then cancelled."""

    async def script(room: Room, served: Served) -> None:
        await talk(room, served, b"a", 1)
        await sleep(5)
        served.stop.set()

    served = serving(script, pause=3600.0)
    assert served.data == [] and served.ended_at == pytest.approx(5 + DRAIN)


def test_the_last_of_a_count_has_time() -> None:
    """At the limit the handler may take as long as it needs; only ``stop`` limits its time."""
    served = serving(says((b"a", 1, 0)), limit=1, pause=3600.0)
    assert served.data == [b"a"] and served.failure is None
    assert not served.stop.is_set() and served.ended_at == pytest.approx(3600.0)


@pytest.mark.ipv6
def test_every_address_is_served() -> None:
    """All addresses are served, and the handler gets the bursts of one socket at a time."""
    script = says(*[(b"4", 1, 0), (b"6", 1, 1)] * 3)
    assert sorted(serving(script, limit=6).data) == [b"4"] * 3 + [b"6"] * 3


@pytest.mark.fault("empty datagram")
def test_an_empty_datagram_stops_nobody() -> None:
    """An empty datagram is handled and counted like any other."""

    async def script(room: Room, served: Served) -> None:
        client = await room.connect(served.bound.endpoints[0])
        for data in (b"", b"a", b""):
            await client.send(data)

    assert serving(script, limit=3).data == [b"", b"a", b""]


@pytest.mark.parametrize(
    ("limits", "sent_at", "reason", "ended_at"),
    [
        pytest.param({"accept_timeout": 30.0}, [], "nobody came within 30 s", 30.0, id="nobody"),
        pytest.param(
            {"accept_timeout": 6.0, "idle_timeout": 10.0},
            *([5.0, 13.0], "nothing came for 10 s", 23.0),
            id="silence begins anew with each datagram",
        ),
        pytest.param(
            {"accept_timeout": 60.0, "idle_timeout": 3.0},
            *([50.0], "nothing came for 3 s", 53.0),
            id="the first may take longer",
        ),
        pytest.param(
            {"idle_timeout": 10.0, "pause": 25.0},
            *([0.0], "nothing came for 10 s", 35.0),
            id="a busy handler is no silence",
        ),
    ],
)
def test_silence(limits: dict[str, float], sent_at: list[float], reason: str, ended_at: float) -> None:
    """The server fails if no datagram comes within the accept timeout, or later within the idle timeout."""

    async def script(room: Room, served: Served) -> None:
        for moment in sent_at:
            await sleep(moment - now())
            await talk(room, served, b"x", 1)

    served = serving(script, **limits)
    assert served.data == [b"x"] * len(sent_at)
    assert served.failure is not None and served.failure.exit is Exit.TIMEOUT
    assert reason in str(served.failure)
    assert served.ended_at == pytest.approx(ended_at)


@pytest.mark.ipv6
def test_who_is_not_allowed_is_not_heard() -> None:
    """Datagrams from addresses that are not admitted are reported to the observer and not counted."""

    async def script(room: Room, served: Served) -> None:
        await talk(room, served, b"no", 2, 1)
        await sleep(1)  # the order between two sockets is not defined
        await talk(room, served, b"yes", 3, 0)

    served = serving(script, limit=1, admits=lambda host: host == "127.0.0.1")
    assert served.data == [b"yes"]
    assert [event.reason for event in served.events if isinstance(event, Ignored)] == ["not allowed"]


@pytest.mark.ipv6
def test_drops_are_reported() -> None:
    """When the server ends it reports the number of dropped datagrams, as a lower bound where some may be joined."""

    async def script(room: Room, served: Served) -> None:
        room.overflow(served.bound.sockets[0])
        served.stop.set()

    served = serving(script)
    assert served.events == [
        Dropped(100 - len(served.data), True),
        Carried(len(served.data), 100 * len(served.data), 0, 0, 0.0),
    ]
