"""HTTP answers in memory: where a body ends, what is refused, and that no other outcome is possible."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netkit.core.errors import Exit, Failure
from netkit.protocols.http import MAX_HEAD, Exchange, Request, Upload
from tests.clock import run
from tests.memory import pair
from tests.support.answers import ODD, take

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def ways(answer: bytes) -> list[list[int]]:
    """Return some ways to split an answer: not at all, at every byte, and in halves."""
    return [[], list(range(len(answer))), [len(answer) // 2]]


# -- framing

WHOLE = [
    ("length", OK + b"Content-Length: 5\r\n\r\nhello"),
    ("length with zeros", OK + b"Content-Length: 0005\r\n\r\nhello"),
    ("length and blanks", OK + b"content-length:  \t5 \t\r\n\r\nhello"),
    ("length folded", OK + b"Content-Length:\r\n 5\r\n\r\nhello"),
    ("to the end", OK + b"\r\nhello"),
    ("HTTP/1.0 to the end", b"HTTP/1.0 200 OK\r\n\r\nhello"),
    ("HTTP/1.0 and a length", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("a later HTTP/1", b"HTTP/1.9 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("chunks", CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ("chunks of one byte", CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello") + b"0\r\n\r\n"),
    ("chunks with extensions", CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n'),
    ("chunks with trailers", CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 1\r\nA: b\r\n\r\n"),
    ("chunks with zeros", CHUNKED + b"00005\r\nhello\r\n000\r\n\r\n"),
    ("CHUNKED", OK + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("no reason", b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"),
    ("an empty reason", b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"),
    ("a status nobody knows", b"HTTP/1.1 999 ?\r\nContent-Length: 5\r\n\r\nhello"),
    ("lines that end in LF", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),  # RFC 9112, section 2.2
    ("hints before", b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n" * 3 + OK + b"Content-Length: 5\r\n\r\nhello"),
    ("a length in a hint", b"HTTP/1.1 100 C\r\nContent-Length: 9\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello"),
    ("bytes after a length", OK + b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n"),
    ("bytes after chunks", CHUNKED + b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
]


@pytest.mark.parametrize("answer", [answer for _, answer in WHOLE], ids=[name for name, _ in WHOLE])
def test_whole(answer: bytes) -> None:
    """The body is what its framing says, however the answer is split, without the bytes after it."""
    for cuts in ways(answer):
        taken = take(answer, cuts)
        assert (taken.exit, taken.body) == (Exit.OK, b"hello")


@pytest.mark.parametrize(
    "answer",
    [OK + b"Content-Length: 5\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", OK + b"Content-Length: 0\r\n\r\n"],
)
def test_whole_though_the_connection_stays(answer: bytes) -> None:
    """If the answer says where it ends, the end of the connection is not waited for."""
    taken = take(answer, ends=False)
    assert (taken.exit, taken.left) == (Exit.OK, 0)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", OK + b"Content-Length: 5\r\n\r\n"),
        ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", OK + b"\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
    ],
)
def test_no_body(method: str, answer: bytes) -> None:
    """An answer to HEAD, or one with status 204 or 304, has no body."""
    for cuts in ways(answer):
        taken = take(answer, cuts, method, ends=False)
        assert (taken.exit, taken.body, taken.left) == (Exit.OK, b"", 0)


REFUSED = [
    ("two lengths", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ("two equal lengths", OK + b"Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello"),
    ("two lengths in one", OK + b"Content-Length: 5, 6\r\n\r\nhello"),
    ("two equal lengths in one", OK + b"Content-Length: 5, 5\r\n\r\nhello"),
    ("two lengths in a fold", OK + b"Content-Length: 5\r\n ,5\r\n\r\nhello"),
    ("length and comma", OK + b"Content-Length: 5,\r\n\r\nhello"),
    ("length of 5 5", OK + b"Content-Length: 5 5\r\n\r\nhello"),
    ("length of -5", OK + b"Content-Length: -5\r\n\r\nhello"),
    ("length of +5", OK + b"Content-Length: +5\r\n\r\nhello"),
    ("length of 0x5", OK + b"Content-Length: 0x5\r\n\r\nhello"),
    ("length of 5.0", OK + b"Content-Length: 5.0\r\n\r\nhello"),
    ("length of five", OK + b"Content-Length: five\r\n\r\nhello"),
    ("length of other digits", OK + "Content-Length: \u0665\r\n\r\nhello".encode()),
    ("length of nothing", OK + b"Content-Length:\r\n\r\nhello"),
    ("length of 21 digits", OK + b"Content-Length: " + b"9" * 21 + b"\r\n\r\nhello"),
    ("length of 5,000 digits", OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello"),
    ("length and chunks", OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("chunks and length", OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ("identity", OK + b"Transfer-Encoding: identity\r\n\r\nhello"),
    ("gzip", OK + b"Transfer-Encoding: gzip\r\n\r\nhello"),
    ("gzip, chunked", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked, identity", OK + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("no coding at all", OK + b"Transfer-Encoding:\r\n\r\nhello"),
    ("chunked twice", OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked behind VT", OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("chunks of HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("HTTP/2", b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("HTTP/2 without minor", b"HTTP/2 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("HTTP/0.9", b"HTTP/0.9 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("http in lower case", b"http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("status of 4 digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("status of 2 digits", b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("status 000", b"HTTP/1.1 000 ?\r\nContent-Length: 5\r\n\r\nhello"),
    ("status 099", b"HTTP/1.1 099 ?\r\nContent-Length: 5\r\n\r\nhello"),
    ("status -20", b"HTTP/1.1 -20 ?\r\nContent-Length: 5\r\n\r\nhello"),
    ("status of letters", b"HTTP/1.1 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("two blanks before the status", b"HTTP/1.1  200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("another protocol", b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nhello"),
    ("a reason with CR", b"HTTP/1.1 200 O\rK\r\nContent-Length: 5\r\n\r\nhello"),
    ("an empty line first", b"\r\n" + OK + b"Content-Length: 5\r\n\r\nhello"),
    ("a request", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("a page without head", b"<html>hello</html>"),
    ("garbage", b"\xff\xfe\x00" * 9),
    ("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x46"),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("SMTP", b"220 mail.example ESMTP\r\n500 what\r\n"),
    ("nothing", b""),
    ("one byte", b"H"),
    ("a head cut in its status", b"HTTP/1.1 200"),
    ("a head cut in a field", OK + b"Content-Len"),
    ("a head without its empty line", OK + b"Content-Length: 5\r\n"),
    ("a hint alone", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ("garbage after a hint", b"HTTP/1.1 100 Continue\r\n\r\nhello\r\n\r\n"),
    ("no colon", OK + b"Content-Length\r\n\r\nhello"),
    ("a blank before the colon", OK + b"Content-Length : 5\r\n\r\nhello"),
    ("a field without name", OK + b": 5\r\n\r\nhello"),
    ("a name with a blank", OK + b"Content Length: 5\r\n\r\nhello"),
    ("a name with bytes", OK + b"Content-Length\xff: 5\r\n\r\nhello"),
    ("a fold first", OK + b" Content-Length: 5\r\n\r\nhello"),
    ("NUL in a value", OK + b"X: a\0b\r\n\r\nhello"),
    ("NUL in a name", OK + b"X\0: a\r\n\r\nhello"),
    ("CR in a value", OK + b"X: a\rContent-Length: 3\r\n\r\nhello"),
]


@pytest.mark.parametrize("answer", [answer for _, answer in REFUSED], ids=[name for name, _ in REFUSED])
def test_refused(answer: bytes) -> None:
    """An answer that is malformed or ambiguous is refused with a printable line, before any of its body is returned."""
    for cuts in ways(answer):
        taken = take(answer, cuts)
        assert (taken.exit, taken.body, taken.head) == (Exit.PROTOCOL, b"", None)
        assert str(taken.failure).startswith("cannot understand the answer for http://h/: ")
        assert "bytearray" not in str(taken.failure)
        assert "_" not in str(taken.failure).replace("OpenSSH_9.6", "")  # no internal names of the library


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n", b"220 mail\r\n", b"-ERR what\r\n", b"hello", b"\x16\x03", b"H\r\n"]
)
@pytest.mark.parametrize("hints", [0, 1])
def test_refused_though_the_connection_stays(answer: bytes, hints: int) -> None:
    """A peer that speaks another protocol is refused at once, even if it keeps the connection open."""
    taken = take(b"HTTP/1.1 100 Continue\r\n\r\n" * hints + answer, ends=False)
    assert taken.exit is Exit.PROTOCOL


CUT = [
    ("a length", OK + b"Content-Length: 10\r\n\r\nhello"),
    ("a huge length", OK + b"Content-Length: " + b"9" * 20 + b"\r\n\r\nhello"),
    ("a chunk", CHUNKED + b"a\r\nhello"),
    ("a huge chunk", CHUNKED + b"f" * 15 + b"\r\nhello"),
    ("after a chunk's data", CHUNKED + b"5\r\nhello"),
    ("in the CRLF of a chunk", CHUNKED + b"5\r\nhello\r"),
    ("between chunks", CHUNKED + b"5\r\nhello\r\n"),
    ("in a chunk's size", CHUNKED + b"5\r\nhello\r\n1"),
    ("after the last chunk", CHUNKED + b"5\r\nhello\r\n0\r\n"),
    ("in the last CRLF", CHUNKED + b"5\r\nhello\r\n0\r\n\r"),
    ("in a trailer", CHUNKED + b"5\r\nhello\r\n0\r\nA: b"),
]


@pytest.mark.fault("HTTP body cut or malformed")
@pytest.mark.parametrize("answer", [answer for _, answer in CUT], ids=[name for name, _ in CUT])
def test_cut(answer: bytes) -> None:
    """A body that ends early is PARTIAL; its beginning is returned, and the message counts it."""
    for cuts in ways(answer):
        taken = take(answer, cuts)
        assert (taken.exit, taken.body) == (Exit.PARTIAL, b"hello")
        assert re.search(r"\((after )?5 ", str(taken.failure)), taken.failure


BAD_CHUNKS = [
    *(b"zz\r\nhello", b"-5\r\nhello", b"+5\r\nhello", b"0x5\r\nhello", b" 5\r\nhello", b"5 5\r\nhello", b"\r\nhello"),
    *(b";a\r\nhello", b"5\nhello\n0\r\n\r\n", b"5;\nhello\r\n0\r\n\r\n", b"f" * 21 + b"\r\nhello", b"5,\r\nhello"),
    *("\u0665\r\nhello".encode(), b"0\r\nno trailer\r\n\r\n", b"0\r\nA : b\r\n\r\n", b"0\r\nA: \0\r\n\r\n"),
]


@pytest.mark.fault("HTTP body cut or malformed")
@pytest.mark.parametrize("chunk", BAD_CHUNKS)
def test_bad_chunk(chunk: bytes) -> None:
    """A malformed chunk size or trailer is refused, after the data before it is returned."""
    for cuts in ways(CHUNKED + b"5\r\nhello\r\n" + chunk):
        taken = take(CHUNKED + b"5\r\nhello\r\n" + chunk, cuts)
        assert (taken.exit, taken.body) == (Exit.PROTOCOL, b"hello"), taken.failure


def test_chunk_longer_than_it_says() -> None:
    """If a chunk is longer than its size, the extra bytes are not returned."""
    answer = CHUNKED + b"5\r\nhellohello\r\n0\r\n\r\n"
    for cuts in ways(answer):
        taken = take(answer, cuts)
        assert (taken.exit, taken.body) == (Exit.PROTOCOL, b"hello")


# -- uploads


def sent(body: bytes, length: int | None) -> tuple[bytes, Exit]:
    """Send a request with this body, and return the body on the wire and how it ended."""
    end = Exit.OK
    wire = b""

    async def main() -> None:
        nonlocal end, wire
        ours, theirs = pair()
        source, writer = pair()
        await writer.send(body)
        await writer.send_eof()
        exchange = Exchange(ours, Request("PUT", "/", [("Host", b"h")], Upload(source, length)), "http://h/")
        try:
            await exchange.ask()
        except Failure as failure:
            end = failure.exit
        assert exchange.asked is (end is Exit.OK)
        assert exchange.offered == ours.counts.sent
        wire = await theirs.recv()

    run(main())
    return wire.partition(b"\r\n\r\n")[2], end


@pytest.mark.parametrize(
    ("body", "length", "wire", "code"),
    [
        (b"hello", 5, b"hello", Exit.OK),
        (b"hello, and more by now", 5, b"hello", Exit.OK),
        (b"", 0, b"", Exit.OK),
        (b"hello", 6, b"hello", Exit.READ),
        (b"hello", None, b"5\r\nhello\r\n0\r\n\r\n", Exit.OK),
        (b"", None, b"0\r\n\r\n", Exit.OK),
    ],
)
def test_upload(body: bytes, length: int | None, wire: bytes, code: Exit) -> None:
    """A body of known length is sent as it is, others in chunks; one that ends before its length is READ."""
    assert sent(body, length) == (wire, code)


# -- floods


@pytest.mark.parametrize(
    ("before", "unit"),
    [
        (OK + b"X: ", b"x"),
        (OK, b"X: y\r\n"),
        (OK + b"X: y\r\n", b" \r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"x"),
        (CHUNKED + b"5;", b"x"),
        (CHUNKED + b"0\r\n", b"X: y\r\n"),
    ],
)
def test_flood(before: bytes, unit: bytes) -> None:
    """A head, informational responses, a chunk's line or trailers of more than a quarter of a MiB are TOO_BIG."""
    flood = unit * (2 * MAX_HEAD // len(unit))
    taken = take(before + flood, range(0, 2 * MAX_HEAD, 4096))
    assert taken.exit is Exit.TOO_BIG, taken.failure


@pytest.mark.parametrize("end", [b"", b"X: y\r\n\r\n"])
@pytest.mark.parametrize("step", [100, 10_000, 100_000])
def test_trailer_that_is_too_long(step: int, end: bytes) -> None:
    """A trailer that is too long is TOO_BIG, however it arrives, and the body before it is returned."""
    taken = take(CHUNKED + b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 3000 + end, range(0, 20_000, step))
    assert (taken.exit, taken.body) == (Exit.TOO_BIG, b"hello")


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "answer",
    [
        OK + b"X:" + b" " * 200_000 + b"\x0b\r\n\r\n",
        OK + b"X:" + b"\t" * 200_000 + b"\x0c\r\n\r\n",
        OK + b"X: y\r\n" + b" \r\n" * 50_000 + b" \x0b\r\n\r\n",
        CHUNKED + b"5;" + b" " * 200_000 + b"\n\r\n",
        CHUNKED + b"5" + b" " * 200_000 + b"x\r\n",
        CHUNKED + b"0\r\nX:" + b" " * 200_000 + b"\x0b\r\n\r\n",
        b"HTTP/1.1 200 " + b" " * 200_000 + b"\0\r\n\r\n",
        b"HTTP/1.1" + b" " * 200_000 + b"200\r\n\r\n",
    ],
)
def test_blanks_cost_no_time(answer: bytes) -> None:
    """Many blanks before an invalid byte are refused without quadratic backtracking."""
    assert take(answer).exit in (Exit.PROTOCOL, Exit.TOO_BIG)


# -- properties


def framed(body: bytes, sizes: Sequence[int], *, chunked: bool, length: bool, hints: int) -> bytes:
    """Return an answer with this body, with chunks of these sizes, with a length, or with neither."""
    head = b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n" * hints + OK
    if not chunked:
        return head + (b"Content-Length: %d\r\n" % len(body) if length else b"") + b"\r\n" + body
    chunks = []
    for size in (*sizes, len(body)):
        if part := body[:size]:
            chunks.append(b"%x\r\n%s\r\n" % (len(part), part))
            body = body[size:]
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\nA: b\r\n\r\n"


@given(
    st.binary(max_size=200),
    st.lists(st.integers(1, 50), max_size=5),
    st.sampled_from([(True, False), (False, True), (False, False)]),
    st.integers(0, 2),
    st.lists(st.integers(0, 400), max_size=10),
)
def test_body_is_what_was_framed(
    body: bytes, sizes: list[int], framing: tuple[bool, bool], hints: int, cuts: list[int]
) -> None:
    """The body is read as it was, whatever it is, however it is framed and however the answer is split."""
    chunked, length = framing
    taken = take(framed(body, sizes, chunked=chunked, length=length, hints=hints), cuts, ends=not (chunked or length))
    assert (taken.exit, taken.body) == (Exit.OK, body)


@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    OK,
                    CHUNKED,
                    b"HTTP/1.1 100 C\r\n\r\n",
                    b"HTTP/1.0 304 N\r\n",
                    b"Content-Length: 5\r\n",
                    b"hello",
                    b" ",
                ),
                *(
                    b"Content-Length: 0\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"\r\n",
                    b"\n",
                    b"\r",
                    b"0\r\n",
                    b"5\r\n",
                ),
                *(b"X: y", b":", b"\0", b"\xff", b"HTTP/", b"101", b"1.1", b";", b"f" * 20),
            ]
        )
        | st.binary(max_size=5),
        max_size=12,
    ).map(b"".join),
    st.lists(st.integers(0, 100), max_size=8),
    st.sampled_from(["GET", "HEAD"]),
)
@example(OK + b"Content-Length: 5\r\n\r\n", [], "GET")
def test_any_bytes_are_an_answer_or_refused(answer: bytes, cuts: list[int], method: str) -> None:
    """Any bytes are read as an answer or refused, with the same result however they are split."""
    whole, pieces = take(answer, [], method), take(answer, cuts, method)
    for taken in (whole, pieces):
        assert taken.exit in (Exit.OK, *ODD)
        assert taken.body in answer or b"chunked" in answer
    assert (whole.exit, whole.body, whole.head) == (pieces.exit, pieces.body, pieces.head)


@given(st.binary(max_size=100), st.integers(0, 400))
def test_every_cut_is_seen(body: bytes, at: int) -> None:
    """An answer with a length or chunks that ends early is never taken for complete."""
    for chunked in (True, False):
        answer = framed(body, [3], chunked=chunked, length=True, hints=1)
        if at < len(answer):
            taken = take(answer[:at])
            assert taken.exit in (Exit.PROTOCOL, Exit.PARTIAL)
            assert body.startswith(taken.body)


# -- the head


def test_head_as_it_came() -> None:
    """The head is returned as received, without informational responses and without the body."""
    head = OK + b"X:  a\r\n b\r\nCONTENT-length: 5\r\nX: \xff\r\n\r\n"
    for cuts in ways(head):
        taken = take(b"HTTP/1.1 100 Continue\r\n\r\n" + head + b"hello", cuts).head
        assert taken is not None
        assert taken.raw == head
        assert taken.status_line == "200 OK"
        assert taken.get("x") == "a b"
        assert taken.get("content-length") == "5"
        assert taken.get("y") is None
