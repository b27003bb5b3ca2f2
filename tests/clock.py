"""A clock that jumps: when nothing else can happen, time moves on to the next deadline, at once."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from netkit.core import kernel
from netkit.core.kernel import Clock, Poll

T = TypeVar("T")


class JumpClock(Clock):
    """Virtual seconds from 0 on; ``jumps`` are the moments it jumped to."""

    def __init__(self) -> None:
        self.time = 0.0
        self.jumps: list[float] = []

    def now(self) -> float:
        return self.time

    def wait(self, poll: Poll, timeout: float | None) -> list[tuple[int, int]]:
        ready = poll(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing can ever happen: no descriptor is ready and no deadline stands")
        if not ready and timeout:
            self.time += timeout
            self.jumps.append(self.time)
        return ready


class PatientClock(JumpClock):
    """Jumps only when real descriptors have been silent for a moment, which loopback never is with news to tell."""

    def wait(self, poll: Poll, timeout: float | None) -> list[tuple[int, int]]:
        return poll(0 if timeout == 0 else 0.02) or super().wait(poll, timeout)


def run(main: Coroutine[Any, Any, T], clock: JumpClock | None = None) -> T:
    """Run on a clock that jumps."""
    return kernel.run(main, clock=clock or JumpClock())
