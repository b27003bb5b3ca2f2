"""Waiting for acknowledgements, and the idle timeout."""

import pytest

from netkit.core.connection import acknowledged, idle_clock
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group, checkpoint, now, sleep
from tests import memory
from tests.clock import on_kernel
from tests.memory import MemoryStream, acknowledging_pair


async def acknowledged_after(seconds: float) -> None:
    """Wait for an acknowledgement that takes so many seconds."""
    peer, far = acknowledging_pair()
    await peer.send(b"x")
    async with Group() as group:
        group.start_soon(acknowledged(peer))
        await sleep(seconds)
        await far.recv()


@on_kernel(limit=250)
async def test_waiting_for_acknowledgements_is_cheap() -> None:
    """Acknowledgements have to be polled for, but not more than about 20 times a second."""
    await acknowledged_after(10)


@on_kernel
async def test_a_short_conversation_is_not_held_up_by_the_wait_for_acknowledgements() -> None:
    """An acknowledgement that takes 1 ms delays us by little more than that."""
    await acknowledged_after(0.001)
    assert now() < 0.003


@on_kernel
async def test_the_idle_clock_runs_out_when_nothing_moved() -> None:
    """If nothing moves in either direction for the whole timeout, the failure names the option and the stream."""
    stream, _ = memory.pair()
    await sleep(5)
    with pytest.raises(Failure) as caught:
        await idle_clock(stream, 2)
    assert caught.value.exit is Exit.TIMEOUT
    assert str(caught.value) == "cannot go on with memory a: nothing moved for 2 s (--idle-timeout)"
    assert now() == 5


@pytest.mark.parametrize("direction", ["sent", "received"])
@on_kernel
async def test_any_byte_either_way_winds_the_idle_clock_up(direction: str) -> None:
    """A byte in either direction restarts the idle timeout."""
    stream, far = memory.pair()

    async def drip(one: MemoryStream, other: MemoryStream) -> None:
        for _ in range(100):
            await sleep(1.9)
            await one.send(b"x")
            await other.recv()

    with pytest.raises(Failure):
        async with Group() as group:
            group.start_soon(drip(stream, far) if direction == "sent" else drip(far, stream))
            await idle_clock(stream, 2)
    assert now() == pytest.approx(100 * 1.9 + 2)


@pytest.mark.parametrize("beside", [False, True])
@on_kernel
async def test_an_acknowledgement_winds_the_idle_clock_up(beside: bool) -> None:
    """A peer that takes slowly what was sent long ago is not idle; nor is a relay whose target does."""
    peer, far = acknowledging_pair()
    client, _ = memory.pair()

    async def take() -> None:
        for _ in range(10):
            await sleep(1.7)
            await far.recv()

    await sleep(1)
    with pytest.raises(Failure):
        async with Group() as group:
            group.start_soon(take())
            await peer.send(bytes(10 * 6000))
            await (idle_clock(client, 2, target=peer) if beside else idle_clock(peer, 2))
    assert 1 + 4 * 1.7 + 2 <= now() <= 1 + 4 * 1.7 + 2.3


@on_kernel
async def test_bytes_that_are_acknowledged_at_once_wind_the_idle_clock_up_once() -> None:
    """The timeout then counts from when they were sent."""
    peer, far = acknowledging_pair()

    async def speak() -> None:
        await sleep(0.1)
        await peer.send(b"x")
        await far.recv()

    with pytest.raises(Failure):
        async with Group() as group:
            group.start_soon(speak())
            await idle_clock(peer, 60)
    assert now() == 60.1


@on_kernel
async def test_those_who_can_go_on_do_so_before_the_idle_clock_runs_out() -> None:
    """After a stop all deadlines are over at once; what is sent in the next turns of the loop has moved in time."""
    stream, _ = memory.pair()

    async def send() -> None:
        await sleep(2)
        await checkpoint()
        await checkpoint()
        await stream.send(b"x")

    with pytest.raises(Failure):
        async with Group() as group:
            group.start_soon(idle_clock(stream, 2))
            group.start_soon(send())
    assert now() == 4
