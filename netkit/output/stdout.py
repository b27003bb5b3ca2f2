"""A queued writer to stdout: producers never block on a slow reader."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from netkit.core.kernel import Group
from netkit.core.stdio import FileStream
from netkit.core.sync import Event

T = TypeVar("T")

Put = Callable[[str], None]

_NONE, _STDOUT = -1, 1


async def answering(work: Callable[[Put], Awaitable[T]]) -> T:
    """Return what ``work(put)`` returns, once all text that it put is written to stdout, in its order.

    Raises Failure WRITE, and cancels ``work``, as soon as writing fails or nobody reads any more.
    """
    waiting: list[str] = []
    more = Event()
    ended = False

    def put(text: str) -> None:
        waiting.append(text)
        more.set()

    async def write() -> None:
        nonlocal more
        while True:
            await more.wait()
            more = Event()
            text = "".join(waiting)
            waiting.clear()
            await stdout.send(text.encode())
            if ended and not waiting:
                return

    stdout = FileStream(_NONE, _STDOUT)
    try:
        async with Group() as group:
            group.start_soon(stdout.reader_left())
            writer = group.start_soon(write())
            result = await work(put)
            ended = True
            more.set()
            await writer.finished.wait()
            group.cancel()
    finally:
        stdout.close()
    return result
