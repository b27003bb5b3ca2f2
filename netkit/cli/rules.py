"""Options that exclude each other, and options that do not apply."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from netkit.core.errors import Invalid

if TYPE_CHECKING:
    pass


def exclude(given: Mapping[str, object]) -> None:
    """Refuse more than one of these options together; None and False are not given."""
    names = [name for name, value in given.items() if value is not None and value is not False]
    if len(names) > 1:
        raise Invalid(f"{names[0]} and {names[1]} exclude each other")


def unapplied(why: str, given: Mapping[str, object]) -> None:
    """Refuse options that would change nothing here; None and False are not given."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise Invalid(f"{name} does not apply: {why}")
