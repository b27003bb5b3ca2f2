"""How many descriptors this process may have: servers raise what is only a default, and programs get it back."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

_before: tuple[int, int] | None = None  # the limits before they were raised
_UNKNOWN = 16  # that are taken to be open where the system does not tell
_FOR_A_START = 16  # more than a start opens for a moment: pipes


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


@contextmanager
def given_back() -> Iterator[None]:
    """Have the limits that we had, for a program to inherit: select(2) can do with no more than 1,024.

    With too much open to start one within them they stay raised; ``give_back`` is for that.
    """
    if _before is None or _left(_before[0]) < _FOR_A_START:
        yield
        return
    raised = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, _before)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, raised)


def give_back(pid: int) -> None:
    """Give a program that was started the limits that we had, if it has not inherited them."""
    if _before is not None and hasattr(resource, "prlimit"):
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _before)
        except OSError:  # it has ended, or is no longer ours
            pass


def room() -> int | None:
    """How many more may be opened, at least 1; None if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(_left(soft), 1)


def _left(limit: int) -> int:
    try:
        return limit - len(os.listdir("/dev/fd"))
    except OSError:  # no /proc is mounted
        return limit - _UNKNOWN
