"""Where the time of a fetch went: a line of its stages, drawn to scale on a terminal."""

from netkit.core.events import Timed
from netkit.core.units import duration

_NAMES = ("name", "connect", "tls", "first_byte", "body")
_EIGHTHS = " ▏▎▍▌▋▊▉"  # U+258F to U+2589: blocks by eighths of a column
_WIDEST = 40  # columns that all bars take together


def listed(event: Timed) -> str:
    """The stages there were, and how long each took."""
    return ", ".join(f"{name} {duration(seconds)}" for name, seconds in _stages(event))


def drawn(event: Timed, columns: int) -> str:
    """Each stage with its time and a bar, as long as its part of the whole; without bars where there is no room."""
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
    """A bar so many columns long, and never nothing."""
    full, part = divmod(max(round(length * 8), 1), 8)
    return "█" * full + (_EIGHTHS[part] if part else "")
