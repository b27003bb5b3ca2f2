"""How many descriptors this process may have: servers raise what is only a default, and programs get it back."""

import os
import resource
from collections.abc import Callable
from functools import partial

_before: tuple[int, int] | None = None  # the limits before they were raised
_UNKNOWN = 16  # that are taken to be open where the system does not tell


def raise_limit() -> None:
    """Raise the soft limit to the hard one."""
    global _before
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # no limit at all is more than some systems take
            return
        _before = soft, hard


def restoring() -> Callable[[], None] | None:
    """What gives a program its limits back before it runs, if they were raised: select(2) takes no more than 1,024."""
    return None if _before is None else partial(resource.setrlimit, resource.RLIMIT_NOFILE, _before)


def room() -> int | None:
    """How many more may be opened, at least 1; None if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        return max(soft - len(os.listdir("/dev/fd")), 1)
    except OSError:  # no /proc is mounted
        return max(soft - _UNKNOWN, 1)
