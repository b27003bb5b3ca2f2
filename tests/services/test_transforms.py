"""The changes that end data at a match or a limit, and those that change lines and text, in any chunks."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netkit.core.errors import Failure
from netkit.core.pump import Change, Done, chain, fresh
from netkit.core.search import WINDOW, Pattern
from netkit.services.transforms import (
    MAX_LINE,
    Limits,
    at_most,
    capitals,
    capitals_in_place,
    crlf,
    labelled,
    prefixed,
    until,
    visible,
)
from tests.support.data import cut
from tests.support.properties import examples

CHUNKS = st.lists(st.binary(max_size=12), max_size=12)
LINES = st.lists(st.sampled_from([b"a", b"b", b"\n", b"ab", b"\nba", b""]), max_size=20)
CUTS = st.lists(st.integers(0, 30), max_size=8)


def passed(change: Change, chunks: list[bytes]) -> tuple[bytes, bool]:
    """Feed chunks and the end; return the output, and whether the change was done before the end."""
    out = b""
    try:
        for chunk in chunks:
            if chunk:
                out += change(chunk)
        return out + change(b""), False
    except Done as done:
        return out + done.data, True


def nothing() -> None:
    """Do nothing on a match."""


@given(LINES, st.sampled_from([b"ba", b"^b", b"a\\nb", b"bb+", b"(?s)a.b"]))
def test_output_ends_with_the_first_match(chunks: list[bytes], pattern: bytes) -> None:
    """The output ends with the first match, or is all data without one, however the data is split."""
    compiled = Pattern(pattern)
    out, done = passed(until(compiled, nothing, cut=True), chunks)
    whole = b"".join(chunks)
    assert whole.startswith(out)
    assert done == (compiled.search(whole) is not None)
    if done:
        assert any(match.end() == len(out) for match in re.finditer(pattern, out, re.MULTILINE))
        assert compiled.search(out[:-1]) is None or pattern == b"bb+"
    else:
        assert out == whole


def test_match_is_found_across_chunks_within_the_window() -> None:
    """A match may begin many chunks before the one in which it ends."""
    found: list[bool] = []
    change = until(Pattern(b"(?s)begin.*end"), lambda: found.append(True), cut=True)
    middle = b"x" * (WINDOW - 100)
    assert passed(change, [b"begin", middle, b"..end and more"]) == (b"begin" + middle + b"..end", True)
    assert found == [True]


def test_window_is_bounded() -> None:
    """Data before the window is forgotten, so that memory is bounded."""
    change = until(Pattern(b"(?s)begin.*end"), nothing, cut=True)
    assert passed(change, [b"begin", b"x" * WINDOW, b"end"])[1] is False


def test_without_cut_the_chunk_of_the_match_passes_whole() -> None:
    """Without ``cut`` the rest of the chunk with the match is passed on, as a server answers all of it."""
    assert passed(until(Pattern(b"bye"), nothing, cut=False), [b"a bye b", b"c"]) == (b"a bye b", True)


@given(CHUNKS, st.integers(1, 60))
def test_at_most_gives_exactly_so_many(chunks: list[bytes], limit: int) -> None:
    """Exactly ``limit`` bytes pass, and the change is done with the last one."""
    whole = b"".join(chunks)
    assert passed(at_most(limit), chunks) == (whole[:limit], len(whole) >= limit)


@given(LINES)
def test_prefix_is_in_front_of_each_line(chunks: list[bytes]) -> None:
    """Each line gets the prefix once its first byte is there, however the data is split."""
    whole = b"".join(chunks)
    wanted = b"".join(b"> " + line for line in re.findall(rb"[^\n]*\n|[^\n]+\Z", whole))
    assert passed(prefixed(b"> "), chunks) == (wanted, False)


@given(
    st.text() | st.sampled_from(["stra\xdfe", "\ufb01n", "\u0149", "\u0131", "\u0390"]),
    st.binary(max_size=3),
    CUTS,
)
@example("", b"\xe2\x82", [])
def test_capitals(text: str, noise: bytes, cuts: list[int]) -> None:
    """Text becomes upper case however it is split, and invalid UTF-8 stays; in place, the length stays the same."""
    sent = text.encode() + noise + text.encode()
    wanted = sent.decode("utf-8", "surrogateescape").upper().encode("utf-8", "surrogateescape")
    assert passed(capitals(), cut(sent, cuts)) == (wanted, False)
    in_place = capitals_in_place(sent)
    assert len(in_place) == len(sent)
    assert capitals_in_place(in_place) == in_place
    letters = "".join(letter for letter in text if len(letter.upper().encode()) == len(letter.encode()))
    assert capitals_in_place(letters.encode()) == letters.upper().encode()


@given(CHUNKS)
def test_chain_is_one_after_the_other(chunks: list[bytes]) -> None:
    """A chain gives what its changes give one after the other, with what they hold at the end."""
    first, _ = passed(crlf(), chunks)
    wanted, _ = passed(visible(), [first])
    assert passed(chain(crlf(), visible()), chunks) == (wanted, False)


@pytest.mark.parametrize("split", range(1, 4))
def test_chain_flushes_what_a_later_link_holds_when_an_earlier_one_is_done(split: int) -> None:
    """What a later change holds when an earlier one is done is not lost."""
    change = chain(at_most(split), visible())
    assert passed(change, ["€uro".encode()]) == ("€".encode() if split == 3 else b"\\xe2\\x82"[: 4 * split], True)


def test_limits_tell_whether_the_pattern_came() -> None:
    """The first limit that is reached applies, and ``check`` fails if the pattern was not found."""
    limits = Limits(Pattern(b"b+"), 4)
    assert limits and not Limits(None, None)
    change = fresh(limits.changes())
    assert change is not None and passed(change, [b"aabaa"]) == (b"aab", True)
    limits.check("the peer")
    short = Limits(Pattern(b"b+"), 4)
    change = fresh(short.changes())
    assert change is not None and passed(change, [b"aa", b"aaa"]) == (b"aaaa", True)
    with pytest.raises(Failure, match=r"cannot find 'b\+' in what the peer sent: it ended before"):
        short.check("the peer")


TEXTS = st.lists(
    st.sampled_from(
        [
            *(bytes([c]) for c in b"\r\n\t\0\x07\x1b\x7f\x80\x9b\xff\xc2\xe2\x82\xac\xf0\x9f\xed\xa0ab"),
            b"\r\n",
            b"\r\r\n\n",
            "é€😀".encode(),
            "\x85\x9b".encode(),
        ]
    ),
    max_size=12,
).map(b"".join)


@given(TEXTS, CUTS)
def test_line_ends_do_not_depend_on_the_chunks(data: bytes, cuts: list[int]) -> None:
    """LF becomes CR LF and CR LF stays, however the data is split into chunks."""
    expected = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert passed(crlf(), cut(data, cuts)) == (expected, False)


@given(TEXTS, CUTS)
def test_visible_data_does_not_depend_on_the_chunks(data: bytes, cuts: list[int]) -> None:
    """Control bytes and invalid UTF-8 are escaped in the same way however the data is split."""
    expected = "".join(
        c if c in "\n\r\t" or not (ord(c) < 32 or 127 <= ord(c) < 160) else f"\\x{ord(c):02x}"
        for c in data.decode("utf-8", "backslashreplace")
    )
    assert passed(visible(), cut(data, cuts)) == (expected.encode(), False)


def test_a_character_that_comes_in_pieces_is_shown_whole() -> None:
    """A character may arrive byte by byte; an incomplete one is escaped at the end."""
    change = visible()
    assert [change(bytes([byte])) for byte in "€".encode()] == [b"", b"", "€".encode()]
    assert change(b"\x1b[31m\xe2\x82") == b"\\x1b[31m"
    assert change(b"") == b"\\xe2\\x82"


# -- labels

LENGTHS = st.sampled_from([0, 1, 2, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 2 * MAX_LINE, 2 * MAX_LINE + 1])
FILLS = st.sampled_from([b"x", b"\r", b"\0", b"\xff", b"\t"])


def edges(whole: bytes, where: list[int]) -> list[int]:
    """Places at which to split bytes: near line ends and multiples of 64 KiB."""
    ends = [found.start() for found in re.finditer(b"\n", whole)]
    places = [edge + shift for edge in (*ends, *range(0, len(whole), MAX_LINE)) for shift in (-1, 0, 1)]
    return [places[each % len(places)] for each in where if places]


def pieces(whole: bytes) -> list[bytes]:
    """Return the lines to be written for ``whole``, with its last one even without a newline."""
    lines = whole.removesuffix(b"\n").split(b"\n") if whole else []
    return [line[i : i + MAX_LINE] for line in lines for i in range(0, max(len(line), 1), MAX_LINE)]


@examples(60)
@given(st.lists(st.tuples(LENGTHS, FILLS), max_size=4), st.lists(st.integers(0, 100), max_size=5))
def test_labelled_lines_are_the_same_under_every_chunking(lines: list[tuple[int, bytes]], where: list[int]) -> None:
    """Each line gets a label, and a line over 64 KiB one for each piece, however the bytes are split."""
    whole = b"\n".join(fill * length for length, fill in lines)
    out, _ = passed(labelled("label"), cut(whole, edges(whole, where)))
    # Lengths are compared first, as a difference in so much data would be unreadable.
    wanted = [b"label\t" + piece for piece in pieces(whole)]
    got = out.removesuffix(b"\n").split(b"\n") if out else []
    assert [len(line) for line in got] == [len(line) for line in wanted]
    assert got == wanted
    assert not out or out.endswith(b"\n")


def test_a_line_of_64_kib_is_one_line_when_its_newline_comes_later() -> None:
    """A line of exactly 64 KiB is one piece, without an empty line after it."""
    out, _ = passed(labelled("label"), [b"x" * MAX_LINE, b"\n", b"next\n"])
    assert out == b"label\t" + b"x" * MAX_LINE + b"\nlabel\tnext\n"


def test_a_line_without_an_end_does_not_pile_up() -> None:
    """Of a line without an end at most 64 KiB are held, and every full piece is passed on."""
    change = labelled("label")
    got = sum(change(b"x" * 1000).count(b"x") for _ in range(1000))
    assert 1_000_000 - MAX_LINE <= got < 1_000_000
