"""The progress, rate and outcome of transfers as text."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from netkit.core.flow import Transfer
from netkit.core.units import duration, size

_RECENT, _SOON = 3.0, 0.05  # s over which a rate is measured, at most and at least
_MUCH = 64 * 1024  # bytes: the time of less is mostly latency, so no rate
_LONGEST = 100 * 3600  # s: a longer estimate is not shown


class ProgressLine(NamedTuple):
    """The ``share`` of a transfer that is done, from 0 to 1 (None: unknown), and three texts to show with it.

    ``clock`` is the time left if the share is known, otherwise the time since it began.
    """

    share: float | None
    amount: str
    rate: str
    clock: str


class RateMeter:
    """Measures the rate of a transfer in its last 3 s. It began at ``begun``, in seconds by any clock."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, transfer: Transfer, at: float) -> ProgressLine:
        """Record the progress at the time ``at``; return what to show then."""
        samples = self._samples
        if not samples:
            samples.append((self._begun, transfer.before))
        samples.append((at, transfer.moved))
        while len(samples) > 2 and samples[1][0] <= at - _RECENT:
            samples.popleft()
        since, moved = samples[0]
        rate = max(transfer.moved - moved, 0) / (at - since) if at - since >= _SOON else 0.0
        done, total = transfer.moved, transfer.total
        amount, speed = size(done, short=True), size(int(rate), short=True) + "/s"
        if total is None:
            return ProgressLine(None, amount, speed, _clock(at - self._begun))
        left = max(total - done, 0)
        share = min(done / total, 1.0) if total else 1.0
        if not left:
            clock = _clock(0)
        elif rate and left / rate < _LONGEST:
            clock = _clock(left / rate)
        else:
            clock = "-:--"
        return ProgressLine(share, f"{amount}/{size(total, short=True)}", speed, clock)


def outcome(transfers: Sequence[Transfer], seconds: float, *, acknowledges: bool) -> str:
    """The summary of transfers that took ``seconds``; ``acknowledges`` says that sent bytes were acknowledged.

    ``sent 1.4 GiB in 2.1 s (683 MiB/s), all acknowledged; received nothing``
    """
    parts: list[str] = []
    for transfer in transfers:
        part = f"{transfer.name} {size(transfer.moved) if transfer.moved else 'nothing'}"
        if not parts:
            measured = seconds >= _SOON and transfer.moved >= _MUCH
            rate = f" ({size(int(transfer.moved / seconds), short=True)}/s)" if measured else ""
            part += f" in {duration(seconds)}{rate}"
        if transfer.name == "sent" and transfer.moved and acknowledges:
            part += ", all acknowledged"
        parts.append(part)
    return "; ".join(parts)


def _clock(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
