"""Where the time of a fetch goes, from what is observed on its way."""

from netkit.core.events import Connected, CoreEvent, Observer, Resolved, Secured, Timed, Tunnelled
from netkit.core.kernel import now

_STAGES = ("name", "connect", "tls", "first_byte", "body")


class Timing:
    """Adds up what each stage takes, with redirects and repetitions, until that is told.

    Connecting includes what proxies take; of the pauses between tries nothing is counted.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._resolved = 0.0  # s that the last look-up took, until its connection stands
        self._since = 0.0  # by the kernel's clock

    def watching(self, observe: Observer) -> Observer:
        """``observe`` with what it is told noted on the way."""

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
        """Note that a stage begins."""
        self._since = now()

    def note(self, stage: str) -> None:
        """Note that a stage ends, and that the next one begins."""
        since, self._since = self._since, now()
        self._add(stage, self._since - since)

    def told(self, target: str) -> Timed | None:
        """What it came to, and forget it; None where no answer came."""
        seconds, self._seconds = self._seconds, {}
        return Timed(target, *map(seconds.get, _STAGES)) if "first_byte" in seconds else None

    def _add(self, stage: str, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + max(seconds, 0.0)
