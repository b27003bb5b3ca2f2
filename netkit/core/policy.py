"""Which clients a server accepts, how many, and how long it waits for them; for connections and for datagrams."""

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN
from netkit.core.errors import Exit, Failure, describe
from netkit.core.events import Observer, Paused
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.layer import Layer
from netkit.core.sync import Event
from netkit.core.units import duration

FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_FULL_REPORTS = 10.0  # s between two reports that the system is full


class Policy(NamedTuple):
    """The limits of a server. A client is a connection or a datagram; None is no limit; times are in seconds.

    ``limit`` is how many clients are served in all, ``max_conns`` how many connections at a time. ``admits`` gets a
    client's host; clients that it refuses do not count. ``accept_timeout`` is how long the first client may take to
    come, and each further connection within ``limit``. A silence between datagrams of ``idle_timeout`` is a failure,
    one of ``until_idle`` a regular end. ``layers`` are those of each connection. With ``told`` the first of them learns
    from a proxy who the client is; the connection is then admitted a second time after it, and only then counted.
    """

    limit: int | None = None
    max_conns: int = 4096
    accept_timeout: float | None = None
    idle_timeout: float | None = None
    until_idle: float | None = None
    admits: Callable[[str], bool] | None = None
    layers: Sequence[Layer] = ()
    told: bool = False


class Admission:
    """Applies a policy to the clients of the server at ``endpoint``. ``came`` is set once one is accepted."""

    def __init__(self, policy: Policy, endpoint: Endpoint) -> None:
        self.policy = policy
        self.came = Event()
        self._endpoint = endpoint
        self._left = policy.limit

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self._left == 0

    def admits(self, host: str) -> bool:
        return self.policy.admits is None or self.policy.admits(host)

    def take(self, number: int = 1) -> int:
        """Count ``number`` clients, and return how many of them are within the limit."""
        if self._left is not None:
            number = min(number, self._left)
            self._left -= number
        if number:
            self.came.set()
        return number

    async def await_all(self) -> None:
        """Return once ``limit`` clients have come, or without a limit the first. Raises as ``await_next``."""
        await self.await_next()
        while self._left and self.policy.accept_timeout is not None:
            self.came = Event()
            await self.await_next()

    async def await_next(self) -> None:
        """Return once a client has come, or at once without ``accept_timeout``. Raises Failure TIMEOUT after that."""
        patience = self.policy.accept_timeout
        if patience is None:
            return
        try:
            with deadline(now() + patience):
                await self.came.wait()
        except DeadlineExceeded:
            reason = f"nobody came within {duration(patience)}"
            raise Failure(Exit.TIMEOUT, f"serve on {self._endpoint}", reason, detail="--accept-timeout") from None


async def finish(work: Awaitable[None], stop: Event) -> None:
    """Wait for the last work of a server. Once ``stop`` is set it is cancelled after ``DRAIN`` seconds."""

    async def cut() -> None:
        await stop.wait()
        await sleep(DRAIN)
        group.cancel()

    async with Group() as group:
        group.start_soon(cut())
        await work
        group.cancel()


class Full:
    """Reports that the system is full, at most every 10 seconds."""

    def __init__(self) -> None:
        self._reported: float | None = None

    def report(self, action: str, error: OSError, observe: Observer) -> None:
        """Report ``Paused``, unless that was done less than 10 seconds ago."""
        if self._reported is None or now() - self._reported >= _FULL_REPORTS:
            self._reported = now()
            observe(Paused(action, describe(error)))
