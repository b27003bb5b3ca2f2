"""What one task waits for and another does: an Event, a Condition, a Semaphore, a Lock.

The kernel is not known here. A task waits by yielding the queue that it stands in from then on, and its ``wake`` takes
it out again: see kernel.py.
"""

import types
from collections.abc import Generator, Sequence
from typing import Any


class _Queue:
    """The tasks that wait, in the order in which they came; a list is made for the first, as most have none."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: Sequence[Any] = ()

    @types.coroutine
    def _park(self) -> Generator[Sequence[Any], None, None]:
        self._waiting = self._waiting or []
        yield self._waiting

    def _wake_all(self) -> None:
        for task in tuple(self._waiting):
            task.wake()


class Event(_Queue):
    """A thing that happens once; any number of tasks can wait for it."""

    __slots__ = ("_happened",)

    def __init__(self) -> None:
        super().__init__()
        self._happened = False

    def is_set(self) -> bool:
        return self._happened

    def set(self) -> None:
        """Let it happen; who waits goes on."""
        self._happened = True
        self._wake_all()

    async def wait(self) -> None:
        if not self._happened:
            await self._park()


class Condition(_Queue):
    """Something that changes again and again; who waits is woken at its next change."""

    __slots__ = ()

    def notify_all(self) -> None:
        if self._waiting:
            self._wake_all()

    async def wait(self) -> None:
        await self._park()


class Semaphore(_Queue):
    """``async with semaphore:`` so many tasks at a time, in the order in which they came."""

    __slots__ = ("_free",)

    def __init__(self, value: int) -> None:
        super().__init__()
        self._free = value

    def locked(self) -> bool:
        return not self._free

    async def acquire(self) -> None:
        if self._free:
            self._free -= 1
        else:
            await self._park()  # whoever leaves hands over

    def release(self) -> None:
        if self._waiting:
            self._waiting[0].wake()
        else:
            self._free += 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *raised: object) -> None:
        self.release()


class Lock(Semaphore):
    """``async with lock:`` one task at a time, in the order in which they came."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1)
