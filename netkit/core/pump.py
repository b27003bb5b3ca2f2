"""Moving bytes one way, from one stream to another."""

from collections.abc import Callable, Sequence

from netkit.core.errors import Failure
from netkit.core.flow import Flow
from netkit.core.splice import move
from netkit.core.stream import Stream

Change = Callable[[bytes], bytes]
"""Bytes in, bytes out. Called with b"" once, at the end, to give back what it still holds. It may raise Done."""


PROMOTED_AFTER = 1 << 20  # bytes copied before the kernel is asked to move the rest


class Done(Exception):
    """Raised by a change that wants no more: ``data`` is the last that passes, as if the source had ended there."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


def chain(*changes: Change) -> Change:
    """Several changes as one, each fed with what the one before gives."""

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
    """A chain of new changes for one stream; None where there are none, so that the kernel may move the bytes."""
    return chain(*(make() for make in makers)) if makers else None


async def pump(
    source: Stream, sink: Stream, change: Change | None = None, *, flow: Flow | None = None, half_close: bool = True
) -> bool:
    """Move bytes from source to sink until the source ends, then end the sink too, unless that is the caller's to do.

    Returns whether the source ended, and not the change (``Done``).
    """
    flow = flow or Flow()
    promote_at = PROMOTED_AFTER
    try:
        while True:
            flow.wait()
            try:
                data = await source.recv()
            except Failure:
                if change is not None and (rest := change(b"")):
                    await sink.send(rest)
                raise
            ended, done = not data, False
            if change is not None:
                try:
                    data = change(data)
                except Done as last:
                    data, done = last.data, True
            flow.offer(len(data))
            if data:
                await sink.send(data)
            if ended or done:
                break
            if change is None and flow.offered >= promote_at:
                await move(source, sink, flow)
                promote_at = flow.offered + PROMOTED_AFTER
        if half_close:
            await sink.send_eof()
        return not done
    finally:
        flow.end()
