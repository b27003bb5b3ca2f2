"""Frames, lines and slices: the same records however they are split, read no further than needed."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.errors import Exit, Failure, Invalid
from netkit.services.pack.framing import Prefix, Source, frames, lines, parse_prefix, records, whole
from tests.support.data import cut

PREFIXES = [parse_prefix(word) for word in ("u8", "u16", "u32", "u8le", "u16le", "u32le")]
U16 = parse_prefix("u16")
MOST = 1 << 24


def no_more(*chunks: bytes) -> Iterator[bytes]:
    """Yield chunks; it is an error to ask for more."""
    yield from chunks
    raise AssertionError("a chunk was drawn before it was needed")


def until_it_fails(found: Iterator[object]) -> tuple[list[object], Failure]:
    """Return what was yielded before the failure, and the failure."""
    came: list[object] = []
    with pytest.raises(Failure) as failed:
        came.extend(iter(lambda: next(found), None))
    return came, failed.value


PLACES = st.lists(st.integers(1, 240), max_size=40)


@given(st.lists(st.binary(max_size=30), max_size=6), st.sampled_from(PREFIXES), PLACES)
def test_frames_come_back(bodies: list[bytes], prefix: Prefix, places: list[int]) -> None:
    """Records with a length in front are read back with their offsets, however the stream is split."""
    data = b"".join(map(prefix.frame, bodies))
    found = list(frames(Source(cut(data, places)), prefix, MOST, repeat=True))
    assert [body for _, body in found] == bodies
    assert [data[place : place + len(body)] for place, body in found] == bodies
    if len(bodies) == 1:
        assert list(frames(Source(cut(data, places)), prefix, MOST, repeat=False)) == found


@pytest.mark.fault("record too short or too long")
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.sampled_from(PREFIXES), PLACES, st.integers(0, 999))
def test_frames_that_end_early(bodies: list[bytes], prefix: Prefix, places: list[int], place: int) -> None:
    """Complete records are yielded first; a part of one is a failure, and not yielded."""
    data = b"".join(map(prefix.frame, bodies))
    ends = [len(b"".join(map(prefix.frame, bodies[:number]))) for number in range(len(bodies) + 1)]
    data = data[: place % len(data)]
    found = frames(Source(cut(data, places)), prefix, MOST, repeat=True)
    complete = bodies[: sum(end <= len(data) for end in ends) - 1]
    if len(data) in ends:
        assert [body for _, body in found] == complete
    else:
        came, failure = until_it_fails(found)
        assert [body for _, body in came] == complete  # type: ignore[attr-defined]
        assert failure.exit is Exit.PARTIAL


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot read the length of record 1 at offset 0: the input ended after 0 of 2 bytes"),
        (b"\0", "cannot read the length of record 1 at offset 0: the input ended after 1 of 2 bytes"),
        (b"\0\3ab", "cannot read record 1 at offset 2: the input ended after 2 of 3 bytes"),
    ],
)
def test_one_frame_that_is_short(data: bytes, message: str) -> None:
    """Without --repeat exactly one record is needed, and a missing or short one is PARTIAL."""
    came, failure = until_it_fails(frames(Source([data]), U16, MOST, repeat=False))
    assert (came, failure.exit, str(failure)) == ([], Exit.PARTIAL, message)


def test_one_frame_that_is_followed() -> None:
    """Bytes after the only record are PROTOCOL, and it is not yielded."""
    came, failure = until_it_fails(frames(Source([b"\0\1a", b"\0"]), U16, MOST, repeat=False))
    assert (came, failure.exit) == ([], Exit.PROTOCOL)
    assert str(failure) == "cannot read one record: more bytes follow at offset 3"


def test_a_length_beyond_the_limit() -> None:
    """A length beyond the limit is refused as soon as it is read, after the records before it."""
    u32 = parse_prefix("u32")
    chunks = no_more(u32.frame(b"a") + b"\xff\xff", b"\xff\xff01234")
    came, failure = until_it_fails(frames(Source(chunks), u32, MOST, repeat=True))
    assert (came, failure.exit) == ([(4, b"a")], Exit.TOO_BIG)
    assert str(failure) == (
        "cannot read record 2 at offset 9: it would be 4294967295 bytes, more than 16777216 (--max-size)"
    )
    assert next(frames(Source([b"\0\5hello"]), U16, 5, repeat=True)) == (2, b"hello")
    assert until_it_fails(frames(Source([b"\0\5hello"]), U16, 4, repeat=True))[1].exit is Exit.TOO_BIG


def test_records_are_yielded_as_soon_as_they_are_whole() -> None:
    """The next chunk is read only when a record needs it."""
    found = frames(Source(no_more(b"\0", b"\2a", b"b\0\0\0\1")), U16, MOST, repeat=True)
    assert [next(found), next(found)] == [(2, b"ab"), (6, b"")]
    found = records(Source(no_more(b"a", b"bcde", b"f")), 2, MOST, repeat=True)
    assert [next(found), next(found), next(found)] == [(0, b"ab"), (2, b"cd"), (4, b"ef")]
    framed = lines(no_more(b"a", b"b\n\nc"), U16, MOST)
    assert [next(framed), next(framed)] == [b"\0\2ab", b"\0\0"]


@given(st.binary(max_size=60), st.integers(1, 20), PLACES)
def test_slices(data: bytes, size: int, places: list[int]) -> None:
    """Records of fixed size are slices of the data, and the last may be short."""
    found = list(records(Source(cut(data, places)), size, MOST, repeat=True))
    assert found == [(place, data[place : place + size]) for place in range(0, len(data), size)]
    if len(data) <= size:
        assert list(records(Source(cut(data, places)), size, MOST, repeat=False)) == [(0, data)]
    else:
        came, failure = until_it_fails(records(Source(cut(data, places)), size, MOST, repeat=False))
        assert (came, failure.exit) == ([], Exit.PROTOCOL)
        assert str(failure) == f"cannot read one record: more bytes follow at offset {size}"
    assert list(records(Source(cut(data, places)), None, MOST, repeat=False)) == [(0, data)]


def test_what_cannot_repeat() -> None:
    """A record without a fixed size, or of size 0, cannot repeat."""
    for size in (None, 0):
        with pytest.raises(Invalid, match="--repeat does not apply"):
            list(records(Source([b"a"]), size, MOST, repeat=True))


def test_a_rest_beyond_the_limit() -> None:
    """A record without a fixed size is refused at the limit, and no more is read."""
    assert list(records(Source([b"abc", b"d"]), None, 4, repeat=False)) == [(0, b"abcd")]
    came, failure = until_it_fails(records(Source(no_more(b"abc", b"de")), None, 4, repeat=False))
    assert (came, failure.exit) == ([], Exit.TOO_BIG)
    assert str(failure) == "cannot take the input as one record: it is more than 4 bytes (--max-size)"


@given(st.lists(st.binary(max_size=20), max_size=6), st.sampled_from(PREFIXES), PLACES)
def test_lines(texts: list[bytes], prefix: Prefix, places: list[int]) -> None:
    """Each line, even an empty one, is a record, and so is text after the last newline."""
    data = b"\n".join(texts)
    expected = data.split(b"\n") if data else [b""]
    if not expected[-1]:
        expected.pop()
    assert list(lines(cut(data, places), prefix, MOST)) == [prefix.frame(text) for text in expected]


@pytest.mark.parametrize(
    ("most", "why"), [(MOST, "more than 255 bytes (--length)"), (100, "more than 100 bytes (--max-size)")]
)
def test_a_line_beyond_the_limit(most: int, why: str) -> None:
    """A line that is too long is refused with its number, after the lines before it, and no more is read."""
    u8 = parse_prefix("u8")
    longest = b"x" * min(255, most)
    found = lines(no_more(longest[:50], longest[50:] + b"\n" + longest, b"x"), u8, most)
    came, failure = until_it_fails(found)
    assert (came, failure.exit) == ([u8.frame(longest)], Exit.TOO_BIG)
    assert str(failure) == f"cannot frame line 2: it is {why}"


def test_the_whole_as_one_record() -> None:
    """All input is one record; one too long for its length is invalid, one beyond the limit is TOO_BIG."""
    u8 = parse_prefix("u8")
    assert list(whole([], u8, MOST)) == [b"\0"]
    assert list(whole([b"a", b"\n" + b"b" * 253], u8, MOST)) == [b"\xffa\n" + b"b" * 253]
    assert list(whole([b"x" * 255], u8, 255)) == [b"\xff" + b"x" * 255]
    with pytest.raises(Invalid, match="a record of more than 255 bytes does not fit a length of 8 bits"):
        list(whole(no_more(b"x" * 200, b"x" * 56), u8, MOST))
    for most in (254, 1):
        assert until_it_fails(whole(no_more(b"x" * 255), u8, most))[1].exit is Exit.TOO_BIG
