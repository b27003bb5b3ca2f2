"""Sending datagrams, and waiting for replies."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from netkit.core.errors import Exit, Failure
from netkit.core.events import Dropped, Observer
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.pump import Change
from netkit.core.udp import Data, Datagram, carried, cut
from netkit.core.units import duration
from netkit.services.join import Terminal
from netkit.services.udp.framing import Framing, Run, Show, runs, whole

Put = Callable[[Data, int], Awaitable[None]]
"""Sends a Run."""


Sender = Callable[[Terminal, Put], Awaitable[None]]
"""Sends all that there is to say."""


_STEP = 0.001  # s: what is sent at once, at a given rate

_CREDIT = 0.002  # s that a pause which took too long is made up for


def putting(sock: Datagram, rate: int | None) -> Put:
    """Return what sends to the target of ``sock``, no faster than ``rate`` bytes per second."""
    due = now()

    async def put(data: Data, size: int) -> None:
        await sock.send_cut(data, size)

    async def put_slowly(data: Data, size: int) -> None:
        nonlocal due
        step = max(int((rate or 0) * _STEP) // size, 1) * size
        for piece in cut(memoryview(data), step):
            due = max(due, now() - _CREDIT)
            if due > now():
                await sleep(due - now())
            await sock.send_cut(piece, size)
            due += len(piece) / (rate or 1)

    return put if rate is None else put_slowly


def as_it_comes(framing: Framing) -> Sender:
    """Return what sends stdin, cut by ``framing``."""

    async def speak(terminal: Terminal, put: Put) -> None:
        data = b"-"
        while data:
            data = await terminal.recv()
            for run in framing(data):
                await put(*run)

    return speak


def all_at_once(texts: Sequence[bytes], times: int, interval: float) -> Sender:
    """Return what sends the texts, or where there are none all of stdin, so many times, ``interval`` seconds apart."""

    async def speak(terminal: Terminal, put: Put) -> None:
        rounds = list(runs(texts)) if texts else await _read_whole(terminal)
        for number in range(times):
            await sleep(interval if number else 0)
            for run in rounds:
                await put(*run)

    return speak


async def _read_whole(terminal: Terminal) -> list[Run]:
    frame = whole()
    while data := await terminal.recv():
        list(frame(data))
    return list(frame(b""))


class Replies(NamedTuple):
    """Which answers are waited for: how many (None: any), how long silence may last in seconds, how they are shown."""

    wanted: int | None
    patience: float
    show: Show
    change: Change | None = None


async def exchange(
    opening: Awaitable[Datagram], speak: Sender, replies: Replies | None, *, rate: int | None, observe: Observer
) -> None:
    """Send what ``speak`` sends, at most ``rate`` bytes per second, and show the replies that are wanted as they come.

    Without ``replies`` this ends with what was sent; otherwise when all have come, or once nothing was sent or received
    for so long. Raises Failure: TIMEOUT if some are missing, CONNECT for an error that came back.
    """
    sock = await opening
    terminal = Terminal()
    try:
        heard = await _converse(sock, terminal, partial(speak, terminal, putting(sock, rate)), replies, observe)
    finally:
        terminal.close()
        sock.close()
    if replies is not None and heard < (replies.wanted or 0):
        silence = duration(replies.patience)
        reason = f"{heard} of {replies.wanted} replies, then none for {silence}" if heard else f"no reply for {silence}"
        raise Failure(Exit.TIMEOUT, f"hear from {sock.name}", reason, detail="--wait")


async def _converse(
    sock: Datagram,
    terminal: Terminal,
    speak: Callable[[], Awaitable[None]],
    replies: Replies | None,
    observe: Observer,
) -> int:
    """Return how many replies came."""
    begun = now()
    heard = 0
    spoken_at: float | None = None
    waiting: Group | None = None

    async def say() -> None:
        nonlocal spoken_at
        await speak()
        spoken_at = now()
        if waiting is not None:
            waiting.cancel()

    try:
        async with Group() as group:
            if replies is not None:
                group.start_soon(terminal.reader_left())
            group.start_soon(say())
            moved_at = begun
            while spoken_at is None or (replies is not None and heard != replies.wanted):
                due = None
                if spoken_at is not None and replies is not None:
                    due = max(spoken_at, moved_at) + replies.patience
                try:
                    async with Group() as waiting:
                        with deadline(due):
                            await sock.ready()
                except DeadlineExceeded:
                    break
                for burst in sock.take():
                    if replies is not None and heard != replies.wanted:
                        if replies.wanted is not None:
                            burst = burst.first(replies.wanted - heard)
                        heard += burst.number
                        await terminal.send(transformed(replies.change, replies.show(sock, burst)))
                        moved_at = now()
            group.cancel()
    finally:
        if sock.dropped():
            observe(Dropped(sock.dropped(), sock.joined))
        observe(carried([sock], now() - begun))
    return heard


def transformed(change: Change | None, data: bytes) -> bytes:
    """``data`` through a change that is made for it alone, or as it is."""
    return change(data) + change(b"") if change is not None else data
