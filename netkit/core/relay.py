"""Joining streams: ``pump`` one way, ``relay`` both ways, and the rules by which a conversation ends.

1. Our input ends: half-close, then receive to the peer's end, however late it answers.
2. The peer ends: keep sending what our input still has; leave once it is at its end, or idle for ``grace``.
3. Bytes that we read and the peer did not acknowledge are a failure, and so is a reset in either direction.
4. Nothing is buffered without bound, and one direction never stops the other.
"""

import errno
import os
from typing import NamedTuple

from netkit.core.connection import acknowledged
from netkit.core.errors import Exit, Failure, describe, most_severe
from netkit.core.events import InputLeft, Observer, Unanswered
from netkit.core.flow import Flow
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.pump import Change, pump
from netkit.core.stream import Connection, Stream

_LAST_WORDS = 0.25  # s: how long what a peer sent before our sending failed may take to come in

_GLANCE = 0.01  # s between two looks at a flow that is busy, where no patience at all is asked for

_WE, _PEER = "input ended first", "peer ended first"

_RESET = (errno.EPIPE, errno.ENOTCONN)  # how a reset shows in a later call


class Ending(NamedTuple):
    """When to leave.

    ``grace`` None waits for our input's end for as long as it takes, 0 leaves with the peer. Without ``half_close`` our
    input's end is not sent. ``send_only`` leaves once our input has ended and is acknowledged.
    """

    grace: float | None = 0.5
    half_close: bool = True
    send_only: bool = False


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

    Raises Failure: READ or WRITE for our side; SEND, with the count, if bytes of ours are not acknowledged; RECV after
    a reset that lost nothing of ours.
    """
    out, back = Flow(), Flow()
    before = peer.counts.sent
    failures: list[Failure] = []
    group = Group()

    async def send() -> None:
        try:
            await pump(local, peer, outgoing, flow=out, half_close=ending.half_close)
        except Failure as failure:
            if failure.exit is not Exit.SEND:
                raise
            failures.append(failure)
            await _idle(back, _LAST_WORDS)
            group.cancel()
        else:
            if ending.send_only:
                await acknowledged(peer)
                group.cancel()

    first = ""
    try:
        async with group:
            sender = group.start_soon(send())
            await pump(peer, local, incoming, flow=back)
            first = _WE if out.ended.is_set() else _PEER
            if ending.grace is None:
                await out.ended.wait()
            else:
                await _idle(out, ending.grace)
                while not (sender.waits or out.ended.is_set()):  # woken by input in this very moment
                    await sleep(0)
                    await _idle(out, ending.grace)
                if ending.grace and not out.ended.is_set():
                    observe(InputLeft(ending.grace))
            group.cancel()
        if not failures:
            await acknowledged(peer)
            peer.raise_if_reset()
            if out.offered > peer.counts.sent - before:
                raise Failure(Exit.SEND, f"send to {peer.name}", "cut short")
    except Failure as failure:
        failures.append(failure)
    failures += (f for f in group.failures if isinstance(f, Failure) and f not in failures)
    if failures:
        raise classify(most_severe(failures), peer, out.offered, peer.counts.sent - before)
    asked = ending.half_close and not ending.send_only
    if first == _WE and asked and out.offered and not peer.counts.received:
        observe(Unanswered())
    return first


class Break(NamedTuple):
    """What cut a bridge: a failure, and the stream whose failure it is."""

    stream: Stream
    failure: Failure


async def bridge(client: Connection, target: Connection, change: Change | None = None) -> Break | None:
    """Join two peers both ways, each half-closed when the other ends; closes neither. ``change`` is for the target.

    Returns what broke it, once the client has what still came for it; None if every byte was delivered both ways.
    """
    forth, back = Flow(), Flow()
    breaks: list[Break] = []
    group = Group()

    async def carry(
        source: Connection, sink: Connection, flow: Flow, other: Flow, change: Change | None = None
    ) -> None:
        try:
            await pump(source, sink, change, flow=flow)
            await acknowledged(sink)
        except Failure as failure:
            breaks.append(Break(sink if failure.exit is Exit.SEND else source, failure))
            await _idle(other, _LAST_WORDS)
            group.cancel()

    async with group:
        group.start_soon(carry(client, target, forth, back, change))
        group.start_soon(carry(target, client, back, forth))
    if not breaks:
        return None
    try:
        with deadline(now() + _LAST_WORDS):
            await acknowledged(client)
    except (Failure, DeadlineExceeded):
        pass
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


async def _idle(flow: Flow, patience: float) -> None:
    """Wait until the flow has ended, or has from now on waited for its source for ``patience`` seconds."""
    begun = now()
    while not flow.ended.is_set():
        waiting = flow.waiting_since
        due = now() + max(patience, _GLANCE) if waiting is None else max(begun, waiting) + patience
        if now() >= due:
            return
        try:
            with deadline(due):
                await flow.ended.wait()
        except DeadlineExceeded:
            pass
