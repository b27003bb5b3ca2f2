"""The targets of ``portcheck --wait``: what is a change, and what a try costs."""

import sys
from typing import Any

from netkit.core import events
from netkit.core.errors import Exit
from netkit.services.portcheck.check import CLOSED, FILTERED, OPEN, Check, ProbeResult, Result, Summary
from netkit.services.portcheck.targets import Target
from netkit.services.portcheck.watch import Watch
from tests.clock import run

REFUSED = ProbeResult(CLOSED, "connection refused", Exit.CONNECT, "10.0.0.7")
READY = ProbeResult(OPEN, "", Exit.OK, "10.0.0.5")


def changes(target: Target, *results: Result) -> list[str]:
    """Return the state in each change that is reported."""
    told: list[Any] = []

    async def main() -> None:
        watch = Watch(Summary(Check(), [target]), 30.0, told.append)
        for result in results:
            watch.tried(result)

    run(main())
    return [f"{each.state} {each.reason}".rstrip() for each in told]


def test_what_is_a_change() -> None:
    """A reason that only differs by its time is no change; for a range only its summary counts."""
    said = [f"accepted, then closed by the peer after {time}" for time in ("1.5 ms", "12 ms", "1 s")]
    single = [ProbeResult(CLOSED, reason, Exit.CONNECT) for reason in (*said, "connection refused")]
    results = [Result("db", 80, "tcp", probe) for probe in single]
    assert changes(Target("db", (80,)), *results) == [f"closed {said[0]}", "closed connection refused"]
    silent = ProbeResult(FILTERED, "no answer", Exit.TIMEOUT)
    in_turn = [(80, REFUSED), (81, silent), (80, REFUSED), (81, silent), (80, silent), (81, READY)]
    results = [Result("db", port, "tcp", probe) for port, probe in in_turn]
    found = changes(Target("db", (80, 81)), *results)
    assert found == ["not ready 1 closed, 1 filtered", "filtered no answer", "open"]


def cost(size: int) -> int:
    """Return how many functions are called for the second try of one of so many hosts."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    async def main() -> None:
        watch = Watch(Summary(Check(), [Target("db", tuple(range(1, size + 1)))]), 30.0, events.ignore)
        results = [Result("db", port, "tcp", REFUSED) for port in range(1, size + 1)]
        for result in results:
            watch.tried(result)
        sys.setprofile(count)
        try:
            watch.tried(results[0])
        finally:
            sys.setprofile(None)

    run(main())
    return calls


def test_a_try_costs_the_same_whatever_the_number_of_ports() -> None:
    """With each result of a large range the row is not counted anew, which would take minutes for a round."""
    assert cost(10) == cost(1000)
