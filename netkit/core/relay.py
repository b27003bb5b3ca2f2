"""Joining two streams both ways, and the rules by which a conversation ends.

An end is sent when it is true, a peer's end is believed when it means something, and what cannot be known is found out.

1. Our input ends: all of it is sent, then our end, at once or when ``Shutdown`` says so; then we receive to the peer's
   end, however late it answers.
2. The peer ends: our input goes on as ``Ending.patience`` says. A peer that never sent a byte only receives.
3. A peer that has ended is probed while we stay, so nothing waits for ever for somebody who has left.
4. Bytes that we read and the peer did not acknowledge are a failure, and so is a reset in either direction.
5. Nothing is buffered without bound, and one direction never stops the other. What a peer said before its reset still
   reaches stdout, at its reader's pace; a program, or the other peer of a bridge, gets ``LAST_WORDS`` for it.
"""

import enum
import errno
import os
from collections.abc import Awaitable

from netkit.core.connection import acknowledged
from netkit.core.errors import Exit, Failure, describe, most_severe, without_frames
from netkit.core.events import EndSent, InputLeft, InputUnread, Observer, Unanswered, WantsTls
from netkit.core.flow import Flow
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
from netkit.core.pump import Change, pump
from netkit.core.record import Record
from netkit.core.stream import Connection, Stream

GRACE = 0.5  # s that typing, or a pipe, may be silent once the peer has ended
LAST_WORDS = 0.25  # s that what a peer sent before its reset may take to reach a program or another peer
# s that the other side of a bridge may take to end for somebody who left a unix socket, which says so at once; a TCP
# peer that left is found out after as long.
_ABANDONED = 60.0
_WE, _PEER = "input ended first", "peer ended first"
_QUESTION = 64 * 1024  # bytes: who sends more does not ask
# Ports of services that begin with TLS: IANA's registry, and by custom 6697 and 8443.
_TLS_PORTS = (443, 465, 563, 636, 853, 989, 990, 992, 993, 994, 995, 5061, 5671, 6697, 8443, 8883)
_RESET = (errno.EPIPE, errno.ENOTCONN)  # how a reset shows in a later call


class Shutdown(Record):
    """When our end is sent, once our input has ended and all of it is acknowledged: with the peer's end at the latest.

    ``answered`` is how long the peer may be silent, in seconds, once an answer began, ``unanswered`` how long if none
    did; None waits for the peer's end.
    """

    answered: float | None
    unanswered: float | None


AT_ONCE = Shutdown(0, 0)
NEVER = Shutdown(None, None)
# TLS servers drop what is pending when close_notify comes (nginx, Caddy), proxies when a half-close comes (microsocks,
# tinyproxy, squid), and some servers drop any client that half-closes.
AFTER_THE_ANSWER = Shutdown(2.0, 10.0)
# A server's input that is /dev/null has nothing to say, and a client that watches for our end keeps sending.
AFTER_SILENCE = Shutdown(10.0, 10.0)


class Input(enum.Enum):
    """What our input is, which says what the peer's end means for it."""

    PIPE = "a pipe, a file, a socket or another device"
    TERMINAL = "somebody types"
    PROGRAM = "the output of a program, which has an end"
    NONE = "nothing is sent"


class Ending(Record):
    """How a conversation ends.

    ``grace`` is how long our input may be silent once the peer has ended, in seconds, None: 0.5, and for a program
    until its end. ``hold`` waits for our input's end in every case, and ``send_only`` leaves with it. ``with_peer``
    leaves with the peer in every case. ``asks`` is whether we dialled, and what is sent may be a question and not a
    file's content.
    """

    input: Input = Input.PIPE
    shutdown: Shutdown = AT_ONCE
    grace: float | None = None
    hold: bool = False
    send_only: bool = False
    with_peer: bool = False
    asks: bool = True

    def patience(self, *, heard: bool, gone: bool) -> float | None:
        """How long our input may be silent, once the peer has ended, before we leave; None waits for its end.

        ``heard`` is whether the peer ever sent a byte, ``gone`` whether it has left since.
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
) -> str:
    """Join our side and a peer both ways. Returns who ended first when every byte was delivered; closes neither.

    A change of what comes in that is ``Done`` ends the conversation: our end is sent, and nothing more is read.

    Raises Failure: READ or WRITE for our side; SEND, with the count, if bytes of ours are not acknowledged; RECV after
    a reset that lost nothing of ours.
    """
    out, back = Flow(), Flow()
    sent_before = peer.counts.sent
    failures: list[Failure] = []
    gone = whole = False  # the peer has left; the peer's stream has come to its end
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

    first = ""
    try:
        async with group:
            sends = ending.input is not Input.NONE
            sender = group.start_soon(send()) if sends else None
            if ending.input is Input.PROGRAM:
                group.start_soon(watch())
            whole = await pump(peer, local, incoming, flow=back)
            first = _WE if out.ended.is_set() or not whole else _PEER
            if sender is not None and not whole and ending.input is not Input.PROGRAM:
                await out.silent(lambda: 0.0)  # what was read of our input is sent
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
    advice = "" if _speaks_tls(out.first) else about_tls  # what goes through us is nobody's mistake
    if failures:
        worst = classify(most_severe(failures), peer, out.offered, peer.counts.sent - sent_before)
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
    """What to try with a peer that speaks TLS, or may want it, where we did not; empty if nothing says so."""
    if speaks:
        return "the peer speaks TLS: write tls: before the address"
    if unanswered and peer.peer.port in _TLS_PORTS:
        return f"port {peer.peer.port} is one of TLS: write tls: before the address"
    if unanswered and failed and peer.peer.path is None:
        return "the server may want TLS (tls: before the address), or be a proxy that reaches nobody"
    return ""


def _speaks_tls(first: bytes) -> bool:
    """Whether bytes begin as a record with a ClientHello, a ServerHello or an alert does (RFC 8446, section 5.1)."""
    is_hello = first[:2] == b"\x16\x03" and first[5:6] in (b"\x01", b"\x02")
    return is_hello or (first[:2] == b"\x15\x03" and first[3:5] == b"\0\2")


def is_over(peer: Connection) -> bool:
    """Whether what TCP says of a connection matters no more: TLS has ended well, or the peer left after its end."""
    try:
        peer.raise_if_reset()
    except Failure:
        return False
    return True


async def within(seconds: float, work: Awaitable[object]) -> None:
    """Wait for something, and no longer than so many seconds; a connection that fails meanwhile is nothing new."""
    try:
        with deadline(now() + seconds):
            await work
    except (Failure, DeadlineExceeded):
        pass


async def shutdown_due(when: Shutdown, peer: Connection, back: Flow, observe: Observer) -> None:
    """Wait until our end may be sent to a peer; our input has ended, and ``back`` is what the peer sends."""
    if when == AT_ONCE:
        return
    before = back.offered
    await acknowledged(peer)
    silent = await back.silent(lambda: when.answered if back.offered > before else when.unanswered)
    if silent and back.offered == before and when == AFTER_THE_ANSWER:
        observe(EndSent(when.unanswered or 0))


class Break(Record):
    """What cut a bridge: a failure, and the stream whose failure it is."""

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
    """Join two peers both ways, each half-closed when the other ends; closes neither. ``change`` is for the target.

    ``shutdown`` is when the target gets the client's end. Returns what broke the bridge, once the client has what still
    came for it; None if every byte was delivered both ways.
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
    """The failure that a broken connection is for a script; any other is what it says.

    ``offered`` bytes were for the peer, of which ``sent`` went out.
    """
    if failure.exit not in (Exit.SEND, Exit.RECV):
        return failure
    reason = failure.reason
    if failure.errno in _RESET:
        reason = describe(OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
    lost = offered - (sent - peer.unacknowledged())
    if lost:
        detail = f"{lost} of {offered} bytes not acknowledged"
        return Failure(Exit.SEND, f"send to {peer.name}", reason, detail=detail, hint=failure.hint)
    detail = f"after {peer.counts.received} bytes"
    return Failure(Exit.RECV, f"receive from {peer.name}", reason, detail=detail, hint=failure.hint)
