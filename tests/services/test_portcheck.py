"""The results of ``portcheck``: for a port with several addresses, and the exit code for many ports."""

import contextlib
import socket
import tracemalloc
from collections import Counter
from collections.abc import Sequence

import pytest

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group, now, sleep
from netkit.core.lookup import Address
from netkit.core.sync import Event
from netkit.services.portcheck.check import (
    CLOSED,
    FILTERED,
    OPEN,
    SILENT,
    UNKNOWN,
    UNREACHABLE,
    Check,
    ProbeResult,
    Result,
    Summary,
)
from netkit.services.portcheck.scan import Checker, HostScan
from netkit.services.portcheck.targets import Target
from tests.clock import PatientClock, run

EXITS = {
    OPEN: Exit.OK,
    CLOSED: Exit.CONNECT,
    UNREACHABLE: Exit.CONNECT,
    FILTERED: Exit.TIMEOUT,
    SILENT: Exit.TIMEOUT,
    UNKNOWN: Exit.RESOLVE,
}
ADDRESSES = [Address(2, (f"192.0.2.{number}", 0)) for number in range(1, 4)]


def verdict(states: Sequence[str], *, closed: bool = False) -> tuple[str, int]:
    """Return the state of a port whose addresses give these results in turn, and how many results were needed."""

    async def main() -> tuple[str, int]:
        told: list[ProbeResult] = []
        scan = HostScan(Target("h", (80,)), ADDRESSES[: len(states)], lambda port, probe: told.append(probe))
        for number, state in enumerate(states, 1):
            assert scan.next() is not None
            probe = ProbeResult(state, state, EXITS[state], f"192.0.2.{number}")
            scan.note(80, probe, conclusive=state == OPEN and (closed or not probe.exit))
            if told:
                assert scan.finished.is_set()
                for _ in states[number:]:
                    scan.note(80, probe, conclusive=True)  # later results change nothing
                assert len(told) == 1
                return told[0].state, number
        raise AssertionError("no verdict")

    return run(main())


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        ([OPEN], (OPEN, 1)),
        ([CLOSED], (CLOSED, 1)),
        ([OPEN, CLOSED, FILTERED], (OPEN, 1)),
        ([CLOSED, OPEN, FILTERED], (OPEN, 2)),
        ([CLOSED, CLOSED, CLOSED], (CLOSED, 3)),
        ([CLOSED, FILTERED, CLOSED], (FILTERED, 3)),
        ([UNREACHABLE, CLOSED], (UNREACHABLE, 2)),
        ([UNREACHABLE, SILENT], (SILENT, 2)),
    ],
)
def test_one_address_is_enough_to_be_open_and_all_to_be_closed(states: list[str], wanted: tuple[str, int]) -> None:
    """The first open address decides; otherwise the results of all addresses are needed."""
    assert verdict(states) == wanted


def test_reasons_of_all_addresses_are_told() -> None:
    """If the reasons of the addresses differ, all are shown."""

    async def main() -> str:
        told: list[ProbeResult] = []
        scan = HostScan(Target("h", (80,)), ADDRESSES, lambda port, probe: told.append(probe))
        for address, reason in zip("abc", ["no answer", "refused", "refused"], strict=True):
            assert scan.next() is not None
            scan.note(80, ProbeResult(CLOSED, reason, Exit.CONNECT, address), conclusive=False)
        return told[0].reason

    assert run(main()) == "a: no answer; b, c: refused"


def outcome(states: Sequence[str], *, any: bool = False, closed: bool = False, together: bool = False) -> Exit:
    """Return the exit code for ports in these states, each a target of its own or all of one target."""
    ports = range(1, len(states) + 1)
    targets = [Target("h", tuple(ports))] if together else [Target("h", (port,)) for port in ports]
    summary = Summary(Check(closed=closed), targets, any_port=any)
    for port, state in enumerate(states, 1):
        exit = Exit.OK if closed and state == CLOSED else Exit.CONNECT if closed and state == OPEN else EXITS[state]
        summary.note(Result("h", port, "tcp", ProbeResult(state, "", exit), number=0 if together else port - 1))
    failure = summary.failure(1.0)
    return Exit.OK if failure is None else failure.exit


ANY, CLOSING, TOGETHER = {"any": True}, {"closed": True}, {"together": True}


@pytest.mark.parametrize(
    ("states", "how", "exit"),
    [
        # 7 if a port answered otherwise than wanted, else 6, else 28
        ([OPEN, OPEN], {}, Exit.OK),
        ([OPEN, CLOSED, UNKNOWN, FILTERED], {}, Exit.CONNECT),
        ([FILTERED, UNREACHABLE], {}, Exit.CONNECT),
        ([FILTERED, UNKNOWN, OPEN], {}, Exit.RESOLVE),
        ([FILTERED, OPEN], {}, Exit.TIMEOUT),
        ([SILENT], {}, Exit.TIMEOUT),
        # one port is enough
        ([FILTERED, OPEN, CLOSED], ANY, Exit.OK),
        ([FILTERED, CLOSED], ANY, Exit.CONNECT),
        # open ports are the wrong ones
        ([CLOSED, CLOSED], CLOSING, Exit.OK),
        ([CLOSED, OPEN], CLOSING, Exit.CONNECT),
        ([CLOSED, FILTERED], CLOSING, Exit.TIMEOUT),
        # one port of a target is enough, unless they have to be closed
        ([OPEN, CLOSED, UNKNOWN, FILTERED], TOGETHER, Exit.OK),
        ([CLOSED, FILTERED], TOGETHER, Exit.CONNECT),
        ([FILTERED, UNKNOWN], TOGETHER, Exit.RESOLVE),
        ([CLOSED, OPEN], TOGETHER | CLOSING, Exit.CONNECT),
        ([CLOSED, OPEN], TOGETHER | CLOSING | ANY, Exit.OK),
    ],
)
def test_what_a_script_is_told(states: list[str], how: dict[str, bool], exit: Exit) -> None:
    """The exit code for ports in these states, with --any, with --closed, and if all are one target."""
    assert outcome(states, **how) is exit


def test_what_is_not_as_wanted_counts_alone() -> None:
    """Ports of a target that has an open one do not count in the message."""
    summary = Summary(Check(), [Target("db", (22, 80)), Target("cache", (6379,))])
    for place, port, state in ((0, 22, OPEN), (0, 80, CLOSED), (1, 6379, FILTERED)):
        summary.note(Result("h", port, "tcp", ProbeResult(state, "no answer", EXITS[state]), number=place))
    failure = summary.failure(1.5)
    assert failure is not None and failure.exit is Exit.TIMEOUT
    assert str(failure) == "1 of 3 open in 1.5 s (1 closed, 1 filtered); not as wanted: h:6379 (no answer)"


@pytest.mark.parametrize("together", [True, False])
def test_open_ports_that_say_nothing_are_left_at_once_and_by_fin(together: bool) -> None:
    """Open ports are reported at once, and all connections are closed 20 ms later, without a reset."""
    known: list[float] = []
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(5)]
        ports = tuple(server.getsockname()[1] for server in servers)
        targets = [Target("127.0.0.1", each) for each in ([ports] if together else [(port,) for port in ports])]

        async def main() -> float:
            await Checker(Check(), 10).run(targets, lambda result: known.append(now()))
            return now()

        assert run(main(), PatientClock()) == pytest.approx(0.02, abs=0.002)
        assert known == [0.0] * 5
        for server in servers:
            with server.accept()[0] as client:
                assert client.recv(1) == b""
                client.sendall(b"x")  # after a reset this would fail


def test_the_last_try_has_time_to_find_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time of --wait is over a slow resolver still gets time to give a reason, but no more than -w."""

    async def answer(seconds: float) -> None:
        await sleep(seconds)
        raise Failure(Exit.RESOLVE, "resolve h", "name not found")

    async def main(timeout: float, *, seconds: float) -> tuple[str, float]:
        monkeypatch.setattr("netkit.services.portcheck.scan.lookup", lambda *args, **kwargs: answer(seconds))
        told: list[Result] = []
        await Checker(Check(timeout), 10).wait([Target("h", (80,))], now() + 1, None, told.append)
        return told[0].probe.reason, now()

    reason, seconds = run(main(3, seconds=0.04))
    assert (reason, seconds <= 1.1) == ("name not found", True)
    assert run(main(0.02, seconds=0.04))[0] == "no answer of the resolver within 20 ms"


@pytest.mark.loopback
def test_a_round_that_takes_too_long_is_left() -> None:
    """A round that takes too long is ended half a second after --wait; ports that were not reached say "not tried"."""
    told: list[Result] = []

    async def main() -> float:
        targets = [Target("127.0.0.1", tuple(range(1, 101))), Target("127.0.0.1", (101,))]
        await Checker(Check(), 10, rate=10).wait(targets, now() + 1.0, None, told.append)
        return now()

    assert run(main(), PatientClock()) == pytest.approx(1.5, abs=0.05)
    assert sorted(result.port or 0 for result in told) == list(range(1, 102))
    reasons = Counter(result.probe.reason for result in told)
    assert reasons.keys() == {"connection refused", "not tried"} and 10 <= reasons["connection refused"] <= 17


@pytest.mark.loopback
def test_attempts_begin_evenly() -> None:
    """--rate spaces the attempts evenly."""
    begun: list[float] = []

    async def main() -> None:
        await Checker(Check(), 10, rate=50).run([Target("127.0.0.1", (1, 2, 3, 4, 5))], lambda _: begun.append(now()))

    run(main(), PatientClock())
    assert begun == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08], abs=0.002)


@pytest.mark.loopback
def test_nothing_is_asked_while_there_is_no_room_for_reports() -> None:
    """While the reader of the results does not read, no further ports are checked."""
    told: list[Result] = []

    async def room() -> None:
        told_before.append(len(told))
        await going_on.wait()

    async def main() -> None:
        async with Group() as group:
            group.start_soon(Checker(Check(), 1).run([Target("127.0.0.1", tuple(range(1, 65)))], told.append, room))
            await sleep(60)
            assert told_before == [len(told)]
            going_on.set()

    told_before: list[int] = []
    going_on = Event()
    run(main(), PatientClock())
    assert 0 < told_before[0] < len(told) == 64


def test_a_host_costs_no_memory_for_ports_whose_turn_has_not_come() -> None:
    """A scan of many hosts with all ports needs little memory."""
    target = Target("h", tuple(range(1, 65536)))
    tracemalloc.start()
    try:
        scans = [HostScan(target, [Address(2, ("192.0.2.1", 0))], lambda port, probe: None) for _ in range(100)]
        assert all(scan.next() for scan in scans)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
