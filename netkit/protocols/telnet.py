"""Telnet: the commands in the stream (RFC 854) and the negotiation of options (RFC 1143), as a layer.

We only answer, and never propose an option. We accept SUPPRESS-GO-AHEAD (RFC 858), and if there is a terminal also its
type (RFC 1091) and its size (RFC 1073).
"""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group
from netkit.core.layer import Changed, Layer, Setting
from netkit.core.stream import Connection
from netkit.core.sync import Lock

_SE, _SB, _WILL, _WONT, _DO, _DONT = 240, 250, 251, 252, 253, 254
_IAC = b"\xff"
_SGA, _TERMINAL_TYPE, _NAWS = 3, 24, 31
_IS, _SEND = b"\x00", b"\x01"

# One piece: data or a command. A subnegotiation ends with SE, or, if it is malformed, with the next command.
_PIECE = re.compile(
    rb"""
    (?P<data> [^\xff]+ | \xff\xff )
    | \xff (?P<verb> [\xfb-\xfe] ) (?P<option> . )
    | \xff\xfa (?P<parameters> [^\xff]* (?: \xff\xff [^\xff]* )* ) (?: \xff\xf0 | (?= \xff[^\xf0\xff] ) )
    | \xff [^\xfa-\xff]
    """,
    re.DOTALL | re.VERBOSE,
)
_BARE_CR = re.compile(rb"\r(?=[^\n])", re.DOTALL)
_MAX_PARAMETERS = 1024  # bytes of a subnegotiation; those of the accepted options have a few
_MAX_ANSWERS = 64 * 1024  # bytes of answers; beyond that ``recv`` waits for them to be sent
_TYPE = re.compile(rb"[!-~]{1,40}")  # RFC 1091


class Terminal(NamedTuple):
    """The type of a terminal, and a function that returns its current columns and lines, None if it is gone."""

    type: bytes
    size: Callable[[], tuple[int, int] | None]


class Telnet:
    """One end of a telnet connection, without I/O: decodes, encodes, and makes the answers of the negotiation.

    ``terminal`` is ours, if any.
    """

    def __init__(self, terminal: Terminal | None = None) -> None:
        self._terminal = terminal
        self._ours = {_SGA} if terminal is None else {_SGA, _TERMINAL_TYPE, _NAWS}  # options that we accept to perform
        self._theirs = {_SGA}  # options that the peer may perform
        self._enabled: set[tuple[bool, int]] = set()  # options in effect: whether by us, and the option
        self._size: tuple[int, int] | None = None  # the size that was sent last
        self._rest = b""  # the beginning of an incomplete command
        self._after_cr = False
        self._owes_nul = False  # whether the last byte sent was a CR, which needs a NUL unless LF follows
        self._answers: list[bytes] = []
        self.pending = 0  # bytes of answers

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the peer, and return the data in them. Commands in them are carried out."""
        data = self._rest + data
        at = 0
        found = []
        while piece := _PIECE.match(data, at):
            at = piece.end()
            if plain := piece["data"]:
                found.append(self._plain(plain))
            elif piece["verb"]:
                self._negotiate(piece["verb"][0], piece["option"][0])
            elif piece["parameters"]:
                self._heed(piece["parameters"])
        self._rest = data[at:]
        return b"".join(found)

    @property
    def is_endless(self) -> bool:
        """Whether a subnegotiation has not ended after ``_MAX_PARAMETERS`` bytes."""
        return len(self._rest) > _MAX_PARAMETERS

    def send(self, data: bytes) -> bytes:
        """Encode data: IAC is doubled, and a CR without LF is followed by NUL. b"" completes a CR at the end."""
        head = b"\0" if self._owes_nul and data[:1] != b"\n" else b""
        self._owes_nul = data[-1:] == b"\r"
        return head + _BARE_CR.sub(b"\r\0", data).replace(_IAC, _IAC * 2)

    def answers(self) -> bytes:
        """Return the pending answers, encoded, and forget them."""
        told = b"".join(self._answers)
        self._answers.clear()
        self.pending = 0
        return self.send(b"") + told if told else b""

    def tell_size(self) -> None:
        """Add the terminal's size to the answers, if the peer has asked for it and it has changed."""
        if self._terminal is None or (True, _NAWS) not in self._enabled:
            return
        size = self._terminal.size()
        if size is not None and size != self._size:
            self._size = size
            self._tell(_NAWS, b"".join(min(number, 0xFFFF).to_bytes(2, "big") for number in size))

    def _plain(self, data: bytes) -> bytes:
        begin = self._after_cr and data[0] == 0
        self._after_cr = data[-1] == ord("\r")
        return data[begin:].replace(b"\r\0", b"\r").replace(_IAC * 2, _IAC)

    def _negotiate(self, verb: int, option: int) -> None:
        """Answer requests that change something or are refused, but no confirmation, which could cause a loop."""
        by_us = verb in (_DO, _DONT)
        yes, no = (_WILL, _WONT) if by_us else (_DO, _DONT)
        which = (by_us, option)
        if verb in (_DO, _WILL):
            if which in self._enabled:
                return
            if option not in (self._ours if by_us else self._theirs):
                self._answer(bytes((0xFF, no, option)))
                return
            self._enabled.add(which)
            self._answer(bytes((0xFF, yes, option)))
            self.tell_size()
        elif which in self._enabled:
            self._enabled.remove(which)
            self._answer(bytes((0xFF, no, option)))
            if which == (True, _NAWS):
                self._size = None

    def _heed(self, parameters: bytes) -> None:
        wanted = bytes((_TERMINAL_TYPE,)) + _SEND
        if self._terminal is not None and parameters == wanted and (True, _TERMINAL_TYPE) in self._enabled:
            self._tell(_TERMINAL_TYPE, _IS + self._terminal.type)

    def _tell(self, option: int, parameters: bytes) -> None:
        told = parameters.replace(_IAC, _IAC * 2)
        self._answer(bytes((0xFF, _SB, option)) + told + bytes((0xFF, _SE)))

    def _answer(self, data: bytes) -> None:
        self._answers.append(data)
        self.pending += len(data)


def speaking(wanted: bool, setting: Setting) -> Layer:
    """The layer that speaks telnet. A client on a terminal tells its type and size if asked."""

    async def speak(stream: Connection, group: Group) -> Connection:
        return TelnetStream(stream, Telnet(None if setting.serves else _terminal()))

    return speak


def _terminal() -> Terminal | None:
    """The terminal on stdin and stdout, None unless both are."""
    if not (os.isatty(0) and os.isatty(1)):
        return None
    name = os.environb.get(b"TERM", b"")
    return Terminal(name if _TYPE.fullmatch(name) else b"UNKNOWN", _size)


def _size() -> tuple[int, int] | None:
    try:
        return os.get_terminal_size(1)
    except OSError:  # stdout has ended
        return None


class TelnetStream(Changed):
    """A connection that sends and receives the data of a telnet connection. Its counts are of the data."""

    def __init__(self, stream: Connection, telnet: Telnet) -> None:
        super().__init__(stream, outgoing=lambda data: telnet.send(bytes(data)))
        self._telnet = telnet
        self._turn = Lock()

    async def recv(self) -> bytes:
        while True:
            if self._telnet.is_endless:
                reason = f"a telnet subnegotiation has not ended after {_MAX_PARAMETERS} bytes"
                raise Failure(Exit.PROTOCOL, f"receive from {self.name}", reason)
            came = await self._stream.recv()
            data = self._telnet.receive(came)
            # A ``send`` that is blocked now will send the answers, too. To wait for it here would be a deadlock with a
            # peer that is blocked in sending to us.
            if self._telnet.pending and (not self._turn.locked() or self._telnet.pending > _MAX_ANSWERS):
                await self._answer()
            if data or not came:
                self.counts.add_received(len(data))
                return data

    async def send(self, data: bytes) -> None:
        async with self._turn:
            self._telnet.tell_size()
            await self._send_answers()
            await super().send(data)
            await self._send_answers()

    async def send_eof(self) -> None:
        async with self._turn:
            await self._send_answers()
            await super().send_eof()

    async def _answer(self) -> None:
        try:
            async with self._turn:
                await self._send_answers()
        except Failure:
            pass  # first return what the peer has sent; a later ``recv`` raises the failure

    async def _send_answers(self) -> None:
        while (answers := self._telnet.answers()) and not self._sent_eof:
            await self._stream.send(answers)
