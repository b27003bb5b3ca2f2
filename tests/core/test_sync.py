"""Events, locks, semaphores and conditions, and what happens when a waiting task is cancelled."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.kernel import DeadlineExceeded, Group, Task, deadline, now, sleep
from netkit.core.sync import Condition, Event, Lock, Semaphore
from tests.clock import on_kernel


class Room:
    """A lock, with a record of its holders; two at a time are an error."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.log: list[str] = []
        self._inside = False

    async def use(self, name: str, seconds: float) -> None:
        """Take the lock, hold it for a while, and release it."""
        async with self.lock:
            assert not self._inside, f"{name} is not alone"
            self._inside = True
            self.log.append(name)
            try:
                await sleep(seconds)
            finally:
                self._inside = False


# -- Event


@on_kernel
async def test_an_event_wakes_all_who_wait_in_their_order() -> None:
    """All waiting tasks are woken, in order; later ones do not wait."""
    log: list[int] = []

    async def wait(event: Event, number: int) -> None:
        await event.wait()
        log.append(number)

    event = Event()
    async with Group() as group:
        for number in range(5):
            group.start_soon(wait(event, number))
        await sleep(0)
        assert not event.is_set()
        event.set()
        event.set()
        assert event.is_set()
    await event.wait()
    assert log == [0, 1, 2, 3, 4]


# -- Lock


@on_kernel
async def test_a_lock_lets_one_in_at_a_time_in_the_order_of_coming() -> None:
    """Tasks get the lock in the order in which they asked, even one that asks at the moment of a release."""
    room = Room()
    async with Group() as group:
        for name in "abc":
            group.start_soon(room.use(name, 1))
        await sleep(1)  # "a" releases the lock at this moment
        group.start_soon(room.use("d", 1))
    assert now() == 4
    assert room.log == list("abcd")


@on_kernel
async def test_a_lock_that_is_free_is_taken_without_a_wait() -> None:
    """Taking a free lock does not let other tasks run."""
    log: list[str] = []

    async def other() -> None:
        log.append("other")

    lock = Lock()
    async with Group() as group:
        group.start_soon(other())
        for _ in range(2):
            async with lock:
                log.append("main")
    assert log == ["main", "main", "other"]


@on_kernel
async def test_a_lock_passes_over_who_no_longer_waits() -> None:
    """Tasks that are cancelled or time out leave the queue, and the others keep their places."""
    room = Room()

    async def hasty() -> None:
        with pytest.raises(DeadlineExceeded), deadline(now() + 1):
            await room.use("b", 1)

    async with Group() as group:
        group.start_soon(room.use("a", 3))
        group.start_soon(hasty())
        gone = group.start_soon(room.use("c", 1))
        group.start_soon(room.use("d", 1))
        await sleep(2)
        gone.cancel()
    assert now() == 4
    assert room.log == ["a", "d"]


@pytest.mark.parametrize("how", ["cancelled", "failed"])
@on_kernel
async def test_a_lock_is_given_back_however_its_block_ends(how: str) -> None:
    """If the holder fails or is cancelled, the next task gets the lock."""
    room = Room()

    async def holder() -> None:
        async with room.lock:
            if how == "failed":
                await sleep(1)
                raise ValueError
            await Event().wait()

    async def tried() -> None:
        with pytest.raises(ValueError):
            await holder()

    async with Group() as group:
        first = group.start_soon(tried() if how == "failed" else holder())
        group.start_soon(room.use("b", 0))
        await sleep(1)
        first.cancel()
    assert room.log == ["b"]


@pytest.mark.parametrize("order", ["handed over first", "cancelled first"])
@on_kernel
async def test_a_lock_is_not_lost_with_who_was_cancelled_as_it_was_handed_over(order: str) -> None:
    """If a task is cancelled at the moment it gets the lock, the next task gets it after that one."""
    room = Room()
    async with Group() as group:
        async with room.lock:
            second = group.start_soon(room.use("b", 1))
            group.start_soon(room.use("c", 1))
            await sleep(1)
            if order == "cancelled first":
                second.cancel()
        second.cancel()
    assert now() == 2
    assert room.log == (["b", "c"] if order == "handed over first" else ["c"])


@on_kernel
async def test_a_lock_that_comes_as_the_deadline_expires_is_held_or_left_to_the_next() -> None:
    """If the lock is released at the moment of the deadline, the block runs completely or not at all."""
    room = Room()

    async def hasty() -> None:
        try:
            with deadline(1):
                await room.use("b", 0)
        except DeadlineExceeded:
            ended.append("b" in room.log)

    ended: list[bool] = []
    async with Group() as group:
        group.start_soon(room.use("a", 1))
        group.start_soon(hasty())
        group.start_soon(room.use("c", 1))
    assert room.log == (["a", "c"] if ended else ["a", "b", "c"])
    assert ended in ([], [False])


TURNS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.none() | st.integers(0, 6), st.none() | st.integers(0, 6)),
    max_size=7,
)


@given(TURNS)
@on_kernel
async def test_random_turns_are_taken_one_at_a_time_and_leave_the_lock_free(
    turns: list[tuple[int, int, int | None, int | None]],
) -> None:
    """With random times, cancellations and deadlines the lock has one holder at a time, and is free at the end."""
    room = Room()

    async def visit(name: str, comes: int, stays: int, patience: int | None) -> None:
        await sleep(comes)
        try:
            with deadline(None if patience is None else now() + patience):
                await room.use(name, stays)
        except DeadlineExceeded:
            pass

    async def cancel(task: Task, at: int) -> None:
        await sleep(at)
        task.cancel()

    async with Group() as group:
        for number, (comes, stays, patience, cancelled) in enumerate(turns):
            task = group.start_soon(visit(str(number), comes, stays, patience))
            if cancelled is not None:
                group.start_soon(cancel(task, cancelled))
    with deadline(now() + 1):
        await room.use("last", 0)
    assert room.log[-1] == "last"


# -- Semaphore


@on_kernel
async def test_a_semaphore_lets_so_many_in() -> None:
    """At most three tasks are inside, a waiting task follows each that leaves, and all places are free at the end."""
    inside = most = 0
    places = Semaphore(3)

    async def use() -> None:
        nonlocal inside, most
        async with places:
            inside += 1
            most = max(most, inside)
            await sleep(1)
            inside -= 1

    async with Group() as group:
        for _ in range(7):
            group.start_soon(use())
    assert now() == 3
    for _ in range(3):
        assert not places.locked()
        await places.acquire()
    assert places.locked()
    assert most == 3


# -- Condition


@on_kernel
async def test_a_condition_wakes_all_who_wait_and_none_who_come_later() -> None:
    """A change wakes the tasks that wait at that moment, not later ones."""
    log: list[str] = []
    changed = Condition()

    async def wait(name: str) -> None:
        await changed.wait()
        log.append(name)

    changed.notify_all()
    async with Group() as group:
        for name in "ab":
            group.start_soon(wait(name))
        await sleep(1)
        assert log == []
        changed.notify_all()
        changed.notify_all()
        late = group.start_soon(wait("late"))
        await sleep(1)
        assert log == ["a", "b"]
        assert not late.finished.is_set()
        group.cancel()
    assert log == ["a", "b"]


@on_kernel
async def test_a_condition_that_is_waited_for_again_needs_another_change() -> None:
    """Two changes in a row wake a task once; it needs another change to be woken again."""
    seen: list[float] = []
    changed = Condition()

    async def watch() -> None:
        while True:
            await changed.wait()
            seen.append(now())

    async with Group() as group:
        group.start_soon(watch())
        for _ in range(3):
            await sleep(1)
            changed.notify_all()
            changed.notify_all()
        await sleep(1)
        group.cancel()
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("first", ["notify", "cancel"])
@on_kernel
async def test_a_change_and_a_cancellation_in_the_same_moment(first: str) -> None:
    """A task that is woken and then cancelled ends at its next wait; one cancelled first is not woken."""
    log: list[str] = []
    changed = Condition()

    async def wait(name: str) -> None:
        await changed.wait()
        log.append(name)
        await sleep(0)
        log.append(f"{name} went on")

    async with Group() as group:
        task = group.start_soon(wait("a"))
        group.start_soon(wait("b"))
        await sleep(1)
        steps: list[Callable[[], None]] = [changed.notify_all, task.cancel]
        for step in steps if first == "notify" else reversed(steps):
            step()
    assert log == (["a", "b", "b went on"] if first == "notify" else ["b", "b went on"])
