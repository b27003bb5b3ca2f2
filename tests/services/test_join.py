"""Joining a connection to stdin and stdout."""

from typing import Any

import pytest

from netkit.core.errors import Exit, Failure
from netkit.core.events import ignore
from netkit.core.kernel import Group, now, sleep
from netkit.core.relay import Ending, Input
from netkit.core.stream import Counts
from netkit.core.sync import Event
from netkit.services.join import Conversation
from netkit.services.reconnect import Resumable
from tests import memory
from tests.clock import on_kernel


class SlowStdout:
    """Our side: a stdout that takes a byte every 1.9 s, and nothing more after the first ``most`` bytes."""

    name = "stdin and stdout"

    def __init__(self, most: int) -> None:
        self.counts = Counts()
        self._most = most

    async def send(self, data: bytes) -> None:
        for _ in data:
            await sleep(1.9)
            if self.counts.sent == self._most:
                await Event().wait()
            self.counts.add_sent(1)

    async def send_eof(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("reconnects", [False, True])
@on_kernel
async def test_a_stdout_that_takes_slowly_is_not_idle(reconnects: bool) -> None:
    """The idle timeout counts what moves to stdout of a long piece, and ends the conversation once that stops, too."""
    for most in (10, 5):
        ours: Any = SlowStdout(most)
        if reconnects:
            ours = Resumable(ours)
        stream, far = memory.pair()
        begun = now()

        async def speak(far: memory.MemoryStream = far) -> None:
            await far.send(bytes(10))
            await far.send_eof()

        conversation = Conversation(Ending(Input.NONE), lambda stream: [], ignore, idle_timeout=2)
        async with Group() as group:
            group.start_soon(speak())
            if most == 10:
                await conversation.relay(ours, stream)
                assert now() - begun >= 19
            else:
                with pytest.raises(Failure) as caught:
                    await conversation.relay(ours, stream)
                assert caught.value.exit is Exit.TIMEOUT
                assert now() - begun == pytest.approx(5 * 1.9 + 2)
