"""The progress of one direction of a relay, waiting until it is silent, and the progress of a transfer."""

from collections.abc import Callable

from netkit.core.kernel import DeadlineExceeded, deadline, now
from netkit.core.record import Record
from netkit.core.stream import Counts
from netkit.core.sync import Condition, Event

FIRST = 6  # bytes that are kept: the header of a TLS record (5) and the type of its handshake message


class Flow:
    """The progress of one direction.

    ``offered`` are the bytes read from the source for the sink. ``waiting_since`` is since when the source is waited
    for, by the kernel's clock; None while bytes are sent. ``first`` has the first bytes, unless a step moved them.
    """

    __slots__ = ("_changed", "ended", "first", "offered", "waiting_since")

    def __init__(self) -> None:
        self.offered = 0
        self.first = b""
        self.waiting_since: float | None = None
        self.ended = Event()
        self._changed = Condition()

    def wait(self) -> None:
        """Note that the source is waited for from now on."""
        self.waiting_since = now()
        self._changed.notify_all()

    def offer(self, count: int) -> None:
        """Note bytes that were read from the source and are now to be sent."""
        self.offered += count
        self.waiting_since = None
        self._changed.notify_all()

    def passed(self, count: int, at: float) -> None:
        """Note bytes that were read and sent at once, and that the source is waited for again since ``at``."""
        self.offered += count
        self.waiting_since = at
        self._changed.notify_all()

    def end(self) -> None:
        """Note that the source has ended, or is not read any more."""
        self.waiting_since = None
        self.ended.set()
        self._changed.notify_all()

    def look_again(self) -> None:
        """Make ``silent`` call its ``patience`` again, whose result may have changed."""
        self._changed.notify_all()

    async def silent(self, patience: Callable[[], float | None], source: Counts | None = None) -> bool:
        """Wait until nothing has come from the source for ``patience()`` seconds (None: no limit) after this call.

        While the sink is waited for, the source does not count as silent, nor while bytes of the ``source`` move that
        are no payload yet, as of TLS. Returns False if the flow ends before that.
        """
        begun = now()
        while not self.ended.is_set():
            limit = patience()
            due = None
            if limit is not None and self.waiting_since is not None:
                due = max(begun, self.waiting_since, source.moved_at if source is not None else 0) + limit
                if now() >= due:
                    return True
            try:
                with deadline(due):
                    await self._changed.wait()
            except DeadlineExceeded:
                pass
        return False


class Transfer(Record):
    """The progress of a transfer: ``name`` is "sent" or "received", ``moved`` its bytes so far.

    ``total`` is how many it will have, None if that is not known. ``before`` of ``moved`` were there when it began (a
    resumed download): they do not count for the rate.
    """

    name: str
    moved: int
    total: int | None = None
    before: int = 0
