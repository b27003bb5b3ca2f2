"""An HTTP/1.1 client (RFC 9112): one request and its response over a connection.

h11 writes the request, and parses heads and chunks. A body that is not chunked is read from the connection directly, so
that the system's kernel can move its bytes (splice).
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import h11

from netkit.core.errors import Exit, Failure
from netkit.core.flow import Flow
from netkit.core.layer import Wrapped, unread
from netkit.core.splice import move
from netkit.core.stream import Connection, Counts, RawEnd, Stream, raw_source

MAX_HEAD = 256 * 1024  # bytes of all heads together; curl's limit is 300 KB
_MAX_LINE = 8 * 1024  # bytes of the status line, a chunk's size line, trailers: RFC 9112, section 3, has 8000
_MAX_BLANKS = 1024  # bytes: h11 takes quadratic time for a run of blanks that is followed by something malformed
# RFC 9110, section 15
OK, NO_CONTENT, PARTIAL_CONTENT, NOT_MODIFIED, UNSATISFIABLE = 200, 204, 206, 304, 416
_BODILESS = (NO_CONTENT, NOT_MODIFIED)  # RFC 9112, section 6.3
_BODIED = ("POST", "PUT", "PATCH")  # without a body they send Content-Length: 0 (RFC 9110, section 8.6)
_BEGINNING = b"HTTP/"
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] [0-9]{3}( [^\r]*)?\r?")
TLS_HINT = "the server may want TLS: write https:"
_TLS = (0x15, 0x16)  # first byte of an alert, a handshake: RFC 8446, section 5.1
_BLANKS = re.compile(rb"[ \t\r\n]{%d}" % _MAX_BLANKS)
_TWO_BLANKS = re.compile(rb"[ \t][ \t]")
_END = re.compile(rb"\n\r?\n")
_LENGTHS = re.compile(rb"^content-length[ \t]*:((?:[^\n]|\n[ \t])*)", re.IGNORECASE | re.MULTILINE)
LONG_LENGTH = re.compile(rb"^content-length[ \t]*:\s*[0-9]{21}", re.IGNORECASE | re.MULTILINE)  # h11 0.14 takes those
_QUOTED = re.compile(r"b(['\"].*?['\"])(?=\)|$| )")
# The beginnings of h11's messages, and our words for them.
_WORDS = {
    "illegal status line": "its status line is malformed",
    "illegal header line": "a field is malformed",
    "no response line": "its status line is empty",
    "illegal chunk header": "the size of a chunk is malformed",
    "malformed chunk footer": "a chunk ends with something else",
    "conflicting Content-Length": "it has two Content-Lengths",
    "bad Content-Length": "its Content-Length is no number",
    "multiple Transfer-Encoding": "it has two Transfer-Encodings",
    "Only Transfer-Encoding": "its Transfer-Encoding is not chunked",
    "continuation line": "its first field continues nothing",
    "Received server _SWITCH": "it wants to speak another protocol",
    "InformationalResponse status_code": "its status is below 100",
}


def names(fields: Sequence[tuple[str, bytes]]) -> list[str]:
    """The names of fields in lower case, for comparison."""
    return [name.lower() for name, _ in fields]


class Upload(NamedTuple):
    """A request body from a stream: ``length`` bytes of it, or if that is None all to its end, sent in chunks."""

    stream: Stream
    length: int | None


def told(ours: Mapping[str, str], given: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The fields of a request: ``ours`` unless one of that name is given, and those ``given``; empty ones left out."""
    fields = {name.lower(): [(name, value.encode())] for name, value in ours.items()}
    instead: dict[str, list[tuple[str, bytes]]] = {}
    for name, octets in given:
        instead.setdefault(name.lower(), []).append((name, octets))
    return [field for each in (fields | instead).values() for field in each if field[1]]


class Request(NamedTuple):
    """A request: method, target (path and query), the fields of its head, and its body, if any."""

    method: str
    target: str
    fields: Sequence[tuple[str, bytes]]
    body: bytes | Upload | None = None


class Head(NamedTuple):
    """The head of a response. The names in ``fields`` are in lower case. ``raw`` is the head as received."""

    status: int
    reason: str
    fields: Sequence[tuple[bytes, bytes]]
    raw: bytes

    def get(self, name: str) -> str | None:
        """The value of the first field with this lower-case name, decoded as Latin-1; None if there is none."""
        return next((value.decode("latin-1") for key, value in self.fields if key == name.encode()), None)

    def combined(self, name: str) -> str:
        """The values of all fields with this name as one list (RFC 9110, section 5.3); "" if there is none."""
        return ", ".join(value.decode("latin-1") for key, value in self.fields if key == name.encode())

    def date(self, name: str) -> float | None:
        """A field with a date, in seconds since 1970; None if it is missing or malformed (RFC 9110, section 5.6.7)."""
        from email.utils import parsedate_to_datetime  # it takes 7 ms to load, and most answers are read without dates

        try:
            date = parsedate_to_datetime(self.get(name) or "")
            return date.timestamp() if date.tzinfo else None
        except (TypeError, ValueError, OverflowError):
            return None

    @property
    def status_line(self) -> str:
        return f"{self.status} {self.reason}".rstrip()


class _Twice(Counts):
    """Counts for ``raw_source``: received bytes are added to those of a stream, and passed to ``also``."""

    def __init__(self, stream: Counts, also: Callable[[int], None]) -> None:
        super().__init__()
        self._stream, self._also = stream, also

    def add_received(self, count: int) -> None:
        self._stream.add_received(count)
        self._also(count)


class Exchange(Wrapped):
    """A request and its response over a connection, which the caller closes.

    As a stream it receives the body of the response, and counts its bytes. ``left`` is how many are still to come, None
    if that is not known: the body is chunked, or ends with the connection. ``name`` is how messages call the resource.
    ``offered`` are the bytes of the request that were given to the connection so far, or are about to be.
    """

    def __init__(self, stream: Connection, request: Request, name: str) -> None:
        super().__init__(stream)
        self.name = name
        self.counts = Counts()
        self.left: int | None = None
        self._method = request.method
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        fields = [(key.encode(), value) for key, value in request.fields]
        body = request.body
        self.upload = body if isinstance(body, Upload) else None
        size = body.length if isinstance(body, Upload) else len(body or b"")
        if size is None:
            fields.append((b"Transfer-Encoding", b"chunked"))
        elif body is not None or request.method in _BODIED:
            fields.append((b"Content-Length", b"%d" % size))
        parts: list[h11.Event] = [
            h11.Request(method=request.method.encode(), target=request.target.encode(), headers=fields)
        ]
        if not isinstance(body, Upload):
            parts += h11.Data(data=body or b""), h11.EndOfMessage()
        self._request = b"".join(self._http.send(part) or b"" for part in parts)
        self._given = len(self._request)
        self._moved = Flow()  # what the system's kernel has sent of the body
        self.asked = False  # whether the whole request was given to the connection
        self.is_starved = False  # whether more of the body is waited for
        self._plain = False  # whether the body is read from the connection directly, without h11
        self._overfull = False  # whether bytes came after the body
        self._held = memoryview(b"")  # bytes that came with the head, or are still to be given to h11
        self._failure: Failure | None = None  # raised by the next ``recv``
        self._piece = 0  # how many bytes of ``_held`` h11 gets at a time

    def raw_source(self) -> RawEnd | None:
        """That of the connection, limited to ``left`` bytes; None if the body is chunked, or bytes of it are held."""
        end = raw_source(self._stream) if self._plain and not self._held else None
        return end and end._replace(counts=_Twice(end.counts, self._count), limit=self.left, call=None)

    async def ask(self) -> None:
        """Send the request. A failure to send is not raised, as the server may have sent a response anyway.

        Raises Failure READ for a body that cannot be read, or is shorter than its length.
        """
        try:
            await self._stream.send(self._request)
            if self.upload is not None:
                await self._send(*self.upload)
            self.asked = True
        except Failure as failure:
            if failure.exit is Exit.READ:
                raise

    async def _send(self, body: Stream, length: int | None) -> None:
        left = length and length - await self._move(body, length)
        while left != 0:
            self.is_starved = True
            data = (await body.recv())[:left]
            self.is_starved = False
            if not data:
                break
            left = None if left is None else left - len(data)
            await self._pass_on(h11.Data(data=data))
        if left:
            detail = f"{(length or 0) - left} of {length} bytes"
            raise Failure(Exit.READ, f"read {body.name}", "it is shorter than it was", detail=detail)
        await self._pass_on(h11.EndOfMessage())

    async def _move(self, body: Stream, most: int) -> int:
        """Have the system's kernel send the body, ``most`` bytes at most; return how many it could move."""
        await move(body, self._stream, self._moved, most)
        count = self._moved.offered
        self._http.send_with_data_passthrough(h11.Data(data=range(count)))  # type: ignore[arg-type]  # it counts
        return count

    async def _pass_on(self, part: h11.Event) -> None:
        data = self._http.send(part) or b""
        self._given += len(data)
        await self._stream.send(data)

    @property
    def offered(self) -> int:
        return self._given + self._moved.offered

    @property
    def may_leave_open(self) -> bool:
        """Whether the connection could be used again after this exchange, by its request and its head."""
        has_end = self.left is not None or not self._plain
        return has_end and self.asked and self._http.our_state is h11.DONE

    @property
    def leaves_open(self) -> bool:
        """Whether the connection can be used again now: the body was read, and no more bytes have come."""
        came_more = self._overfull or self._held or self._http.trailing_data[0]
        return self.left == 0 and not came_more and self.may_leave_open

    async def head(self) -> Head:
        """Receive the head of the response; interim ones (1xx) before it are skipped.

        Raises Failure: PROTOCOL for a malformed or ambiguous head, or none at all; TOO_BIG for more than ``MAX_HEAD``
        bytes, those of the interim ones included.
        """
        came = bytearray()
        size = looked = 0
        while True:
            self._check_beginning(came)
            end = _END.search(came, max(looked - 2, 0))
            if size + (end.end() if end else len(came)) > MAX_HEAD:
                raise self._too_long("its head", MAX_HEAD)
            if end is None:
                looked = len(came)
                data = await self._stream.recv()
                if not data:
                    reason = "it ended in the middle of its head" if looked or size else "it ended without an answer"
                    raise self._malformed(reason, hint="" if looked or size else self._tls_hint(TLS_HINT))
                came += data
                continue
            raw, came = bytes(came[: end.end()]), came[end.end() :]
            size, looked = size + len(raw), 0
            if _BLANKS.search(raw):
                raise self._malformed(f"it has {_MAX_BLANKS} blanks in a row")
            if LONG_LENGTH.search(raw):
                raise self._malformed(_WORDS["bad Content-Length"])
            self._http.receive_data(raw)
            event = self._next()
            if isinstance(event, h11.Response):
                self._frame(event, raw)
                self._hold(bytes(came))
                return Head(event.status_code, bytes(event.reason).decode("latin-1"), list(event.headers), raw)

    def tunnel(self) -> Connection:
        """The connection to the target, after a 2xx to CONNECT: all bytes that follow the head are the target's."""
        return unread(self._stream, bytes(self._held)) if self._held else self._stream

    async def recv(self) -> bytes:
        """Receive the body; b"" is its end. Raises Failure: PARTIAL if it ends early, PROTOCOL for malformed chunks."""
        if self._failure is not None:
            raise self._failure
        if self.left == 0:
            return b""
        data = await (self._recv_plain() if self._plain else self._recv_chunked())
        self._count(len(data))
        return data

    def _count(self, count: int) -> None:
        self.counts.add_received(count)
        if self.left:
            self.left -= count

    async def _recv_plain(self) -> bytes:
        data, self._held = bytes(self._held) or await self._stream.recv(), memoryview(b"")
        if self.left is not None:
            if not data:
                raise self._cut_short(f"{self.counts.received} of {self.counts.received + self.left} bytes")
            self._overfull = len(data) > self.left
            data = data[: self.left]
        return data

    async def _recv_chunked(self) -> bytes:
        parts: list[bytes] = []
        while True:
            try:
                event = self._next()
            except Failure as failure:
                if not parts:
                    raise
                self._failure = failure
                break
            if isinstance(event, h11.Data):
                parts.append(event.data)
                continue
            if isinstance(event, h11.EndOfMessage):
                self.left = 0
                break
            if parts:
                break
            if len(self._http.trailing_data[0]) > _MAX_LINE:
                raise self._too_long("a line between its chunks", _MAX_LINE)
            if not self._held:
                self._hold(await self._stream.recv())
                if not self._held:
                    raise self._cut_short(f"after {self.counts.received} bytes, amid its chunks")
            piece, self._held = self._held[: self._piece], self._held[self._piece :]
            self._http.receive_data(bytes(piece))
        return b"".join(parts)

    def _hold(self, data: bytes) -> None:
        """Keep bytes for h11, which gets small pieces of them if there may be a long run of blanks (quadratic time)."""
        self._held = memoryview(data)
        some = data[:: _MAX_LINE // 2]  # a run of _MAX_LINE bytes contains two of these samples
        self._piece = _MAX_LINE if _TWO_BLANKS.search(some) else max(len(data), 1)

    def _next(self) -> object:
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            text = str(error)
            reason = next((words for said, words in _WORDS.items() if text.startswith(said)), text)
            quoted = _QUOTED.search(text)
            raise self._malformed(reason + (f": {quoted[1]}" if quoted else "")) from error
        if isinstance(event, h11.EndOfMessage) and sum(map(len, itertools.chain(*event.headers))) > _MAX_LINE:
            raise self._too_long("its trailer", _MAX_LINE)
        return event

    def _check_beginning(self, came: bytearray) -> None:
        if came[: len(_BEGINNING)] != _BEGINNING[: len(came)]:
            if came[0] in _TLS:
                raise self._malformed("it speaks TLS, not HTTP", hint=self._tls_hint("write https:"))
            raise self._malformed("it does not speak HTTP")
        line, newline, _ = came[: _MAX_LINE + 1].partition(b"\n")
        if len(line) > _MAX_LINE:
            raise self._too_long("its status line", _MAX_LINE)
        if newline and not _STATUS_LINE.fullmatch(line):
            raise self._malformed(f"its status line is malformed: {line.rstrip().decode('latin-1')!r}")

    def _frame(self, response: h11.Response, raw: bytes) -> None:
        """Determine where the body ends (RFC 9112, section 6.3). Raises Failure PROTOCOL if the head is ambiguous."""
        version = bytes(response.http_version)
        fields = dict(response.headers)
        chunked = b"transfer-encoding" in fields
        if not version.startswith(b"1."):
            raise self._malformed(f"it speaks HTTP/{version.decode()}")
        if self._method == "CONNECT":
            return  # a tunnel follows: see ``tunnel``
        lengths = _LENGTHS.findall(raw)
        if len(lengths) > 1 or any(b"," in length for length in lengths):
            raise self._malformed("it has two Content-Lengths")
        if chunked and b"content-length" in fields:
            raise self._malformed("it has both Content-Length and Transfer-Encoding")
        if chunked and version == b"1.0":
            raise self._malformed("it has Transfer-Encoding, which HTTP/1.0 does not know")
        if self._method == "HEAD" or response.status_code in _BODILESS:
            self.left, self._plain = 0, True
        elif not chunked:
            length = fields.get(b"content-length")
            self.left = None if length is None else int(length)
            self._plain = True

    def _malformed(self, reason: str, *, hint: str = "") -> Failure:
        return Failure(Exit.PROTOCOL, f"understand the answer for {self.name}", reason, hint=hint)

    def _tls_hint(self, hint: str) -> str:
        """The hint, if the URL is http and not https; else ""."""
        return hint if self.name.startswith("http:") else ""

    def _too_long(self, what: str, most: int) -> Failure:
        return Failure(Exit.TOO_BIG, f"understand the answer for {self.name}", f"{what} has more than {most} bytes")

    def _cut_short(self, detail: str) -> Failure:
        return Failure(Exit.PARTIAL, f"receive {self.name}", "the server ended early", detail=detail)
