"""One connection from open to close: what handlers are, and what every conversation shares."""

from collections.abc import Awaitable, Callable

from netkit.core.errors import Exit, Failure
from netkit.core.events import Closed, Observer
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.stream import Connection, Secure, Stream
from netkit.core.units import duration

_ACKNOWLEDGED_SOONEST, _ACKNOWLEDGED_LATEST = 0.0005, 0.05  # s: the kernel has no event for it


async def acknowledged(stream: Stream) -> None:
    """Wait until the peer has acknowledged all that was sent; raise Failure once it never will."""
    pause = _ACKNOWLEDGED_SOONEST
    while stream.unacknowledged():
        stream.check()
        await sleep(pause)
        pause = min(pause * 2, _ACKNOWLEDGED_LATEST)


async def drain(stream: Stream, patience: float, most: float, busy: Callable[[], bool] = lambda: False) -> None:
    """Return once all that was sent is acknowledged, and the peer has then been silent for ``patience`` seconds.

    While we are ``busy`` with what it sent it is not silent. A peer that goes on sending is given ``most`` seconds.
    """
    await acknowledged(stream)
    latest = now() + most
    due = now() + patience
    while now() < due:
        await sleep(due - now())
        due = now() + patience if busy() else min(max(due, stream.moved_at + patience), latest)


async def idle_clock(stream: Stream, patience: float) -> None:
    """Raise Failure once no byte has moved over the stream, either way, for ``patience`` seconds."""
    while True:
        due = stream.moved_at + patience
        if now() >= due:
            action = f"go on with {stream.name}"
            raise Failure(Exit.TIMEOUT, action, f"nothing moved for {duration(patience)}", detail="--idle-timeout")
        await sleep(due - now())


Handler = Callable[[Connection], Awaitable[str | None]]
"""Serves one connection, and may say how it ended. It leaves the closing to ``serve_connection``."""


DRAIN = 1.0  # s that open connections get to end once a server stops

HANDSHAKE = 10.0  # s that a client gets for its handshake


def with_idle_timeout(handler: Handler, patience: float | None) -> Handler:
    """Return the handler under a clock: it fails once nothing moved either way for ``patience`` seconds, if any."""
    if patience is None:
        return handler

    async def handle(stream: Connection) -> str | None:
        async with Group() as group:
            group.start_soon(idle_clock(stream, patience))
            how = await handler(stream)
            group.cancel()
        return how

    return handle


async def serve_connection(
    stream: Connection, handler: Handler, observe: Observer, secure: Secure | None = None
) -> None:
    """Run the handler on the stream, ``secure`` first, and close it; reset it if one failed or was cancelled."""
    begun = now()
    reason = "cut short"
    whole = False
    bare = secure is not None
    try:
        if secure is not None:
            stream = await _secured(stream, secure)
            bare = False
        reason = await handler(stream) or ""
        await close_gracefully(stream)
        whole = True
    except OSError as error:
        reason = str(error)
        raise
    finally:
        # A handshake that failed moved no payload.
        counts = (0, 0, 0) if bare else (stream.received, stream.sent, stream.sent - stream.unacknowledged())
        if whole:
            stream.close()
        else:
            stream.abort()
        observe(Closed(stream.name, stream.peer, *counts, now() - begun, reason))


async def _secured(stream: Connection, secure: Secure) -> Connection:
    try:
        with deadline(now() + HANDSHAKE):
            return await secure(stream)
    except DeadlineExceeded:
        action = f"secure the connection to {stream.name}"
        raise Failure(Exit.TIMEOUT, action, f"no handshake within {duration(HANDSHAKE)}") from None


async def close_gracefully(stream: Connection) -> None:
    """Leave a conversation that ended well, if the peer lets us."""
    try:
        with deadline(now() + DRAIN):
            await stream.leave()
    except (Failure, DeadlineExceeded):
        pass  # the peer has left, or takes no more
