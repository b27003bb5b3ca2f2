"""A plain dialogue up to the moment when TLS begins, without I/O.

A dialogue is a generator. It yields bytes that are to be sent, or a Frame, for which it gets the next unit of what the
server sends, such as a line. It returns when the handshake is to begin, and raises Refused if there will be none.
"""

from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

T = TypeVar("T")

LIMIT = 64 * 1024  # bytes that a server has until it lets TLS begin
_MAX_QUOTED = 200  # characters of an answer that a person is shown

Frame = Callable[[bytes], int]
"""The length of the unit that these bytes begin with, or 0 while they do not tell. May raise Refused."""

Steps = Generator[bytes | Frame, bytes, T]
Dialogue = Steps[None]


class Names(NamedTuple):
    """What the two sides are called: the server as its certificate has it, the client as it says itself (RFC 5321)."""

    server: str
    client: str


class Refused(ValueError):
    """Why TLS does not begin, in words for a person."""


NOT_OFFERED = "it does not offer STARTTLS"
INJECTED = "it sent plain text behind its go-ahead for TLS"


def refused(what: str, answer: bytes) -> Refused:
    """The server said no to ``what``."""
    return Refused(f"it refused {what}: {_quoted(answer)}")


def malformed(answer: bytes) -> Refused:
    """The server does not speak the protocol."""
    return Refused(f"its answer is malformed: {_quoted(answer)}")


def _quoted(answer: bytes) -> str:
    text = answer.decode("utf-8", "backslashreplace").strip()
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "..."


def line(data: bytes) -> int:
    """The frame of a line."""
    return data.find(b"\n") + 1


def read_line() -> Steps[bytes]:
    """The next line, without its end."""
    return (yield line).rstrip(b"\r\n")


class Upgrade:
    """One dialogue on its way; ``done`` once TLS is to begin.

    What a server says in plain text behind its go-ahead would pass for part of the secured conversation with clients
    that keep what they have read (CVE-2021-23222), so it is refused.
    """

    def __init__(self, dialogue: Dialogue) -> None:
        self.done = False
        self._dialogue = dialogue
        self._step = next(dialogue)
        self._unread = b""
        self._received = 0

    def receive(self, data: bytes) -> bytes:
        """Take what came, b"" at first, and return what is to be sent. Raises Refused."""
        room = LIMIT - self._received
        self._received += len(data)
        self._unread += data[: max(room, 0)]
        sending = b"" if self.done else self._advance()
        if self.done and (self._unread or len(data) > room):
            raise Refused(INJECTED)
        if len(data) > room:
            raise Refused(f"it sent {LIMIT >> 10} KiB, and no go-ahead for TLS")
        return sending

    def _advance(self) -> bytes:
        sending = b""
        try:
            while True:
                unit = b""
                if isinstance(self._step, bytes):
                    sending += self._step
                else:
                    size = self._step(self._unread)
                    if size > LIMIT:
                        raise Refused(f"its answer would be {size} bytes long")
                    if not 0 < size <= len(self._unread):
                        return sending
                    unit, self._unread = self._unread[:size], self._unread[size:]
                self._step = self._dialogue.send(unit)
        except StopIteration:
            self.done = True
            return sending
