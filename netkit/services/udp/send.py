"""Sending datagrams, and waiting for replies."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

from netkit.core.errors import Exit, Failure
from netkit.core.events import Dropped, Observer
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.udp import Datagram, DatagramClient, carried, cut
from netkit.core.units import duration
from netkit.services.join import Terminal
from netkit.services.udp.formatter import Formatter
from netkit.services.udp.framing import Batch, Framing, InPieces, batched, whole

_STEP = 0.001  # s: with a rate, so much is sent at a time
_CREDIT = 0.002  # s by which sending may be late and catch up

Batches = Callable[[Terminal], AsyncIterator[Batch]]
"""Yields each batch when it is to be sent; it may read from the terminal."""


def as_it_comes(framing: Framing) -> Batches:
    """Send stdin as it comes, cut into datagrams by ``framing``."""

    async def batches(terminal: Terminal) -> AsyncIterator[Batch]:
        if isinstance(framing, InPieces):
            terminal.read_in(framing.read_size)
        data = b"-"
        while data:
            data = await terminal.recv()
            for batch in framing(data):
                yield batch

    return batches


def repeated(texts: Sequence[bytes], largest: int, times: int, interval: float) -> Batches:
    """Send the texts, or if there are none all of stdin as one datagram, ``times`` times, ``interval`` seconds apart.

    A datagram may have at most ``largest`` bytes.
    """

    async def batches(terminal: Terminal) -> AsyncIterator[Batch]:
        once = list(batched(texts)) if texts else [batch async for batch in as_it_comes(whole(largest))(terminal)]
        for number in range(times):
            await sleep(interval if number else 0)
            for batch in once:
                yield batch

    return batches


class Replies(NamedTuple):
    """How many replies to wait for (None: all that come), for how many seconds of silence, and how to format them."""

    wanted: int | None
    patience: float
    form: Formatter


async def exchange(
    opening: Awaitable[DatagramClient],
    batches: Batches,
    replies: Replies | None,
    *,
    rate: int | None,
    observe: Observer,
) -> None:
    """Send all batches, at most ``rate`` bytes per second, and write the wanted replies to stdout as they come.

    Without ``replies`` this returns when all is sent; otherwise when all replies have come, or after
    ``replies.patience`` seconds of silence. Raises Failure: TIMEOUT if replies are missing, CONNECT for an ICMP error.
    """
    sock = await opening
    begun = now()
    terminal = Terminal()
    try:
        heard = await _converse(sock, terminal, batches, replies, rate)
        sock.check()
        if sock.refused:
            raise Failure(
                Exit.CONNECT,
                f"send to {sock.name}",
                "connection refused",
                detail=f"{sock.refused} time{'s' * (sock.refused > 1)}",
            )
    finally:
        if sock.dropped():
            observe(Dropped(sock.dropped(), sock.joined))
        observe(carried([sock], now() - begun))
        terminal.close()
        sock.close()
    if replies is not None and heard < (replies.wanted or 0):
        silence = duration(replies.patience)
        reason = f"{heard} of {replies.wanted} replies, then none for {silence}" if heard else f"no reply for {silence}"
        hint = f"it may be lost, unwanted, or dropped by a firewall; --wait waits longer than {silence}"
        raise Failure(Exit.TIMEOUT, f"hear from {sock.name}", reason, detail="--wait", hint=hint)


async def send_all(sock: Datagram, batches: AsyncIterator[Batch], rate: int | None) -> None:
    """Send to the target of ``sock``, no faster than ``rate`` bytes per second."""
    due = now()
    async for data, size in batches:
        if rate is None:
            await sock.send_cut(data, size)
            continue
        for piece in cut(memoryview(data), max(int(rate * _STEP) // size, 1) * size):
            due = max(due, now() - _CREDIT)
            if due > now():
                await sleep(due - now())
            await sock.send_cut(piece, size)
            due += len(piece) / rate


async def _converse(
    sock: Datagram, terminal: Terminal, batches: Batches, replies: Replies | None, rate: int | None
) -> int:
    """Send and receive as ``exchange`` says; return how many replies came."""
    heard = 0
    moved_at = now()
    sent = False
    waiting: Group | None = None

    async def send() -> None:
        nonlocal moved_at, sent
        await send_all(sock, batches(terminal), rate)
        moved_at, sent = now(), True
        if waiting is not None:
            waiting.cancel()  # so that the loop below waits with a deadline from now on

    async with Group() as group:
        if replies is not None:
            group.start_soon(terminal.reader_left())
        group.start_soon(send())
        while not sent or (replies is not None and heard != replies.wanted):
            try:
                async with Group() as waiting:
                    with deadline(moved_at + replies.patience if sent and replies is not None else None):
                        await sock.ready()
            except DeadlineExceeded:
                break
            for burst in sock.take():
                if replies is not None:
                    if replies.wanted is not None:
                        burst = sock.first(replies.wanted - heard, burst)
                        if heard == replies.wanted:
                            continue
                    heard += burst.number
                    await terminal.send(replies.form(sock, burst))
                    moved_at = now()
        group.cancel()
    return heard
