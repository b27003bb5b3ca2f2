"""The scheduler: tasks, groups, deadlines, cancellation, timers, threads, signals, and waiting for descriptors.

It does no I/O of its own. All other code of netkit is ordinary ``async def`` code on top of the functions at the end of
this file, ``Group``, ``deadline``, and the primitives of sync.py. There is one thread, and one kernel at a time.

Tasks and the loop. A task is a coroutine that belongs to a group. It runs until it waits. It waits by yielding a queue,
to which the loop appends it: the queue of an event, of a descriptor, or of the tasks that are ready. ``Task.wake``
removes it from the queue and makes it ready, with the value that its wait returns or the error that it raises. One turn
of the loop

1. resumes each task that is ready, once;
2. polls the descriptors: without blocking if a task is ready again, and otherwise until the next timer is due;
3. for each ready descriptor, wakes the task that waits for it, or calls the step given to ``while_readable``;
4. runs the timers that are due. They come last, so that data which arrives as its deadline expires is delivered.

Time. In a task, ``now`` reads the clock, so measurements are exact, and a deadline set after a long computation is not
out of date. In steps and timers it is the time at which this turn's poll returned, so one reading of the clock serves
all messages of the turn.

Scopes and cancellation. A scope is a part of a task that can be cancelled from outside: the block of a ``Group``, by
``cancel()`` or by the first failure inside; the block of a ``deadline``, by the clock; and the whole task, by
``Task.cancel``. Cancelling raises ``Cancelled``, which names the scope, at the point where the task waits. The
``finally`` blocks on the way out run, and may wait. Only the named scope may catch it: a group then ends without a
failure, a deadline raises DeadlineExceeded in its place, a task ends. No other code may swallow a Cancelled.

- A task that is running, or was already woken, first gets the result of its wait. The request stays pending until the
  next wait, and is dropped if the task leaves the scope before that.
- If two requests are pending, the outer one is raised, as leaving the outer scope leaves the inner one, too.
- Once a Cancelled is raised, later requests of the scopes inside the one that it names are ignored, so that they do not
  cut the cleanup on the way out short. Scopes that the cleanup itself opens work as usual.

An example: a task waits in ``readable``, its deadline expires, and at the same moment another task calls
``outer.cancel()``. The numbers show the order of what happens, for either request coming first:

                                         the group first             the deadline first
    async with Group() as outer:         3 swallows it               5 swallows it
        try:
            with deadline(5):            2 is passed, lets it by     2 swallows it, raises DeadlineExceeded
                await readable(fd)       1 raises Cancelled(outer)   1 raises Cancelled(deadline)
        except DeadlineExceeded:                                     3 catches it
            await send(b"too late")        is never called           4 raises Cancelled(outer) at its first wait

So the outer scope wins either way: at most, the inner one lets the task run on to its next wait. If ``fd`` becomes
readable at that same moment, ``readable`` returns, and the next wait raises Cancelled(outer).

The kernel's guarantees, each with a test in tests/core/test_kernel.py:

1. Closing a descriptor wakes the tasks that wait for it, and they are never woken for a later file of that number.
2. A second task that waits for the same side of a descriptor gets a RuntimeError at once.
3. A cancelled task runs its ``finally`` blocks, and a group never returns before all its tasks have ended.
4. The first failure of a group is raised, and the others are attached to it.
5. If data arrives as a deadline expires, the wait returns the data.
6. The first of the signals given to ``run`` cancels the main task at once, wherever it waits.
7. A pump that is cancelled reports how much it read, and how much of that it delivered.
"""

import _thread
import errno
import functools
import heapq
import os
import select
import signal
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from itertools import count
from typing import Any, ClassVar, TypeVar

from netkit.core.sync import Condition, Event

T = TypeVar("T")
Step = Callable[[], bool]
Poll = Callable[[float | None], list[tuple[int, int]]]
"""Waits for at most so many seconds (None: no limit); returns (descriptor, events) of those that are ready."""

_READ, _WRITE = select.POLLIN, select.POLLOUT  # the same numbers as those of epoll
_HUNG_UP = select.POLLHUP  # reported for every registered descriptor, as errors are
_MAX_SHARED_THREADS = 128
_IDLE = 0.1  # s after which a thread without work ends


class Cancelled(BaseException):
    """Raised inside a waiting task to end it; only the scope that asked for it may swallow it."""

    def __init__(self, scope: "_Scope | Task") -> None:
        self.scope = scope


class DeadlineExceeded(Exception):
    """The time of a ``deadline`` block is over. (Not a TimeoutError: that is also the system's ETIMEDOUT.)"""


class Interrupted(BaseException):
    """A signal ended the run, after everything was cleaned up."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


class Clock:
    """The system's monotonic clock, in seconds. Tests replace it by one that jumps to the next timer."""

    now = staticmethod(time.monotonic)

    def wait(self, poll: Poll, timeout: float | None) -> list[tuple[int, int]]:
        """Wait with ``poll`` for at most ``timeout`` seconds (None: no limit). It may return early."""
        if not timeout:
            return poll(timeout)
        # If the process was stopped (SIGSTOP) beyond the timeout, CPython reports nothing, even if something is ready.
        return poll(min(timeout, 86400)) or poll(0)  # its milliseconds have to fit an int


class _Poll:
    """``select.poll`` with the methods of ``select.epoll``, for systems without epoll."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.modify = self._poll.modify
        self.unregister = self._poll.unregister

    def register(self, fd: int, events: int) -> None:
        os.fstat(fd)  # raises OSError if it is closed
        self._poll.register(fd, events)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return self._poll.poll(None if timeout is None else timeout * 1000)

    def close(self) -> None:
        pass


class Task:
    """A coroutine that a group runs; ``finished`` is set when it has ended: returned, failed or cancelled."""

    __slots__ = (
        "cancelled", "coroutine", "error", "finished", "group", "pending", "queue", "result", "scopes", "value",
    )  # fmt: skip

    def __init__(self, coroutine: Coroutine[Any, Any, Any], group: "Group | None") -> None:
        self.coroutine = coroutine
        self.group = group
        self.scopes: tuple[_Scope, ...] = ()  # the blocks that it is in, outermost first
        self.queue: list[Task] | deque[Task] | None = None  # where it waits; None: it runs, or was woken
        self.pending: _Scope | Task | None = None  # the scope whose Cancelled is raised at its next wait
        self.cancelled = False
        self.value: Any = None  # what its wait returns
        self.error: BaseException | None = None  # what its wait raises; of the main task, also how it failed
        self.finished = Event()
        self.result: Any = None

    def take_error(self) -> BaseException:
        """Return the error that its wait raises, and forget it.

        A frame that held it would be part of a reference cycle, as tracebacks refer to the frames of the loop, too.
        """
        assert self.error is not None
        error, self.error = self.error, None
        return error

    def cancel(self) -> None:
        """Raise Cancelled where the task waits. Its ``finally`` blocks run, and a second call has no effect."""
        if not self.cancelled:
            self.cancelled = True
            self._interrupt(self)

    def _interrupt(self, scope: "_Scope | Task") -> None:
        """Raise the Cancelled of ``scope`` where the task waits, unless that of an outer scope is pending."""
        if self.pending is None or self._depth(scope) < self._depth(self.pending):
            self.pending = scope
        if self.queue is not None:
            self._raise_pending()

    def _raise_pending(self) -> None:
        """Raise the pending Cancelled, if any. Later requests of the scopes inside the one it names are ignored."""
        scope, self.pending = self.pending, None
        if scope is not None:
            for inner in self.scopes[self._depth(scope) + 1 :]:
                inner.passed = True
            self.wake(error=Cancelled(scope))

    def _depth(self, scope: "_Scope | Task") -> int:
        """The index of a scope in ``scopes``; the task itself is the outermost scope, -1."""
        return -1 if isinstance(scope, Task) else self.scopes.index(scope)

    def wake(self, value: Any = None, error: BaseException | None = None) -> None:
        """Make the task ready: its wait returns ``value`` or raises ``error``."""
        if self.queue is not None:
            self.queue.remove(self)
            self.queue = None
        self.value, self.error = value, error
        _running().ready.append(self)


class _Scope:
    """A block of one task that can be cancelled without the rest of the task."""

    __slots__ = ("owner", "passed")
    owner: Task

    def __init__(self) -> None:
        self.passed = False  # the Cancelled of an outer scope was raised: requests of this one are ignored

    def _enter(self) -> None:
        self.owner = _running().current
        self.owner.scopes += (self,)

    def _leave(self) -> None:
        place = self.owner.scopes.index(self)
        self.owner.scopes = self.owner.scopes[:place] + self.owner.scopes[place + 1 :]
        if self.owner.pending is self:
            self.owner.pending = None

    def _interrupt(self) -> None:
        if not self.passed:
            self.owner._interrupt(self)


class Group(_Scope):
    """Tasks that end together, as in a nursery of trio: ``async with Group() as group:``.

    The first failure cancels the other tasks and the body of the block, and is raised when all have ended. All failures
    are in ``failures``; the later ones become the cause of the first. ``cancel()`` ends everything without a failure.
    """

    __slots__ = ("_cancelled", "_idle", "_tasks", "failures")

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[BaseException] = []
        self._tasks: set[Task] = set()
        self._idle = Condition()
        self._cancelled = False

    def start_soon(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Run a coroutine as a new task, which starts once the caller waits. Raises RuntimeError after the block."""
        if self not in self.owner.scopes:
            coroutine.close()
            raise RuntimeError("the group has ended")
        task = Task(coroutine, self)
        self._tasks.add(task)
        _running().ready.append(task)
        if self._cancelled:
            task.cancel()
        return task

    def cancel(self) -> None:
        """Cancel all tasks of the group, and the body of its block."""
        if not self._cancelled:
            self._cancelled = True
            for task in tuple(self._tasks):
                task.cancel()
            if self in self.owner.scopes:
                self._interrupt()

    async def emptied(self) -> None:
        """Wait until no task is left, and return at once if none is."""
        while self._tasks:
            await self._idle.wait()

    @property
    def tasks(self) -> frozenset[Task]:
        """The tasks that have not ended."""
        return frozenset(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    async def __aenter__(self) -> "Group":
        self._enter()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        outer = self._note(error)
        while self._tasks:
            try:
                await self.emptied()
            except Cancelled as cancelled:
                outer = self._note(cancelled)
        self._leave()
        endings = [outer, *self.failures] if outer else self.failures
        if len(endings) > 1:
            raise endings[0] from BaseExceptionGroup("and then", endings[1:])
        if endings:
            raise endings[0]
        return True

    def _note(self, error: BaseException | None) -> Cancelled | None:
        """Record how the body ended, and cancel the tasks if by an error. Returns a Cancelled of an outer scope."""
        if error is None:
            return None
        self.cancel()
        if not isinstance(error, Cancelled):
            self.failures.append(error)
            return None
        return None if error.scope is self else error

    def _ended(self, task: Task, error: BaseException | None) -> None:
        self._tasks.remove(task)
        if error is not None and not isinstance(error, Cancelled):
            self.failures.append(error)
            self.cancel()
        if not self._tasks:
            self._idle.notify_all()


class deadline(_Scope):
    """``with deadline(at):`` cancels the block at the time ``at`` of the kernel's clock; raises DeadlineExceeded then.

    With None there is no deadline.
    """

    __slots__ = ("_at", "_timer")

    def __init__(self, at: float | None) -> None:
        super().__init__()
        self._at = at
        self._timer: _Timer | None = None

    def __enter__(self) -> None:
        self._enter()
        if self._at is not None:
            self._timer = _running().call_at(self._at, self._interrupt)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._leave()
        if self._timer is not None:
            _running().drop(self._timer)
        if isinstance(error, Cancelled) and error.scope is self:
            raise DeadlineExceeded from error.__cause__


class _Descriptor:
    """The tasks that wait for one descriptor, at most one for each event, and the events that are polled for."""

    __slots__ = ("armed", "reader", "step", "watcher", "writer")

    def __init__(self) -> None:
        self.armed = 0
        self.reader: list[Task] | tuple[()] = ()  # a list once a task has waited
        self.writer: list[Task] | tuple[()] = ()
        self.watcher: list[Task] | tuple[()] = ()
        self.step: Step | None = None  # called in place of waking the reader


_Timer = list[Any]  # [at, order, action]: order makes heap entries unique, action is None once it is dropped


class _Kernel:
    def __init__(self, main: Coroutine[Any, Any, Any], clock: Clock, signals: Sequence[int]) -> None:
        self.main = self.current = Task(main, None)
        self.ready = deque([self.main])
        self.clock = clock
        self.time: float | None = None  # when this turn's poll returned, while steps and timers run
        self._timers: list[_Timer] = []  # a heap
        self._standing = 0  # how many of them are not dropped
        self._order = count()
        self._descriptors: dict[int, _Descriptor] = {}
        self._poller = select.epoll() if hasattr(select, "epoll") else _Poll()
        self.threads: dict[tuple[Any, ...], list[Task]] = {}  # the tasks that wait for each call in a shared thread
        self.room: list[Task] = []  # the tasks that wait for one of these calls to end
        self._posted: deque[tuple[list[Task], Any, BaseException | None]] = deque()
        self._lock = _thread.allocate_lock()
        self._open = True
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller.register(self._wake_read, _READ)
        self.signal_waiters: list[Task] = []
        self.interrupt: int | None = None
        self._caught = {n: old for n in signals if (old := signal.getsignal(n)) is not signal.SIG_IGN}
        if self._caught:
            signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
            for number in self._caught:
                signal.signal(number, lambda *caught: None)

    def close(self) -> None:
        if self._caught:
            for number, old in self._caught.items():
                signal.signal(number, old)
            signal.set_wakeup_fd(-1)
        with self._lock:
            self._open = False
        self._poller.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # -- the loop

    def loop(self) -> None:
        ready, main = self.ready, self.main
        while not main.finished.is_set():
            for _ in range(len(ready)):
                self._resume(ready.popleft())
            found = self.clock.wait(self._poller.poll, self._patience())
            self.time = self.clock.now()
            for fd, events in found:
                descriptor = self._descriptors.get(fd)
                if events == _READ and descriptor is not None and descriptor.step is not None and descriptor.reader:
                    self._call(descriptor.step, descriptor.reader)  # the common case
                else:
                    self._deliver(fd, events)
            self._expire(self.time)
            self.time = None

    def _resume(self, task: Task) -> None:
        self.current = task
        task.queue = None
        value, task.value = task.value, None
        try:
            queue = task.coroutine.send(value) if task.error is None else task.coroutine.throw(task.take_error())
        except StopIteration as stop:
            task.result = stop.value
            self._end(task, None)
        except BaseException as failure:  # whatever ended the task belongs to its group
            self._end(task, failure)
        else:
            queue.append(task)
            task.queue = queue
            if task.pending is not None:
                task._raise_pending()

    def _end(self, task: Task, error: BaseException | None) -> None:
        task.pending = None  # set if it was cancelled after its last wait; a cycle if that is the task itself
        task.finished.set()
        if task.group is not None:
            task.group._ended(task, error)
        else:
            task.error = error

    def _patience(self) -> float | None:
        if self.ready or self.main.finished.is_set():
            return 0
        while self._timers and self._timers[0][2] is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.clock.now()) if self._timers else None

    def _expire(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)
            action = timer[2]
            self.drop(timer)
            if action is not None:
                action()

    def call_at(self, at: float, action: Callable[[], None]) -> _Timer:
        timer = [at, next(self._order), action]
        heapq.heappush(self._timers, timer)
        self._standing += 1
        return timer

    def drop(self, timer: _Timer) -> None:
        """Cancel a timer. It stays in the heap until it is due, or until most of the heap is dropped timers."""
        if timer[2] is not None:
            timer[2] = None
            self._standing -= 1
            if len(self._timers) > 100 + 2 * self._standing:
                self._timers = [timer for timer in self._timers if timer[2] is not None]
                heapq.heapify(self._timers)

    # -- descriptors

    def queue(self, fd: int, side: int, step: Step | None = None) -> "list[Task] | deque[Task]":
        """Return the queue to wait in for ``fd``: that of the ready tasks if the system says that it never blocks."""
        if fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        descriptor = self._descriptors.get(fd) or _Descriptor()
        if side == _READ:
            queue = descriptor.reader = descriptor.reader or []
        elif side == _WRITE:
            queue = descriptor.writer = descriptor.writer or []
        else:
            queue = descriptor.watcher = descriptor.watcher or []
        if queue:
            raise RuntimeError(f"two tasks wait for the same side of descriptor {fd}")
        if not descriptor.armed & side:
            try:
                self._arm(fd, descriptor, descriptor.armed | side)
            except PermissionError:  # epoll refuses what never blocks: regular files, /dev/null
                return self.ready
            self._descriptors[fd] = descriptor
        if side == _READ:
            descriptor.step = step
        return queue

    def _arm(self, fd: int, descriptor: _Descriptor, sides: int) -> None:
        if not descriptor.armed:
            self._poller.register(fd, sides)
        elif sides:
            self._poller.modify(fd, sides)
        else:
            self._poller.unregister(fd)
        descriptor.armed = sides

    def _deliver(self, fd: int, events: int) -> None:
        """Wake the tasks that wait for ``fd``, or call its step. Errors and hang-ups are reported to both sides.

        A side stays armed between two waits, which saves two system calls per message. It is disarmed when it is
        reported and no task waits for it.
        """
        descriptor = self._descriptors.get(fd)
        if descriptor is None:  # the wake-up pipe, or closed by a step of this turn
            if fd == self._wake_read:
                self._woken()
            return
        idle = 0
        if events & ~_WRITE and descriptor.armed & _READ:
            if not descriptor.reader:
                idle |= _READ
            elif descriptor.step is None:
                descriptor.reader[0].wake()
            else:
                self._call(descriptor.step, descriptor.reader)
        if events & ~_READ and descriptor.armed & _WRITE:
            if descriptor.writer:
                descriptor.writer[0].wake()
            else:
                idle |= _WRITE
        if events & ~(_READ | _WRITE) and descriptor.armed & _HUNG_UP:
            if descriptor.watcher:
                descriptor.watcher[0].wake()
            else:
                idle |= _HUNG_UP
        if idle:
            self._arm(fd, descriptor, descriptor.armed & ~idle)

    def _call(self, step: Step, reader: Sequence[Task]) -> None:
        error = None
        try:
            if step():
                return
        except BaseException as failure:  # raised in the task that waits
            error = failure
        for task in tuple(reader):  # empty if the step has woken the task itself, such as by closing the descriptor
            task.wake(error=error)
        error = None  # no reference cycle: see ``take_error``

    def forget(self, fd: int) -> None:
        descriptor = self._descriptors.pop(fd, None)
        if descriptor is None:
            return
        if descriptor.armed:
            self._arm(fd, descriptor, 0)
        for task in (*descriptor.reader, *descriptor.writer, *descriptor.watcher):
            task.wake(error=OSError(errno.EBADF, "closed while waiting"))

    # -- threads and signals

    def post(self, queue: list[Task], value: Any, error: BaseException | None) -> None:
        """Wake the tasks in ``queue`` at the loop's next turn; called from another thread."""
        with self._lock:
            if self._open:
                self._posted.append((queue, value, error))
                if len(self._posted) == 1:  # otherwise the byte written for an earlier one is still in the pipe
                    os.write(self._wake_write, b"\0")

    def _woken(self) -> None:
        for number in os.read(self._wake_read, 4096):
            if number in self._caught:
                self.interrupt = number
                if not self.signal_waiters:
                    self.main.cancel()
                for task in tuple(self.signal_waiters):
                    task.wake(number)
        while self._posted:
            queue, value, error = self._posted.popleft()
            for task in tuple(queue):
                task.wake(value, error)


_kernel: _Kernel | None = None


def _running() -> _Kernel:
    if _kernel is None:
        raise RuntimeError("no kernel runs")
    return _kernel


def run(main: Coroutine[Any, Any, T], *, clock: Clock | None = None, signals: Sequence[int] = ()) -> T:
    """Run ``main`` and all that it starts, and return its result or raise its failure.

    When one of ``signals`` comes, ``main`` is cancelled, unless a task waits in ``next_signal``. In both cases
    Interrupted is raised when ``main`` has ended. Signals that were ignored before stay ignored.
    """
    global _kernel
    if _kernel is not None:
        raise RuntimeError("a kernel runs already")
    try:
        _kernel = kernel = _Kernel(main, clock or Clock(), signals)
    except BaseException:
        main.close()
        raise
    try:
        kernel.loop()
        if kernel.interrupt is not None:
            raise Interrupted(kernel.interrupt) from kernel.main.error
        if kernel.main.error is not None:
            raise kernel.main.error
        result: T = kernel.main.result
        return result
    finally:
        _kernel = None
        kernel.close()


def now() -> float:
    """The time of the kernel's clock, in seconds: see "Time" at the top of this file."""
    if _kernel is not None and _kernel.time is not None:
        return _kernel.time
    return _running().clock.now()


@types.coroutine
def readable(fd: int) -> Generator[Any, None, None]:
    """Wait until ``fd`` is readable, at its end or in error. Always a checkpoint: other ready tasks run first."""
    yield _running().queue(fd, _READ)


@types.coroutine
def writable(fd: int) -> Generator[Any, None, None]:
    """Wait until ``fd`` is writable or in error. Always a checkpoint."""
    yield _running().queue(fd, _WRITE)


@types.coroutine
def hung_up(fd: int) -> Generator[Any, None, None]:
    """Wait until a socket is in error, or both of its directions are shut down. Unread data does not end the wait."""
    yield _running().queue(fd, _HUNG_UP)


@types.coroutine
def while_readable(fd: int, step: Step) -> Generator[Any, None, None]:
    """Have the loop call ``step`` each time ``fd`` is readable, at its end or in error, until it returns False.

    This task waits meanwhile, so no task switch is needed for a message. What ``step`` raises is raised here. A step
    must not block. It is called at most once per turn, so that every descriptor is served.
    """
    kernel = _running()
    queue = kernel.queue(fd, _READ, step)
    yield queue
    while queue is kernel.ready and step():
        yield queue


@types.coroutine
def checkpoint() -> Generator[Any, None, None]:
    """Let the other ready tasks run."""
    yield _running().ready


def notify_closing(fd: int) -> None:
    """Must be called before ``fd`` is closed, and by all code that closes. The tasks that wait for it get EBADF."""
    if _kernel is not None:
        _kernel.forget(fd)


async def sleep(seconds: float) -> None:
    """Wait for ``seconds``."""
    event = Event()
    timer = _running().call_at(now() + seconds, event.set)
    try:
        await event.wait()
    finally:
        _running().drop(timer)


@types.coroutine
def to_thread(function: Callable[..., T], *args: Any) -> Generator[Any, T, T]:
    """Run ``function(*args)`` in a thread; return what it returns, raise what it raises.

    Raises OSError EAGAIN if no thread can be started. Cancelling ends the wait but not the call, whose result is then
    dropped.
    """
    kernel = _running()
    waiting: list[Task] = []
    _Worker.do(function, args, functools.partial(kernel.post, waiting))
    return (yield waiting)


@types.coroutine
def to_shared_thread(function: Callable[..., T], *args: Any) -> Generator[Any, T, T]:
    """As ``to_thread``, but equal calls at the same time share one thread, and there are at most 128 threads.

    So a caller that retries a call which hangs, such as a look-up, does not use another thread for each try.
    """
    kernel = _running()
    key = (function, *args)
    while key not in kernel.threads and len(kernel.threads) >= _MAX_SHARED_THREADS:
        yield kernel.room
    waiting = kernel.threads.get(key)
    if waiting is None:
        waiting = kernel.threads[key] = []

        def done(value: Any, error: BaseException | None) -> None:
            del kernel.threads[key]
            kernel.post(waiting, value, error)
            kernel.post(kernel.room, None, None)

        try:
            _Worker.do(function, args, done)
        except OSError:
            del kernel.threads[key]
            raise
    return (yield waiting)


class _Worker:
    """A thread that is used for many calls, one after the other, and ends after ``_IDLE`` seconds without any.

    Starting a thread, in which the C library then sets up its resolver, costs more than looking up a name.
    """

    idle: ClassVar[list["_Worker"]] = []

    def __init__(self) -> None:
        self._jobs: list[tuple[Callable[..., Any], Sequence[Any], Callable[[Any, BaseException | None], None]]] = []
        self._wanted = _thread.allocate_lock()
        self._wanted.acquire()

    @classmethod
    def do(
        cls, function: Callable[..., Any], args: Sequence[Any], done: Callable[[Any, BaseException | None], None]
    ) -> None:
        """Call ``function`` in a thread, then ``done(value, error)``. Raises OSError if no thread can be started."""
        try:
            worker = cls.idle.pop()
        except IndexError:
            worker = cls()
            worker._jobs.append((function, args, done))
            _start_thread(worker._work)
        else:
            worker._jobs.append((function, args, done))
            worker._wanted.release()

    def _work(self) -> None:
        while True:
            function, args, done = self._jobs.pop()
            value = error = None
            try:
                value = function(*args)
            except BaseException as failure:  # raised again in the task that waits
                error = failure
            self.idle.append(self)  # before ``done`` wakes a task that may need a thread
            done(value, error)
            del function, args, done, value, error
            if self._wanted.acquire(timeout=_IDLE):
                continue
            try:
                self.idle.remove(self)
            except ValueError:  # ``do`` has just taken this worker
                self._wanted.acquire()
            else:
                return


def _start_thread(work: Callable[[], None]) -> None:
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError as full:  # how _thread reports EAGAIN
        raise OSError(errno.EAGAIN, str(full)) from full


@types.coroutine
def next_signal() -> Generator[Any, int, int]:
    """Wait for the next signal and return its number. While a task waits here, signals cancel nothing."""
    return (yield _running().signal_waiters)
