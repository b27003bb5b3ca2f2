"""Synchronization between tasks: Event, Condition, Semaphore and Lock.

This file does not import the kernel. A task waits by yielding a queue, to which the kernel appends it; its ``wake``
removes it again: see kernel.py.
"""

import types
from collections.abc import Generator, Sequence
from typing import Any


class _Queue:
    """The tasks that wait, in the order in which they came. The list is made for the first, as most never have one."""

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
    """A flag that is set once and never cleared; any number of tasks can wait for it."""

    __slots__ = ("_happened",)

    def __init__(self) -> None:
        super().__init__()
        self._happened = False

    def is_set(self) -> bool:
        return self._happened

    def set(self) -> None:
        """Set the flag and wake all tasks that wait."""
        self._happened = True
        self._wake_all()

    async def wait(self) -> None:
        if not self._happened:
            await self._park()


class Condition(_Queue):
    """Wakes all tasks that wait each time something changes. Unlike threading.Condition it has no lock."""

    __slots__ = ()

    def notify_all(self) -> None:
        if self._waiting:
            self._wake_all()

    async def wait(self) -> None:
        await self._park()


class Semaphore(_Queue):
    """``async with semaphore:`` admits at most ``value`` tasks at a time, in the order in which they came."""

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
            await self._park()  # ``release`` hands its place over

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
    """``async with lock:`` admits one task at a time, in the order in which they came."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(1)
