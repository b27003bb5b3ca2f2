"""Progress counters of one direction of a relay."""

from typing import NamedTuple

from netkit.core.kernel import now
from netkit.core.sync import Event


class Flow:
    """Bytes ``offered`` to the sink, since when the source is waited for (None: it is not), and the end."""

    __slots__ = ("ended", "offered", "waiting_since")

    def __init__(self) -> None:
        self.offered = 0
        self.waiting_since: float | None = None
        self.ended = Event()

    def wait(self, waits: bool) -> None:
        """Note that its source is waited for, or is no more."""
        self.waiting_since = now() if waits else None

    def offer(self, count: int) -> None:
        """Note bytes that were taken from the source for the sink."""
        self.offered += count


class Transfer(NamedTuple):
    """How far a transfer is: ``name`` says which ("sent", "received"), ``moved`` counts its bytes so far.

    ``total`` is what they come to, None where nobody knows. ``before`` of them were there when it began: they count for
    what is done, and not for the rate.
    """

    name: str
    moved: int
    total: int | None = None
    before: int = 0
