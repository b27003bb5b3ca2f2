"""Numbers of bytes for a person."""

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: int, *, short: bool = False) -> str:
    """Return a number of bytes for a person: ``3 B``, ``1.5 MiB``; ``short`` has at most four digits: ``430 MiB``."""
    number, unit = float(count), 0
    while number >= 1024 and unit < len(_SIZE_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    if unit == 0:
        return f"{count} B"
    return f"{number:.0f} {_SIZE_UNITS[unit]}" if short and number >= 9.95 else f"{number:.1f} {_SIZE_UNITS[unit]}"
