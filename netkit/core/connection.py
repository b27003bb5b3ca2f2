"""One connection from open to close: through its layers, to its handler, under its clocks, and to an end in order."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from netkit.core.errors import Exit, Failure
from netkit.core.events import Closed, Observer
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.layer import Layer, through
from netkit.core.stream import Connection, Stream
from netkit.core.units import duration

HANDSHAKE = 10.0  # s that a client gets for its handshake

DRAIN = 1.0  # s that open connections get to end once a server stops

_ACKNOWLEDGED_SOONEST, _ACKNOWLEDGED_LATEST = 0.0005, 0.05  # s: the kernel has no event for it

Handler = Callable[[Connection], Awaitable[str | None]]
"""Serves one connection, and may say how it ended. It leaves the closing to ``serve_connection``."""


async def serve_connection(
    stream: Connection, handler: Handler, observe: Observer, layers: Sequence[Layer] = (), group: Group | None = None
) -> None:
    """Take the stream through the layers, run the handler on it and close it; reset it if one failed or was cancelled.

    ``group`` has what layers run that it has gone through already: those of ``dial``.
    """
    if layers and group is None:
        async with Group() as group:
            await serve_connection(stream, handler, observe, layers, group)
        return
    begun = now()
    reason = "cut short"
    whole = is_open = False
    try:
        if layers and group is not None:
            stream = await _within_handshake(stream, layers, group)
        is_open = True
        reason = await handler(stream) or ""
        await close_gracefully(stream)
        whole = True
    except OSError as error:
        reason = str(error)
        raise
    finally:
        if group is not None:
            group.cancel()
        end_connection(stream, begun, reason, observe, whole=whole, is_open=is_open)


def end_connection(
    stream: Connection, begun: float, reason: str, observe: Observer, *, whole: bool, is_open: bool = True
) -> None:
    """Close a connection that ended as it should, reset any other, and report that. ``begun`` is by the kernel's clock.

    ``is_open`` is whether it came through its handshake: one that failed moved no payload.
    """
    moved = (0, 0, 0)
    if is_open:
        sent = stream.counts.sent
        # Nothing acknowledges a datagram.
        moved = (stream.counts.received, sent, 0 if stream.peer.udp else sent - stream.unacknowledged())
    if whole:
        stream.close()
    else:
        stream.abort()
    observe(Closed(stream.name, stream.peer, *moved, now() - begun, reason))


async def _within_handshake(stream: Connection, layers: Sequence[Layer], group: Group) -> Connection:
    try:
        with deadline(now() + HANDSHAKE):
            return await through(stream, layers, group)
    except DeadlineExceeded as exceeded:
        if isinstance(exceeded.__cause__, Failure):  # the layer's own word for what did not come
            raise exceeded.__cause__ from None
        action = f"secure the connection to {stream.name}"
        raise Failure(Exit.TIMEOUT, action, f"no handshake within {duration(HANDSHAKE)}") from None


def beside(handler: Handler, companion: Callable[[Connection], Coroutine[Any, Any, None]]) -> Handler:
    """The handler with ``companion`` running beside it, whose failure ends both."""

    async def handle(stream: Connection) -> str | None:
        async with Group() as group:
            group.start_soon(companion(stream))
            how = await handler(stream)
            group.cancel()
        return how

    return handle


def with_idle_timeout(handler: Handler, patience: float | None) -> Handler:
    """The handler under a clock: it fails once nothing moved either way for ``patience`` seconds, if any."""
    return handler if patience is None else beside(handler, lambda stream: idle_clock(stream, patience))


async def idle_clock(stream: Stream, patience: float) -> None:
    """Raise Failure once no byte has moved over the stream, either way, for ``patience`` seconds."""
    while True:
        due = stream.counts.moved_at + patience
        if now() >= due:
            action = f"go on with {stream.name}"
            raise Failure(Exit.TIMEOUT, action, f"nothing moved for {duration(patience)}", detail="--idle-timeout")
        await sleep(due - now())


async def acknowledged(stream: Connection) -> None:
    """Wait until the peer has acknowledged all that was sent; raise Failure once it never will."""
    pause = _ACKNOWLEDGED_SOONEST
    while stream.unacknowledged():
        stream.raise_if_reset()
        await sleep(pause)
        pause = min(pause * 2, _ACKNOWLEDGED_LATEST)


async def drain(stream: Connection, patience: float, most: float, busy: Callable[[], bool] = lambda: False) -> None:
    """Return once all that was sent is acknowledged, and the peer has then been silent for ``patience`` seconds.

    While we are ``busy`` with what it sent it is not silent. A peer that goes on sending is given ``most`` seconds.
    """
    await acknowledged(stream)
    latest = now() + most
    due = now() + patience
    while now() < due:
        await sleep(due - now())
        due = now() + patience if busy() else min(max(due, stream.counts.moved_at + patience), latest)


async def close_gracefully(stream: Connection) -> None:
    """Send our end after a conversation that ended well, if the peer lets us; whoever opened the stream closes it."""
    try:
        with deadline(now() + DRAIN):
            await stream.shutdown()
    except (Failure, DeadlineExceeded):
        pass  # the peer has left, or takes no more
