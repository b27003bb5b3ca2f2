"""This process's own stdin and stdout as one end of a conversation."""

import codecs
import os
import re
from collections.abc import Callable, Sequence

from netkit.core.events import Observer
from netkit.core.kernel import Event, Group
from netkit.core.listen import Handler
from netkit.core.relay import Change, Ending, fresh, idle_clock, relay
from netkit.core.stream import FileStream, SocketStream

STDIN, STDOUT = 0, 1

_LONE_LF = re.compile(rb"(?<!\r)\n")
_SHOWN = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\r\t"}


class Terminal(FileStream):
    """Stdin and stdout, or in place of stdin a ``text`` that is fixed beforehand.

    ``reads`` False leaves stdin alone: nothing comes and it never ends. ``writes`` False drops what is sent.
    """

    def __init__(self, *, text: bytes | None = None, reads: bool = True, writes: bool = True) -> None:
        super().__init__(STDIN, STDOUT)
        self._text = text
        self._reads = reads
        self._writes = writes

    @property
    def raw_source(self) -> int | None:
        """Stdin, if that is where our bytes come from."""
        return super().raw_source if self._reads and self._text is None else None

    @property
    def raw_sink(self) -> int | None:
        """Stdout, if that is where bytes go."""
        return super().raw_sink if self._writes else None

    async def recv(self) -> bytes:
        """Return what was typed, piped or given as text."""
        if self._text is not None:
            data, self._text = self._text, b""
            return data
        if not self._reads:
            await Event().wait()
        return await super().recv()

    async def send(self, data: bytes) -> None:
        """Write to stdout."""
        if self._writes:
            await super().send(data)

    async def send_eof(self) -> None:
        """End stdout, so that its reader goes on."""
        if self._writes:
            await super().send_eof()


def joining(
    open_terminal: Callable[[], Terminal],
    ending: Ending,
    *,
    outgoing: Sequence[Callable[[], Change]] = (),
    incoming: Sequence[Callable[[], Change]] = (),
    idle_timeout: float | None = None,
    observe: Observer,
) -> Handler:
    """Return a handler that joins a connection to the terminal. It fails as ``relay`` does, or if our reader left."""

    async def handle(stream: SocketStream) -> str:
        terminal = open_terminal()
        try:
            async with Group() as group:
                if idle_timeout is not None:
                    group.start(idle_clock(stream, idle_timeout))
                group.start(terminal.reader_left())
                how = await relay(
                    terminal,
                    stream,
                    ending,
                    outgoing=fresh(outgoing),
                    incoming=fresh(incoming),
                    observe=observe,
                )
                group.cancel()
        finally:
            terminal.close()
        return how

    return handle


def crlf() -> Change:
    """Return a change that sends each line end as CR LF; one that is CR LF already stays."""
    after_cr = False

    def change(data: bytes) -> bytes:
        nonlocal after_cr
        kept = b"\n" if after_cr and data.startswith(b"\n") else b""
        after_cr = data.endswith(b"\r")
        return kept + _LONE_LF.sub(b"\r\n", data[len(kept) :])

    return change


def visible() -> Change:
    """Return a change that makes control bytes visible as ``\\xNN``: C0 but for newline, return and tab, DEL, C1.

    UTF-8 passes, also where a character arrives in pieces; bytes that are not UTF-8 become visible too.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def change(data: bytes) -> bytes:
        return decoder.decode(data, final=not data).translate(_SHOWN).encode()

    return change


def incoming(raw: bool) -> list[Callable[[], Change]]:
    """Return what data from a peer goes through on its way to stdout: to anything but a terminal, nothing."""
    return [] if raw or not os.isatty(STDOUT) else [visible]
