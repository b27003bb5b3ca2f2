"""Dialling: the race between the addresses of a name, on a simulated network and on loopback."""

import errno
import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core import dial as dialling
from netkit.core.address import Endpoint
from netkit.core.dial import STAGGER, Dialling, dial, dial_until, interleave, race
from netkit.core.errors import Exit, Failure
from netkit.core.events import Connected, Missed, Retrying, Trying
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.lookup import Address
from netkit.core.sync import Event
from tests.clock import PatientClock, in_real_time, on_kernel, run
from tests.support import free_port, netkit, reset
from tests.support.processes import strace

DEAD = "192.0.2.1"
HERE = "127.0.0.1"


# -- the race, simulated

Network = Sequence[tuple[str, float, str]]
"""Addresses in the order in which they are tried, each with its answer, which comes so many seconds later."""

ANSWERS = {"refused": errno.ECONNREFUSED, "timeout": errno.ETIMEDOUT}  # besides "success"


class Told(NamedTuple):
    """The result of a race: its winner, its end, the begin of each attempt, and what became of the others."""

    winner: str | None
    at: float
    begun: dict[str, float]
    dropped: list[str]
    abandoned: list[str]
    expired: bool


def simulate(network: Network, patience: float | None = None) -> Told:
    """Race the addresses of a network against each other, for at most ``patience`` seconds, in exact virtual time."""
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
        raise OSError(ANSWERS[answer], os.strerror(ANSWERS[answer]))

    async def main() -> Told:
        winner, expired = None, False
        try:
            with deadline(patience):
                winner = await race(network, attempt, dropped.append)
        except DeadlineExceeded:
            expired = True
        return Told(winner, now(), begun, dropped, abandoned, expired)

    return run(main())


@pytest.mark.parametrize(
    ("network", "winner", "at"),
    [
        pytest.param([(HERE, 0.02, "success")], HERE, 0.02, id="one address"),
        pytest.param([(DEAD, 30.0, "timeout"), (HERE, 0.02, "success")], HERE, 0.27, id="first dead"),
        pytest.param(
            [("::1", 30.0, "timeout"), (DEAD, 30.0, "timeout"), (HERE, 0.02, "success")], HERE, 0.52, id="two dead"
        ),
        pytest.param([("::1", 0.01, "refused"), (HERE, 0.02, "success")], HERE, 0.03, id="first refused"),
        pytest.param([("::1", 0.3, "success"), (HERE, 0.2, "success")], "::1", 0.3, id="first slow but sooner"),
        pytest.param([("::1", 0.5, "success"), (HERE, 0.1, "success")], HERE, 0.35, id="second sooner"),
        pytest.param(
            [("::1", 0.3, "refused"), (DEAD, 30.0, "timeout"), (HERE, 0.02, "success")],
            HERE,
            0.52,
            id="first fails after the second began",
        ),
        pytest.param(
            [(DEAD, 30.0, "timeout"), ("::1", 0.01, "refused"), (HERE, 0.02, "success")],
            HERE,
            0.28,
            id="dead, refused, live",
        ),
        pytest.param([("::1", 0.01, "refused"), (HERE, 0.01, "refused")], None, 0.02, id="all refused"),
        pytest.param([(DEAD, 30.0, "timeout"), (HERE, 0.01, "refused")], None, 30.0, id="refused and dead"),
        pytest.param([(DEAD, 3.0, "timeout"), ("::1", 3.0, "timeout")], None, 3.25, id="all dead"),
        pytest.param([(HERE, 2.0, "success")], HERE, 2.0, id="slow but alone"),
        pytest.param([], None, 0.0, id="no address"),
        pytest.param(
            [(f"192.0.2.{n}", 30.0, "timeout") for n in range(24)] + [(HERE, 0.02, "success")], HERE, 6.02, id="24 dead"
        ),
    ],
)
def test_the_first_answer_wins(network: Network, winner: str | None, at: float) -> None:
    """An address that does not answer delays the next by 250 ms; one that refuses, only by the time until it does."""
    told = simulate(network)
    assert told.winner == winner
    assert told.at == pytest.approx(at, abs=1e-9)
    assert told.dropped == []


def test_attempts_begin_a_quarter_of_a_second_apart_or_when_the_one_before_failed() -> None:
    """Attempts start in order, and earlier ones go on when the next starts."""
    told = simulate(
        [
            ("a", 9.0, "timeout"),
            ("b", 0.1, "refused"),
            ("c", 9.0, "timeout"),
            ("d", 1.0, "success"),
            ("e", 0.0, "success"),
        ]
    )
    assert told.begun == pytest.approx({"a": 0, "b": 0.25, "c": 0.35, "d": 0.6, "e": 0.85})
    assert told.winner == "e"
    assert sorted(told.abandoned) == ["a", "c", "d"]


def test_a_second_success_is_dropped() -> None:
    """If two connections succeed at the same moment, one is returned and the other is closed."""
    told = simulate([("a", 0.45, "success"), ("b", 0.2, "success")])
    assert told.at == pytest.approx(0.45)
    assert sorted([told.winner or "", *told.dropped]) == ["a", "b"]


def test_a_connection_that_stands_in_the_moment_of_the_deadline_is_not_lost() -> None:
    """It is returned, or closed if the deadline wins, but never left open."""
    told = simulate([("a", 10.0, "success")], patience=10.0)
    assert told.winner == "a" or told.dropped == ["a"]


def test_a_deadline_abandons_every_attempt() -> None:
    """At the deadline all attempts end."""
    told = simulate([("a", 30.0, "timeout"), ("b", 30.0, "timeout")], patience=10.0)
    assert told.expired
    assert told.at == 10.0
    assert sorted(told.abandoned) == ["a", "b"]


@on_kernel
async def test_a_failure_that_is_final_ends_the_race_and_lets_go_of_the_winner() -> None:
    """A failure that applies to all addresses, such as a bad source, is raised, and no connection stays open."""
    dropped: list[str] = []

    async def attempt(candidate: str) -> str:
        await sleep(1.0 if candidate == "a" else 1.0 - STAGGER)
        if candidate == "a":
            return candidate
        raise Failure(Exit.BIND, "use source", "no")

    with pytest.raises(Failure) as failed:
        await race(["a", "b"], attempt, dropped.append)
    assert (failed.value.exit, dropped) == (Exit.BIND, ["a"])


@pytest.mark.fault("dead first address")
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.01, 0.25, 0.3, 2.0]), st.sampled_from(["success", "refused", "timeout"])),
        max_size=6,
    )
)
def test_any_network_is_raced_to_its_end(hosts: list[tuple[float, str]]) -> None:
    """The race fails only if every address fails, and only the winner's connection stays open."""
    network = [(str(number), seconds, answer) for number, (seconds, answer) in enumerate(hosts)]
    told = simulate(network)
    successes = [address for address, _, answer in network if answer == "success"]
    assert (told.winner is None) is (not successes)
    if told.winner is None:
        assert len(told.begun) == len(network)
        assert told.abandoned == []
    else:
        assert told.winner in successes
        assert (
            told.at
            <= min(
                STAGGER * number + seconds for number, (_, seconds, answer) in enumerate(network) if answer == "success"
            )
            + 1e-9
        )
    starts = list(told.begun.values())
    assert starts == sorted(starts)
    assert all(later - sooner <= STAGGER + 1e-9 for sooner, later in pairwise(starts))
    assert not set(told.dropped) & {told.winner}


def test_families_take_turns_beginning_with_the_resolvers_choice() -> None:
    """Families alternate, beginning with that of the first address."""

    def address(host: str) -> Address:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return Address(family, (host, 80))

    def order(*hosts: str) -> list[str]:
        return [found.host for found in interleave([address(host) for host in hosts])]

    assert order() == []
    assert order(HERE) == [HERE]
    assert order("::1", "::2", "::3", "1.1.1.1") == ["::1", "1.1.1.1", "::2", "::3"]
    assert order("1.1.1.1", "2.2.2.2", "::1", "::2") == ["1.1.1.1", "::1", "2.2.2.2", "::2"]
    assert order("1.1.1.1", "2.2.2.2") == ["1.1.1.1", "2.2.2.2"]


# -- loopback


@contextmanager
def listening(host: str = HERE, port: int = 0, backlog: int = 8) -> Iterator[socket.socket]:
    """A TCP listener that does not accept."""
    with socket.create_server((host, port), backlog=backlog) as server:
        yield server


@contextmanager
def deaf(host: str, port: int = 0) -> Iterator[socket.socket]:
    """A TCP listener that does not answer SYNs, as its backlog is full."""
    with ExitStack() as stack:
        server = stack.enter_context(listening(host, port or free_port(), backlog=0))
        stack.enter_context(socket.create_connection(server.getsockname()))
        yield server


def resolving(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Resolve every name to these addresses."""

    async def lookup(endpoint: Endpoint, family: int, **_: Any) -> list[Address]:
        return [Address(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, endpoint.port)) for host in hosts]

    monkeypatch.setattr(dialling, "lookup", lookup)


def dial_here(port: int, how: Dialling = Dialling(), host: str = HERE, observe: Any = print) -> tuple[str, str]:
    """Dial, close, and return the names of both ends."""

    async def main() -> tuple[str, str]:
        stream = await dial(Endpoint(host, port), how, observe)
        try:
            return stream.name, stream.local
        finally:
            stream.close()

    return run(main(), PatientClock())


def failure_of(port: int, how: Dialling = Dialling(), host: str = HERE, observe: Any = print) -> Failure:
    """Return the failure of dialling."""
    with pytest.raises(Failure) as caught:
        dial_here(port, how, host, observe)
    return caught.value


def tried(host: str, how: Dialling = Dialling()) -> list[str]:
    """Return the addresses that are dialled, one after another, at a port where nobody listens."""
    events: list[Any] = []
    assert failure_of(free_port(), how, host, events.append).exit is Exit.CONNECT
    return [event.address for event in events if isinstance(event, Trying)]


def test_a_connection_is_made_and_told() -> None:
    """The stream has the name of the target as given, and each step is reported to the observer."""
    events: list[Any] = []
    with listening() as server:
        port = server.getsockname()[1]
        name, local = dial_here(port, observe=events.append)
        client, address = server.accept()
        client.close()
    assert name == f"{HERE}:{port}"
    assert str(local) == f"{HERE}:{address[1]}"
    assert [type(event) for event in events] == [Trying, Connected]
    assert (events[1].target, str(events[1].peer), events[1].local) == (name, name, local)


def test_a_refused_connection_is_a_failure_that_names_target_and_address() -> None:
    """A refused connection fails with CONNECT; the message has the reason, the address and the time."""
    port = free_port()
    failure = failure_of(port)
    assert failure.exit is Exit.CONNECT
    assert str(failure).startswith(f"cannot connect to {HERE}:{port}: connection refused ({HERE}, after ")


def test_addresses_that_fail_for_different_reasons_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the addresses that failed for each reason."""
    resolving(monkeypatch, HERE, "127.0.0.2", "255.255.255.255")
    failure = failure_of(free_port(), host="name")
    assert failure.exit is Exit.CONNECT
    assert failure.reason == "no address answered"
    assert f"{HERE}, 127.0.0.2: connection refused" in failure.detail
    assert "255.255.255.255: " in failure.detail


def test_the_families_of_a_name_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second address that is dialled is one of the other family."""
    resolving(monkeypatch, "127.0.0.2", "127.0.0.3", "::1")
    assert tried("name") == ["127.0.0.2", "::1", "127.0.0.3"]


def test_only_what_is_chosen_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """``choose`` gets the addresses of the only look-up, and its failure is that of dialling."""
    asked: list[list[str]] = []

    def choose(found: list[Address]) -> list[Address]:
        asked.append([address.host for address in found])
        return found[2:]

    def refuse(found: list[Address]) -> list[Address]:
        raise Failure(Exit.CONNECT, "connect to name", "it is not allowed")

    resolving(monkeypatch, "127.0.0.2", "::1", "127.0.0.3")
    assert tried("name", Dialling(choose=choose)) == ["127.0.0.3"]
    assert asked == [["127.0.0.2", "::1", "127.0.0.3"]]
    assert failure_of(free_port(), Dialling(choose=refuse), "name").reason == "it is not allowed"


def test_a_deaf_first_address_costs_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first address does not answer, the second is dialled after 250 ms."""
    clock = PatientClock()
    events: list[Any] = []

    async def main() -> None:
        stream = await dial(Endpoint("name", port), observe=events.append)
        assert now() == pytest.approx(STAGGER)
        stream.close()

    with deaf("127.0.0.2") as silent:
        port = silent.getsockname()[1]
        with listening(port=port):
            resolving(monkeypatch, "127.0.0.2", HERE)
            run(main(), clock)
    assert events[:2] == [Trying("127.0.0.2"), Trying(HERE)]
    assert str(events[2].peer) == f"{HERE}:{port}"


@pytest.mark.fault("no answer to connecting")
def test_an_address_that_never_answers_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connect timeout covers all attempts, and the message names it and the addresses."""
    clock = PatientClock()
    with deaf("127.0.0.2") as silent:
        port = silent.getsockname()[1]
        resolving(monkeypatch, "127.0.0.2")
        with pytest.raises(Failure) as caught:
            run(dial(Endpoint("name", port), Dialling(timeout=2.0)), clock)
    assert clock.time == pytest.approx(2.0)
    assert caught.value.exit is Exit.TIMEOUT
    assert str(caught.value) == f"cannot connect to name:{port}: no answer within 2 s (127.0.0.2)"


def test_a_name_that_never_resolves_is_a_timeout_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolving counts towards the connect timeout, and the message says that it did not finish."""

    async def lookup(endpoint: Endpoint, family: int, **_: Any) -> list[Address]:
        await Event().wait()
        return []

    monkeypatch.setattr(dialling, "lookup", lookup)
    failure = failure_of(80, Dialling(timeout=3.0), host="name")
    assert failure.exit is Exit.TIMEOUT
    assert str(failure) == "cannot resolve name: no answer within 3 s"


async def resetting(listener: socket.socket, turns: int, words: bytes = b"") -> None:
    """Accept a client, send it ``words`` and our end if there are any, and reset it some turns of the loop later."""
    while not select.select([listener], [], [], 0)[0]:
        await sleep(0)
    client, _ = listener.accept()
    if words:
        client.sendall(words)
        client.shutdown(socket.SHUT_WR)
    for _ in range(turns):
        await sleep(0)
    reset(client)


@pytest.mark.parametrize("words", [b"", b"go away"])
@pytest.mark.parametrize("turns", range(5))
@in_real_time
async def test_a_peer_that_resets_at_once_had_been_connected(turns: int, words: bytes) -> None:
    """A reset at any moment after the accept is a failure of receiving, after what came before, not of connecting."""
    received = b""
    with listening() as listener:
        async with Group() as group:
            peer = group.start_soon(resetting(listener, turns, words))
            await sleep(0)
            stream = await dial(Endpoint(HERE, listener.getsockname()[1]))
            with pytest.raises(Failure) as caught:
                while data := await stream.recv():
                    received += data
                assert words, "a reset looks like an end"
                await peer.finished.wait()
                stream.raise_if_reset()
            stream.close()
    assert (caught.value.exit, received) == (Exit.RECV, words)


def test_the_source_address_and_port_are_used() -> None:
    """The peer sees the given source address and port."""
    port = free_port()
    with listening() as server:
        target = server.getsockname()[1]
        assert str(dial_here(target, Dialling(source=("127.0.0.2", port)))[1]) == f"127.0.0.2:{port}"
        assert dial_here(target, Dialling(source=("127.0.0.3", 0)))[1].host == "127.0.0.3"
        assert str(dial_here(target, Dialling(source=("", port)))[1]) == f"{HERE}:{port}"


def test_a_source_that_is_not_ours_or_in_use_cannot_be_bound() -> None:
    """A source that cannot be used fails with BIND, and the message names it."""
    with listening() as server:
        port = server.getsockname()[1]
        foreign = failure_of(port, Dialling(source=(DEAD, 0)))
        assert foreign.exit is Exit.BIND
        assert str(foreign) == f"cannot use source {DEAD}:0: cannot assign requested address"
        taken = failure_of(port, Dialling(source=(HERE, port)))
        assert taken.exit is Exit.BIND


def test_a_source_of_the_other_family_fits_no_address() -> None:
    """An IPv6 source with an IPv4 target fails before anything is dialled."""
    failure = failure_of(80, Dialling(source=("::1", 0)))
    assert failure.exit is Exit.RESOLVE
    assert "source ::1" in str(failure)


@pytest.mark.parametrize(("target", "source"), [(HERE, HERE), ("0.0.0.0", HERE), ("::1", "::1"), ("::", "::1")])
def test_a_connection_with_ourselves_is_refused(target: str, source: str) -> None:
    """A TCP socket that connects to itself, as it can where nobody listens, is refused, and leaves its port free."""
    port = free_port()
    failure = failure_of(port, Dialling(source=(source, port)), target)
    assert failure.exit is Exit.CONNECT
    assert failure.reason == "connection refused"
    with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET) as server:
        server.bind((source, port))


def test_dialling_leaves_no_descriptor_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets of attempts that lost, failed or timed out are closed."""
    before = os.listdir("/proc/self/fd")
    with deaf("127.0.0.2") as silent:
        port = silent.getsockname()[1]
        with listening(port=port):
            resolving(monkeypatch, "127.0.0.2", "127.0.0.3", HERE)
            dial_here(port, host="name")
        failure_of(port, Dialling(timeout=1.0), host="name")
    assert os.listdir("/proc/self/fd") == before


def test_no_room_for_the_resolvers_thread_is_a_failure_and_no_bug() -> None:
    """If no thread can be started, resolving fails with a message and an exit code."""
    wrapper = strace("trace=clone,clone3", "inject=clone,clone3:error=EAGAIN")
    done = netkit("connect", "localhost", str(free_port()), wrapper=wrapper)
    assert done.code == Exit.RESOLVE, done.err
    assert done.err.startswith("netkit connect: cannot resolve localhost: ")


# -- dialling until the target is there


def test_a_target_is_dialled_until_it_is_there() -> None:
    """Dialling is repeated with growing pauses until the target accepts."""
    retries: list[Retrying] = []
    port = free_port()

    def observe(event: Any) -> None:
        if isinstance(event, Retrying):
            retries.append(event)
            if len(retries) == 4:
                stack.enter_context(listening(port=port))

    async def main() -> None:
        stream = await dial_until(Endpoint(HERE, port), 60.0, observe=observe)
        stream.close()

    with ExitStack() as stack:
        run(main(), PatientClock())
    assert len(retries) == 4
    pauses = [retry.seconds for retry in retries]
    assert pauses == sorted(pauses)
    assert retries[0].seconds <= 0.05
    assert "connection refused" in retries[0].reason


def test_the_whole_patience_is_used_before_giving_up() -> None:
    """Dialling is repeated until the time is over, and the message has the last reason."""
    port = free_port()
    clock = PatientClock()
    with pytest.raises(Failure) as caught:
        run(dial_until(Endpoint(HERE, port), 2.0), clock)
    assert caught.value.exit is Exit.TIMEOUT
    assert str(caught.value).startswith(f"cannot connect to {HERE}:{port}: still connection refused after 2 s")
    assert clock.time == pytest.approx(2.0, abs=0.05)


def test_a_patience_of_nothing_dials_once() -> None:
    """With a time of 0 there is a single attempt, and its failure is TIMEOUT."""
    events: list[Any] = []
    with pytest.raises(Failure) as caught:
        run(dial_until(Endpoint(HERE, free_port()), 0.0, observe=events.append), PatientClock())
    assert caught.value.exit is Exit.TIMEOUT
    assert [type(event) for event in events] == [Trying, Missed]


def test_what_waiting_cannot_mend_is_not_waited_for() -> None:
    """A failure that waiting cannot change, such as a source that is not ours, is raised at once."""
    clock = PatientClock()
    with pytest.raises(Failure) as caught:
        run(dial_until(Endpoint(HERE, free_port()), 60.0, Dialling(source=(DEAD, 0))), clock)
    assert caught.value.exit is Exit.BIND
    assert clock.time == 0


# -- unix sockets


async def dial_unix(path: str, timeout: float = 10.0) -> None:
    """Dial a unix socket, and close."""
    stream = await dial(Endpoint(path=path), Dialling(timeout=timeout))
    assert stream.name == str(Endpoint(path=path))
    stream.close()


@on_kernel
async def test_a_unix_socket_is_dialled(tmp_path: Path) -> None:
    """A socket file and an abstract name can be dialled."""
    for path in (str(tmp_path / "socket"), f"\0netkit-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            await dial_unix(path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("nothing", "no such file or directory"), ("file", "connection refused"), ("stale", "connection refused")],
)
@on_kernel
async def test_a_unix_socket_that_nobody_serves_is_a_failure(tmp_path: Path, kind: str, reason: str) -> None:
    """The message tells a missing path from one on which nobody listens."""
    path = tmp_path / "socket"
    if kind == "file":
        path.touch()
    if kind == "stale":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    with pytest.raises(Failure) as caught:
        await dial_unix(str(path))
    assert caught.value.exit is Exit.CONNECT
    assert str(caught.value) == f"cannot connect to unix:{path}: {reason}"


@on_kernel
async def test_a_unix_listener_that_is_full_is_waited_for(tmp_path: Path) -> None:
    """With a full backlog we connect once there is room, or fail with TIMEOUT."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(path)
        server.listen(0)
        first.connect(path)
        with pytest.raises(Failure) as caught:
            await dial_unix(path, 0.3)
        assert caught.value.exit is Exit.TIMEOUT
        assert str(caught.value) == f"cannot connect to unix:{path}: no answer within 300 ms"
        assert now() == pytest.approx(0.3)
        async with Group() as group:
            waiting = group.start_soon(dial_unix(path))
            await sleep(0.1)
            assert not waiting.finished.is_set()
            server.accept()[0].close()
        assert now() == pytest.approx(0.4, abs=0.05)
