"""The limit of file descriptors (RLIMIT_NOFILE): raised for servers, restored for the programs that they start."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

_before: tuple[int, int] | None = None  # the limits before they were raised
_UNKNOWN = 16  # descriptors assumed to be open if the system does not tell
_FOR_A_START = 16  # descriptors that must be free to start a program: more than its pipes take


def raise_limit() -> None:
    """Raise the soft limit to the hard one."""
    global _before
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # some systems refuse RLIM_INFINITY
            return
        _before = soft, hard


@contextmanager
def given_back() -> Iterator[None]:
    """Restore the original limits in the block, so that a program inherits them: select(2) fails beyond 1,024.

    If too many descriptors are open to start a program within them, they stay raised; see ``give_back``.
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
    """Set the original limits of a program that was started with raised ones."""
    if _before is not None and hasattr(resource, "prlimit"):
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _before)
        except OSError:  # it has ended, or is no longer ours
            pass


def room() -> int | None:
    """How many more descriptors may be opened, at least 1; None if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(_left(soft), 1)


def _left(limit: int) -> int:
    try:
        return limit - len(os.listdir("/dev/fd"))
    except OSError:  # no /proc is mounted
        return limit - _UNKNOWN
