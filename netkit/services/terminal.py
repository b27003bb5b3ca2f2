"""This process's own stdin and stdout as one end of a conversation."""

import codecs
import os
import re
from collections.abc import Callable

from netkit.core.events import Observer
from netkit.core.kernel import Event, Group, sleep
from netkit.core.listen import Handler, impatient
from netkit.core.relay import Change, Ending, relay
from netkit.core.stream import Connection, FileStream

STDIN, STDOUT = 0, 1
_LINES_AT_ONCE = 500  # lines that are written before others get their turn
LINE_MOST = 64 * 1024  # bytes of a line that a label is put before

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_LONE_LF = re.compile(rb"(?<!\r)\n")
_SHOWN = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\r\t"}


class Terminal(FileStream):
    """Stdin and stdout, or in place of stdin a ``text`` that is fixed beforehand.

    ``reads`` False leaves stdin alone: nothing comes and it never ends. ``writes`` False drops what is sent.
    ``by_line`` writes each line by itself.
    """

    def __init__(
        self, *, text: bytes | None = None, reads: bool = True, writes: bool = True, by_line: bool = False
    ) -> None:
        super().__init__(STDIN, STDOUT)
        self._text = text
        self._by_line = by_line
        self._reads = reads
        self._writes = writes

    @property
    def raw_source(self) -> int | None:
        """Stdin, if that is where our bytes come from."""
        return super().raw_source if self._reads and self._text is None else None

    @property
    def raw_sink(self) -> int | None:
        """Stdout, if that is where bytes go as they are."""
        return super().raw_sink if self._writes and not self._by_line else None

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
        if not self._writes:
            return
        for number, piece in enumerate(_LINE.findall(data) if self._by_line else (data,), 1):
            await super().send(piece)
            if number % _LINES_AT_ONCE == 0:
                await sleep(0)

    async def send_eof(self) -> None:
        """End stdout, so that its reader goes on."""
        if self._writes:
            await super().send_eof()


def joining(
    open_terminal: Callable[[], Terminal],
    ending: Ending,
    *,
    outgoing: Change | None = None,
    incoming: Callable[[Connection], Change | None],
    idle_timeout: float | None = None,
    observe: Observer,
) -> Handler:
    """Return a handler that joins a connection to the terminal. It fails as ``relay`` does, or if our reader left.

    ``incoming`` returns what the bytes of a connection go through, ``outgoing`` is what those for it do.
    """

    async def handle(stream: Connection) -> str:
        terminal = open_terminal()
        try:
            async with Group() as group:
                group.start(terminal.reader_left())
                how = await relay(
                    terminal,
                    stream,
                    ending,
                    outgoing=outgoing,
                    incoming=incoming(stream),
                    observe=observe,
                )
                group.cancel()
        finally:
            terminal.close()
        return how

    return impatient(handle, idle_timeout)


def crlf() -> Change:
    """Return a change that sends each line end as CR LF; one that is CR LF already stays."""
    after_cr = False

    def change(data: bytes) -> bytes:
        nonlocal after_cr
        kept = b"\n" if after_cr and data.startswith(b"\n") else b""
        after_cr = data.endswith(b"\r")
        return kept + _LONE_LF.sub(b"\r\n", data[len(kept) :])

    return change


def labelled(label: str) -> Change:
    """Return a change that gives each line as ``LABEL<TAB>line``, once it is complete or the end has come.

    A line longer than ``LINE_MOST`` bytes becomes several, each with the label.
    """
    head = label.encode() + b"\t"
    kept = b""

    def change(data: bytes) -> bytes:
        nonlocal kept
        *lines, kept = (kept + data).split(b"\n") if data else (kept, b"")
        if not data:
            lines = [line for line in lines if line]
        pieces = [line[i : i + LINE_MOST] for line in lines for i in range(0, len(line) or 1, LINE_MOST)]
        while len(kept) > LINE_MOST:
            pieces.append(kept[:LINE_MOST])
            kept = kept[LINE_MOST:]
        return b"".join(head + piece + b"\n" for piece in pieces)

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
