"""The contract that every stream must keep, as checks to run on pairs of connected streams.

The tests of a kind of stream provide a ``MakePair`` and run ``check_stream(make_pair, check)`` for each check that
applies: ``EVERY`` for all streams, ``CONNECTED`` for connections, ``OWNING`` if closing the stream ends the connection,
``RESETTING`` if the transport has resets. ``UNIX`` and ``TCP`` are all that apply to a connection over such a socket.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from netkit.core import kernel
from netkit.core.connection import acknowledged
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group, Task, deadline, now, sleep
from netkit.core.layer import Wrapped
from netkit.core.pump import PROMOTED_AFTER, pump
from netkit.core.stdio import FileStream
from netkit.core.stream import Stream
from tests.support import PATIENCE
from tests.support.data import check_same

MakePair = Callable[[], AbstractAsyncContextManager[tuple[Any, Any]]]
Check = Callable[[MakePair], Awaitable[None]]

MEGABYTES = 3 << 20
PAST_PROMOTION = PROMOTED_AFTER + MEGABYTES  # enough for the kernel to move most of it (splice)
BOUND = 32 << 20  # more than any system buffers for one connection
STUCK = 50  # turns of the loop without progress after which a sender counts as blocked


def check_stream(make_pair: MakePair, check: Check) -> None:
    """Run a check of the contract. It makes its own pairs of connected streams."""

    async def main() -> None:
        with deadline(now() + PATIENCE):
            await check(make_pair)

    kernel.run(main())


async def read_all(stream: Stream) -> bytes:
    """Receive until the end of the stream."""
    chunks = []
    while chunk := await stream.recv():
        chunks.append(chunk)
    return b"".join(chunks)


async def read_exactly(stream: Stream, size: int) -> bytes:
    """Receive exactly ``size`` bytes. Fails if the stream ends before, or returns more."""
    data = b""
    while len(data) < size:
        chunk = await stream.recv()
        assert chunk, f"the stream ended after {len(data)} of {size} bytes"
        data += chunk
    assert len(data) == size
    return data


async def send_all(stream: Stream, data: bytes) -> None:
    """Send data, and then our end."""
    await stream.send(data)
    await stream.send_eof()


async def send_without_end(stream: Stream) -> None:
    """Send until the stream blocks, and on until cancelled."""
    while True:
        await stream.send(bytes(65536))


async def until_held_back(stream: Stream) -> int:
    """Wait until a sender makes no progress, and return how many bytes it has sent."""
    before, turns = -1, 0
    while turns < STUCK:
        turns = turns + 1 if stream.counts.sent == before else 0
        before = stream.counts.sent
        assert before < BOUND, "the stream buffers without bound"
        await sleep(0)
    return before


async def wait_for(task: Task) -> None:
    """Wait for the end of a task, however it ends."""
    await task.finished.wait()


def pattern(size: int, seed: int = 0) -> bytes:
    """Return bytes that do not repeat within any buffer's size."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


async def failure_of(operation: Awaitable[object]) -> Failure | None:
    """Return the Failure of an operation, or None if it succeeds."""
    try:
        await operation
    except Failure as failure:
        return failure
    return None


async def fails(operation: Awaitable[object], *exits: Exit) -> None:
    """Check that an operation raises a Failure, with one of these exit codes."""
    with pytest.raises(Failure) as caught:
        await operation
    assert caught.value.exit in exits


# -- every stream


async def bytes_arrive_in_order(make_pair: MakePair) -> None:
    """Data sent in pieces of any size arrives in order, and the counts of both ends agree."""
    sizes = [1, 2, 3, 1000, 4095, 4096, 4097, 65536, 65537, 0, 200_000, 1]
    data = pattern(sum(sizes))
    async with make_pair() as (a, b), Group() as group:

        async def send() -> None:
            begin = 0
            for size in sizes:
                await a.send(data[begin : begin + size])
                begin += size

        group.start_soon(send())
        assert await read_exactly(b, len(data)) == data
        assert a.counts.sent == b.counts.received == len(data)
        assert a.counts.received == b.counts.sent == 0


async def the_end_comes_after_the_last_byte_and_again(make_pair: MakePair) -> None:
    """``recv`` reports the end after all data, and again at each later call."""
    async with make_pair() as (a, b):
        await a.send(b"last words")
        await a.send_eof()
        assert await read_exactly(b, 10) == b"last words"
        for _ in range(3):
            assert await b.recv() == b""


async def one_direction_goes_on_after_the_other_ended(make_pair: MakePair) -> None:
    """After a half-close, megabytes still flow the other way, and end there too."""
    data = pattern(MEGABYTES)
    async with make_pair() as (a, b), Group() as group:
        await a.send_eof()
        assert await b.recv() == b""
        group.start_soon(send_all(b, data))
        assert await read_all(a) == data
        assert await a.recv() == b""


async def a_slow_reader_holds_the_sender_back(make_pair: MakePair) -> None:
    """The stream does not buffer without bound, and the sender goes on once the reader does."""
    async with make_pair() as (a, b), Group() as group:
        group.start_soon(send_without_end(a))
        held = await until_held_back(a)
        assert held >= 4096
        while b.counts.received < held + (1 << 20):
            assert await b.recv()
        assert a.counts.sent > held
        group.cancel()


async def single_bytes_go_back_and_forth(make_pair: MakePair) -> None:
    """A single byte is delivered at once, without waiting for more."""
    async with make_pair() as (a, b):
        for value in range(256):
            await a.send(bytes([value]))
            assert await b.recv() == bytes([value])
            await b.send(bytes([255 - value]))
            assert await a.recv() == bytes([255 - value])


async def many_single_bytes_arrive_whole(make_pair: MakePair) -> None:
    """Thousands of sends of one byte each lose and reorder nothing."""
    data = pattern(5000)
    async with make_pair() as (a, b), Group() as group:

        async def send() -> None:
            for value in data:
                await a.send(bytes([value]))
            await a.send_eof()

        group.start_soon(send())
        assert await read_all(b) == data


async def megabytes_cross_both_ways_at_once(make_pair: MakePair) -> None:
    """Both ends send megabytes at the same time, and neither direction stops the other."""
    there, back = pattern(MEGABYTES, 1), pattern(MEGABYTES, 2)
    async with make_pair() as (a, b), Group() as group:
        group.start_soon(send_all(a, there))
        group.start_soon(send_all(b, back))
        received = [group.start_soon(read_all(stream)) for stream in (a, b)]
    check_same(received[0].result, back)
    check_same(received[1].result, there)


async def views_of_memory_are_sent_too(make_pair: MakePair) -> None:
    """``send`` takes any bytes-like object, such as part of a buffer."""
    data = bytearray(pattern(1000))
    async with make_pair() as (a, b):
        await a.send(memoryview(data)[100:900])
        assert await read_exactly(b, 800) == data[100:900]


async def the_clock_of_a_stream_follows_its_bytes(make_pair: MakePair) -> None:
    """``counts.moved_at`` is the time at which data last moved, in either direction."""
    async with make_pair() as (a, b):
        begun = now()
        assert a.counts.moved_at <= begun and b.counts.moved_at <= begun
        await sleep(0.002)
        await a.send(b"x")
        sent = now()
        assert begun + 0.002 <= a.counts.moved_at <= sent
        await b.recv()
        assert a.counts.moved_at <= b.counts.moved_at <= now()


async def closing_wakes_the_reader(make_pair: MakePair) -> None:
    """A ``recv`` that waits fails when the stream is closed."""
    async with make_pair() as (a, _), Group() as group:
        reading = group.start_soon(fails(a.recv(), Exit.RECV, Exit.READ))
        await sleep(0)
        await sleep(0)
        assert not reading.finished.is_set()
        a.close()


async def closing_wakes_the_sender(make_pair: MakePair) -> None:
    """A ``send`` that waits for a slow reader fails when the stream is closed."""
    async with make_pair() as (a, _), Group() as group:
        sending = group.start_soon(fails(send_without_end(a), Exit.SEND, Exit.WRITE))
        await until_held_back(a)
        assert not sending.finished.is_set()
        a.close()


async def closing_twice_is_nothing(make_pair: MakePair) -> None:
    """A second close, or an abort after it, does nothing, nor does it affect the next user of the descriptors."""
    async with make_pair() as (a, _):
        a.close()
        async with make_pair() as (c, d), Group() as group:
            reading = group.start_soon(c.recv())
            await sleep(0)
            await sleep(0)
            a.close()
            a.abort()
            await d.send(b"still here")
            await wait_for(reading)
            assert reading.result == b"still here"


# -- connections


async def what_was_sent_is_acknowledged(make_pair: MakePair) -> None:
    """Once the other end has received everything, nothing is unacknowledged, before and after our half-close."""
    async with make_pair() as (a, b), Group() as group:
        group.start_soon(a.send(bytes(100_000)))
        await read_exactly(b, 100_000)
        await acknowledged(a)
        assert a.unacknowledged() == 0
        await a.send_eof()
        assert await b.recv() == b""
        await acknowledged(a)
        assert a.unacknowledged() == 0
        a.raise_if_reset()
        b.raise_if_reset()


class _Loud(Wrapped):
    """Overrides only ``recv``."""

    async def recv(self) -> bytes:
        return (await super().recv()).upper()


class _LoudAnswers(Wrapped):
    """Overrides only ``send``."""

    async def send(self, data: bytes) -> None:
        await super().send(data.upper())


async def a_wrapper_sees_all_that_is_received(make_pair: MakePair) -> None:
    """``pump`` passes all received data through a wrapper's ``recv``, even after splicing would begin."""
    data = pattern(PAST_PROMOTION)
    async with make_pair() as (a, b), Group() as group, _a_file() as file:
        group.start_soon(send_all(a, data))
        await pump(_Loud(b), file, half_close=False)
        assert os.pread(file.fd, PAST_PROMOTION + 1, 0) == data.upper()


async def a_wrapper_sees_all_that_is_sent(make_pair: MakePair) -> None:
    """``pump`` passes all sent data through a wrapper's ``send``, too."""
    data = pattern(PAST_PROMOTION)
    async with make_pair() as (a, b), Group() as group, _a_file(data) as file:
        group.start_soon(pump(file, _LoudAnswers(a)))
        assert await read_all(b) == data.upper()


class _File(FileStream):
    """A file in memory, at its beginning."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, fd)
        self.fd = fd


@asynccontextmanager
async def _a_file(data: bytes = b"") -> AsyncIterator[_File]:
    with open(os.memfd_create("contract"), "w+b", buffering=0) as file:
        file.write(data)
        file.seek(0)
        stream = _File(file.fileno())
        yield stream
        stream.close()


# -- streams whose close ends the connection


async def closing_ends_the_connection(make_pair: MakePair) -> None:
    """The other end reads the data sent before, and then the end."""
    async with make_pair() as (a, b):
        await a.send(b"last words")
        a.close()
        assert await read_all(b) == b"last words"
        assert await b.recv() == b""


async def a_closed_stream_fails_at_once(make_pair: MakePair) -> None:
    """A closed stream fails without waiting, and does not touch a later stream with its descriptor."""
    async with make_pair() as (a, _):
        a.close()
        async with make_pair() as (c, d), Group() as group:
            reading = group.start_soon(c.recv())
            await sleep(0)
            await sleep(0)
            for operation, exit in ((a.recv, Exit.RECV), (lambda: a.send(b"x"), Exit.SEND)):
                task = group.start_soon(fails(operation(), exit))
                for _ in range(STUCK):
                    await sleep(0)
                assert task.finished.is_set(), "a closed stream waits"
            await d.send(b"untouched")
            await wait_for(reading)
            assert reading.result == b"untouched"


async def sending_to_who_left_fails_and_counts(make_pair: MakePair) -> None:
    """Once the other end has gone, ``send`` fails, and ``sent`` counts the bytes that the system took."""
    async with make_pair() as (a, b):
        b.close()
        await fails(send_without_end(a), Exit.SEND)
        assert 0 <= a.counts.sent < BOUND


# -- streams that know a reset


async def an_abort_is_no_end(make_pair: MakePair) -> None:
    """After an abort the other end gets a failure, never an end, so that it does not take the data for complete."""
    async with make_pair() as (a, b):
        await a.send(b"the beginning of")
        a.abort()
        received = b""
        with pytest.raises(Failure) as caught:
            while True:
                chunk = await b.recv()
                assert chunk, "a reset looks like an end"
                received += chunk
        assert caught.value.exit is Exit.RECV
        assert b"the beginning of".startswith(received)


async def a_reset_that_no_call_has_seen_is_found(make_pair: MakePair) -> None:
    """``raise_if_reset`` reports a reset even if nothing was received or sent since, and none before it."""
    async with make_pair() as (a, b):
        await b.send(b"x")
        b.raise_if_reset()
        a.abort()
        with deadline(now() + PATIENCE):
            while True:
                try:
                    b.raise_if_reset()
                except Failure as failure:
                    assert failure.exit is Exit.RECV
                    break
                await sleep(0)


EVERY: tuple[Check, ...] = (
    bytes_arrive_in_order,
    the_end_comes_after_the_last_byte_and_again,
    one_direction_goes_on_after_the_other_ended,
    a_slow_reader_holds_the_sender_back,
    single_bytes_go_back_and_forth,
    many_single_bytes_arrive_whole,
    megabytes_cross_both_ways_at_once,
    views_of_memory_are_sent_too,
    the_clock_of_a_stream_follows_its_bytes,
    closing_wakes_the_reader,
    closing_wakes_the_sender,
    closing_twice_is_nothing,
)
CONNECTED: tuple[Check, ...] = (
    what_was_sent_is_acknowledged,
    a_wrapper_sees_all_that_is_received,
    a_wrapper_sees_all_that_is_sent,
)
OWNING: tuple[Check, ...] = (
    closing_ends_the_connection,
    a_closed_stream_fails_at_once,
    sending_to_who_left_fails_and_counts,
)
RESETTING: tuple[Check, ...] = (an_abort_is_no_end, a_reset_that_no_call_has_seen_is_found)
UNIX = EVERY + CONNECTED + OWNING
TCP = UNIX + RESETTING


def every_check(group: tuple[Check, ...], *, without: Check | None = None) -> pytest.MarkDecorator:
    """Run a test for each check of this group, but not for ``without``."""
    checks: list[Any] = [check for check in group if check is not without]
    return pytest.mark.parametrize("check", checks, ids=[check.__name__ for check in checks])
