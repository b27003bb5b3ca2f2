"""Joining two streams in both directions, and the rules by which a conversation ends.

"Our end" is the half-close that we send (FIN, or close_notify of TLS), "the peer's end" the one that we receive.

1. Our input ends: all of it is sent, then our end, at once or when ``Shutdown`` says so. Then we receive until the
   peer's end, however late it comes.
2. The peer ends: our input is read on for as long as ``Ending.patience`` says. A peer that never sent a byte is taken
   for one that only receives.
3. A peer that has ended is probed while we go on, so that we do not wait forever for one that has left.
4. Bytes that we have read and the peer did not acknowledge are a failure, and so is a reset in either direction.
5. All buffers are bounded, and one direction never blocks the other. What a peer sent before its reset still reaches
   stdout, as fast as that is read; a program, or the other peer of a bridge, has ``LAST_WORDS`` seconds to take it.
"""

import enum
import errno
import os
from collections.abc import Awaitable

from netkit.core.connection import Ended, acknowledged
from netkit.core.errors import Exit, Failure, describe, most_severe, without_frames
from netkit.core.events import EndSent, InputLeft, InputUnread, Observer, Unanswered, WantsTls
from netkit.core.flow import Flow
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
from netkit.core.pump import Change, pump
from netkit.core.record import Record
from netkit.core.stream import Connection, Stream

GRACE = 0.5  # s that a terminal or pipe may be silent once the peer has ended
LAST_WORDS = 0.25  # s that what a peer sent before its reset may take to reach a program or another peer
# s that one peer of a bridge may take to end after the other, on a unix socket, has left. A unix socket reports that at
# once; with TCP the probes take about as long to find it out.
_ABANDONED = 60.0
_WE, _PEER = Ended("input ended first", "local"), Ended("peer ended first", "peer")
_QUESTION = 64 * 1024  # bytes: more than this is taken for a file, not for a request that wants an answer
# Ports of services that begin with TLS: IANA's registry, and by custom 6697 and 8443.
_TLS_PORTS = (443, 465, 563, 636, 853, 989, 990, 992, 993, 994, 995, 5061, 5671, 6697, 8443, 8883)
_RESET = (errno.EPIPE, errno.ENOTCONN)  # how a reset shows in a later call


class Shutdown(Record):
    """When our end is sent, after our input has ended and all of it is acknowledged: at the peer's end at the latest.

    Before that we wait until the peer is silent: for ``answered`` seconds if it has sent something since, else for
    ``unanswered`` seconds; None waits for its end. With ``NEVER`` our end is only sent by closing the connection.
    """

    answered: float | None
    unanswered: float | None


AT_ONCE = Shutdown(0, 0)
NEVER = Shutdown(None, None)
# For TLS servers that drop a pending answer at close_notify (nginx, Caddy), proxies that do so at a half-close
# (microsocks, tinyproxy, squid), and servers that drop any client that half-closes.
AFTER_THE_ANSWER = Shutdown(2.0, 10.0)
# For a server whose input is /dev/null: a client that takes our end for the end of the connection can send all it has.
AFTER_SILENCE = Shutdown(10.0, 10.0)


class Input(enum.Enum):
    """The kind of our input, which decides how long it is read once the peer has ended."""

    PIPE = "a pipe, a file, a socket or another device"
    TERMINAL = "somebody types"
    PROGRAM = "the output of a program, which has an end"
    NONE = "nothing is sent"


class Ending(Record):
    """How a conversation ends.

    ``grace`` is for how many seconds our input may be silent once the peer has ended; None is 0.5, and for a program no
    limit. With ``hold`` the end of our input is always waited for. With ``send_only`` that ends the conversation. With
    ``with_peer`` the peer's end does. ``asks`` is whether we dialled and what we send may be a request, not a file.
    """

    input: Input = Input.PIPE
    shutdown: Shutdown = AT_ONCE
    grace: float | None = None
    hold: bool = False
    send_only: bool = False
    with_peer: bool = False
    asks: bool = True

    def patience(self, *, heard: bool, gone: bool) -> float | None:
        """For how many seconds our input may be silent, once the peer has ended, before we leave; None: no limit.

        ``heard`` is whether the peer ever sent a byte, ``gone`` whether the connection is shut down in both directions.
        """
        if self.with_peer:
            return 0
        if gone:
            return GRACE if self.grace is None else self.grace
        if self.hold or self.send_only or (self.input is Input.PIPE and not heard):
            return None
        if self.grace is None:
            return None if self.input is Input.PROGRAM else GRACE
        return self.grace


async def relay(
    local: Stream,
    peer: Connection,
    ending: Ending = Ending(),
    *,
    outgoing: Change | None = None,
    incoming: Change | None = None,
    observe: Observer,
) -> Ended:
    """Join our own stream, such as stdin and stdout, and a peer in both directions. Closes neither.

    Returns who ended first, once every byte is delivered. If ``incoming`` raises Done, the conversation
    ends: our end is sent, and nothing more is read.

    Raises Failure: READ or WRITE for ``local``; SEND, with the count, if bytes of ours are not acknowledged; RECV after
    a reset that lost none of ours.
    """
    out, back = Flow(), Flow()
    sent_before = peer.counts.sent
    failures: list[Failure] = []
    gone = whole = False  # whether the peer has left; whether its stream was read to the end
    group = Group()

    async def send() -> None:
        try:
            await pump(local, peer, outgoing, flow=out, half_close=False)
            await shutdown_due(ending.shutdown, peer, back, observe)
            if ending.shutdown != NEVER:
                await peer.send_eof()
            if ending.send_only:
                await acknowledged(peer)
                group.cancel()
        except Failure as failure:
            if failure.exit not in (Exit.SEND, Exit.RECV):
                raise
            await fail(failure)

    async def watch() -> None:
        nonlocal gone
        try:
            await peer.peer_left()
        except Failure as failure:
            await fail(failure)
        else:
            gone = ending.input is not Input.PROGRAM
            out.look_again()

    def note(failure: Failure) -> None:
        without_frames(failure)
        failures.append(failure)

    async def fail(failure: Failure) -> None:
        note(failure)
        if ending.input is Input.PROGRAM:
            await within(LAST_WORDS, back.ended.wait())
        else:
            await back.silent(lambda: LAST_WORDS)
        group.cancel()

    def patience() -> float | None:
        return ending.patience(heard=peer.counts.received > 0, gone=gone)

    first = Ended()
    try:
        async with group:
            sends = ending.input is not Input.NONE
            sender = group.start_soon(send()) if sends else None
            if ending.input is Input.PROGRAM:
                group.start_soon(watch())
            whole = await pump(peer, local, incoming, flow=back)
            first = _WE if out.ended.is_set() or not whole else _PEER
            if sender is not None and not whole and ending.input is not Input.PROGRAM:
                await out.silent(lambda: 0.0)  # until all that was read of our input is sent
            elif sender is not None:
                peer.probe()
                if ending.input is not Input.PROGRAM:
                    group.start_soon(watch())
                if not await out.silent(patience):
                    await sender.finished.wait()
                elif ending.input is Input.PIPE and out.offered and not ending.with_peer:
                    observe(InputLeft(out.offered))
                elif limit := patience():
                    observe(InputUnread(limit))
            group.cancel()
        if not failures:
            if not whole and ending.shutdown != NEVER:
                await peer.send_eof()
            await acknowledged(peer)
            peer.raise_if_reset()
            if out.offered > peer.counts.sent - sent_before:
                raise Failure(Exit.SEND, f"send to {peer.name}", "cut short")
    except Failure as failure:
        note(failure)
    for other in group.failures:
        if isinstance(other, Failure) and other not in failures:
            note(other)
    asked = ending.asks and ending.shutdown == AT_ONCE and not (ending.send_only or peer.peer.udp)
    unanswered = asked and 0 < out.offered <= _QUESTION and not peer.counts.received
    speaks = _speaks_tls(back.first) and ending.input is not Input.PROGRAM
    about_tls = _about_tls(peer, speaks=speaks, unanswered=unanswered, failed=bool(failures))
    advice = "" if _speaks_tls(out.first) else about_tls  # our input speaks TLS itself: no mistake, no advice
    if failures:
        worst = most_severe(failures)
        if worst.exit is Exit.PARTIAL:
            await within(LAST_WORDS, acknowledged(peer))  # what was on its way
        worst = classify(worst, peer, out.offered, peer.counts.sent - sent_before)
        if not (whole and worst.exit is Exit.RECV and is_over(peer)):
            if worst.exit in (Exit.SEND, Exit.RECV):
                worst.hint = worst.hint or advice
            raise worst
    if advice:
        observe(WantsTls(advice))
    elif unanswered and first == _WE:
        observe(Unanswered())
    return first


def _about_tls(peer: Connection, *, speaks: bool, unanswered: bool, failed: bool) -> str:
    """A hint for the user where the peer speaks TLS, or may want it, and we did not; "" if nothing points to that."""
    if speaks:
        return "the peer speaks TLS: write tls: before the address"
    if unanswered and peer.peer.port in _TLS_PORTS:
        return f"port {peer.peer.port} is one of TLS: write tls: before the address"
    if unanswered and failed and peer.peer.path is None:
        return "the server may want TLS (tls: before the address), or be a proxy that reaches nobody"
    return ""


def _speaks_tls(first: bytes) -> bool:
    """Whether the bytes begin like a TLS record: ClientHello, ServerHello or fatal alert (RFC 8446, section 5.1)."""
    is_hello = first[:2] == b"\x16\x03" and first[5:6] in (b"\x01", b"\x02")
    return is_hello or (first[:2] == b"\x15\x03" and first[3:5] == b"\0\2")


def is_over(peer: Connection) -> bool:
    """Whether no reset is to be reported: none came, or it came after TLS had ended, or after the peer's end."""
    try:
        peer.raise_if_reset()
    except Failure:
        return False
    return True


async def within(seconds: float, work: Awaitable[object]) -> None:
    """Wait for ``work``, for at most so many seconds. A Failure of it is ignored: the connection has failed already."""
    try:
        with deadline(now() + seconds):
            await work
    except (Failure, DeadlineExceeded):
        pass


async def shutdown_due(when: Shutdown, peer: Connection, back: Flow, observe: Observer) -> None:
    """Wait until our end may be sent to the peer, after our input has ended. ``back`` is the flow from the peer."""
    if when == AT_ONCE:
        return
    before = back.offered
    await acknowledged(peer)
    silent = await back.silent(lambda: when.answered if back.offered > before else when.unanswered, peer.counts)
    if silent and back.offered == before and when == AFTER_THE_ANSWER:
        observe(EndSent(when.unanswered or 0))


class Break(Record):
    """Why a bridge broke: a failure, and the stream on which it happened."""

    stream: Connection
    failure: Failure


async def bridge(
    client: Connection,
    target: Connection,
    change: Change | None = None,
    *,
    shutdown: Shutdown = AT_ONCE,
    observe: Observer,
) -> Break | None:
    """Join two peers in both directions; each is half-closed when the other ends. Closes neither.

    ``change`` is for what the target gets, and ``shutdown`` says when it gets the client's end. Returns None if every
    byte was delivered both ways; else what broke the bridge, once the client has got what had still come for it.
    """
    forth, back = Flow(), Flow()
    breaks: list[Break] = []
    group = Group()

    async def carry(
        source: Connection, sink: Connection, flow: Flow, other: Flow, shutdown: Shutdown, change: Change | None
    ) -> None:
        try:
            await pump(source, sink, change, flow=flow, half_close=False)
            source.probe()
            await shutdown_due(shutdown, sink, other, observe)
            await sink.send_eof()
            await acknowledged(sink)
        except Failure as failure:
            await cut(Break(sink if failure.exit is Exit.SEND else source, failure), other)

    async def watch(stream: Connection, comes: Flow, goes: Flow) -> None:
        try:
            await stream.peer_left()
        except Failure as failure:
            await cut(Break(stream, failure), comes)
            return
        await comes.ended.wait()
        if stream.peer.path is not None:
            await within(_ABANDONED, goes.ended.wait())
        if not goes.ended.is_set():
            await cut(Break(stream, Failure(Exit.RECV, f"send to {stream.name}", "it has left")), comes)

    async def cut(what: Break, other: Flow) -> None:
        without_frames(what.failure)
        breaks.append(what)
        await within(LAST_WORDS, other.ended.wait())
        group.cancel()

    async with group:
        carrying = [
            group.start_soon(carry(client, target, forth, back, shutdown, change)),
            group.start_soon(carry(target, client, back, forth, AT_ONCE, None)),
        ]
        group.start_soon(watch(client, forth, back))
        group.start_soon(watch(target, back, forth))
        for task in carrying:
            await task.finished.wait()
        group.cancel()
    if not breaks:
        return None
    await within(LAST_WORDS, acknowledged(client))
    return breaks[0]


def classify(failure: Failure, peer: Connection, offered: int, sent: int) -> Failure:
    """Make SEND of a broken connection if bytes of ours were lost, else RECV, unless it was ended too early (PARTIAL).

    Other failures are returned as they are. ``offered`` bytes were meant for the peer, of which ``sent`` were
    written to the socket.
    """
    if failure.exit not in (Exit.SEND, Exit.RECV, Exit.PARTIAL):
        return failure
    reason = failure.reason
    if failure.errno in _RESET:
        reason = describe(OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
    lost = offered - (sent - peer.unacknowledged())
    if lost:
        detail = f"{lost} of {offered} bytes not acknowledged"
        return Failure(Exit.SEND, f"send to {peer.name}", reason, detail=detail, hint=failure.hint)
    if failure.exit is Exit.PARTIAL:
        return failure
    detail = f"after {peer.counts.received} bytes"
    return Failure(Exit.RECV, f"receive from {peer.name}", reason, detail=detail, hint=failure.hint)
