"""The progress of a conversation: what the peer has acknowledged of stdin, and what it sends to stdout."""

import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from netkit.core.connection import Handler, beside
from netkit.core.flow import Transfer
from netkit.core.kernel import now
from netkit.core.pump import Change
from netkit.core.record import Record
from netkit.core.stream import Connection
from netkit.services.join import STDIN, STDOUT

_MAX_TALK = 64 * 1024  # bytes that come before somebody types: who gets more did not come to type

Moving = Callable[[], Sequence[Transfer]]
"""Returns how far transfers are."""

Show = Callable[[Moving], Coroutine[Any, Any, None]]
"""Shows transfers until it is cancelled."""

Tell = Callable[[Sequence[Transfer], float, bool], None]
"""Says what transfers came to in so many seconds, and whether the peer has acknowledged what was sent."""


class Ways(Record):
    """Which of stdin and stdout are read and written, and whether what is sent is as ``long`` as what is read."""

    reads: bool
    writes: bool
    long: bool = True

    @property
    def sends(self) -> bool:
        """Whether what goes out is a transfer, and not typed."""
        return self.reads and not os.isatty(STDIN)

    @property
    def receives(self) -> bool:
        """Whether what comes in is a transfer, and not shown."""
        return self.writes and not os.isatty(STDOUT)

    @property
    def moves(self) -> bool:
        """Whether either way is a transfer."""
        return self.sends or self.receives

    @property
    def typed(self) -> bool:
        """Whether somebody may type."""
        return self.reads and os.isatty(STDIN)

    def total(self) -> int | None:
        """How many bytes are to be sent, None where nobody knows."""
        status = os.fstat(STDIN)
        if not (self.long and stat.S_ISREG(status.st_mode) and status.st_size):  # those of /proc have no size
            return None
        return max(status.st_size - os.lseek(STDIN, 0, os.SEEK_CUR), 0)


class Shown:
    """Transfers that are shown beside a conversation.

    A row of what is sent comes with the first byte if nobody knows how many there are. Where somebody may type, the row
    of what is received waits for ``_MAX_TALK`` bytes, and goes with the first line that is typed. Where the peer's
    bytes go to that terminal too, the first of them ends it all: ``wiped`` returns what they come after. What it all
    came to is there to ``tell`` if the conversation ended well.
    """

    def __init__(self, show: Show | None, tell: Tell | None, ways: Ways, wiped: Callable[[], bytes] | None) -> None:
        self._show = show
        self._tell = tell
        self._ways = ways
        self._wiped = wiped

    def around(self, handler: Handler) -> Handler:
        """The handler with what it moves shown meanwhile, if anything is."""
        show, tell = self._show, self._tell
        if show is None:
            return handler

        async def handle(stream: Connection) -> str | None:
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
        """Makers of what the peer's bytes go through last: what wipes the picture comes before them."""
        return [] if self._show is None or self._wiped is None else [lambda: self._wipe]

    def _wipe(self, data: bytes) -> bytes:
        return self._wiped() + data if data and self._wiped is not None else b""

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
