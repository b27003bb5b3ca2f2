"""Networks as data, and a simulation of dialling them in exact virtual seconds.

A network has an ``(address, seconds, answer)`` for each address, in the order in which they are tried. The answer comes
so many seconds after the attempt began: ``success``, ``refused`` or ``timeout``.
"""

import errno
import os
from collections.abc import Sequence
from typing import NamedTuple

from netkit.core.dial import race
from netkit.core.kernel import DeadlineExceeded, deadline, now, sleep
from tests.clock import JumpClock, run

Network = Sequence[tuple[str, float, str]]

_ERRORS = {"refused": errno.ECONNREFUSED, "timeout": errno.ETIMEDOUT}


class Told(NamedTuple):
    """The result of a race: its winner, its end, the begin of each attempt, and what became of the others."""

    winner: str | None
    at: float
    begun: dict[str, float]
    dropped: list[str]
    abandoned: list[str]
    expired: bool


def simulate(network: Network, patience: float | None = None) -> Told:
    """Race the addresses of a network against each other, for at most ``patience`` seconds."""
    begun: dict[str, float] = {}
    dropped: list[str] = []
    abandoned: list[str] = []

    async def attempt(host: tuple[str, float, str]) -> str:
        address, seconds, answer = host
        begun[address] = now()
        try:
            await sleep(seconds)
        except BaseException:
            abandoned.append(address)
            raise
        if answer == "success":
            return address
        code = _ERRORS[answer]
        raise OSError(code, os.strerror(code))

    async def main() -> Told:
        winner, expired = None, False
        try:
            with deadline(patience):
                winner = await race(network, attempt, dropped.append)
        except DeadlineExceeded:
            expired = True
        return Told(winner, now(), begun, dropped, abandoned, expired)

    return run(main(), JumpClock())
