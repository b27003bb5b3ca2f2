"""Places, to which responses are written: the base class, and stdout."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.kernel import Group
from netkit.core.stream import Stream
from netkit.protocols.http import Head
from netkit.protocols.url import Url
from netkit.services.join import STDOUT, Terminal
from netkit.services.transforms import visible


def file_names(urls: Sequence[Url]) -> list[str]:
    """The file names of URLs. Raises Invalid for a URL without one, and for two URLs with the same."""
    names: dict[str, None] = {}  # a set in order
    for url in urls:
        name = url.file_name
        if not name:
            raise Invalid(f"{url} names no file: -o FILE does")
        if name in names:
            raise Invalid(f"{name!r} would be the file of two URLs")
        names[name] = None
    return list(names)


class Place:
    """Where a response goes. ``before`` is how many bytes of the body are there already.

    ``is_shown`` is whether it is a terminal, on which the bytes are visible. ``output`` is what ``open`` returns, if it
    is there before that and may be slow, as stdout.
    """

    before = 0
    is_shown = False
    output: Stream | None = None

    @property
    def conditions(self) -> Sequence[tuple[str, bytes]]:
        """Request fields that ask for the missing bytes, if the version is still the same; empty to ask for all."""
        return ()

    def fits(self, head: Head) -> bool:
        """Whether the response fits ``conditions``. If not, they are dropped, and the request is to be repeated.

        Raises Failure PROTOCOL if it is neither the whole nor the requested part.
        """
        return True

    def open(self, head: Head) -> Stream | None:
        """Return the stream to which the response is to be written; None if it is not needed, and need not be read."""
        raise NotImplementedError

    def rest(self) -> "Place | None":
        """The place for what is still missing after the response was written, None if nothing is. Closed with this."""
        return None

    def finish(self) -> None:
        """Called once the response is written. Raises Failure PARTIAL if it is not complete."""

    def close(self) -> int:
        """Close what ``open`` opened; return how many bytes are kept for a later run to resume."""
        return 0


class _Shown(Terminal):
    """Stdout on a terminal: unless ``raw``, control bytes are made visible, and NUL bytes are a Failure WRITE."""

    def __init__(self, wiped: Callable[[], bytes], *, raw: bool) -> None:
        super().__init__(reads=False)
        self._wiped = wiped
        self._change = None if raw else visible()

    async def send(self, data: bytes) -> None:
        if self._change is not None:
            if b"\0" in data:
                hint = "-o FILE writes it to a file, and --raw shows it"
                raise Failure(Exit.WRITE, "write to the terminal", "the answer is binary", hint=hint)
            data = self._change(data)
        await super().send(self._wiped() + data)


class _Printed(Place):
    def __init__(self, terminal: Terminal) -> None:
        self.output = self._terminal = terminal
        self.is_shown = isinstance(terminal, _Shown)

    def open(self, head: Head) -> Stream:
        return self._terminal


@asynccontextmanager
async def printed(wiped: Callable[[], bytes], *, raw: bool) -> AsyncIterator[Place]:
    """Stdout as a place. Raises Failure WRITE, also once stdout's reader has left.

    For a terminal see ``_Shown``; the bytes that ``wiped`` returns are written before, to remove the progress display.
    """
    terminal = _Shown(wiped, raw=raw) if os.isatty(STDOUT) else Terminal(reads=False)
    try:
        async with Group() as group:
            group.start_soon(terminal.reader_left())
            try:
                yield _Printed(terminal)
            except Failure:
                await terminal.send(b"")  # flush an incomplete character
                raise
            await terminal.send(b"")
            group.cancel()
    finally:
        terminal.close()
