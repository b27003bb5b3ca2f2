"""Dialogues with a server, without I/O, and one driver for all of them.

A dialogue is a generator. It yields bytes that are to be sent, or a Frame, for which it gets the next unit of what the
server sends, such as a line. It returns what came of it, and raises Refused if nothing can.
"""

from collections.abc import Callable, Generator
from typing import Generic, NamedTuple, TypeVar

from netkit.core.stream import Connection

T = TypeVar("T")

LIMIT = 64 * 1024  # bytes that a server has for all its answers
_MAX_QUOTED = 200  # characters of an answer that a person is shown

Frame = Callable[[bytes], int]
"""The length of the unit that these bytes begin with, or 0 while they do not tell. May raise Refused."""

Steps = Generator[bytes | Frame, bytes, T]


class Names(NamedTuple):
    """What the two sides are called: the server as its certificate has it, the client as it says itself.

    ``greeted`` is whether the server has greeted already: once, in plain text before TLS. ``resource`` is what of it is
    asked for: the path of its URL, without the slash before it.
    """

    server: str
    client: str
    greeted: bool = False
    resource: str = ""


def names_of(server: str, stream: Connection) -> Names:
    """The names for a connection; a client without a name says its address as RFC 5321, section 4.1.3, writes it."""
    local = stream.local.host
    if local is None:
        return Names(server, "localhost")
    host = local.partition("%")[0]
    return Names(server, f"[IPv6:{host}]" if ":" in host else f"[{host}]")


class Refused(ValueError):
    """Why a dialogue came to nothing, in words for a person."""


class NotReady(Refused):
    """The server is there, and says itself that it is not ready; why, in words for a person."""

    def __init__(self, words: str) -> None:
        super().__init__(shortened(words) or "it does not say why")


class Malformed(Refused):
    """The server does not speak the protocol; ``answer`` is the first line of what it said."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer.partition(b"\n")[0].rstrip(b"\r")
        super().__init__(f"its answer is malformed: {quoted(self.answer)}".removesuffix(": "))


def refused(what: str, answer: bytes) -> Refused:
    """The server said no to ``what``."""
    return Refused(f"it refused {what}: {quoted(answer)}")


def quoted(answer: bytes) -> str:
    """What a person is shown of an answer."""
    return shortened(answer.decode("utf-8", "backslashreplace"))


def shortened(words: str) -> str:
    """The beginning of what a server says, without blanks around it."""
    text = words.strip()
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "..."


def line(data: bytes) -> int:
    """The frame of a line."""
    return data.find(b"\n") + 1


def check_beginning(data: bytes, *beginnings: bytes) -> None:
    """Raise Malformed as soon as ``data`` cannot begin with one of these."""
    if not any(data.startswith(each[: len(data)]) for each in beginnings):
        raise Malformed(data)


def line_beginning(*beginnings: bytes) -> Frame:
    """The frame of a line that has one of these beginnings, if there are some, or is Malformed."""

    def end(data: bytes) -> int:
        if beginnings:
            check_beginning(data, *beginnings)
        return line(data)

    return end


def read_line(*beginnings: bytes) -> Steps[bytes]:
    """The next line, without its end; Malformed unless it has one of the ``beginnings``, if there are some."""
    return (yield line_beginning(*beginnings)).rstrip(b"\r\n")


class Conversation(Generic[T]):
    """One dialogue on its way; ``done`` once it has returned its ``result``.

    ``too_much`` and ``ended`` say what it means that the server sends more than ``LIMIT`` bytes, or ends.
    """

    too_much = f"it sent {LIMIT >> 10} KiB that are no answer"
    ended = "it closed the connection"
    result: T

    def __init__(self, steps: Steps[T]) -> None:
        self.done = False
        self.received = 0
        self.unread = b""
        self._steps = steps
        self._step = next(steps)

    def receive(self, data: bytes) -> bytes:
        """Take what came, b"" at first, and return what is to be sent. Raises Refused."""
        room = LIMIT - self.received
        self.received += len(data)
        self.unread += data[: max(room, 0)]
        sending = b"" if self.done else self._advance()
        if len(data) > room and not self.done:
            raise Refused(self.too_much)
        return sending

    def _advance(self) -> bytes:
        sending = b""
        try:
            while True:
                unit = b""
                if isinstance(self._step, bytes):
                    sending += self._step
                else:
                    size = self._step(self.unread)
                    if size > LIMIT:
                        raise Refused(f"its answer would be {size} bytes long")
                    if not 0 < size <= len(self.unread):
                        return sending
                    unit, self.unread = self.unread[:size], self.unread[size:]
                self._step = self._steps.send(unit)
        except StopIteration as stop:
            self.done = True
            self.result = stop.value
            return sending


async def converse(stream: Connection, conversation: Conversation[T]) -> T:
    """Have a conversation over a connection, which stays its owner's. Raises Refused, and Failure as a stream does."""
    data = b""
    while True:
        if request := conversation.receive(data):
            await stream.send(request)
        if conversation.done:
            return conversation.result
        data = await stream.recv()
        if not data:
            raise Refused(conversation.ended)
