"""The life of one connection: its layers, its handler, its timeouts, and its orderly end."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from netkit.core.errors import Exit, Failure
from netkit.core.events import Closed, Observer
from netkit.core.kernel import DeadlineExceeded, Group, checkpoint, deadline, now, sleep
from netkit.core.layer import Layer, through
from netkit.core.record import Record
from netkit.core.stream import Connection, Stream
from netkit.core.units import duration

HANDSHAKE = 10.0  # s that a server gives a client for the handshakes of its layers

DRAIN = 1.0  # s that open connections get to end once a server stops

_ACKNOWLEDGED_SOONEST, _ACKNOWLEDGED_LATEST = 0.0005, 0.05  # s between polls: no event tells of acknowledgements

_TURNS = 3  # of the loop in which a task that can go on has moved bytes
_LOOKS, _LONGEST_LOOK = 8, 0.25  # looks of an idle timeout at acknowledgements; s between two while some are due


class Ended(Record):
    """How a conversation ended, in words, and whose end came ``first``: "local" or "peer", or "" for neither."""

    words: str = ""
    first: str = ""


_CUT_SHORT = Ended("cut short")

Handler = Callable[[Connection], Awaitable[Ended | None]]
"""Serves one connection, and may return how it ended, for ``Closed``. ``serve_connection`` closes the connection."""


async def serve_connection(
    stream: Connection, handler: Handler, observe: Observer, layers: Sequence[Layer] = (), group: Group | None = None
) -> None:
    """Take the stream through the layers, run the handler on it and close it; reset it after a failure or cancellation.

    ``group`` has the tasks of layers that were applied before, by ``dial``. It is cancelled before the stream is
    closed. Raises what layers and handler raise.
    """
    if layers and group is None:
        async with Group() as group:
            await serve_connection(stream, handler, observe, layers, group)
        return
    begun = now()
    how = _CUT_SHORT
    whole = is_open = False
    try:
        if layers and group is not None:
            stream = await _within_handshake(stream, layers, group)
        is_open = True
        how = await handler(stream) or Ended()
        await close_gracefully(stream)
        whole = True
    except OSError as error:
        how = Ended(str(error))
        raise
    finally:
        if group is not None:
            group.cancel()
        end_connection(stream, begun, how, observe, whole=whole, is_open=is_open)


def end_connection(
    stream: Connection, begun: float, how: Ended, observe: Observer, *, whole: bool, is_open: bool = True
) -> None:
    """Close the connection if it is ``whole``, which means that it ended in order, else reset it; report ``Closed``.

    ``begun`` is when it began, by the kernel's clock. ``is_open`` is whether its handshake succeeded; if not, it moved
    no payload.
    """
    moved = (0, 0, 0)
    if is_open:
        sent = stream.counts.sent
        # UDP has no acknowledgements.
        moved = (stream.counts.received, sent, 0 if stream.peer.udp else sent - stream.unacknowledged())
    if whole:
        stream.close()
    else:
        stream.abort()
    observe(Closed(stream.name, stream.peer, *moved, now() - begun, how.words, how.first))


async def _within_handshake(stream: Connection, layers: Sequence[Layer], group: Group) -> Connection:
    try:
        with deadline(now() + HANDSHAKE):
            return await through(stream, layers, group)
    except DeadlineExceeded as exceeded:
        if isinstance(exceeded.__cause__, Failure):  # the layer says what it was waiting for
            raise exceeded.__cause__ from None
        action = f"secure the connection to {stream.name}"
        raise Failure(Exit.TIMEOUT, action, f"no handshake within {duration(HANDSHAKE)}") from None


def beside(handler: Handler, companion: Callable[[Connection], Coroutine[Any, Any, None]]) -> Handler:
    """A handler that runs ``companion`` beside ``handler``. It ends with the handler; a failure of either ends both."""

    async def handle(stream: Connection) -> Ended | None:
        async with Group() as group:
            group.start_soon(companion(stream))
            how = await handler(stream)
            group.cancel()
        return how

    return handle


def with_idle_timeout(handler: Handler, patience: float | None, *, ours: Stream | None = None) -> Handler:
    """A handler that fails once nothing has moved in either direction for ``patience`` seconds (None: never).

    ``ours`` is as for ``idle_clock``.
    """
    return handler if patience is None else beside(handler, lambda stream: idle_clock(stream, patience, ours=ours))


async def idle_clock(
    stream: Connection, patience: float, *, target: Connection | None = None, ours: Stream | None = None
) -> None:
    """Raise Failure TIMEOUT once no byte has moved in either direction for ``patience`` seconds.

    Bytes of ours move when the system takes them, maybe megabytes at once, and again when the peer acknowledges them.
    Those of the other side count as well, which may be slow: the ``target`` of a relay, or ``ours``, such as stdout.
    After a stop (SIGSTOP) the tasks that can go on get their turn before it is seen whether they did.
    """
    streams = [each for each in (stream, target) if each is not None]
    counts = [each.counts for each in (stream, target, ours) if each is not None]
    moved_at = stream.counts.moved_at
    before, left = _acknowledged(streams)
    turns = 0
    while True:
        waited = left
        count, left = _acknowledged(streams)
        if count != before and (left or waited):  # else they were acknowledged as soon as sent
            moved_at = now()
        before = count
        due = max(moved_at, *(each.moved_at for each in counts)) + patience
        if now() < due:
            turns = 0
            pause = patience / _LOOKS
            await sleep(min(due - now(), min(pause, _LONGEST_LOOK) if left else pause))
        elif turns < _TURNS:
            turns += 1
            await checkpoint()
        else:
            action = f"go on with {stream.name}"
            raise Failure(Exit.TIMEOUT, action, f"nothing moved for {duration(patience)}", detail="--idle-timeout")


def _acknowledged(streams: Sequence[Connection]) -> tuple[int, int]:
    """How many bytes were acknowledged, and how many are still to be."""
    left = sum(each.unacknowledged() for each in streams)
    return sum(each.counts.sent for each in streams) - left, left


async def acknowledged(stream: Connection) -> None:
    """Wait until the peer has acknowledged all that was sent. Raises Failure if the connection is reset before."""
    pause = _ACKNOWLEDGED_SOONEST
    while stream.unacknowledged():
        stream.raise_if_reset()
        await sleep(pause)
        pause = min(pause * 2, _ACKNOWLEDGED_LATEST)


async def drain(stream: Connection, patience: float, most: float, busy: Callable[[], bool] = lambda: False) -> None:
    """Return once all that was sent is acknowledged, and the peer has then been silent for ``patience`` seconds.

    While ``busy()`` is true, which means that what it sent is still being processed, the peer does not count as silent.
    A peer that keeps sending is waited for at most ``most`` seconds.
    """
    await acknowledged(stream)
    latest = now() + most
    due = now() + patience
    while now() < due:
        await sleep(due - now())
        due = now() + patience if busy() else min(max(due, stream.counts.moved_at + patience), latest)


async def close_gracefully(stream: Connection) -> None:
    """Half-close after a successful conversation, if that works within ``DRAIN`` seconds. Does not close the stream.

    Raises Failure TLS of a peer that turns out to have refused the handshake.
    """
    try:
        with deadline(now() + DRAIN):
            await stream.shutdown()
    except Failure as failure:
        if failure.exit is Exit.TLS:
            raise
    except DeadlineExceeded:
        pass  # the peer takes no more
