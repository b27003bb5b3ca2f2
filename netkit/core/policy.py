"""Whom a server takes, how many of them, and how long it waits for them: the same for connections and datagrams."""

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
_FULL_REPORTS = 10.0  # s between two reports of it


class Policy(NamedTuple):
    """What a server was told about those who come. A client is a connection or a datagram; None is no limit.

    ``limit`` is the number of clients in all, ``max_conns`` that of connections at one time. ``admits`` is asked with
    a client's host; those turned away do not count. The first has ``accept_timeout`` seconds to come, and so has each
    connection that ``limit`` still wants; between two datagrams there may be ``idle_timeout``, and once none came for
    ``until_idle`` that is the end. Each connection goes through the ``layers`` first. Where the first of these is
    ``told`` whom it is from, the connection has to be admitted behind it once more, and counts from then on.
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
    """Applies a policy to those who come to the server at ``endpoint``; ``came`` is set once one is taken."""

    def __init__(self, policy: Policy, endpoint: Endpoint) -> None:
        self.policy = policy
        self.came = Event()
        self._endpoint = endpoint
        self._left = policy.limit

    @property
    def full(self) -> bool:
        """Whether nobody else is taken."""
        return self._left == 0

    def admits(self, host: str) -> bool:
        return self.policy.admits is None or self.policy.admits(host)

    def take(self, number: int = 1) -> int:
        """Count so many clients, and return how many of them are within the limit."""
        if self._left is not None:
            number = min(number, self._left)
            self._left -= number
        if number:
            self.came.set()
        return number

    async def await_all(self) -> None:
        """Return once as many clients have come as are wanted, the first where there is no limit. Raises as below."""
        await self.await_next()
        while self._left and self.policy.accept_timeout is not None:
            self.came = Event()
            await self.await_next()

    async def await_next(self) -> None:
        """Return once a client has come. Raises Failure TIMEOUT after ``accept_timeout``."""
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
    """Wait for the last work of a server; once ``stop`` is set it has ``DRAIN`` seconds to end, and is left then."""

    async def cut() -> None:
        await stop.wait()
        await sleep(DRAIN)
        group.cancel()

    async with Group() as group:
        group.start_soon(cut())
        await work
        group.cancel()


class Full:
    """Reports that the system is full, but not all the time."""

    def __init__(self) -> None:
        self._reported: float | None = None

    def report(self, action: str, error: OSError, observe: Observer) -> None:
        """Tell what could not be done, unless that was told a moment ago."""
        if self._reported is None or now() - self._reported >= _FULL_REPORTS:
            self._reported = now()
            observe(Paused(action, describe(error)))
