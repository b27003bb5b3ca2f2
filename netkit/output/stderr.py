"""A queued writer to stderr, so that a slow reader blocks no task."""

import select
import time
from collections import deque
from collections.abc import Callable

from netkit.core.errors import Failure
from netkit.core.kernel import DeadlineExceeded, deadline, now
from netkit.core.stdio import FileStream
from netkit.core.sync import Condition

_NONE = -1
_STDERR = 2
_MAX_WAITING = 1 << 16  # bytes: as many as a pipe holds
_PATIENCE = 1.0  # s without progress after which nothing waits for the reader
_PAUSE = 0.01  # s between two attempts of ``finish``


class StderrWriter:
    """Writes lines in order, each by one write(2) if it fits into a pipe.

    Up to 64 KiB are queued. Beyond that lines are dropped, and when the queue is empty, ``notice(number)`` is written,
    the message of how many. If a write fails, the queue is discarded.
    """

    def __init__(self, notice: Callable[[int], bytes]) -> None:
        self._notice = notice
        self._stderr = FileStream(_NONE, _STDERR, sink_name="stderr")
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._stuck = False  # a wait timed out, and nothing was written since
        self._changed = Condition()

    def write(self, line: bytes) -> None:
        """Write one or more whole lines, queue them, or drop them if the queue is full."""
        if self._waiting and self._size + len(line) > _MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(line)
        self._size += len(line)
        if len(self._waiting) == 1:
            self._push()
            self._changed.notify_all()

    async def write_when_read(self, text: bytes) -> None:
        """Wait until the queue is empty, then write ``text``; drop it if the reader takes nothing for 1 s."""
        try:
            while self._waiting and not self._stuck:
                before = self._size
                with deadline(now() + _PATIENCE):
                    while self._size == before:
                        await self._changed.wait()
        except DeadlineExceeded:
            self._stuck = True
        if self._stuck:
            self._dropped += 1
        else:
            self.write(text)

    async def drain(self) -> None:
        """Write the queue as it fills, until cancelled."""
        while True:
            while not self._waiting:
                await self._changed.wait()
            before = self._stderr.counts.sent
            try:
                await self._stderr.send(self._waiting[0])
            except Failure:
                self._fail()
            finally:
                self._note(self._stderr.counts.sent - before)

    def finish(self, *, patiently: bool) -> None:
        """Write the queue, if ``patiently`` as long as the reader takes some of it, and close the stream."""
        due = time.monotonic() + (_PATIENCE if patiently else 0)
        while self._waiting:
            before = self._size
            self._push()
            if self._size != before:
                due = time.monotonic() + _PATIENCE
            elif time.monotonic() >= due:
                break
            else:
                select.select([], [], [], _PAUSE)
        self._stderr.close()

    def _push(self) -> None:
        try:
            while self._waiting:
                self._note(self._stderr.take(memoryview(self._waiting[0])))
        except BlockingIOError:
            pass
        except OSError:
            self._fail()

    def _note(self, taken: int) -> None:
        """Remove ``taken`` bytes from the queue; once it is empty, report how many lines were dropped."""
        if not taken or not self._waiting:  # it was emptied by a failure
            return
        self._stuck = False
        self._size -= taken
        if rest := self._waiting[0][taken:]:
            self._waiting[0] = rest
        else:
            self._waiting.popleft()
        if self._dropped and not self._waiting:
            self._waiting.append(self._notice(self._dropped))
            self._size = len(self._waiting[0])
            self._dropped = 0
        self._changed.notify_all()

    def _fail(self) -> None:
        self._waiting.clear()
        self._size = self._dropped = 0
