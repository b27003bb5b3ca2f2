"""Measuring the phases of a fetch, from its events."""

from netkit.core.events import Connected, CoreEvent, Observer, Resolved, Secured, Timed, Tunnelled
from netkit.core.kernel import now

_STAGES = ("name", "connect", "tls", "first_byte", "body")


class Timing:
    """Adds up the time of each stage, over redirects and retries, until ``told`` is called.

    Connecting includes the handshakes of proxies. Pauses between tries do not count.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._resolved = 0.0  # s that the last look-up took; Connected includes them
        self._since = 0.0  # by the kernel's clock

    def watching(self, observe: Observer) -> Observer:
        """An observer that measures, and passes each event on to ``observe``."""

        def note(event: CoreEvent) -> None:
            match event:
                case Resolved():
                    self._resolved = event.seconds
                    self._add("name", event.seconds)
                case Connected():
                    self._add("connect", event.seconds - self._resolved)
                    self._resolved = 0.0
                    self.begin()
                case Tunnelled():
                    self.note("connect")
                case Secured():
                    self.note("tls")
            observe(event)

        return note

    def begin(self) -> None:
        """Start the clock of the next stage."""
        self._since = now()

    def note(self, stage: str) -> None:
        """Add the time since the last call to ``stage``, and start the clock of the next."""
        since, self._since = self._since, now()
        self._add(stage, self._since - since)

    def told(self, target: str) -> Timed | None:
        """Return the event with the times, and reset them; None if there was no response."""
        seconds, self._seconds = self._seconds, {}
        return Timed(target, *map(seconds.get, _STAGES)) if "first_byte" in seconds else None

    def _add(self, stage: str, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + max(seconds, 0.0)
