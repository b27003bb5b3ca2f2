"""Running tests on the kernel, on the system's clock or on virtual ones, which jump to the next deadline at once."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from netkit.core import kernel
from netkit.core.kernel import Clock, Poll, deadline, now
from tests.support import PATIENCE

T = TypeVar("T")


class JumpClock(Clock):
    """Virtual seconds, from 0. ``jumps`` are the times to which it jumped."""

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
    """Jumps only when no descriptor was ready for 20 ms, so that data on loopback has arrived before."""

    def wait(self, poll: Poll, timeout: float | None) -> list[tuple[int, int]]:
        return poll(0 if timeout == 0 else 0.02) or super().wait(poll, timeout)


class CountingClock(JumpClock):
    """Counts the turns of the loop, and fails after ``limit`` of them."""

    def __init__(self, limit: int = 1000) -> None:
        super().__init__()
        self.rounds = 0
        self._limit = limit

    def wait(self, poll: Poll, timeout: float | None) -> list[tuple[int, int]]:
        self.rounds += 1
        assert self.rounds < self._limit, "the loop spins"
        return super().wait(poll, timeout)


def run(main: Coroutine[Any, Any, T], clock: JumpClock | None = None) -> T:
    """Run a coroutine on a clock that jumps."""
    return kernel.run(main, clock=clock or JumpClock())


def on_kernel(test: Callable[..., Coroutine[Any, Any, None]] | None = None, *, limit: int = 1000) -> Any:
    """Make an ``async def`` a test, which runs on a clock that jumps, in fewer than ``limit`` turns of the loop."""
    if test is None:
        return functools.partial(on_kernel, limit=limit)

    @functools.wraps(test)
    def main(*args: Any, **options: Any) -> None:
        run(test(*args, **options), CountingClock(limit))

    return main


def in_real_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an ``async def`` a test, which runs on the system's clock, for at most ``PATIENCE`` seconds."""

    @functools.wraps(test)
    def main(*args: Any, **options: Any) -> None:
        async def bounded() -> None:
            with deadline(now() + PATIENCE):
                await test(*args, **options)

        kernel.run(bounded())

    return main
