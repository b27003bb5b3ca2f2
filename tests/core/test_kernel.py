"""What the kernel guarantees about wake-ups, groups, deadlines, threads and signals."""

import _thread
import contextlib
import errno
import gc
import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core import kernel
from netkit.core.flow import Flow
from netkit.core.kernel import (
    DeadlineExceeded,
    Group,
    Interrupted,
    Poll,
    deadline,
    next_signal,
    notify_closing,
    now,
    readable,
    sleep,
    to_shared_thread,
    to_thread,
    while_readable,
    writable,
)
from netkit.core.pump import pump
from netkit.core.stdio import FileStream
from netkit.core.sync import Event
from tests import memory
from tests.clock import CountingClock, JumpClock, in_real_time, on_kernel, run
from tests.support import PATIENCE
from tests.support.properties import examples

HOUR = 3600.0


class Sender(JumpClock):
    """A clock that acts when it jumps, so that a descriptor can become ready at the very moment of a deadline."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action

    def wait(self, poll: Poll, timeout: float | None) -> list[tuple[int, int]]:
        ready = super().wait(poll, timeout)
        if timeout and not ready:
            self._action()
            ready = poll(0)
        return ready


@pytest.fixture(params=["epoll", "poll"])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with epoll and with poll."""
    if request.param == "poll":
        monkeypatch.delattr(select, "epoll")


on_each_poller = pytest.mark.usefixtures("poller")


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield two connected, non-blocking sockets, which are closed at the end as the kernel requires."""
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
    try:
        yield pair
    finally:
        for sock in pair:
            notify_closing(sock.fileno())
            sock.close()


async def checkpoint() -> None:
    """Let every task that can run do so once."""
    await sleep(0)


async def wait_and_log(log: list[str], name: str, cleanup: float = 0) -> None:
    """Wait, and log the name at the end, after a cleanup of so many seconds."""
    try:
        await sleep(2 * HOUR)
    finally:
        await sleep(cleanup)
        log.append(name)


async def wait_and_fail() -> None:
    """Wait, and fail in the cleanup."""
    try:
        await sleep(HOUR)
    finally:
        raise ValueError("cleanup")


# -- the main guarantees


async def one_step(fd: int) -> None:
    """Wait as ``readable`` does, with a step."""
    await while_readable(fd, lambda: False)


async def wrong_step(fd: int) -> None:
    """Wait with a step that must not be called."""

    def step() -> bool:
        raise AssertionError("the step of the wrong task was called")

    await while_readable(fd, step)


@on_each_poller
@pytest.mark.parametrize("wait", [readable, one_step])
@on_kernel(limit=20)
async def test_closing_wakes_who_waits_and_a_reused_number_never_meets_an_old_waiter(
    wait: Callable[[int], Any],
) -> None:
    """Closing a descriptor ends the wait for it with EBADF, and does not affect a new descriptor of the same number."""
    seen: list[str] = []

    async def look(fd: int, who: str) -> None:
        try:
            await wait(fd)
            seen.append(f"{who} readable")
        except OSError as error:
            seen.append(f"{who} {errno.errorcode[error.errno or 0]}")

    with connected() as (old, _):
        number = old.fileno()
        async with Group() as group:
            group.start_soon(look(number, "old"))
            await checkpoint()
            notify_closing(number)
            old.close()
            with connected() as (new, peer):
                assert new.fileno() == number
                group.start_soon(look(number, "new"))
                await checkpoint()
                assert seen == ["old EBADF"]
                peer.send(b"x")
                await checkpoint()
                notify_closing(number)
        await sleep(1)
    assert seen == ["old EBADF", "new readable"]


@on_each_poller
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (readable, readable),
        (readable, wrong_step),
        (one_step, readable),
        (one_step, wrong_step),
        (writable, writable),
    ],
)
@on_kernel
async def test_two_tasks_on_one_side_of_a_descriptor_are_an_error_at_once(
    first: Callable[[int], Any], second: Callable[[int], Any]
) -> None:
    """A second task that waits for the same side fails at once, and the first goes on waiting."""
    with connected() as (sock, peer):
        with pytest.raises(BlockingIOError):
            while True:
                sock.send(bytes(65536))
        async with Group() as group:
            waiting = group.start_soon(first(sock.fileno()))
            await checkpoint()
            with pytest.raises(RuntimeError, match="two tasks"):
                await second(sock.fileno())
            assert not waiting.finished.is_set()
            peer.send(b"x")
            with pytest.raises(BlockingIOError):
                while True:
                    peer.recv(65536)


@on_each_poller
@pytest.mark.parametrize("read", [readable, one_step])
@on_kernel
async def test_a_reader_and_a_writer_share_a_descriptor(read: Callable[[int], Any]) -> None:
    """One task can wait to read and another to write on the same descriptor; each is woken by its own event."""
    with connected() as (sock, peer):
        async with Group() as group:
            reading = group.start_soon(read(sock.fileno()))
            writing = group.start_soon(writable(sock.fileno()))
            await checkpoint()
            await checkpoint()
            assert writing.finished.is_set()
            assert not reading.finished.is_set()
            peer.send(b"x")


@on_kernel
async def test_a_cancelled_task_runs_its_finally_and_a_group_outlives_its_children() -> None:
    """A cancelled group returns only after the cleanup of every child, even if that takes an hour."""
    log: list[str] = []
    async with Group() as group:
        group.start_soon(wait_and_log(log, "slow", cleanup=HOUR))
        group.start_soon(wait_and_log(log, "quick"))
        await sleep(1)
        group.cancel()
    log.append("group")
    assert now() == 1 + HOUR
    assert log == ["quick", "slow", "group"]


@on_kernel
async def test_the_first_failure_of_a_group_is_raised_and_the_others_are_attached() -> None:
    """The first failure cancels the rest of the group, and failures during their cleanup become its cause."""

    async def fail(after: float, name: str) -> None:
        await sleep(after)
        raise ValueError(name)

    with pytest.raises(ValueError, match="first") as caught:
        async with Group() as group:
            group.start_soon(fail(2, "second"))
            group.start_soon(fail(1, "first"))
            group.start_soon(wait_and_fail())
            await sleep(HOUR)
    assert now() == 1
    assert isinstance(caught.value.__cause__, BaseExceptionGroup)
    assert [repr(error) for error in caught.value.__cause__.exceptions] == ["ValueError('cleanup')"]


@on_each_poller
def test_a_deadline_that_expires_as_data_arrives_yields_the_data() -> None:
    """If a descriptor becomes ready at the very moment of the deadline, the data wins, and the deadline is over."""

    async def main() -> bytes:
        with deadline(5):
            await readable(sock.fileno())
            assert now() == 5
        data = sock.recv(100)
        await sleep(1)
        return data

    with connected() as (sock, peer):
        assert run(main(), Sender(lambda: peer.send(b"just in time"))) == b"just in time"


@on_kernel
async def test_cancelling_a_pump_loses_no_byte_silently() -> None:
    """When a pump is cancelled while its sink is full, its counts show how much it took and how much it delivered."""
    fed, source = memory.pair()
    sink, taker = memory.pair()
    flow = Flow()
    async with Group() as group:
        group.start_soon(fed.send(bytes(10 * memory.CAPACITY)))
        pumping = group.start_soon(pump(source, sink, flow=flow))
        await sleep(HOUR)
        pumping.cancel()
        await pumping.finished.wait()
        delivered = 0
        while delivered < sink.counts.sent:
            delivered += len(await taker.recv())
        group.cancel()
    assert delivered == memory.CAPACITY
    assert flow.offered == source.counts.received > sink.counts.sent
    assert flow.ended.is_set()


# -- signals


async def wait_in_poll() -> None:
    """Wait for a timer."""
    await sleep(HOUR)


async def wait_for_a_thread() -> None:
    """Wait for a thread that is blocked."""
    let_go = threading.Event()
    try:
        await to_thread(let_go.wait, PATIENCE)
    finally:
        let_go.set()


async def wait_to_write() -> None:
    """Wait for room in a pipe that nobody reads."""
    reader, writer = os.pipe()
    stream = FileStream(-1, writer)
    try:
        await stream.send(bytes(1 << 20))
    finally:
        stream.close()
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("wait", [wait_in_poll, wait_for_a_thread, wait_to_write])
def test_a_signal_ends_the_run_wherever_it_waits(wait: Callable[[], Any], number: signal.Signals) -> None:
    """A signal that comes while the main task waits cancels it at once, and its ``finally`` blocks run."""
    log: list[str] = []

    async def main() -> None:
        async with Group() as group:
            killer = threading.Thread(target=os.kill, args=(os.getpid(), number))
            group.start_soon(to_thread(killer.start))
            try:
                await wait()
            finally:
                log.append("cleaned up")

    with pytest.raises(Interrupted) as caught:
        kernel.run(main(), signals=[number])
    assert caught.value.signum == number
    assert log == ["cleaned up"]


@contextmanager
def handled_by(handler: Any) -> Iterator[None]:
    """Let SIGUSR1 be handled so in the block."""
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_signal_handlers_are_put_back() -> None:
    """After a run the process has its previous signal handlers and wake-up descriptor again."""

    def handler(number: int, frame: object) -> None:
        pass

    async def main() -> None:
        assert signal.getsignal(signal.SIGUSR1) is not handler
        os.kill(os.getpid(), signal.SIGUSR1)
        await sleep(HOUR)

    with handled_by(handler):
        with pytest.raises(Interrupted) as caught:
            kernel.run(main(), signals=[signal.SIGUSR1], clock=JumpClock())
        assert caught.value.signum == signal.SIGUSR1
        assert signal.getsignal(signal.SIGUSR1) is handler
        assert signal.set_wakeup_fd(-1) == -1


def test_a_signal_that_was_ignored_before_stays_ignored() -> None:
    """A signal that is ignored, as SIGHUP is under nohup, neither ends a run nor reaches a task that waits for one."""

    async def main() -> None:
        async with Group() as group:
            watching = group.start_soon(next_signal())
            await checkpoint()
            os.kill(os.getpid(), signal.SIGUSR1)
            await sleep(HOUR)
            assert not watching.finished.is_set()
            group.cancel()

    with handled_by(signal.SIG_IGN):
        kernel.run(main(), signals=[signal.SIGUSR1], clock=JumpClock())
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


def test_an_interrupted_run_tells_what_failed_meanwhile() -> None:
    """An exception raised in the cleanup after a signal becomes the cause of ``Interrupted``."""

    async def main() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            await sleep(HOUR)
        finally:
            raise ValueError("cleanup")

    with pytest.raises(Interrupted) as caught:
        kernel.run(main(), signals=[signal.SIGUSR1], clock=JumpClock())
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("later", [False, True])
def test_the_first_signal_goes_to_who_waits_for_it_and_the_second_cancels(later: bool) -> None:
    """A task that waits in ``next_signal`` gets the first signal, a second one cancels the run, even at that moment."""
    seen: list[int] = []

    async def watch() -> None:
        seen.append(await next_signal())
        await sleep(HOUR)

    async def main() -> None:
        async with Group() as group:
            group.start_soon(watch())
            await checkpoint()
            os.kill(os.getpid(), signal.SIGUSR1)
            if later:
                await sleep(1)
            os.kill(os.getpid(), signal.SIGUSR2)
            await sleep(HOUR)

    clock = JumpClock()
    with pytest.raises(Interrupted) as caught:
        kernel.run(main(), signals=[signal.SIGUSR1, signal.SIGUSR2], clock=clock)
    assert caught.value.signum == signal.SIGUSR2
    assert seen == [signal.SIGUSR1]
    assert clock.time == later


# -- groups and cancelling


async def wait() -> None:
    """Wait without any cleanup."""
    await sleep(HOUR)


async def wait_in_a_group() -> None:
    """Wait in a group whose child takes a turn of the loop to end."""
    async with Group() as group:
        group.start_soon(sleep(HOUR))


async def wait_and_clean_up() -> None:
    """Wait with a cleanup that waits, too."""
    try:
        await sleep(HOUR)
    finally:
        await checkpoint()


@pytest.mark.parametrize("way", [wait, wait_in_a_group, wait_and_clean_up])
@on_kernel
async def test_the_outer_of_two_deadlines_that_expire_together_wins(way: Callable[[], Awaitable[None]]) -> None:
    """When both expire, only the outer ``DeadlineExceeded`` is raised, even if the cleanup in between waits."""
    with pytest.raises(DeadlineExceeded), deadline(5):
        with contextlib.suppress(DeadlineExceeded), deadline(5):
            await way()
        raise AssertionError("the inner one was raised")
    assert now() == 5


@pytest.mark.parametrize("first", ["inner", "outer"])
def test_the_outer_of_two_requests_that_stand_is_raised(first: str) -> None:
    """If data arrives as two deadlines expire, the task gets the data, and the outer deadline ends its next wait."""
    log: list[str] = []

    async def main() -> None:
        with pytest.raises(DeadlineExceeded), deadline(5):
            try:
                with deadline(4 if first == "inner" else 5):
                    await readable(sock.fileno())
                    log.append("data")
                    await sleep(HOUR)
            except DeadlineExceeded:
                log.append("inner")
                await sleep(HOUR)
        assert now() == 5

    def arrive() -> None:
        peer.send(b"x")
        clock.time = 5

    with connected() as (sock, peer):
        clock = Sender(arrive)
        run(main(), clock)
    assert log == ["data"]


@on_kernel
async def test_a_cleanup_has_deadlines_of_its_own() -> None:
    """A cancelled task can still set a deadline for a wait in its ``finally`` block."""
    log: list[str] = []

    async def child() -> None:
        try:
            await sleep(HOUR)
        finally:
            try:
                with deadline(now() + 1):
                    await sleep(HOUR)
            except DeadlineExceeded:
                log.append(f"gave up at {now()}")

    async with Group() as group:
        group.start_soon(child())
        await sleep(5)
        group.cancel()
    assert log == ["gave up at 6.0"]


def test_a_deadline_within_a_cancelled_task_never_replaces_the_cancellation() -> None:
    """A task that is cancelled at the moment of its own deadline ends, without handling the deadline and going on."""

    async def child() -> None:
        try:
            with deadline(5):
                await readable(sock.fileno())
                await sleep(HOUR)
        except DeadlineExceeded:
            await sleep(HOUR)

    async def main() -> None:
        async with Group() as group:

            async def cancel() -> None:
                await sleep(5)
                task.cancel()

            group.start_soon(cancel())
            await checkpoint()
            task = group.start_soon(child())

    with connected() as (sock, peer):
        clock = Sender(lambda: peer.send(b"x"))
        run(main(), clock)
    assert clock.time == 5


@pytest.mark.parametrize("first", ["group", "deadline"])
def test_an_outer_group_wins_over_an_inner_deadline_of_the_same_moment(first: str) -> None:
    """The group is cancelled in either order; code between the two runs at most until its next wait (see kernel.py)."""
    log: list[str] = []
    outer = Group()

    async def cancel() -> None:
        await sleep(5)
        outer.cancel()

    async def main() -> float:
        async with outer:
            try:
                with deadline(5):
                    if first == "deadline":
                        outer.start_soon(cancel())
                    await sleep(HOUR)
            except DeadlineExceeded:
                log.append("handler")
                await sleep(HOUR)
            log.append("beyond")
        return now()

    assert run(main(), Sender(outer.cancel) if first == "group" else JumpClock()) == 5
    assert log == ([] if first == "group" else ["handler"])


@on_kernel
async def test_cancelling_the_outer_group_ends_the_inner_first() -> None:
    """When a group is cancelled, children end before their groups, from the innermost to the outermost."""
    log: list[str] = []

    async def nested() -> None:
        try:
            async with Group() as inner:
                inner.start_soon(wait_and_log(log, "grandchild"))
                await wait_and_log(log, "child")
        finally:
            log.append("inner group")

    async with Group() as outer:
        outer.start_soon(nested())
        await sleep(1)
        outer.cancel()
    log.append("outer group")
    assert log == ["child", "grandchild", "inner group", "outer group"]


@on_kernel
async def test_cancelling_a_group_from_a_child_ends_the_block_and_is_no_failure() -> None:
    """When a child cancels its group, the block of the group ends, and the code after it runs."""
    async with Group() as group:

        async def child() -> None:
            await sleep(1)
            group.cancel()

        group.start_soon(child())
        await sleep(HOUR)
        raise AssertionError("the block went on")
    await sleep(1)
    assert now() == 2


@on_kernel
async def test_a_task_cancelled_before_it_ran_still_begins_and_ends_at_its_first_wait() -> None:
    """Every task runs until its first wait, so that it can clean up what it was given."""
    log: list[str] = []

    async def child() -> None:
        log.append("began")
        try:
            await sleep(HOUR)
        finally:
            log.append("ended")

    async with Group() as group:
        group.start_soon(child()).cancel()
    assert now() == 0
    assert log == ["began", "ended"]


@on_kernel
async def test_a_task_that_cancels_itself_last_is_freed_at_once() -> None:
    """A request that no wait raised any more is dropped, as a task that names itself would be a reference cycle."""
    results: list[weakref.ref[threading.Event]] = []

    async def child() -> object:
        result = threading.Event()
        results.append(weakref.ref(result))
        group.cancel()
        return result

    gc.disable()
    try:
        async with Group() as group:
            group.start_soon(child())
        await sleep(0)
        assert results[0]() is None
    finally:
        gc.enable()


@on_kernel
async def test_a_second_cancel_does_not_disturb_the_cleanup() -> None:
    """A second cancellation has no effect, not even while the ``finally`` block waits."""
    log: list[str] = []
    async with Group() as group:
        task = group.start_soon(wait_and_log(log, "cleaned up", cleanup=10))
        await sleep(1)
        task.cancel()
        await sleep(1)
        task.cancel()
        group.cancel()
    assert log == ["cleaned up"]
    assert now() == 11


@on_kernel
async def test_cancelling_one_task_leaves_the_others_alone() -> None:
    """A cancelled task is no failure of its group, and sets ``finished``."""

    async def answer() -> int:
        await sleep(5)
        return 42

    async with Group() as group:
        gone = group.start_soon(sleep(HOUR))
        stays = group.start_soon(answer())
        await sleep(1)
        gone.cancel()
        await gone.finished.wait()
        assert group.tasks == {stays}
        await stays.finished.wait()
        assert len(group) == 0
    assert stays.result == 42
    assert now() == 5


@on_kernel
async def test_a_task_started_in_a_cancelled_group_ends_at_its_first_wait() -> None:
    """Tasks started in a cancelled group, by its block or in a cleanup, are cancelled at their first wait."""

    async def child() -> None:
        try:
            await sleep(HOUR)
        finally:
            await sleep(5)
            group.start_soon(sleep(HOUR))

    async with Group() as group:
        group.start_soon(child())
        await sleep(1)
        group.cancel()
        group.start_soon(sleep(HOUR))
    assert now() == 6


@on_kernel
async def test_a_group_that_was_left_takes_no_task() -> None:
    """A group that has ended refuses a new task, as nothing would wait for it."""
    async with Group() as group:
        pass
    late = sleep(0)
    try:
        with pytest.raises(RuntimeError):
            group.start_soon(late)
    finally:
        late.close()


@on_kernel
async def test_a_failure_in_a_group_that_is_cancelled_from_outside_is_not_lost() -> None:
    """If a deadline ends a group, failures in the cleanup of its tasks become the cause of ``DeadlineExceeded``."""
    with pytest.raises(DeadlineExceeded) as caught, deadline(1):
        async with Group() as group:
            group.start_soon(wait_and_fail())
    assert isinstance(caught.value.__cause__, BaseExceptionGroup)
    assert [repr(error) for error in caught.value.__cause__.exceptions] == ["ValueError('cleanup')"]


@on_kernel
async def test_a_failure_of_the_block_cancels_the_children() -> None:
    """An exception in the block of a group cancels its tasks."""
    with pytest.raises(ValueError, match="block"):
        async with Group() as group:
            group.start_soon(sleep(HOUR))
            await sleep(1)
            raise ValueError("block")
    assert now() == 1


@on_kernel
async def test_a_group_can_be_waited_for_until_it_is_empty() -> None:
    """``emptied`` returns when the last task has ended, and at once if there is none."""
    async with Group() as group:
        await group.emptied()
        group.start_soon(sleep(HOUR))
        group.start_soon(sleep(2 * HOUR))
        await group.emptied()
        assert now() == 2 * HOUR


# -- deadlines, clocks, events


@on_kernel
async def test_a_deadline_cuts_a_wait_and_leaves_the_next_alone() -> None:
    """A deadline ends a wait that lasts too long, and has no effect after its block."""
    with pytest.raises(DeadlineExceeded), deadline(now() + HOUR):
        await sleep(2 * HOUR)
    assert now() == HOUR
    with deadline(now() + 1):
        await sleep(0.5)
    await sleep(10)
    with deadline(None):
        await sleep(HOUR)
    assert now() == 2 * HOUR + 10.5


@on_kernel
async def test_a_deadline_in_the_past_cuts_the_first_wait() -> None:
    """A deadline that has passed ends the first wait; a block without a wait completes."""
    await sleep(10)
    with deadline(5):
        pass
    with pytest.raises(DeadlineExceeded), deadline(5):
        await sleep(1)
    assert now() == 10


@on_each_poller
def test_a_deadline_is_slept_to_and_not_looked_for() -> None:
    """The kernel sleeps until a deadline, also on the real clock, instead of polling for it."""
    rounds = 0

    class Counted(kernel.Clock):
        def wait(self, poll: Poll, timeout: float | None) -> list[tuple[int, int]]:
            nonlocal rounds
            rounds += 1
            return super().wait(poll, timeout)

    async def main() -> None:
        with pytest.raises(DeadlineExceeded), deadline(now() + 0.05):
            await Event().wait()

    kernel.run(main(), clock=Counted())
    assert rounds < 10


@on_each_poller
def test_a_deadline_beyond_what_the_system_can_count_to_is_no_error() -> None:
    """A deadline farther away than epoll and poll can wait (2**31 ms, 25 days) is no error."""

    async def main() -> None:
        with deadline(now() + 1e9):
            await to_thread(int)

    kernel.run(main())


@on_kernel
async def test_a_deadline_reaches_into_a_group() -> None:
    """A deadline ends the tasks of a group in its block, too."""
    log: list[str] = []
    with pytest.raises(DeadlineExceeded), deadline(1):
        async with Group() as group:
            group.start_soon(wait_and_log(log, "child"))
    assert log == ["child"]
    assert now() == 1


def test_deadlines_that_were_left_do_not_pile_up() -> None:
    """Deadlines of blocks that have ended use no memory, even while an earlier deadline is still to come."""

    async def main() -> int:
        async with Group() as group:
            group.start_soon(sleep(1))
            await checkpoint()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(5000):
                with deadline(HOUR):
                    await checkpoint()
            after, _ = tracemalloc.get_traced_memory()
            group.cancel()
        return after - before

    tracemalloc.start()
    try:
        assert run(main()) < 100_000
    finally:
        tracemalloc.stop()


# -- descriptors


@on_each_poller
@on_kernel(limit=20)
async def test_a_ready_descriptor_that_nobody_waits_for_does_not_spin() -> None:
    """Unread data or free buffer space does not keep the loop busy while no task waits for it."""
    with connected() as (sock, peer):
        peer.send(b"left unread")
        await readable(sock.fileno())
        await writable(sock.fileno())
        await sleep(HOUR)
    assert now() == HOUR


@on_each_poller
@on_kernel(limit=30)
async def test_a_hung_up_descriptor_that_nobody_waits_for_does_not_spin() -> None:
    """A hang-up, which epoll and poll always report, does not keep the loop busy while no task waits for it."""
    with connected() as (sock, peer):
        async with Group() as group:
            group.start_soon(readable(sock.fileno()))
            await checkpoint()
            peer.close()
        await sleep(HOUR)
        await readable(sock.fileno())
        await sleep(HOUR)
    assert now() == 2 * HOUR


def test_a_ping_pong_costs_one_look_at_the_selector_per_message() -> None:
    """A descriptor stays registered with epoll from one wait to the next."""
    changes: list[str] = []
    epoll = select.epoll

    class Counted:
        def __init__(self) -> None:
            self._poller = epoll()

        def __getattr__(self, name: str) -> Any:
            changes.append(name)
            return getattr(self._poller, name)

    async def echo(sock: socket.socket) -> None:
        for _ in range(100):
            await readable(sock.fileno())
            sock.send(sock.recv(10))

    async def main() -> None:
        with connected() as (sock, peer):
            async with Group() as group:
                group.start_soon(echo(peer))
                for _ in range(100):
                    sock.send(b"ping")
                    await readable(sock.fileno())
                    sock.recv(10)
            assert changes.count("modify") == changes.count("unregister") == 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "epoll", Counted)
        run(main())
    assert changes.count("register") == 3


@on_each_poller
@on_kernel
async def test_a_file_is_always_ready_but_gives_the_others_their_turn() -> None:
    """A wait for a regular file, which epoll refuses, returns at once but gives other tasks a turn."""
    log: list[str] = []

    async def read(fd: int) -> None:
        for _ in range(3):
            await readable(fd)
            log.append("file")

    async def other() -> None:
        for _ in range(3):
            log.append("other")
            await checkpoint()

    with open(__file__, "rb") as file:
        async with Group() as group:
            group.start_soon(read(file.fileno()))
            group.start_soon(other())
    assert sorted(log) == ["file"] * 3 + ["other"] * 3
    assert log != sorted(log)


@on_each_poller
@on_kernel
async def test_cancelling_a_task_between_turns_ends_it() -> None:
    """A task whose waits always return at once can be cancelled like any other."""
    with open(os.devnull, "rb") as file:

        async def read() -> None:
            while True:
                await readable(file.fileno())

        async with Group() as group:
            group.start_soon(read())
            await checkpoint()
            group.cancel()


@on_each_poller
@on_kernel
async def test_a_closed_descriptor_is_an_error_and_not_a_hang() -> None:
    """A wait for a descriptor that is not open fails at once with EBADF."""
    with connected() as (sock, _):
        number = sock.fileno()
    with pytest.raises(OSError) as caught:
        await readable(number)
    assert caught.value.errno == errno.EBADF


# -- steps in the loop


@on_kernel
async def test_what_a_step_raised_is_freed_once_it_was_handled() -> None:
    """The kernel keeps no error in a frame or a task, as its traceback would make that a reference cycle."""
    raised: list[weakref.ref[Boom]] = []

    def step() -> bool:
        boom = Boom()
        raised.append(weakref.ref(boom))
        try:
            raise boom
        finally:
            del boom

    gc.disable()
    try:
        with connected() as (sock, peer), contextlib.suppress(Boom):
            peer.send(b"x")
            await while_readable(sock.fileno(), step)
        await kernel.checkpoint()  # the kernel leaves the call that raised it here, and does not raise it again
        assert raised[0]() is None
    finally:
        gc.enable()


class Reader:
    """A step that reads single bytes into ``log``, which several readers may share, until it has read ``last``."""

    def __init__(self, sock: socket.socket, log: list[bytes], last: bytes = b"") -> None:
        self._sock = sock
        self._log = log
        self._last = last

    def step(self) -> bool:
        data = self._sock.recv(1)
        self._log.append(data)
        return data != self._last


@on_each_poller
@on_kernel(limit=30)
async def test_the_loop_calls_a_step_and_wakes_the_task_when_that_returns_false() -> None:
    """The task stays suspended until its step returns false, while another task runs in every turn."""
    log: list[bytes] = []
    with connected() as (sock, peer):
        async with Group() as group:
            reading = group.start_soon(while_readable(sock.fileno(), Reader(sock, log).step))
            await checkpoint()
            for byte in (b"a", b"b"):
                peer.send(byte)
                await checkpoint()
                assert log[-1] == byte
                assert not reading.finished.is_set()
            peer.close()
            await reading.finished.wait()
        await sleep(HOUR)
    assert log == [b"a", b"b", b""]


@on_each_poller
@on_kernel
async def test_a_step_is_called_once_a_turn_for_each_descriptor() -> None:
    """A step with much to read delays neither the steps of other descriptors nor other tasks."""
    log: list[bytes] = []

    async def other() -> None:
        while log[-1:] != [b"."]:
            log.append(b" ")
            await checkpoint()

    with connected() as (one, one_peer), connected() as (two, two_peer):
        one_peer.send(b"aaa.")
        two_peer.send(b"bbb.")
        async with Group() as group:
            for sock in (one, two):
                group.start_soon(while_readable(sock.fileno(), Reader(sock, log, b".").step))
            group.start_soon(other())
    turns = b"".join(log).split(b" ")[1:]
    assert [sorted(turn) for turn in turns] == [sorted(b"ab")] * 3 + [sorted(b"..")]


@on_each_poller
@pytest.mark.parametrize("how", ["cancelled", "out of time"])
@on_kernel(limit=30)
async def test_a_step_is_called_no_more_once_its_task_was_ended(how: str) -> None:
    """Once the task was cancelled or timed out, its step is not called, and another task can read the descriptor."""
    log: list[bytes] = []

    async def read() -> None:
        with contextlib.suppress(DeadlineExceeded), deadline(1 if how == "out of time" else None):
            await while_readable(sock.fileno(), Reader(sock, log).step)

    with connected() as (sock, peer):
        async with Group() as group:
            group.start_soon(read())
            await sleep(1)
            if how == "cancelled":
                group.cancel()
        peer.send(b"x")
        await sleep(1)
        await readable(sock.fileno())
        assert sock.recv(10) == b"x"
    assert log == []


async def ends_in(code: int, wait: Awaitable[object]) -> None:
    """Wait, and check that the wait fails with the errno ``code``."""
    with pytest.raises(OSError) as caught:
        await wait
    assert caught.value.errno == code


@on_each_poller
@on_kernel
async def test_what_a_step_raises_is_raised_in_its_task_alone() -> None:
    """An exception in a step reaches only its own task; the loop, other steps and other tasks go on."""
    log: list[bytes] = []

    def fail() -> bool:
        raise LookupError("in the step")

    async def failing(fd: int) -> None:
        with pytest.raises(LookupError, match="in the step"):
            await while_readable(fd, fail)
        log.append(b"raised ")

    with connected() as (one, one_peer), connected() as (two, two_peer):
        one_peer.send(b"x")
        two_peer.send(b"ab.")
        async with Group() as group:
            group.start_soon(failing(one.fileno()))
            group.start_soon(while_readable(two.fileno(), Reader(two, log, b".").step))
    assert b"".join(log) == b"araised b."


@on_each_poller
@pytest.mark.parametrize("goes_on", [True, False])
@on_kernel
async def test_a_step_may_end_its_own_wait_and_that_of_another(goes_on: bool) -> None:
    """If a step closes two descriptors that are both ready, each task gets EBADF once, whatever the step returns."""
    with connected() as (one, one_peer), connected() as (two, two_peer):

        def close() -> bool:
            for sock in (one, two):
                notify_closing(sock.fileno())
                sock.close()
            return goes_on

        async with Group() as group:
            for sock in (one, two):
                group.start_soon(ends_in(errno.EBADF, while_readable(sock.fileno(), close)))
            await checkpoint()
            one_peer.send(b"x")
            two_peer.send(b"x")


@on_kernel
async def test_a_step_on_a_file_takes_turns_with_the_tasks() -> None:
    """A step on a file, which is always ready, is called once a turn."""
    log: list[str] = []

    def step() -> bool:
        log.append("step")
        return len(log) < 5

    async def other() -> None:
        while len(log) < 5:
            log.append("other")
            await checkpoint()

    with open(os.devnull, "rb") as file:
        async with Group() as group:
            group.start_soon(while_readable(file.fileno(), step))
            group.start_soon(other())
    assert log == ["other", "step"] * 3


def test_one_look_at_the_clock_serves_all_steps_of_a_turn_and_a_task_has_its_own() -> None:
    """All steps of a turn get the same time, that at which the loop woke; a task gets the current time."""

    class Running(JumpClock):
        """Advances by a second at each call."""

        def now(self) -> float:
            self.time += 1
            return self.time

    told: list[float] = []

    def step() -> bool:
        told.append(now())
        return False

    async def main() -> None:
        with ExitStack() as stack:
            pairs = [stack.enter_context(connected()) for _ in range(3)]
            async with Group() as group:
                for sock, peer in pairs:
                    peer.send(b"x")
                    group.start_soon(while_readable(sock.fileno(), step))
        assert now() < now()

    run(main(), Running())
    assert len(told) == 3
    assert len(set(told)) == 1


# -- threads


@on_each_poller
@in_real_time
async def test_a_thread_returns_its_result_or_raises_its_exception() -> None:
    """The result or the exception of the function reaches the task that waits for the thread."""

    def fail() -> None:
        raise LookupError("in the thread")

    with pytest.raises(LookupError, match="in the thread"):
        await to_thread(fail)
    assert await to_thread(divmod, 7, 2) == (3, 1)


@in_real_time
async def test_the_loop_goes_on_while_a_thread_works() -> None:
    """Other tasks run while a task waits for a thread."""
    let_go = threading.Event()

    async def other() -> None:
        await sleep(0)
        let_go.set()

    async with Group() as group:
        group.start_soon(other())
        assert await to_thread(let_go.wait, PATIENCE)


def until_ended(threads: int) -> None:
    """Wait until there are no more than so many threads."""
    end = time.monotonic() + PATIENCE
    while _thread._count() > threads:
        assert time.monotonic() < end, "a thread does not end"
        os.sched_yield()


def test_a_thread_that_is_no_longer_waited_for_is_left_behind() -> None:
    """Cancelling does not wait for the thread, which later touches no descriptor that was opened after the run."""
    let_go = threading.Event()

    async def main() -> None:
        with pytest.raises(DeadlineExceeded), deadline(now() + 0.01):
            await to_thread(let_go.wait, PATIENCE)

    threads = _thread._count()
    kernel.run(main())
    assert not let_go.is_set()
    with ExitStack() as stack:
        pairs = [stack.enter_context(connected()) for _ in range(3)]
        let_go.set()
        until_ended(threads)
        for sock in itertools.chain(*pairs):
            with pytest.raises(BlockingIOError):
                sock.recv(1)


@in_real_time
async def test_those_who_want_the_same_share_a_thread() -> None:
    """Tasks that make the same call while it runs share its thread, even if one gives up; a later call is a new one."""
    let_go = threading.Event()
    calls: list[int] = []

    def look(number: int) -> int:
        calls.append(number)
        assert let_go.wait(PATIENCE)
        return number * 2

    with pytest.raises(DeadlineExceeded), deadline(now() + 0.01):
        await to_shared_thread(look, 7)
    async with Group() as group:
        waiting = [group.start_soon(to_shared_thread(look, number)) for number in (7, 7, 8, 7)]
        await sleep(0)
        let_go.set()
    assert [task.result for task in waiting] == [14, 14, 16, 14]
    assert sorted(calls) == [7, 8]
    assert await to_shared_thread(look, 7) == 14
    assert sorted(calls) == [7, 7, 8]


@in_real_time
async def test_shared_threads_are_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the maximum of shared threads run, a call waits until one has ended, and can be cancelled meanwhile."""
    monkeypatch.setattr(kernel, "_MAX_SHARED_THREADS", 2)
    let_go = [threading.Event() for _ in range(4)]
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        assert let_go[number].wait(PATIENCE)
        return number

    async with Group() as group:
        tasks = [group.start_soon(to_shared_thread(work, number)) for number in range(4)]
        while len(begun) < 2:
            await checkpoint()
        assert sorted(begun) == [0, 1]
        tasks[2].cancel()
        let_go[1].set()
        await tasks[1].finished.wait()
        let_go[3].set()
        await tasks[3].finished.wait()
        let_go[0].set()
    assert [task.result for task in tasks] == [0, 1, None, 3]
    assert sorted(begun) == [0, 1, 3]


@in_real_time
async def test_a_shared_thread_does_what_comes_next_and_then_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared thread is reused for the calls that follow, and then ends."""
    threads = _thread._count()
    started: list[Callable[[], None]] = []
    start = kernel._start_thread

    def start_thread(work: Callable[[], None]) -> None:
        started.append(work)
        start(work)

    monkeypatch.setattr(kernel, "_start_thread", start_thread)
    assert [await to_shared_thread(str, number) for number in range(10)] == [str(number) for number in range(10)]
    assert len(started) < 10  # one, unless the machine is so slow that the thread ends in between
    until_ended(threads)


@in_real_time
async def test_a_shared_thread_that_fails_fails_all_who_wait() -> None:
    """A call that fails raises its exception in every task that waits, and the next call starts anew."""

    async def one() -> None:
        with pytest.raises(ValueError, match="invalid literal"):
            await to_shared_thread(int, "x")

    for _ in range(2):
        async with Group() as group:
            group.start_soon(one())
            group.start_soon(one())


# -- runs


@on_kernel
async def test_only_one_kernel_runs_at_a_time() -> None:
    """Running a kernel inside another one fails, and the outer one goes on."""
    inner = sleep(0)
    with pytest.raises(RuntimeError, match="already"):
        kernel.run(inner)
    inner.close()
    await sleep(0)


def test_outside_of_a_kernel_nothing_waits() -> None:
    """Without a kernel, functions that need one raise RuntimeError, and ``notify_closing`` does nothing."""
    with pytest.raises(RuntimeError, match="no kernel"):
        now()
    notify_closing(0)


def test_a_run_leaves_no_descriptor_open() -> None:
    """The selector and the wake-up pipe are closed, whether the run succeeds or fails."""

    async def fail() -> None:
        raise ValueError

    before = os.listdir("/proc/self/fd")
    with pytest.raises(ValueError):
        run(fail())
    run(sleep(1))
    assert os.listdir("/proc/self/fd") == before


def test_without_room_for_the_kernel_nothing_leaks() -> None:
    """At its limit of descriptors ``run`` fails with EMFILE, and closes those that it had opened."""
    script = """
import os, resource, sys
from netkit.core.kernel import run, sleep
used = len(os.listdir("/proc/self/fd")) - 1
for spare in (0, 1, 2):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, 4096))
    try:
        run(sleep(0))
    except OSError as error:
        print(error.errno)
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
print(len(os.listdir("/proc/self/fd")) - 1 == used)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout.split() == [str(errno.EMFILE)] * 3 + ["True"]
    assert done.stderr == ""


# -- random schedules


class Sleep(NamedTuple):
    seconds: int


class Within(NamedTuple):
    seconds: int
    body: list[Any]


class Cleanup(NamedTuple):
    seconds: int
    body: list[Any]


class Together(NamedTuple):
    children: list[list[Any]]
    body: list[Any]


class CancelGroup(NamedTuple):
    number: int


class CancelTask(NamedTuple):
    number: int


class Fail(NamedTuple):
    pass


class Boom(Exception):
    pass


DURATIONS = st.integers(0, 5)
LEAVES = st.one_of(
    st.builds(Sleep, DURATIONS),
    st.builds(CancelGroup, st.integers(0, 7)),
    st.builds(CancelTask, st.integers(0, 7)),
    st.builds(Fail),
    st.builds(Sleep, DURATIONS),
)
PROGRAMS = st.recursive(
    st.lists(LEAVES, max_size=3),
    lambda body: st.lists(
        st.one_of(
            LEAVES,
            st.builds(Within, DURATIONS, body),
            st.builds(Cleanup, DURATIONS, body),
            st.builds(Together, st.lists(body, max_size=3), body),
        ),
        max_size=4,
    ),
    max_leaves=20,
)


class Machine:
    """Runs a random program and checks the invariants after each step."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.tasks: list[kernel.Task] = []
        self.open = 0
        self.time = 0.0

    def tick(self) -> None:
        assert now() >= self.time, "time went back"
        self.time = now()

    async def body(self, program: list[Any]) -> None:
        self.open += 1
        try:
            for step in program:
                await self.step(step)
                self.tick()
        finally:
            self.open -= 1

    async def step(self, step: Any) -> None:
        match step:
            case Sleep(seconds):
                begun = now()
                await sleep(seconds)
                assert now() == begun + seconds
            case Within(seconds, body):
                at = now() + seconds
                try:
                    with deadline(at):
                        await self.body(body)
                except DeadlineExceeded:
                    assert now() >= at, "expired too early"
            case Cleanup(seconds, body):
                try:
                    await self.body(body)
                finally:
                    self.open += 1
                    try:
                        await sleep(seconds)
                    finally:
                        self.open -= 1
            case Together(children, body):
                await self.together(children, body)
            case CancelGroup(number) if self.groups:
                self.groups[number % len(self.groups)].cancel()
            case CancelTask(number) if self.tasks:
                self.tasks[number % len(self.tasks)].cancel()
            case Fail():
                raise Boom

    async def together(self, children: list[list[Any]], body: list[Any]) -> None:
        started: list[kernel.Task] = []
        try:
            async with Group() as group:
                self.groups.append(group)
                for child in children:
                    started.append(group.start_soon(self.body(child)))
                self.tasks += started
                await self.body(body)
        finally:
            assert all(task.finished.is_set() for task in started), "a child survived its group"
            assert len(group) == 0


@examples(300)
@given(PROGRAMS)
def test_random_schedules_keep_the_order_of_things(program: list[Any]) -> None:
    """With any groups, sleeps, cancellations and failures, all children end, all ``finally`` run, time only grows."""
    machine = Machine()
    clock = CountingClock(limit=100_000)
    try:
        run(machine.body(program), clock)
    except Boom:
        pass
    assert machine.open == 0
    assert all(task.finished.is_set() for task in machine.tasks)
    assert clock.jumps == sorted(clock.jumps)


@given(st.integers(0, 4), PROGRAMS)
def test_a_deadline_around_a_random_schedule_is_kept(seconds: int, program: list[Any]) -> None:
    """A block without slow cleanup never lasts longer than its deadline."""

    def quick(body: list[Any]) -> list[Any]:
        return [
            step._replace(body=quick(step.body), children=[quick(c) for c in step.children])
            if isinstance(step, Together)
            else Within(step.seconds, quick(step.body))
            if isinstance(step, Within | Cleanup)
            else step
            for step in body
        ]

    async def main() -> None:
        try:
            with deadline(seconds):
                await machine.body(quick(program))
        except (DeadlineExceeded, Boom):
            pass
        assert now() <= seconds

    machine = Machine()
    run(main(), CountingClock(limit=100_000))
    assert machine.open == 0
