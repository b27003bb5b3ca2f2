"""A clock that jumps: when nothing else can happen, time moves on to the next deadline, at once."""

import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from netkit.core import kernel

T = TypeVar("T")


class JumpClock:
    """Virtual seconds from 0 on; ``jumps`` are the moments it jumped to."""

    def __init__(self) -> None:
        self.time = 0.0
        self.jumps: list[float] = []

    def now(self) -> float:
        return self.time

    def select(
        self, selector: selectors.BaseSelector, timeout: float | None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ready = selector.select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing can ever happen: no descriptor is ready and no deadline stands")
        if not ready and timeout:
            self.time += timeout
            self.jumps.append(self.time)
        return ready


def run(main: Coroutine[Any, Any, T], clock: JumpClock | None = None) -> T:
    """Run on a clock that jumps."""
    return kernel.run(main, clock=clock or JumpClock())


class PatientClock(JumpClock):
    """Jumps only when real descriptors have been silent for a moment, which loopback never is with news to tell."""

    def select(
        self, selector: selectors.BaseSelector, timeout: float | None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        return selector.select(0 if timeout == 0 else 0.02) or super().select(selector, timeout)
