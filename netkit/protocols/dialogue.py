"""Sans-I/O dialogues with a peer, for STARTTLS, probes and clients of a proxy, and the driver that runs them.

A dialogue is a generator. It yields bytes to be sent, or a Frame, for which it is sent the next unit of what the peer
says, such as a line. It returns its result, and raises Refused if there is none.
"""

from collections.abc import Callable, Generator
from typing import Generic, NamedTuple, TypeVar

from netkit.core.stream import Connection

T = TypeVar("T")

LIMIT = 64 * 1024  # bytes that a peer may send before a dialogue is done
_MAX_QUOTED = 200  # characters of an answer that are shown in a message

Frame = Callable[[bytes], int]
"""Returns the length of the unit at the start of these bytes, or 0 if more are needed to tell. May raise Refused."""

Steps = Generator[bytes | Frame, bytes, T]


class Names(NamedTuple):
    """What a dialogue knows of the two sides.

    ``server`` is the name of the server, as in its certificate; ``client`` is the name that we send in EHLO.
    ``greeted`` is whether the server has sent its greeting already, in plain text before TLS. ``resource`` is the path
    of a probe's URL without its first slash, such as the service of grpc://.
    """

    server: str
    client: str
    greeted: bool = False
    resource: str = ""


def names_of(server: str, stream: Connection) -> Names:
    """The names for a connection. The client's is its address, as in RFC 5321, section 4.1.3: [192.0.2.1]."""
    local = stream.local.host
    if local is None:
        return Names(server, "localhost")
    host = local.partition("%")[0]
    return Names(server, f"[IPv6:{host}]" if ":" in host else f"[{host}]")


class Refused(ValueError):
    """The dialogue has failed. The text is the reason, for a message. ``reply`` are bytes that are still to be sent."""

    def __init__(self, reason: str, reply: bytes = b"") -> None:
        super().__init__(reason)
        self.reply = reply


class NotReady(Refused):
    """The server speaks the protocol, and says that it is not ready. The text is its reason."""

    def __init__(self, words: str) -> None:
        super().__init__(shortened(words) or "it does not say why")


class Malformed(Refused):
    """The server does not speak the protocol. ``answer`` is the first line of its answer."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer.partition(b"\n")[0].rstrip(b"\r")
        super().__init__(f"its answer is malformed: {quoted(self.answer)}".removesuffix(": "))


def refused(what: str, answer: bytes) -> Refused:
    """The Refused for a server that answered ``what`` with an error."""
    return Refused(f"it refused {what}: {quoted(answer)}")


def quoted(answer: bytes) -> str:
    """An answer as text for a message, shortened."""
    return shortened(answer.decode("utf-8", "backslashreplace"))


def shortened(words: str) -> str:
    """The first 200 characters of a text, stripped."""
    text = words.strip()
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "..."


def line(data: bytes) -> int:
    """The Frame of a line."""
    return data.find(b"\n") + 1


def check_beginning(data: bytes, *beginnings: bytes) -> None:
    """Raise Malformed as soon as ``data`` cannot begin with one of these."""
    if not any(data.startswith(each[: len(data)]) for each in beginnings):
        raise Malformed(data)


def line_beginning(*beginnings: bytes) -> Frame:
    """The Frame of a line that must have one of these beginnings, if any are given; else it raises Malformed."""

    def end(data: bytes) -> int:
        if beginnings:
            check_beginning(data, *beginnings)
        return line(data)

    return end


def read_line(*beginnings: bytes) -> Steps[bytes]:
    """Read the next line, without its end. Raises Malformed unless it has one of ``beginnings``, if any are given."""
    return (yield line_beginning(*beginnings)).rstrip(b"\r\n")


def read_exactly(size: int) -> Steps[bytes]:
    """Read ``size`` bytes."""
    return (yield lambda data: size) if size else b""


class Conversation(Generic[T]):
    """A running dialogue, still without I/O. ``done`` is set once it has returned its ``result``.

    ``unread`` is what came after that. ``too_much`` and ``ended`` are the reasons if the peer sends more than ``LIMIT``
    bytes, or ends, before it is done.
    """

    too_much = f"it sent {LIMIT >> 10} KiB that are no answer"
    ended = "it closed the connection"
    result: T

    def __init__(self, steps: Steps[T]) -> None:
        self.done = False
        self._received = 0
        self.unread = b""
        self._steps = steps
        self._step = next(steps)

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the peer (b"" at first), and return the bytes to send. Raises Refused."""
        self._received += len(data)
        self.unread += data
        sending = b"" if self.done else self._advance()
        if self._received > LIMIT and not self.done:
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
        except Refused as refused:
            refused.reply = sending + refused.reply
            raise


async def converse(stream: Connection, conversation: Conversation[T]) -> T:
    """Run a dialogue over a connection, and return its result. The caller closes. Raises Refused, and Failure."""
    data = b""
    while True:
        if request := conversation.receive(data):
            await stream.send(request)
        if conversation.done:
            return conversation.result
        data = await stream.recv()
        if not data:
            raise Refused(conversation.ended)
