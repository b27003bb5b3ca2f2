"""Relays and bridges: when a conversation ends, what counts as delivered, and that no byte is lost or made up."""

import errno
import inspect
import os
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core import kernel
from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure, most_severe
from netkit.core.events import EndSent, InputLeft, InputUnread, Unanswered, WantsTls, ignore
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.pump import Change, Done, pump
from netkit.core.relay import (
    AFTER_SILENCE,
    AFTER_THE_ANSWER,
    AT_ONCE,
    GRACE,
    NEVER,
    Break,
    Ending,
    Input,
    Shutdown,
    bridge,
    relay,
)
from netkit.core.socket_stream import SocketStream
from netkit.core.sync import Event
from netkit.services.transforms import crlf
from tests import memory
from tests.clock import JumpClock, in_real_time, on_kernel, run
from tests.contract import read_all, send_all
from tests.memory import CAPACITY, MemoryStream, acknowledging_pair
from tests.support import reset
from tests.support.data import check_same
from tests.support.peers import tcp_sockets
from tests.support.properties import examples
from tests.support.streams import Steps

HOUR = 3600.0
HOLD = Ending(hold=True)
TYPED = Ending(Input.TERMINAL)
SEND_ONLY = Ending(send_only=True)

Script = Callable[[MemoryStream], Awaitable[None]]

# Steps of a script.
END, CLOSE, ABORT = MemoryStream.send_eof, MemoryStream.close, MemoryStream.abort
RECV = MemoryStream.recv


def script(*steps: bytes | float | Callable[[MemoryStream], Any]) -> Script:
    """What one side does, step by step: it sends bytes, waits for so many seconds, or does what a function says."""

    async def follow(stream: MemoryStream) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await stream.send(step)
            elif isinstance(step, int | float):
                await sleep(step)
            elif inspect.isawaitable(done := step(stream)):
                await done

    return follow


class Outcome:
    """What a relay returned or raised and when, and what each side had received by then."""

    first = ""
    failure: Failure | None = None
    at = 0.0

    def __init__(self) -> None:
        self.user_got = bytearray()
        self.server_got = bytearray()
        self.user_saw_end = Event()
        self.server_saw_end = Event()
        self.events: list[Any] = []

    @property
    def exit(self) -> Exit:
        return self.failure.exit if self.failure else Exit.OK


async def collect(stream: MemoryStream, into: bytearray, end: Event) -> None:
    """Receive until the end or a failure."""
    try:
        while data := await stream.recv():
            into += data
        end.set()
    except Failure:
        pass


def converse(
    user: Script,
    server: Script,
    ending: Ending = Ending(),
    *,
    outgoing: Change | None = None,
    incoming: Change | None = None,
    user_reads: bool = True,
    server_reads: bool = True,
    fails: bool | None = False,
) -> Outcome:
    """Relay between a user and a server, each of which follows a script, on a clock that jumps.

    ``fails`` is whether the relay has to fail; None if it may.
    """
    outcome = Outcome()

    async def main() -> None:
        local, keyboard = memory.pair()
        peer, far = acknowledging_pair()
        async with Group() as group:
            if user_reads:
                group.start_soon(collect(keyboard, outcome.user_got, outcome.user_saw_end))
            if server_reads:
                group.start_soon(collect(far, outcome.server_got, outcome.server_saw_end))
            group.start_soon(user(keyboard))
            group.start_soon(server(far))
            try:
                ended = await relay(
                    local, peer, ending, outgoing=outgoing, incoming=incoming, observe=outcome.events.append
                )
                outcome.first = ended.first
                if outgoing is None:
                    assert peer.counts.sent == local.counts.received, "what was read was not sent"
            except Failure as failure:
                outcome.failure = failure
            outcome.at = now()
            for _ in range(3):  # so that data in transit arrives
                await sleep(0)
            assert not local._closed and not peer._closed
            group.cancel()

    run(main())
    assert fails is None or (outcome.failure is not None) is fails, outcome.failure
    return outcome


# -- when to leave


def test_after_our_end_the_answer_is_read_however_late_it_comes() -> None:
    """The end of our input is sent on at once, and we wait for the answer without a limit."""
    outcome = converse(script(b"question", END), script(HOUR, b"answer", END))
    assert outcome.first == "local"
    assert (outcome.server_got, outcome.user_got) == (b"question", b"answer")
    assert outcome.server_saw_end.is_set() and outcome.user_saw_end.is_set()
    assert HOUR <= outcome.at < HOUR + 0.1
    assert outcome.events == []


def test_after_the_peers_end_idle_typing_is_left_unread_once_the_grace_is_over() -> None:
    """An open keyboard does not keep us: we leave half a second after the peer, and report the input as unread."""
    outcome = converse(script(), script(HOUR, END), TYPED)
    assert outcome.first == "peer"
    assert outcome.at == HOUR + GRACE
    assert outcome.events == [InputUnread(GRACE)]
    assert not outcome.server_saw_end.is_set()
    assert outcome.user_saw_end.is_set()


@pytest.mark.parametrize("ending", [Ending(), HOLD, Ending(Input.PROGRAM)], ids=["unheard", "hold", "program"])
def test_input_that_may_come_late_is_awaited_and_sent_to_its_end(ending: Ending) -> None:
    """So it is with ``hold``, if our input is a program, or if the peer has ended without having sent a byte."""
    server = script(END) if ending == Ending() else script(b"work", END)
    outcome = converse(script(b"one ", HOUR, b"two", END), server, ending)
    assert outcome.server_got == b"one two"
    assert HOUR <= outcome.at < HOUR + 0.1
    assert outcome.events == []


def test_a_programs_end_is_awaited_for_the_grace_if_one_is_given() -> None:
    """The default has no limit for a program; --grace sets one."""
    outcome = converse(script(HOUR, b"late", END), script(b"work", END), Ending(Input.PROGRAM, grace=3.0))
    assert (outcome.server_got, outcome.at) == (b"", 3.0)


@pytest.mark.parametrize("sent", [b"", b"log line"])
def test_a_peer_that_spoke_and_ended_leaves_a_pipe_open(sent: bytes) -> None:
    """We leave once the pipe has been idle for the grace; if some of it was sent, we report that it was still open."""
    outcome = converse(script(sent), script(HOUR, b"bye", END))
    assert outcome.at == HOUR + GRACE
    assert outcome.events == [InputLeft(len(sent)) if sent else InputUnread(GRACE)]


@pytest.mark.parametrize("ending", [Ending(), HOLD, SEND_ONLY])
def test_a_peer_that_is_gone_is_waited_for_no_more(ending: Ending) -> None:
    """Once the peer has closed the connection, the conversation ends, whatever is known of our input."""
    outcome = converse(script(b"all that there was"), script(RECV, END, 60, CLOSE), ending, server_reads=False)
    assert outcome.at == 60


# -- when our end is sent


@pytest.mark.parametrize(
    ("shutdown", "server", "told", "seen_at", "ended_at"),
    [
        (AT_ONCE, (5, b"word", 4), [], 0, 9),
        (AFTER_THE_ANSWER, (5, b"word", 4), [], 7, 9),
        (AFTER_THE_ANSWER, (5, b"word", 1.5, b"word", 1.5, b"word", 22), [], 10, 30),
        (AFTER_THE_ANSWER, (30,), [EndSent(10.0)], 10, 30),
        (AFTER_THE_ANSWER, (1, b"word", 1), [], 2, 2),
        (AFTER_SILENCE, (5, b"word", 25), [], 15, 30),
        (Shutdown(3, 3), (30,), [], 3, 30),
        (NEVER, (5, b"word", 25), [], None, 30),
    ],
)
def test_our_end_goes_out_when_it_may(
    shutdown: Shutdown, server: tuple[Any, ...], told: list[object], seen_at: float | None, ended_at: float
) -> None:
    """Our end is sent at once, after a silence of the peer, or with the peer's end, as ``shutdown`` says."""
    seen: list[float] = []

    async def watch(far: MemoryStream) -> None:
        while await far.recv():
            pass
        seen.append(now())

    async def serve(far: MemoryStream) -> None:
        async with Group() as group:
            group.start_soon(watch(far))
            await script(*server, END)(far)

    outcome = converse(script(b"request", END), serve, Ending(shutdown=shutdown), server_reads=False)
    assert outcome.user_got == b"word" * server.count(b"word")
    assert [event for event in outcome.events if not isinstance(event, Unanswered)] == told
    assert seen == ([] if seen_at is None else [pytest.approx(seen_at, abs=0.1)])
    assert outcome.at == pytest.approx(ended_at, abs=0.1)


def test_without_shutdown_our_end_is_kept_from_the_peer() -> None:
    """With ``NEVER`` the peer does not see our end, which might make it drop the connection; we leave when it ends."""
    outcome = converse(script(b"request", END), script(HOUR, b"reply", END), Ending(shutdown=NEVER))
    assert (outcome.server_got, outcome.user_got) == (b"request", b"reply")
    assert not outcome.server_saw_end.is_set()
    assert HOUR <= outcome.at < HOUR + 0.1


def test_an_answer_may_come_before_what_asked_for_it_is_acknowledged() -> None:
    """As over TCP, the answer may arrive before the request is acknowledged; our end is sent 2 s after both."""
    seen: list[float] = []

    async def take_all(far: MemoryStream) -> None:
        while await far.recv():
            pass
        seen.append(now())

    server = script(1, b"answer", 1, take_all, END)
    outcome = converse(script(b"request", END), server, Ending(shutdown=AFTER_THE_ANSWER), server_reads=False)
    assert (outcome.user_got, outcome.events) == (b"answer", [])
    assert seen == [pytest.approx(4, abs=0.1)]


def test_our_end_waits_while_what_came_is_still_being_written() -> None:
    """While our slow output still takes the answer, the peer is not silent, and our end must not be sent."""

    async def take_slowly(keyboard: MemoryStream) -> None:
        received = b""
        while len(received) < 4 * CAPACITY:
            await sleep(5)
            received += await keyboard.recv()

    def check(far: MemoryStream) -> None:
        assert far._in.ended is False

    outcome = converse(
        script(b"request", END, take_slowly),
        script(RECV, bytes(4 * CAPACITY), check, END),
        Ending(shutdown=AFTER_THE_ANSWER),
        user_reads=False,
        server_reads=False,
    )
    assert outcome.at > 30


def test_what_was_wanted_ends_the_conversation() -> None:
    """Once a change raises ``Done``, our end is sent and no more is read, and unread input is no failure."""

    def until(data: bytes) -> bytes:
        raise Done(data[:4])

    user = script(b"ruok", HOUR, b"never read")
    server = script(RECV, b"imok and more", RECV, b"unread")
    outcome = converse(user, server, incoming=until, server_reads=False)
    assert outcome.user_got == b"imok"
    assert outcome.at == pytest.approx(0, abs=0.1)


def test_after_the_peers_end_input_that_comes_in_time_is_still_sent() -> None:
    """The grace starts anew with every byte, and everything that was read is delivered."""
    outcome = converse(script(*[0.4, b"x"] * 10), script(END), TYPED)
    assert outcome.server_got == b"x" * 10
    assert outcome.at == pytest.approx(10 * 0.4 + GRACE)


def test_after_the_peers_end_we_leave_with_our_inputs_end() -> None:
    """Input that ends within the grace is sent completely, then its end, and then we leave."""
    data = random.Random(1).randbytes(10 * CAPACITY)
    outcome = converse(script(0.3, data, END), script(END))
    assert outcome.server_got == data
    assert outcome.server_saw_end.is_set()
    assert outcome.at == pytest.approx(0.3, abs=0.1)
    assert outcome.events == []


async def take_until_cut(stream: MemoryStream) -> None:
    """Receive until the test ends or the stream fails."""
    while True:
        await stream.recv()


def test_input_that_comes_in_the_moment_in_which_the_grace_is_over_is_not_read_in_vain() -> None:
    """Such input is left unread, delivered, or reported as a failure, but never read and silently dropped."""
    user = script(bytes(CAPACITY - 100), GRACE, bytes(10_000))
    server = script(*[0] * 10, END, 60, take_until_cut)
    outcome = converse(user, server, TYPED, server_reads=False, fails=None)
    assert outcome.exit in (Exit.OK, Exit.SEND)


def test_a_peer_that_ends_and_reads_slowly_still_gets_everything() -> None:
    """The grace runs only while we wait for input, not while input waits for a slow peer."""
    data = random.Random(2).randbytes(4 * CAPACITY)

    async def take_slowly(far: MemoryStream) -> None:
        received = b""
        while len(received) < len(data):
            await sleep(10)
            received += await far.recv()
        assert received == data

    outcome = converse(script(data), script(END, take_slowly), TYPED, server_reads=False)
    assert outcome.at > 100


def test_without_grace_we_leave_with_the_peer() -> None:
    """With a grace of 0 we leave at the peer's end without waiting for another byte."""
    outcome = converse(script(), script(5, b"bye", END), Ending(Input.TERMINAL, grace=0))
    assert outcome.user_got == b"bye"
    assert outcome.at == 5


def test_without_grace_bytes_that_were_read_are_never_dropped_silently() -> None:
    """Data that the peer has not taken when it ends is delivered, or the failure has the number of bytes lost."""
    taken = bytearray()

    async def take(far: MemoryStream) -> None:
        while True:
            taken.extend(await far.recv())

    server = script(5, END, 5, take)
    ending = Ending(Input.TERMINAL, grace=0)
    outcome = converse(script(bytes(3 * CAPACITY)), server, ending, server_reads=False, fails=None)
    if outcome.failure is None:
        assert len(taken) == 3 * CAPACITY
    else:
        assert outcome.exit is Exit.SEND
        assert "bytes not acknowledged" in str(outcome.failure)


def test_send_only_leaves_once_our_input_is_acknowledged() -> None:
    """With ``send_only`` we leave when the peer has acknowledged the last byte."""
    outcome = converse(script(b"log line", END), script(60, RECV), SEND_ONLY, server_reads=False)
    assert 60 <= outcome.at < 60.1


def test_send_only_goes_on_receiving_until_all_is_acknowledged() -> None:
    """Received data is still read, so that a peer that answers more than it receives does not block."""

    async def chatter(far: MemoryStream) -> None:
        await pump(far, far, lambda data: data * 4)

    converse(script(bytes(10 * CAPACITY), END), chatter, SEND_ONLY, server_reads=False)


@pytest.mark.parametrize("send_only", [False, True])
def test_a_peer_that_ends_without_a_word_is_told_of(send_only: bool) -> None:
    """The peer may have dropped us because of our half-close; with ``send_only`` this is not reported."""
    server = script(RECV, 0.0001, END)  # so that the peer ends before we ask again for acknowledgements
    outcome = converse(script(b"request", END), server, Ending(send_only=send_only))
    assert outcome.events == ([] if send_only else [Unanswered()])


CLIENT_HELLO, SERVER_HELLO = b"\x16\3\1\2\0\1\0", b"\x16\3\3\0\x7a\2\0"
ALERT = b"\x15\3\3\0\2\2\x16"


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        (b"", CLIENT_HELLO, True),
        (b"220 hello", CLIENT_HELLO, True),
        (b"GET /", ALERT, True),
        (CLIENT_HELLO, SERVER_HELLO, False),
        (CLIENT_HELLO, ALERT, False),
        (b"GET /", b"\x15\3", False),
        (b"GET /", b"\x16\3\1 or other", False),
    ],
)
def test_a_peer_that_speaks_tls_is_told_of(ours: bytes, theirs: bytes, told: bool) -> None:
    """A peer that starts TLS is reported, unless our side speaks TLS as well."""
    outcome = converse(script(ours, END), script(theirs, END))
    assert any(isinstance(event, WantsTls) for event in outcome.events) is told


@pytest.mark.parametrize(("ours", "hint"), [(b"GET /", True), (CLIENT_HELLO, False)])
def test_a_reset_without_an_answer_may_be_for_want_of_tls(ours: bytes, hint: bool) -> None:
    """The failure suggests TLS, unless our side spoke TLS."""
    outcome = converse(script(ours), script(RECV, ABORT), server_reads=False, fails=True)
    assert outcome.failure is not None
    assert ("TLS" in outcome.failure.hint) is hint


def test_success_waits_for_the_last_acknowledgement() -> None:
    """After the ends of both sides we still wait until all data is acknowledged."""
    outcome = converse(script(b"precious", END), script(END, 7, RECV), server_reads=False)
    assert 7 <= outcome.at < 7.1


# -- what went wrong


def test_a_reset_while_receiving_with_all_of_ours_taken_is_of_receiving() -> None:
    """If all our data was delivered, a reset is a failure of receiving, with the number of bytes received."""
    outcome = converse(script(b"question"), script(1, b"ans", 1, ABORT), fails=True)
    assert outcome.exit is Exit.RECV
    assert str(outcome.failure) == "cannot receive from peer: connection reset by peer (after 3 bytes)"
    assert outcome.user_got == b"ans"
    assert not outcome.user_saw_end.is_set()


def test_a_reset_while_bytes_are_unacknowledged_is_of_sending_and_counts_them() -> None:
    """If the peer did not take all that we read, a reset is a failure of sending, with the number of bytes lost."""
    taken = bytearray()

    async def take(far: MemoryStream) -> None:
        taken.extend(await far.recv())

    outcome = converse(script(bytes(3 * CAPACITY)), script(1, take, ABORT), server_reads=False, fails=True)
    assert outcome.exit is Exit.SEND
    assert outcome.failure is not None
    lost, of = (int(word) for word in outcome.failure.detail.split() if word.isdigit())
    assert len(taken) == of - lost
    assert of > CAPACITY
    assert outcome.failure.reason == "connection reset by peer"


@pytest.mark.parametrize(
    ("server", "ending"),
    [
        pytest.param(script(END, 3, ABORT), Ending(), id="after both ends"),
        pytest.param(script(3, ABORT), SEND_ONLY, id="send only"),
    ],
)
def test_a_reset_before_all_is_acknowledged_is_always_a_failure(server: Script, ending: Ending) -> None:
    """So it is even after the ends of both sides, and with ``send_only``."""
    outcome = converse(script(b"lost", END), server, ending, server_reads=False, fails=True)
    assert outcome.exit is Exit.SEND
    assert "4 of 4 bytes not acknowledged" in str(outcome.failure)


def test_a_reset_with_the_last_acknowledgement_is_a_failure_too() -> None:
    """A reset is of receiving even if both sides have ended, and it came once all was acknowledged."""
    outcome = converse(script(b"taken", END), script(b"so far", END, 3, RECV, ABORT), server_reads=False, fails=True)
    assert outcome.exit is Exit.RECV
    assert outcome.user_got == b"so far"


def read_no_more(stream: MemoryStream) -> None:
    """Let what the other end sends fail; the stream can still send."""
    stream._in.broken = errno.EPIPE
    stream._in.notify_all()


def test_what_the_peer_said_before_our_sending_failed_is_still_received() -> None:
    """If the peer stops reading and then sends an explanation in pieces, all of it is received."""
    server = script(read_no_more, 1.1, b"413 ", 0.2, b"too ", 0.2, b"large", 0.2)
    outcome = converse(script(1, bytes(CAPACITY)), server, server_reads=False, fails=True)
    assert outcome.exit is Exit.SEND
    assert outcome.user_got == b"413 too large"


class Broken(MemoryStream):
    """Our own side, with a time from which reading or writing fails."""

    reads_until: float | None = None
    writes_until: float | None = None

    async def recv(self) -> bytes:
        if self.reads_until is None:
            return await super().recv()
        await sleep(self.reads_until - now())
        raise Failure(Exit.READ, "read stdin", OSError(errno.EIO, os.strerror(errno.EIO)))

    async def send(self, data: bytes) -> None:
        if self.writes_until is not None:
            await sleep(max(0.0, self.writes_until - now()))
            raise Failure(Exit.WRITE, "write to stdout", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        await super().send(data)


@pytest.mark.parametrize(
    ("reads_until", "writes_until", "server", "expected"),
    [
        pytest.param(1, None, script(b"x"), Exit.READ, id="input"),
        pytest.param(None, 1, script(b"x"), Exit.WRITE, id="output"),
        pytest.param(1, 1, script(b"x"), Exit.WRITE, id="output before input"),
        pytest.param(1, None, script(b"x", 1, ABORT), Exit.READ, id="input before reset"),
        pytest.param(None, 1, script(b"x", 1, ABORT), Exit.WRITE, id="output before reset"),
        pytest.param(1, 1, script(b"x", 1, ABORT), Exit.WRITE, id="all at once"),
    ],
)
@on_kernel
async def test_of_failures_at_the_same_moment_the_gravest_is_told(
    reads_until: float | None, writes_until: float | None, server: Script, expected: Exit
) -> None:
    """Failures of our own files come before those of the network, and those of stdout before stdin."""
    local = Broken("local", memory._Pipe(), memory._Pipe())
    local.reads_until, local.writes_until = reads_until, writes_until
    peer, far = acknowledging_pair()
    async with Group() as group:
        group.start_soon(server(far))
        with pytest.raises(Failure) as caught:
            await relay(local, peer, observe=print)
        assert now() == 1
        group.cancel()
    assert caught.value.exit is expected


@given(st.permutations([Exit.WRITE, Exit.READ, Exit.TIMEOUT, Exit.SEND, Exit.RECV]), st.integers(1, 5))
def test_the_gravest_of_failures_does_not_depend_on_their_order(exits: list[Exit], count: int) -> None:
    """The order of severity is stdout, stdin, our timeouts, sending, receiving, whichever failed first."""
    happened = exits[:count]
    order = [Exit.WRITE, Exit.READ, Exit.TIMEOUT, Exit.SEND, Exit.RECV]
    assert most_severe(Failure(exit, "do", "reason") for exit in happened).exit == min(happened, key=order.index)


@on_kernel
async def test_a_failure_of_the_server_side_leaves_no_task_behind() -> None:
    """After a failure neither direction still waits on a stream."""
    local, _ = memory.pair()
    peer, far = memory.pair()
    far.abort()
    with pytest.raises(Failure):
        await relay(local, peer, observe=print)
    async with Group() as group:  # fails if another task still waits on the stream
        group.start_soon(local.recv())
        await sleep(0)
        group.cancel()


@on_kernel
async def test_only_this_conversation_counts() -> None:
    """Data sent over the stream before the relay is not in its counts."""
    local, keyboard = memory.pair()
    peer, far = acknowledging_pair()
    await peer.send(b"handshake")
    await far.recv()
    await keyboard.send(b"lost")
    async with Group() as group:
        group.start_soon(script(1, ABORT)(far))
        with pytest.raises(Failure) as caught:
            await relay(local, peer, observe=print)
    assert caught.value.detail == "4 of 4 bytes not acknowledged"


# -- bounds


def test_one_direction_never_stops_the_other() -> None:
    """A user who does not read makes the server wait, and what the user sends still arrives."""
    data = random.Random(3).randbytes(20 * CAPACITY)
    flood: list[MemoryStream] = []
    held_back: list[int] = []
    arrived: list[int] = []

    async def read_later(keyboard: MemoryStream) -> None:
        held_back.append(flood[0].counts.sent)
        while await keyboard.recv():
            pass

    outcome = converse(
        script(1, data, HOUR, read_later, END),
        script(flood.append, bytes(100 * CAPACITY), lambda far: arrived.append(far.counts.received), END),
        user_reads=False,
    )
    assert held_back[0] <= 3 * CAPACITY
    assert arrived == [len(data)]
    assert outcome.server_got == data


# -- changes


def test_each_direction_goes_through_its_change_which_gives_back_what_it_holds_at_the_end() -> None:
    """A change is called with b"" once, at the end, to return what it holds; returning b"" before ends nothing."""
    held = bytearray()

    def hold(data: bytes) -> bytes:
        held.extend(data)
        return bytes(held) if not data else b""

    user = script(b"one ", 1, b"two ", 1, b"three", 1, END)
    outcome = converse(user, script(b"reply", END), HOLD, outgoing=hold, incoming=bytes.upper)
    assert outcome.server_got == b"one two three"
    assert outcome.user_got == b"REPLY"


def test_a_change_that_grows_the_data_counts_what_it_makes() -> None:
    """Lost bytes are counted after the change, as the peer would have got them."""
    outcome = converse(script(b"\n" * 10), script(1, ABORT), outgoing=crlf(), server_reads=False, fails=True)
    assert "20 of 20 bytes not acknowledged" in str(outcome.failure)


# -- no byte is lost or made up

PIECES = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0.1, 0.4, 3]), st.sampled_from([1, 10, 1000, CAPACITY - 1, CAPACITY + 1, 3 * CAPACITY])
    ),
    max_size=6,
)
"""Pauses, each with the size of what is sent after it."""


def speech(pieces: list[tuple[float, int]], seed: int) -> tuple[Script, bytes]:
    """A script that sends pieces of random data and then the end, and all of that data."""
    data = random.Random(seed).randbytes(sum(size for _, size in pieces))
    steps: list[bytes | float] = []
    begin = 0
    for pause, size in pieces:
        steps += pause, data[begin : begin + size]
        begin += size
    return script(*steps, END), data


@examples(60)
@given(PIECES, PIECES, st.booleans())
def test_relay_conserves_bytes(there: list[tuple[float, int]], back: list[tuple[float, int]], half_close: bool) -> None:
    """Whatever the pieces and pauses, each side gets exactly what the other sent, and then the end."""
    (user, asked), (server, answered) = speech(there, 4), speech(back, 5)
    outcome = converse(user, server, Ending(hold=True, shutdown=AT_ONCE if half_close else NEVER))
    assert outcome.server_got == asked
    assert outcome.user_got == answered
    assert outcome.server_saw_end.is_set() is half_close
    assert outcome.user_saw_end.is_set()
    last = max(sum(pause for pause, _ in pieces) for pieces in (there, back))
    assert last - 0.001 < outcome.at < last + 1  # Python 3.12 and later round sums of pauses differently


@examples(60)
@given(PIECES, PIECES, st.floats(0, 5), st.sampled_from([0.0, GRACE, None]))
def test_a_relay_that_is_cut_short_never_claims_success(
    there: list[tuple[float, int]], back: list[tuple[float, int]], moment: float, grace: float | None
) -> None:
    """After a reset at any moment each side has a prefix of the data, and success means that all was exchanged."""
    (user, asked), (speak, answered) = speech(there, 6), speech(back, 7)

    async def say(far: MemoryStream) -> None:
        try:
            await speak(far)
        except Failure:
            pass  # cut short

    async def server(far: MemoryStream) -> None:
        async with Group() as group:
            group.start_soon(say(far))
            await sleep(moment)
            far.abort()

    outcome = converse(user, server, Ending(grace=grace), fails=None)
    assert asked.startswith(outcome.server_got)
    assert answered.startswith(outcome.user_got)
    if outcome.failure is None:
        assert outcome.user_got == answered
        assert outcome.at <= moment or outcome.server_got == asked
    else:
        assert outcome.exit in (Exit.SEND, Exit.RECV)


def test_a_deadline_around_a_relay_ends_both_directions() -> None:
    """A deadline of the caller ends the conversation at once."""

    async def main() -> None:
        local, _ = memory.pair()
        peer, _ = memory.pair()
        with deadline(30):
            await relay(local, peer, observe=print)

    clock = JumpClock()
    with pytest.raises(DeadlineExceeded):
        run(main(), clock)
    assert clock.time == 30


# -- bridges

BULK = 8 << 20


@on_kernel
async def test_each_way_ends_by_itself() -> None:
    """The client's end is passed on, and it is probed; the target's answer still arrives."""
    client, ours = memory.pair()
    target, theirs = memory.pair()
    probed: list[str] = []
    ours.probe = lambda: probed.append("client")  # type: ignore[method-assign]
    theirs.probe = lambda: probed.append("target")  # type: ignore[method-assign]
    async with Group() as group:
        joined = group.start_soon(bridge(ours, theirs, observe=ignore))
        await client.send(b"question")
        await client.send_eof()
        assert await read_all(target) == b"question"
        await target.send(b"answer")
        assert await client.recv() == b"answer"
        assert probed == ["client"]
        assert not joined.finished.is_set()
        await target.send_eof()
        assert await client.recv() == b""
        await joined.finished.wait()
    assert joined.result is None


@pytest.mark.parametrize("side", ["client", "target"])
@on_kernel
async def test_who_broke_it_is_told(side: str) -> None:
    """The result names the stream that was reset, and data received before still reaches the client."""
    client, ours = memory.pair()
    target, theirs = memory.pair()
    async with Group() as group:
        joined = group.start_soon(bridge(ours, theirs, observe=ignore))
        await target.send(b"so far")
        assert await client.recv() == b"so far"
        (client if side == "client" else target).abort()
        await joined.finished.wait()
    broken: Break = joined.result
    assert broken.stream is (ours if side == "client" else theirs)
    assert isinstance(broken.failure, Failure)
    assert broken.failure.exit in (Exit.RECV, Exit.SEND)


@on_kernel
async def test_who_takes_no_more_broke_it() -> None:
    """If sending fails, the result names the stream that was sent to."""
    client, ours = memory.pair()
    target, theirs = memory.pair()
    async with Group() as group:
        joined = group.start_soon(bridge(ours, theirs, observe=ignore))
        read_no_more(target)
        await client.send(b"question")
        await joined.finished.wait()
    assert joined.result.stream is theirs
    assert joined.result.failure.exit is Exit.SEND


@on_kernel
async def test_a_bridge_waits_until_all_is_acknowledged() -> None:
    """Although both peers have ended, it goes on until the target has taken what the client sent."""
    client, ours = memory.pair()
    theirs, target = acknowledging_pair()
    async with Group() as group:
        joined = group.start_soon(bridge(ours, theirs, observe=ignore))
        await client.send(b"question")
        await client.send_eof()
        await target.send_eof()
        await sleep(10)
        assert not joined.finished.is_set()
        assert await read_all(target) == b"question"
    assert joined.result is None


@pytest.mark.parametrize(("path", "after"), [(None, 0), ("socket", 60)])
@on_kernel
async def test_a_client_that_left_breaks_it(path: str | None, after: float) -> None:
    """One over a unix socket, which tells that at once, is given as long as the probes of TCP take."""
    client, ours = memory.pair()
    target, theirs = memory.pair()
    ours.peer = Endpoint(path=path)
    async with Group() as group:
        joined = group.start_soon(bridge(ours, theirs, observe=ignore))
        client.close()
        assert await read_all(target) == b""
        await joined.finished.wait()
        assert now() == after
    assert (joined.result.stream, joined.result.failure.reason) == (ours, "it has left")


@pytest.mark.parametrize(("pause", "lost"), [(0.1, 0), (0.3, 6)])
@on_kernel
async def test_a_client_has_a_moment_to_take_the_last_words(pause: float, lost: int) -> None:
    """A target's reset is told once the client has acknowledged what came before, but after 0.25 s in any case."""
    ours, client = acknowledging_pair()
    target, theirs = memory.pair()
    async with Group() as group:
        joined = group.start_soon(bridge(ours, theirs, observe=ignore))
        await client.send_eof()
        assert await target.recv() == b""
        await target.send(b"answer")
        target.abort()
        group.start_soon(script(pause, RECV)(client))
        await joined.finished.wait()
        assert joined.result.stream is theirs
        assert ours.unacknowledged() == lost
    assert client.counts.received == 6


@in_real_time
async def test_what_a_target_said_before_it_left_reaches_the_client() -> None:
    """If the target answers, then resets while the client still sends, the client gets the answer."""
    client, ours = socket.socketpair()
    near, far = tcp_sockets()
    stream, other = SocketStream(ours, "client"), SocketStream(near, "target")
    far.sendall(b"no more")
    client.sendall(b"x" * 10_000)
    async with Group() as group:
        joined = group.start_soon(bridge(stream, other, observe=ignore))
        await kernel.to_thread(far.recv, 10)
        reset(far)
        await joined.finished.wait()
    assert joined.result.stream is other
    stream.close()
    other.abort()
    with client:
        assert client.recv(100) == b"no more"


@pytest.mark.parametrize("connected", [tcp_sockets, socket.socketpair])
@in_real_time
async def test_bulk_stays_in_the_kernel(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bulk data in both directions arrives whole, and all but its beginning is spliced."""
    steps = Steps(monkeypatch)
    (client, ours), (theirs, target) = connected(), connected()
    ends = [SocketStream(client, "a"), SocketStream(target, "b")]
    middle = [SocketStream(ours, "client"), SocketStream(theirs, "target")]
    data = [os.urandom(BULK) for _ in ends]
    async with Group() as group:
        for end, bulk in zip(ends, data, strict=True):
            group.start_soon(send_all(end, bulk))
        received = [group.start_soon(read_all(end)) for end in ends]
        assert await bridge(*middle, observe=ignore) is None
    for came, bulk in zip(received, reversed(data), strict=True):
        check_same(came.result, bulk)
    for stream in (*ends, *middle):
        stream.close()
    assert steps.moved > 2 * BULK
