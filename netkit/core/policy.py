"""Which clients a server takes."""

import errno
from collections.abc import Callable
from typing import NamedTuple

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure, describe
from netkit.core.events import Observer, Paused, span
from netkit.core.kernel import now
from netkit.core.stream import Secure

FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_FULL_REPORTS = 10.0  # s between two reports of it


class Policy(NamedTuple):
    """Which clients are served: how many in all and at one time, from where, and how long the first may take to come.

    ``admits`` is asked with a client's host; who is turned away is reset and does not count. None is no limit.
    ``secure`` takes each client through a handshake first.
    """

    max_clients: int | None = None
    max_conns: int = 4096
    accept_timeout: float | None = None
    admits: Callable[[str], bool] | None = None
    secure: Secure | None = None


class Full:
    """Reports that the system is full, but not all the time."""

    def __init__(self) -> None:
        self._reported: float | None = None

    def report(self, action: str, error: OSError, observe: Observer) -> None:
        """Tell what could not be done, unless that was told a moment ago."""
        if self._reported is None or now() - self._reported >= _FULL_REPORTS:
            self._reported = now()
            observe(Paused(action, describe(error)))


def nobody_came(endpoint: Endpoint, patience: float) -> Failure:
    """Return the failure of ``--accept-timeout``."""
    action = f"serve on {endpoint}"
    return Failure(Exit.TIMEOUT, action, f"nobody came within {span(patience)}", detail="--accept-timeout")
