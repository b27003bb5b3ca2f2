"""Relaying: when a conversation ends, what counts as delivered, and that no byte is lost or made up."""

import errno
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netkit.core.connection import acknowledged, idle_clock
from netkit.core.errors import Exit, Failure, most_severe
from netkit.core.events import EndSent, InputLeft, InputUnread, Unanswered, WantsTls
from netkit.core.flow import Flow
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.pump import Change, Done, pump
from netkit.core.relay import AFTER_SILENCE, AFTER_THE_ANSWER, AT_ONCE, GRACE, NEVER, Ending, Input, Shutdown, relay
from netkit.core.sync import Event
from netkit.services.transforms import crlf, visible
from tests import memory
from tests.clock import JumpClock, run
from tests.memory import CAPACITY, MemoryStream

HOUR = 3600.0
HOLD = Ending(hold=True)
TYPED = Ending(Input.TERMINAL)

Script = Callable[[MemoryStream], Awaitable[None]]


class Outcome:
    """What a relay returned or raised and when, and what each side had received by then."""

    said = ""
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


class Acknowledging(MemoryStream):
    """A peer that acknowledges what the other end has read; ``asked`` counts the calls of ``unacknowledged``."""

    other: MemoryStream
    asked = 0

    def unacknowledged(self) -> int:
        self.asked += 1
        return self.counts.sent - self.other.counts.received


def acknowledging_pair() -> tuple[Acknowledging, MemoryStream]:
    """Return the two ends of a connection; the first knows what was delivered."""
    near, far = memory.pair()
    peer = Acknowledging("peer", near._in, near._out)
    peer.other = far
    return peer, far


async def nothing(stream: MemoryStream) -> None:
    """Send nothing and return."""


async def collect(stream: MemoryStream, into: bytearray, end: Event) -> None:
    """Receive until the end or a failure."""
    try:
        while data := await stream.recv():
            into += data
        end.set()
    except Failure:
        pass


def converse(
    user: Script = nothing,
    server: Script = nothing,
    ending: Ending = Ending(),
    *,
    outgoing: Change | None = None,
    incoming: Change | None = None,
    user_reads: bool = True,
    server_reads: bool = True,
    clock: JumpClock | None = None,
) -> Outcome:
    """Relay between a user and a server, each of which follows a script, on a clock that jumps."""
    outcome = Outcome()

    async def main() -> None:
        local, keyboard = memory.pair()
        peer, far = acknowledging_pair()
        async with Group() as group:
            if user_reads:
                group.start_soon(collect(keyboard, outcome.user_got, outcome.user_saw_end))
            if server_reads:
                group.start_soon(collect(far, outcome.server_got, outcome.server_saw_end))
            group.start_soon(user(keyboard))  # type: ignore[arg-type]
            group.start_soon(server(far))  # type: ignore[arg-type]
            try:
                outcome.said = await relay(
                    local, peer, ending, outgoing=outgoing, incoming=incoming, observe=outcome.events.append
                )
                if outgoing is None:
                    assert peer.counts.sent == local.counts.received, "what was read was not sent"
            except Failure as failure:
                outcome.failure = failure
            outcome.at = now()
            for _ in range(3):  # so that data in transit arrives
                await sleep(0)
            assert not local._closed and not peer._closed
            group.cancel()

    run(main(), clock)
    return outcome


# -- when to leave


def test_after_our_end_the_answer_is_read_however_late_it_comes() -> None:
    """The end of our input is sent on at once, and we wait for the answer without a limit."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"question")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await sleep(HOUR)
        await far.send(b"answer")
        await far.send_eof()

    outcome = converse(user, server)
    assert outcome.failure is None
    assert outcome.said == "input ended first"
    assert (outcome.server_got, outcome.user_got) == (b"question", b"answer")
    assert outcome.server_saw_end.is_set() and outcome.user_saw_end.is_set()
    assert HOUR <= outcome.at < HOUR + 0.1
    assert outcome.events == []


def test_after_the_peers_end_idle_typing_is_left_unread_once_the_grace_is_over() -> None:
    """An open keyboard does not keep us: we leave half a second after the peer, and report the input as unread."""

    async def server(far: MemoryStream) -> None:
        await sleep(HOUR)
        await far.send_eof()

    outcome = converse(server=server, ending=TYPED)
    assert outcome.failure is None
    assert outcome.said == "peer ended first"
    assert outcome.at == HOUR + GRACE
    assert outcome.events == [InputUnread(GRACE)]
    assert not outcome.server_saw_end.is_set()
    assert outcome.user_saw_end.is_set()


def test_a_peer_that_never_said_a_byte_only_receives() -> None:
    """If a peer ends without having sent a byte, our pipe is still sent to its end, however late."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"one ")
        await sleep(HOUR)
        await keyboard.send(b"two")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await far.send_eof()

    outcome = converse(user, server)
    assert outcome.failure is None
    assert outcome.server_got == b"one two"
    assert HOUR <= outcome.at < HOUR + 0.1
    assert outcome.events == []


@pytest.mark.parametrize("sent", [b"", b"log line"])
def test_a_peer_that_spoke_and_ended_leaves_a_pipe_open(sent: bytes) -> None:
    """We leave once the pipe has been idle for the grace; if some of it was sent, we report that it was still open."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(sent)

    async def server(far: MemoryStream) -> None:
        await sleep(HOUR)
        await far.send(b"bye")
        await far.send_eof()

    outcome = converse(user, server)
    assert outcome.failure is None
    assert outcome.at == HOUR + GRACE
    assert outcome.events == [InputLeft(len(sent)) if sent else InputUnread(GRACE)]


def test_a_peer_that_is_gone_is_waited_for_no_more() -> None:
    """Once the peer has closed the connection, the conversation ends, whatever is known of our input."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"all that there was")

    async def server(far: MemoryStream) -> None:
        await far.recv()
        await far.send_eof()
        await sleep(60)
        far.close()

    for ending in (Ending(), HOLD, Ending(send_only=True)):
        outcome = converse(user, server, ending, server_reads=False)
        assert outcome.failure is None
        assert outcome.at == 60


def test_a_programs_end_is_awaited_however_late() -> None:
    """If our input is a program, we wait for its end without limit, unless --grace says how long."""

    async def user(keyboard: MemoryStream) -> None:
        await sleep(HOUR)
        await keyboard.send(b"late")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await far.send(b"work")
        await far.send_eof()

    outcome = converse(user, server, Ending(Input.PROGRAM))
    assert (outcome.server_got, outcome.failure) == (b"late", None)
    outcome = converse(user, server, Ending(Input.PROGRAM, grace=3.0))
    assert (outcome.server_got, outcome.at) == (b"", 3.0)


# -- when our end is sent


@pytest.mark.parametrize(
    ("shutdown", "speaks_at", "server_ends_at", "told", "seen_at"),
    [
        (AT_ONCE, [5], 9, [], 0),
        (AFTER_THE_ANSWER, [5], 9, [], 7),
        (AFTER_THE_ANSWER, [5, 6.5, 8], 30, [], 10),
        (AFTER_THE_ANSWER, [], 30, [EndSent(10.0)], 10),
        (AFTER_THE_ANSWER, [1], 2, [], 2),
        (AFTER_SILENCE, [5], 30, [], 15),
        (Shutdown(3, 3), [], 30, [], 3),
        (NEVER, [5], 30, [], None),
    ],
)
def test_our_end_goes_out_when_it_may(
    shutdown: Shutdown, speaks_at: list[float], server_ends_at: float, told: list[object], seen_at: float | None
) -> None:
    """Our end is sent at once, after a silence of the peer, or with the peer's end, as ``shutdown`` says."""
    seen: list[float] = []

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"request")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        async def watch() -> None:
            while await far.recv():
                pass
            seen.append(now())

        async with Group() as group:
            group.start_soon(watch())
            for at in speaks_at:
                await sleep(at - now())
                await far.send(b"word")
            await sleep(server_ends_at - now())
            await far.send_eof()

    outcome = converse(user, server, Ending(shutdown=shutdown), server_reads=False)
    assert outcome.failure is None
    assert outcome.user_got == b"word" * len(speaks_at)
    assert [event for event in outcome.events if not isinstance(event, Unanswered)] == told
    assert seen == ([] if seen_at is None else [pytest.approx(seen_at, abs=0.1)])
    assert outcome.at == pytest.approx(server_ends_at, abs=0.1)


def test_an_answer_may_come_before_what_asked_for_it_is_acknowledged() -> None:
    """As over TCP, the answer may arrive before the request is acknowledged; our end is sent 2 s after both."""
    seen: list[float] = []

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"request")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await sleep(1)
        await far.send(b"answer")
        await sleep(1)
        while await far.recv():
            pass
        seen.append(now())
        await far.send_eof()

    outcome = converse(user, server, Ending(shutdown=AFTER_THE_ANSWER), server_reads=False)
    assert (outcome.failure, outcome.user_got, outcome.events) == (None, b"answer", [])
    assert seen == [pytest.approx(4, abs=0.1)]


def test_our_end_waits_while_what_came_is_still_being_written() -> None:
    """While our slow output still takes the answer, the peer is not silent, and our end must not be sent."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"request")
        await keyboard.send_eof()
        received = b""
        while len(received) < 4 * CAPACITY:
            await sleep(5)
            received += await keyboard.recv()

    async def server(far: MemoryStream) -> None:
        await far.recv()
        await far.send(bytes(4 * CAPACITY))
        assert far._in.ended is False
        await far.send_eof()

    outcome = converse(user, server, Ending(shutdown=AFTER_THE_ANSWER), user_reads=False, server_reads=False)
    assert outcome.failure is None
    assert outcome.at > 30


def test_what_was_wanted_ends_the_conversation() -> None:
    """Once a change raises ``Done``, our end is sent and no more is read, and unread input is no failure."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"ruok")
        await sleep(HOUR)
        await keyboard.send(b"never read")

    async def server(far: MemoryStream) -> None:
        await far.recv()
        await far.send(b"imok and more")
        await far.recv()
        await far.send(b"unread")

    def until(data: bytes) -> bytes:
        raise Done(data[:4])

    outcome = converse(user, server, incoming=until, server_reads=False)
    assert (outcome.failure, outcome.user_got) == (None, b"imok")
    assert outcome.at == pytest.approx(0, abs=0.1)


def test_after_the_peers_end_input_that_comes_in_time_is_still_sent() -> None:
    """The grace starts anew with every byte, and everything that was read is delivered."""

    async def user(keyboard: MemoryStream) -> None:
        for _ in range(10):
            await sleep(0.4)
            await keyboard.send(b"x")

    async def server(far: MemoryStream) -> None:
        await far.send_eof()

    outcome = converse(user, server, TYPED)
    assert outcome.failure is None
    assert outcome.server_got == b"x" * 10
    assert outcome.at == pytest.approx(10 * 0.4 + GRACE)


def test_after_the_peers_end_we_leave_with_our_inputs_end() -> None:
    """Input that ends within the grace is sent completely, then its end, and then we leave."""
    data = random.Random(1).randbytes(10 * CAPACITY)

    async def user(keyboard: MemoryStream) -> None:
        await sleep(0.3)
        await keyboard.send(data)
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await far.send_eof()

    outcome = converse(user, server)
    assert outcome.failure is None
    assert outcome.server_got == data
    assert outcome.server_saw_end.is_set()
    assert outcome.at == pytest.approx(0.3, abs=0.1)
    assert outcome.events == []


def test_input_that_comes_in_the_moment_in_which_the_grace_is_over_is_not_read_in_vain() -> None:
    """Such input is left unread, delivered, or reported as a failure, but never read and silently dropped."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(bytes(CAPACITY - 100))
        await sleep(GRACE)
        await keyboard.send(bytes(10_000))

    async def server(far: MemoryStream) -> None:
        for _ in range(10):
            await sleep(0)
        await far.send_eof()
        await sleep(60)
        while True:
            await far.recv()

    outcome = converse(user, server, TYPED, server_reads=False)
    assert outcome.failure is None or outcome.exit is Exit.SEND


def test_a_peer_that_ends_and_reads_slowly_still_gets_everything() -> None:
    """The grace runs only while we wait for input, not while input waits for a slow peer."""
    data = random.Random(2).randbytes(4 * CAPACITY)

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(data)

    async def server(far: MemoryStream) -> None:
        await far.send_eof()
        received = b""
        while len(received) < len(data):
            await sleep(10)
            received += await far.recv()
        assert received == data

    outcome = converse(user, server, TYPED, server_reads=False)
    assert outcome.failure is None
    assert outcome.at > 100


def test_without_grace_we_leave_with_the_peer() -> None:
    """With a grace of 0 we leave at the peer's end without waiting for another byte."""

    async def server(far: MemoryStream) -> None:
        await sleep(5)
        await far.send(b"bye")
        await far.send_eof()

    outcome = converse(server=server, ending=Ending(Input.TERMINAL, grace=0))
    assert outcome.failure is None
    assert outcome.user_got == b"bye"
    assert outcome.at == 5


def test_without_grace_bytes_that_were_read_are_never_dropped_silently() -> None:
    """Data that the peer has not taken when it ends is delivered, or the failure has the number of bytes lost."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(bytes(3 * CAPACITY))

    async def server(far: MemoryStream) -> None:
        await sleep(5)
        await far.send_eof()
        await sleep(5)
        while True:
            taken.extend(await far.recv())

    taken = bytearray()
    outcome = converse(user, server, Ending(Input.TERMINAL, grace=0), server_reads=False)
    if outcome.failure is None:
        assert len(taken) == 3 * CAPACITY
    else:
        assert outcome.exit is Exit.SEND
        assert "bytes not acknowledged" in str(outcome.failure)


def test_hold_waits_for_our_inputs_end() -> None:
    """With ``hold`` the peer's end does not end the conversation, however long our input is silent."""

    async def user(keyboard: MemoryStream) -> None:
        await sleep(HOUR)
        await keyboard.send(b"late")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await far.send_eof()

    outcome = converse(user, server, HOLD)
    assert outcome.failure is None
    assert outcome.server_got == b"late"
    assert HOUR <= outcome.at < HOUR + 0.1
    assert outcome.events == []


def test_without_shutdown_our_end_is_kept_from_the_peer() -> None:
    """With ``NEVER`` the peer does not see our end, which might make it drop the connection; we leave when it ends."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"request")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await sleep(HOUR)
        await far.send(b"reply")
        await far.send_eof()

    outcome = converse(user, server, Ending(shutdown=NEVER))
    assert outcome.failure is None
    assert outcome.server_got == b"request"
    assert not outcome.server_saw_end.is_set()
    assert outcome.user_got == b"reply"
    assert HOUR <= outcome.at < HOUR + 0.1


def test_send_only_leaves_once_our_input_is_acknowledged() -> None:
    """With ``send_only`` we leave when the peer has acknowledged the last byte."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"log line")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await sleep(60)
        await far.recv()

    outcome = converse(user, server, Ending(send_only=True), server_reads=False)
    assert outcome.failure is None
    assert 60 <= outcome.at < 60.1


def test_send_only_goes_on_receiving_until_all_is_acknowledged() -> None:
    """Received data is still read, so that a peer that answers more than it receives does not block."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(bytes(10 * CAPACITY))
        await keyboard.send_eof()

    async def chatter(far: MemoryStream) -> None:
        await pump(far, far, lambda data: data * 4)

    outcome = converse(user, chatter, Ending(send_only=True), server_reads=False)
    assert outcome.failure is None


@pytest.mark.parametrize("send_only", [False, True])
def test_a_peer_that_ends_without_a_word_is_told_of(send_only: bool) -> None:
    """The peer may have dropped us because of our half-close; with ``send_only`` this is not reported."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"request")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await far.recv()
        await sleep(0.0001)  # so that the peer ends before we ask again for acknowledgements
        await far.send_eof()

    outcome = converse(user, server, Ending(send_only=send_only))
    assert outcome.failure is None
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

    async def user(keyboard: MemoryStream) -> None:
        if ours:
            await keyboard.send(ours)
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await far.send(theirs)
        await far.send_eof()

    outcome = converse(user, server)
    assert outcome.failure is None
    assert any(isinstance(event, WantsTls) for event in outcome.events) is told


@pytest.mark.parametrize(("ours", "hint"), [(b"GET /", True), (CLIENT_HELLO, False)])
def test_a_reset_without_an_answer_may_be_for_want_of_tls(ours: bytes, hint: bool) -> None:
    """The failure suggests TLS, unless our side spoke TLS."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(ours)

    async def server(far: MemoryStream) -> None:
        await far.recv()
        far.abort()

    outcome = converse(user, server, server_reads=False)
    assert outcome.failure is not None
    assert ("TLS" in outcome.failure.hint) is hint


def test_success_waits_for_the_last_acknowledgement() -> None:
    """After the ends of both sides we still wait until all data is acknowledged."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"precious")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await far.send_eof()
        await sleep(7)
        await far.recv()

    outcome = converse(user, server, server_reads=False)
    assert outcome.failure is None
    assert 7 <= outcome.at < 7.1


def test_waiting_for_acknowledgements_is_cheap() -> None:
    """Acknowledgements have to be polled for, but not more than about 20 times a second."""

    async def main() -> int:
        peer, far = acknowledging_pair()
        await peer.send(b"x")
        async with Group() as group:
            group.start_soon(acknowledged(peer))
            await sleep(10)
            await far.recv()
        return peer.asked

    assert run(main()) < 250


def test_a_short_conversation_is_not_held_up_by_the_wait_for_acknowledgements() -> None:
    """An acknowledgement that takes 1 ms delays us by little more than that."""

    async def main() -> float:
        peer, far = acknowledging_pair()
        await peer.send(b"x")
        async with Group() as group:
            group.start_soon(acknowledged(peer))
            await sleep(0.001)
            await far.recv()
        return now()

    assert run(main()) < 0.003


# -- what went wrong


def test_a_reset_while_receiving_with_all_of_ours_taken_is_of_receiving() -> None:
    """If all our data was delivered, a reset is a failure of receiving, with the number of bytes received."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"question")

    async def server(far: MemoryStream) -> None:
        await sleep(1)
        await far.send(b"ans")
        await sleep(1)
        far.abort()

    outcome = converse(user, server)
    assert outcome.exit is Exit.RECV
    assert str(outcome.failure) == "cannot receive from peer: connection reset by peer (after 3 bytes)"
    assert outcome.user_got == b"ans"
    assert not outcome.user_saw_end.is_set()


def test_a_reset_while_bytes_are_unacknowledged_is_of_sending_and_counts_them() -> None:
    """If the peer did not take all that we read, a reset is a failure of sending, with the number of bytes lost."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(bytes(3 * CAPACITY))

    async def server(far: MemoryStream) -> None:
        await sleep(1)
        taken.extend(await far.recv())
        far.abort()

    taken = bytearray()
    outcome = converse(user, server, server_reads=False)
    assert outcome.exit is Exit.SEND
    assert outcome.failure is not None
    lost, of = (int(word) for word in outcome.failure.detail.split() if word.isdigit())
    assert len(taken) == of - lost
    assert of > CAPACITY
    assert outcome.failure.reason == "connection reset by peer"


def test_a_reset_after_both_ends_is_still_a_failure() -> None:
    """A reset after the peer's end, while our data is not yet acknowledged, is a failure."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"lost")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await far.send_eof()
        await sleep(3)
        far.abort()

    outcome = converse(user, server, server_reads=False)
    assert outcome.exit is Exit.SEND
    assert "4 of 4 bytes not acknowledged" in str(outcome.failure)


def test_send_only_is_no_excuse_for_a_reset() -> None:
    """With ``send_only`` a reset is a failure as well."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"lost")
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await sleep(3)
        far.abort()

    outcome = converse(user, server, Ending(send_only=True), server_reads=False)
    assert outcome.exit is Exit.SEND


def test_what_the_peer_said_before_our_sending_failed_is_still_received() -> None:
    """If the peer stops reading and then sends an explanation in pieces, all of it is received."""

    async def user(keyboard: MemoryStream) -> None:
        await sleep(1)
        await keyboard.send(bytes(CAPACITY))

    async def server(far: MemoryStream) -> None:
        far._in.broken = errno.EPIPE  # reads no more, but can still send
        far._in.changed()
        await sleep(1.1)
        for word in (b"413 ", b"too ", b"large"):
            await far.send(word)
            await sleep(0.2)

    outcome = converse(user, server, server_reads=False)
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
    ("reads_until", "writes_until", "reset_at", "expected"),
    [
        pytest.param(1, None, None, Exit.READ, id="input"),
        pytest.param(None, 1, None, Exit.WRITE, id="output"),
        pytest.param(1, 1, None, Exit.WRITE, id="output before input"),
        pytest.param(1, None, 1, Exit.READ, id="input before reset"),
        pytest.param(None, 1, 1, Exit.WRITE, id="output before reset"),
        pytest.param(1, 1, 1, Exit.WRITE, id="all at once"),
    ],
)
def test_of_failures_at_the_same_moment_the_gravest_is_told(
    reads_until: float | None, writes_until: float | None, reset_at: float | None, expected: Exit
) -> None:
    """Failures of our own files come before those of the network, and those of stdout before stdin."""

    async def main() -> Failure:
        local = Broken("local", memory._Pipe(), memory._Pipe())
        local.reads_until, local.writes_until = reads_until, writes_until
        peer, far = acknowledging_pair()
        async with Group() as group:

            async def server() -> None:
                await far.send(b"x")
                if reset_at is not None:
                    await sleep(reset_at)
                    far.abort()

            group.start_soon(server())
            with pytest.raises(Failure) as caught:
                await relay(local, peer, observe=print)
            assert now() == 1
            group.cancel()
        return caught.value

    assert run(main()).exit is expected


@given(st.permutations([Exit.WRITE, Exit.READ, Exit.TIMEOUT, Exit.SEND, Exit.RECV]), st.integers(1, 5))
def test_the_gravest_of_failures_does_not_depend_on_their_order(exits: list[Exit], count: int) -> None:
    """The order of severity is stdout, stdin, our timeouts, sending, receiving, whichever failed first."""
    happened = exits[:count]
    order = [Exit.WRITE, Exit.READ, Exit.TIMEOUT, Exit.SEND, Exit.RECV]
    assert most_severe(Failure(exit, "do", "reason") for exit in happened).exit == min(happened, key=order.index)


def test_a_failure_of_the_server_side_leaves_no_task_behind() -> None:
    """After a failure neither direction still waits on a stream."""

    async def main() -> None:
        local, _ = memory.pair()
        peer, far = memory.pair()
        far.abort()
        with pytest.raises(Failure):
            await relay(local, peer, observe=print)
        async with Group() as group:  # fails if another task still waits on the stream
            group.start_soon(local.recv())
            await sleep(0)
            group.cancel()

    run(main())


def test_only_this_conversation_counts() -> None:
    """Data sent over the stream before the relay is not in its counts."""

    async def main() -> Failure:
        local, keyboard = memory.pair()
        peer, far = acknowledging_pair()
        await peer.send(b"handshake")
        await far.recv()
        await keyboard.send(b"lost")
        async with Group() as group:

            async def server() -> None:
                await sleep(1)
                far.abort()

            group.start_soon(server())
            with pytest.raises(Failure) as caught:
                await relay(local, peer, observe=print)
        return caught.value

    assert run(main()).detail == "4 of 4 bytes not acknowledged"


# -- bounds and clocks


def test_one_direction_never_stops_the_other() -> None:
    """A user who does not read makes the server wait, and what the user sends still arrives."""
    data = random.Random(3).randbytes(20 * CAPACITY)

    async def user(keyboard: MemoryStream) -> None:
        await sleep(1)
        await keyboard.send(data)

        await sleep(HOUR)
        held_back.append(flood.counts.sent)
        while await keyboard.recv():
            pass
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        nonlocal flood
        flood = far
        await far.send(bytes(100 * CAPACITY))
        arrived.append(far.counts.received)
        await far.send_eof()

    flood: MemoryStream
    held_back: list[int] = []
    arrived: list[int] = []
    outcome = converse(user, server, user_reads=False)
    assert outcome.failure is None
    assert held_back[0] <= 3 * CAPACITY
    assert arrived == [len(data)]
    assert outcome.server_got == data


def test_the_idle_clock_runs_out_when_nothing_moved() -> None:
    """If nothing moves in either direction for the whole timeout, the failure names the option and the stream."""

    async def main() -> None:
        stream, _ = memory.pair()
        await sleep(5)
        with pytest.raises(Failure) as caught:
            await idle_clock(stream, 2)
        assert caught.value.exit is Exit.TIMEOUT
        assert str(caught.value) == "cannot go on with memory a: nothing moved for 2 s (--idle-timeout)"

    clock = JumpClock()
    run(main(), clock)
    assert clock.time == 5


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_any_byte_either_way_winds_the_idle_clock_up(direction: str) -> None:
    """A byte in either direction restarts the idle timeout."""

    async def drip(one: MemoryStream, other: MemoryStream) -> None:
        for _ in range(100):
            await sleep(1.9)
            await one.send(b"x")
            await other.recv()

    async def main() -> float:
        stream, far = memory.pair()
        with pytest.raises(Failure):
            async with Group() as group:
                group.start_soon(drip(stream, far) if direction == "sent" else drip(far, stream))
                await idle_clock(stream, 2)
        return now()

    assert run(main()) == pytest.approx(100 * 1.9 + 2)


def test_the_flow_tells_how_a_direction_fares() -> None:
    """``offered`` counts bytes, and ``waiting_since`` is set while we wait for the source, not for the sink."""

    async def main() -> None:
        fed, source = memory.pair()
        sink, taker = memory.pair()
        flow = Flow()
        async with Group() as group:
            group.start_soon(pump(source, sink, flow=flow))
            await sleep(5)
            assert (flow.waiting_since, flow.offered) == (0, 0)
            await fed.send(b"abc")
            await sleep(5)
            assert (flow.waiting_since, flow.offered) == (5, 3)
            await fed.send(bytes(CAPACITY))
            await sleep(5)
            assert flow.waiting_since is None
            assert not flow.ended.is_set()
            await fed.send_eof()
            while await taker.recv():
                pass
            await flow.ended.wait()
        assert flow.offered == CAPACITY + 3

    run(main())


def test_an_echo_is_a_pump_from_a_stream_to_itself() -> None:
    """A pump from a stream to itself returns every byte, and then the end."""

    async def main() -> bytes:
        client, served = memory.pair()
        async with Group() as group:
            group.start_soon(pump(served, served))
            await client.send(b"hello")
            await client.send_eof()
            received = b""
            while data := await client.recv():
                received += data
        return received

    assert run(main()) == b"hello"


# -- changes


def test_each_direction_goes_through_its_change_which_gives_back_what_it_holds_at_the_end() -> None:
    """A change is called with b"" once, at the end, to return what it holds; returning b"" before ends nothing."""

    def hold() -> Change:
        held = bytearray()

        def change(data: bytes) -> bytes:
            held.extend(data)
            return bytes(held) if not data else b""

        return change

    async def user(keyboard: MemoryStream) -> None:
        for word in (b"one ", b"two ", b"three"):
            await keyboard.send(word)
            await sleep(1)
        await keyboard.send_eof()

    async def server(far: MemoryStream) -> None:
        await far.send(b"reply")
        await far.send_eof()

    outcome = converse(user, server, HOLD, outgoing=hold(), incoming=bytes.upper)
    assert outcome.failure is None
    assert outcome.server_got == b"one two three"
    assert outcome.user_got == b"REPLY"


def test_a_change_that_grows_the_data_counts_what_it_makes() -> None:
    """Lost bytes are counted after the change, as the peer would have got them."""

    async def user(keyboard: MemoryStream) -> None:
        await keyboard.send(b"\n" * 10)

    async def server(far: MemoryStream) -> None:
        await sleep(1)
        far.abort()

    outcome = converse(user, server, outgoing=crlf(), server_reads=False)
    assert "20 of 20 bytes not acknowledged" in str(outcome.failure)


PIECES = st.lists(
    st.sampled_from(
        [
            *(bytes([c]) for c in b"\r\n\t\0\x07\x1b\x7f\x80\x9b\xff\xc2\xe2\x82\xac\xf0\x9f\xed\xa0ab"),
            b"\r\n",
            b"\r\r\n\n",
            "é€😀".encode(),
            "\x85\x9b".encode(),
        ]
    ),
    max_size=12,
)


def through(change: Change, chunks: Sequence[bytes]) -> bytes:
    """Return the output of a change for ``chunks``, with what it returns at the end."""
    return b"".join(change(chunk) for chunk in chunks if chunk) + change(b"")


@given(PIECES, st.lists(st.integers(0, 30), max_size=8))
def test_line_ends_do_not_depend_on_the_chunks(pieces: list[bytes], cuts: list[int]) -> None:
    """LF becomes CR LF and CR LF stays, however the data is split into chunks."""
    data = b"".join(pieces)
    expected = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert through(crlf(), [data]) == expected
    assert through(crlf(), cut(data, cuts)) == expected


@given(PIECES, st.lists(st.integers(0, 30), max_size=8))
def test_visible_data_does_not_depend_on_the_chunks(pieces: list[bytes], cuts: list[int]) -> None:
    """Control bytes and invalid UTF-8 are escaped in the same way however the data is split."""
    data = b"".join(pieces)
    expected = "".join(
        c if c in "\n\r\t" or not (ord(c) < 32 or 127 <= ord(c) < 160) else f"\\x{ord(c):02x}"
        for c in data.decode("utf-8", "backslashreplace")
    )
    assert through(visible(), [data]).decode() == expected
    assert through(visible(), cut(data, cuts)).decode() == expected


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Split data at the given places."""
    places = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


def test_a_character_that_comes_in_pieces_is_shown_whole() -> None:
    """A character may arrive byte by byte; an incomplete one is escaped at the end."""
    change = visible()
    assert [change(bytes([byte])) for byte in "€".encode()] == [b"", b"", "€".encode()]
    assert change(b"\x1b[31m\xe2\x82") == b"\\x1b[31m"
    assert change(b"") == b"\\xe2\\x82"


# -- no byte is lost or made up

SPEECH = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0.1, 0.4, 3]), st.sampled_from([1, 10, 1000, CAPACITY - 1, CAPACITY + 1, 3 * CAPACITY])
    ),
    max_size=6,
)


def speaker(speech: list[tuple[float, int]], data: bytes) -> Script:
    """Return a script that sends ``data`` in pieces, with pauses, and then the end."""

    async def speak(stream: MemoryStream) -> None:
        begin = 0
        for pause, size in speech:
            await sleep(pause)
            await stream.send(data[begin : begin + size])
            begin += size
        await stream.send_eof()

    return speak


@settings(max_examples=60, deadline=None)
@given(SPEECH, SPEECH, st.booleans())
def test_relay_conserves_bytes(there: list[tuple[float, int]], back: list[tuple[float, int]], half_close: bool) -> None:
    """Whatever the pieces and pauses, each side gets exactly what the other sent, and then the end."""
    asked = random.Random(4).randbytes(sum(size for _, size in there))
    answered = random.Random(5).randbytes(sum(size for _, size in back))
    outcome = converse(
        speaker(there, asked), speaker(back, answered), Ending(hold=True, shutdown=AT_ONCE if half_close else NEVER)
    )
    assert outcome.failure is None
    assert outcome.server_got == asked
    assert outcome.user_got == answered
    assert outcome.server_saw_end.is_set() is half_close
    assert outcome.user_saw_end.is_set()
    last = max(sum(pause for pause, _ in speech) for speech in (there, back))
    assert last - 0.001 < outcome.at < last + 1  # Python 3.12 and later round sums of pauses differently


@settings(max_examples=60, deadline=None)
@given(SPEECH, SPEECH, st.floats(0, 5), st.sampled_from([0.0, GRACE, None]))
def test_a_relay_that_is_cut_short_never_claims_success(
    there: list[tuple[float, int]], back: list[tuple[float, int]], moment: float, grace: float | None
) -> None:
    """After a reset at any moment each side has a prefix of the data, and success means that all was exchanged."""
    asked = random.Random(6).randbytes(sum(size for _, size in there))
    answered = random.Random(7).randbytes(sum(size for _, size in back))
    speak = speaker(back, answered)

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

    outcome = converse(speaker(there, asked), server, Ending(grace=grace))
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
