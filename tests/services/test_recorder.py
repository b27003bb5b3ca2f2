"""The log and the hex dump of a connection."""

from netkit.core.address import Endpoint
from netkit.core.errors import Exit
from netkit.core.kernel import Group, sleep
from netkit.services.recorder import recording
from tests import memory
from tests.clock import on_kernel
from tests.contract import fails
from tests.memory import CAPACITY


class Kept:
    """A log and a dump, which keep the direction and the number of bytes."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, int]] = []
        self.shown: list[tuple[str, int, int]] = []

    def note(self, direction: str, peer: Endpoint, data: bytes) -> None:
        self.noted.append((direction, len(data)))

    async def show(self, direction: str, name: str, data: bytes, offset: int) -> None:
        self.shown.append((direction, len(data), offset))


@on_kernel
async def test_what_was_taken_before_sending_failed_is_recorded() -> None:
    """The log and the dump have the bytes that the system had taken when the peer reset the connection."""
    near, far = memory.pair()
    kept = Kept()
    stream = recording(kept, kept)(near)
    await stream.send(b"first")
    async with Group() as group:
        group.start_soon(fails(stream.send(bytes(2 * CAPACITY)), Exit.SEND))
        await sleep(1)
        far.abort()
    assert kept.noted == [("sent", 5), ("sent", CAPACITY - 5)]
    assert kept.shown == [("sent", 5, 0), ("sent", CAPACITY - 5, 5)]
