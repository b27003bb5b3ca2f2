"""A queued writer to stderr: whoever does not read it holds nobody up."""

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
_PATIENCE = 1.0  # s for which a reader may take nothing while somebody waits
_PAUSE = 0.01  # s between two tries, at the end


class StderrWriter:
    """Writes lines in their order, each by one write(2) where it fits into a pipe.

    What is not taken at once waits, up to 64 KiB; beyond that lines are dropped, and once all the others are written
    what ``notice`` says of their number. A stderr that fails gets nothing more.
    """

    def __init__(self, notice: Callable[[int], bytes]) -> None:
        self._notice = notice
        self._stderr = FileStream(_NONE, _STDERR, sink_name="stderr")
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._stuck = False  # somebody has waited in vain, and nothing was taken since
        self._changed = Condition()

    def write(self, line: bytes) -> None:
        """Write what is whole by itself, or put it at the end of the queue, or drop it."""
        if self._waiting and self._size + len(line) > _MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(line)
        self._size += len(line)
        if len(self._waiting) == 1:
            self._push()
            self._changed.notify_all()

    async def write_when_read(self, text: bytes) -> None:
        """Write it once all before it is written, at the reader's pace; drop it if the reader takes nothing."""
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
        """Write what waits, without end."""
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
        """Write what still waits, ``patiently`` as long as the reader takes some, and let go of stderr."""
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
        """Take what was written out of the queue; once it is empty, say how many lines were dropped."""
        if not taken:
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
