"""Copying bytes in one direction, from one stream to another, and the changes that they go through on the way."""

from collections.abc import Callable, Sequence

from netkit.core.errors import Failure
from netkit.core.flow import FIRST, Flow
from netkit.core.kernel import now, while_readable
from netkit.core.splice import move
from netkit.core.stream import SMALLEST_READ, Counts, Stream, raw_sink, raw_source

Change = Callable[[bytes], bytes]
"""Bytes in, bytes out. Called once with b"", at the end, to return what it has held back. It may raise Done."""


PROMOTED_AFTER = 1 << 20  # bytes copied before the system's kernel is asked to move the rest


class Done(Exception):
    """Raised by a change that wants no more input. ``data`` is its last output, as if the source had ended there."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


def chain(*changes: Change) -> Change:
    """Combine changes into one: each gets what the one before returns. If one raises Done, the rest get their end."""

    def change(data: bytes) -> bytes:
        ended = not data
        done = False
        for each in changes:
            try:
                data = each(data) if data else b""
                data += each(b"") if ended else b""
            except Done as last:
                data, ended, done = last.data, True, True
        if done:
            raise Done(data)
        return data

    return change


def fresh(makers: Sequence[Callable[[], Change]]) -> Change | None:
    """Make the changes for one stream, as a chain; None if there are none, so that splice can move the bytes."""
    return chain(*(make() for make in makers)) if makers else None


class _Passage:
    """One direction from source to sink: applies the change to what is read, and counts it as offered to the sink.

    Small messages between two sockets go in steps: the loop reads, changes and writes each one while the task waits
    (``while_readable``). The task does what a step cannot: it sends the rest of a short write, and calls ``recv`` after
    a full read and at the end.
    """

    __slots__ = (
        "_change", "_fd", "_flow", "_read", "_received", "_recv_failure", "_send_failure", "_sent", "_unsent", "_write",
        "done",
    )  # fmt: skip
    _fd: int
    _read: Callable[[int], bytes]
    _write: Callable[[bytes], int]
    _received: Counts
    _sent: Counts
    _recv_failure: Callable[[OSError], Failure]
    _send_failure: Callable[[OSError], Failure]

    def __init__(self, change: Change | None, flow: Flow) -> None:
        self._change = change
        self._flow = flow
        self._unsent = b""  # the rest of a message of which a step could write only a part
        self.done = False

    def changed(self, data: bytes) -> bytes:
        """Apply the change, if any, to bytes that were read. Sets ``done`` when the change raises Done."""
        if self._change is None:
            return data
        try:
            return self._change(data)
        except Done as last:
            self.done = True
            return last.data

    async def read(self, source: Stream, sink: Stream) -> int:
        """Pass on the bytes of one ``recv``, and return how many that were.

        A method of its own, so that no variable keeps these bytes alive during the next wait.
        """
        try:
            data = await source.recv()
        except Failure:
            await self.flush(sink)
            raise
        size = len(data)
        if not self._flow.offered:
            self._flow.first = data[:FIRST]
        data = self.changed(data)
        self._flow.offer(len(data))
        if data:
            await sink.send(data)
        return size

    async def flush(self, sink: Stream) -> None:
        """Send what the change still holds, once the source has failed."""
        if rest := self.changed(b""):
            await sink.send(rest)

    async def steps(self, source: Stream, sink: Stream) -> None:
        """Pass on small messages in steps. Returns when ``recv`` must be called, or the change is done."""
        if not self._can_step(source, sink):
            return
        self._flow.wait()
        try:
            await while_readable(self._fd, self._step)
        except Failure:  # from the sink or the change; an error of the source is a plain OSError
            raise
        except OSError as error:
            await self.flush(sink)
            raise self._recv_failure(error) from error
        if self._unsent:
            data, self._unsent = self._unsent, b""
            await sink.send(data)

    def _can_step(self, source: Stream, sink: Stream) -> bool:
        """Whether both are sockets. Keeps what a step needs of them, which takes less memory than two RawEnds."""
        near, far = raw_source(source), raw_sink(sink)
        if near is None or near.call is None or near.limit is not None or far is None or far.call is None:
            return False
        self._fd, self._received, self._recv_failure, self._read = near.fd, near.counts, near.failure, near.call
        self._sent, self._send_failure, self._write = far.counts, far.failure, far.call
        return True

    def _step(self) -> bool:
        try:
            data = self._read(SMALLEST_READ)
        except BlockingIOError:
            return True
        if not data:
            return False  # the end, or a reset of which only ``recv`` knows
        size = len(data)
        counts, moment = self._received, now()
        counts.received += size
        counts.moved_at = moment
        data = self.changed(data)
        sent = 0
        if data:
            try:
                sent = self._write(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self._flow.offer(len(data))
                raise self._send_failure(error) from error
            counts = self._sent
            counts.sent += sent
            counts.moved_at = moment
        if self.done or sent < len(data):
            self._flow.offer(len(data))
            self._unsent = data[sent:]
            return False
        self._flow.passed(len(data), moment)
        return size < SMALLEST_READ


async def pump(
    source: Stream, sink: Stream, change: Change | None = None, *, flow: Flow | None = None, half_close: bool = True
) -> bool:
    """Copy from source to sink until the source ends, or the change is done; then ``send_eof`` if ``half_close``.

    ``flow`` has the progress. Returns True if the source ended, False if the change raised Done. Raises Failure: of
    the source after all that came before was sent. Closes neither stream.
    """
    flow = flow or Flow()
    passage = _Passage(change, flow)
    promote_at = PROMOTED_AFTER
    size = 0  # of the last read; steps follow only a small one
    try:
        while True:
            if size < SMALLEST_READ:
                await passage.steps(source, sink)
                if passage.done:
                    break
            flow.wait()
            size = await passage.read(source, sink)
            if not size or passage.done:
                break
            if change is None and flow.offered >= promote_at:
                await move(source, sink, flow)
                promote_at = flow.offered + PROMOTED_AFTER
        if half_close:
            await sink.send_eof()
        return not passage.done
    finally:
        flow.end()
