"""Durations and sizes as text for messages and as numbers for JSON."""

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(seconds: float) -> str:
    """A duration as text: ``0.4 ms``, ``12 ms``, ``2 s``, ``1.2 s``; ``<0.1 ms`` if it would be rounded to 0."""
    if 0 < seconds < 0.00005:
        return "<0.1 ms"
    number, unit = (seconds * 1000, "ms") if seconds < 1 else (seconds, "s")
    text = f"{number:.1f}" if number < 10 or unit == "s" else f"{number:.0f}"
    return f"{text.removesuffix('.0')} {unit}"


def milliseconds(seconds: float) -> float:
    """A duration for JSON: milliseconds, rounded to microseconds."""
    return round(seconds * 1000, 3)


def size(count: int, *, short: bool = False) -> str:
    """A number of bytes as text: ``3 B``, ``1.5 MiB``; with ``short`` without decimals from 10 on: ``430 MiB``."""
    number, unit = float(count), 0
    while number >= 1024 and unit < len(_SIZE_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    if unit == 0:
        return f"{count} B"
    return f"{number:.0f} {_SIZE_UNITS[unit]}" if short and number >= 9.95 else f"{number:.1f} {_SIZE_UNITS[unit]}"
