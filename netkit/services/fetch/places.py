"""Where answers go: to stdout, or each to a file."""

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
    """The names of files that URLs have. Raises Invalid for a URL that names none, or the same as another."""
    names = [url.file_name for url in urls]
    for url, name in zip(urls, names, strict=True):
        if not name:
            raise Invalid(f"{url} names no file: -o FILE does")
        if names.count(name) > 1:
            raise Invalid(f"{name!r} would be the file of two URLs")
    return names


class Place:
    """Where an answer goes. ``before`` is the number of bytes of its body that are there already.

    ``is_shown`` is whether somebody sees them come.
    """

    before = 0
    is_shown = False

    @property
    def conditions(self) -> Sequence[tuple[str, bytes]]:
        """The fields that ask for what is missing, if it is still of the same version; none to ask for all."""
        return ()

    def fits(self, head: Head) -> bool:
        """Whether this answers ``conditions``: False if they are to be dropped, and all of it is to be asked for.

        Raises Failure PROTOCOL for what is neither the whole nor the part that was asked for.
        """
        return True

    def restart(self) -> None:
        """Ask for all of it."""
        self.before = 0

    def open(self, head: Head) -> Stream:
        """What the body of this answer is sent to."""
        raise NotImplementedError

    def goes_on(self) -> bool:
        """Whether, now that the answer is written, there is more to ask for."""
        return False


class _Shown(Terminal):
    """Stdout on a terminal: control bytes are made visible and nothing binary is written, unless ``raw``."""

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
        self._terminal = terminal
        self.is_shown = isinstance(terminal, _Shown)

    def open(self, head: Head) -> Stream:
        return self._terminal


@asynccontextmanager
async def printed(wiped: Callable[[], bytes], *, raw: bool) -> AsyncIterator[Place]:
    """Stdout as a place while it is read. Raises Failure WRITE.

    A terminal shows control bytes and takes nothing binary, unless ``raw``; what ``wiped`` returns comes before.
    """
    terminal = _Shown(wiped, raw=raw) if os.isatty(STDOUT) else Terminal(reads=False)
    try:
        async with Group() as group:
            group.start_soon(terminal.reader_left())
            try:
                yield _Printed(terminal)
            except Failure:
                await terminal.send(b"")  # the beginning of a character may still be held
                raise
            await terminal.send(b"")
            group.cancel()
    finally:
        terminal.close()
