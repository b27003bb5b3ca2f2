"""Showing the progress of a conversation: how much of stdin is acknowledged, and how much has come for stdout."""

import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from netkit.core.connection import Ended, Handler, beside
from netkit.core.flow import Transfer
from netkit.core.kernel import now
from netkit.core.pump import Change
from netkit.core.record import Record
from netkit.core.stream import Connection
from netkit.services.join import STDIN, STDOUT

_MAX_TALK = 64 * 1024  # bytes: if more come before anything is typed, it is a transfer and not an interactive session

Moving = Callable[[], Sequence[Transfer]]
"""Returns the current progress of each transfer."""

Show = Callable[[Moving], Coroutine[Any, Any, None]]
"""Shows transfers until it is cancelled."""

Tell = Callable[[Sequence[Transfer], float, bool], None]
"""Prints the totals of transfers after so many seconds; the flag is whether sent bytes have been acknowledged."""


class Ways(Record):
    """Whether stdin is read and stdout written; ``long`` is whether as many bytes are sent as are read."""

    reads: bool
    writes: bool
    long: bool = True

    @property
    def sends(self) -> bool:
        """Whether stdin is a transfer: it is read, and not a terminal."""
        return self.reads and not os.isatty(STDIN)

    @property
    def receives(self) -> bool:
        """Whether stdout is a transfer: it is written, and not a terminal."""
        return self.writes and not os.isatty(STDOUT)

    @property
    def moves(self) -> bool:
        """Whether either direction is a transfer."""
        return self.sends or self.receives

    @property
    def typed(self) -> bool:
        """Whether stdin is a terminal that is read."""
        return self.reads and os.isatty(STDIN)

    def total(self) -> int | None:
        """How many bytes will be sent, None if that is not known."""
        status = os.fstat(STDIN)
        if not (self.long and stat.S_ISREG(status.st_mode) and status.st_size):  # files in /proc have size 0
            return None
        return max(status.st_size - os.lseek(STDIN, 0, os.SEEK_CUR), 0)


class Shown:
    """Shows the transfers of a conversation while it runs.

    The row for sent bytes appears at once if their number is known, else with the first. If stdin is a terminal, the
    row for received bytes appears after ``_MAX_TALK`` of them, and disappears with the first line typed. If received
    bytes go to the terminal itself, the first of them ends the display; ``wiped`` returns the escape codes to print
    before. ``tell`` gets the totals after a conversation that did not fail.
    """

    def __init__(self, show: Show | None, tell: Tell | None, ways: Ways, wiped: Callable[[], bytes] | None) -> None:
        self._show = show
        self._tell = tell
        self._ways = ways
        self._wiped = wiped

    def around(self, handler: Handler) -> Handler:
        """A handler that shows the progress of ``handler``, if progress is shown at all."""
        show, tell = self._show, self._tell
        if show is None:
            return handler

        async def handle(stream: Connection) -> Ended | None:
            moving, begun = self._moving(stream), now()
            how = await beside(handler, lambda _: show(moving))(stream)
            if tell is not None and (rows := moving()):
                moved = [row for row in rows if row.name == "sent"]
                if self._ways.writes:
                    moved.append(Transfer("received", stream.counts.received))
                tell(moved, now() - begun, stream.peer.path is None and not stream.peer.udp)
            return how

        return handle

    def changes(self) -> list[Callable[[], Change]]:
        """Makers of the last change of received bytes, which removes the display before the first of them."""
        wiped = self._wiped
        if self._show is None or wiped is None:
            return []
        return [lambda: lambda data: wiped() + data if data else b""]

    def _moving(self, stream: Connection) -> Moving:
        ways = self._ways
        sends, receives, typed = ways.sends, ways.receives, ways.typed
        total = ways.total() if sends else None
        counts = stream.counts
        greeted = counts.sent

        def moving() -> list[Transfer]:
            sent, received = max(counts.sent - stream.unacknowledged() - greeted, 0), counts.received
            if self._wiped is not None and received:
                return []
            rows = []
            if sends and (sent or total is not None):
                rows.append(Transfer("sent", sent, total))
            if receives and not (typed and (sent or received < _MAX_TALK)):
                rows.append(Transfer("received", received))
            return rows

        return moving
