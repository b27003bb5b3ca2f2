"""The duration of each stage of a fetch, on one line, with bars on a terminal."""

from netkit.core.events import Timed
from netkit.core.units import duration

_NAMES = ("name", "connect", "tls", "first_byte", "body")
_EIGHTHS = " ▏▎▍▌▋▊▉"  # U+258F to U+2589: blocks by eighths of a column
_WIDEST = 40  # columns of all bars together, at most


def listed(event: Timed) -> str:
    """Each stage that took place, with its duration."""
    return ", ".join(f"{name} {duration(seconds)}" for name, seconds in _stages(event))


def drawn(event: Timed, columns: int) -> str:
    """Each stage with its duration and a bar to scale; ``listed`` if ``columns`` leave no room for bars."""
    found = _stages(event)
    words = [f"{name} {duration(seconds)} " for name, seconds in found]
    room = min(columns - 1 - sum(map(len, words)) - 2 * len(words), _WIDEST)
    whole = sum(seconds for _, seconds in found)
    if room < len(words) or not whole:
        return listed(event)
    return " ".join(word + _bar(seconds / whole * room) for word, (_, seconds) in zip(words, found, strict=True))


def _stages(event: Timed) -> list[tuple[str, float]]:
    values = event.values()
    return [(name.replace("_", " "), values[name]) for name in _NAMES if values[name] is not None]


def _bar(length: float) -> str:
    """A bar of ``length`` columns, at least an eighth."""
    full, part = divmod(max(round(length * 8), 1), 8)
    return "█" * full + (_EIGHTHS[part] if part else "")
