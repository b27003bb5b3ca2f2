"""Progress counters of one direction of a relay, and waiting for that direction to fall silent."""

from collections.abc import Callable

from netkit.core.kernel import DeadlineExceeded, deadline, now
from netkit.core.record import Record
from netkit.core.sync import Condition, Event

FIRST = 6  # bytes that are kept: the head of a record of TLS and the kind of message in it


class Flow:
    """Bytes ``offered`` to the sink, since when the source is waited for (None while it is not), and the end.

    ``first`` are the few with which it begins, where they were read and not moved in steps.
    """

    __slots__ = ("_changed", "ended", "first", "offered", "waiting_since")

    def __init__(self) -> None:
        self.offered = 0
        self.first = b""
        self.waiting_since: float | None = None
        self.ended = Event()
        self._changed = Condition()

    def wait(self) -> None:
        """Note that the source is waited for."""
        self.waiting_since = now()
        self._changed.notify_all()

    def offer(self, count: int) -> None:
        """Note bytes that were taken from the source for the sink."""
        self.offered += count
        self.waiting_since = None
        self._changed.notify_all()

    def passed(self, count: int, at: float) -> None:
        """Note bytes that were taken and went on at once, and that the source is waited for again, since ``at``."""
        self.offered += count
        self.waiting_since = at
        self._changed.notify_all()

    def end(self) -> None:
        """Note that the source has ended, or that nothing more is taken from it."""
        self.waiting_since = None
        self.ended.set()
        self._changed.notify_all()

    def look_again(self) -> None:
        """Have who waits in ``silent`` ask for its patience anew."""
        self._changed.notify_all()

    async def silent(self, patience: Callable[[], float | None]) -> bool:
        """Wait until the source has been waited for in vain for ``patience()`` seconds from now on, None: for ever.

        While the sink holds the flow up, the source is not silent. False once the flow has ended.
        """
        begun = now()
        while not self.ended.is_set():
            limit = patience()
            due = None
            if limit is not None and self.waiting_since is not None:
                due = max(begun, self.waiting_since) + limit
                if now() >= due:
                    return True
            try:
                with deadline(due):
                    await self._changed.wait()
            except DeadlineExceeded:
                pass
        return False


class Transfer(Record):
    """How far a transfer is: ``name`` says which ("sent", "received"), ``moved`` counts its bytes so far.

    ``total`` is what they come to, None where nobody knows. ``before`` of them were there when it began: they count for
    what is done, and not for the rate.
    """

    name: str
    moved: int
    total: int | None = None
    before: int = 0
