"""One direction of a conversation, as those who have to judge it or to show it see it."""

from typing import NamedTuple

from netkit.core.kernel import Event, now


class Flow:
    """How one direction fares: bytes ``offered`` to the sink, since when it waits for its source, and its end."""

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
    """How far a transfer is: ``name`` says which ("sent", "received"), ``moved`` counts its bytes since it began.

    ``total`` is what it comes to with those that were there ``before``, None where nobody knows.
    """

    name: str
    moved: int
    total: int | None = None
    before: int = 0
