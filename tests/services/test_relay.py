"""Joining a client to its target."""

from netkit.core.events import ignore
from netkit.core.kernel import Group, now, sleep
from netkit.services.relay import joining
from tests import memory
from tests.clock import on_kernel
from tests.memory import acknowledging_pair


@on_kernel
async def test_a_target_that_takes_slowly_is_not_idle() -> None:
    """The idle timeout does not cut a client short that has sent all, while its target still acknowledges it."""
    client, ours = memory.pair()
    target, far = acknowledging_pair()
    got = []

    async def take() -> None:
        while data := await far.recv():
            got.append(data)
            await sleep(1.7)
        await far.send_eof()

    async with Group() as group:
        group.start_soon(take())
        await client.send(bytes(60_000))
        await client.send_eof()
        await joining(changes=lambda: [], idle_timeout=2, observe=ignore)(ours, target)
    assert b"".join(got) == bytes(60_000)
    assert now() > 4
