"""The changes that end data at a match or a limit, and those that change lines and text, in any chunks."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.errors import Failure
from netkit.core.pump import Change, Done, chain, fresh
from netkit.core.search import WINDOW, Pattern
from netkit.services.transforms import Limits, at_most, capitals, capitals_in_place, crlf, prefixed, until, visible

CHUNKS = st.lists(st.binary(max_size=12), max_size=12)
LINES = st.lists(st.sampled_from([b"a", b"b", b"\n", b"ab", b"\nba", b""]), max_size=20)


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
    st.data(),
)
def test_capitals(text: str, noise: bytes, data: st.DataObject) -> None:
    """Text becomes upper case however it is split, and invalid UTF-8 stays; in place, the length stays the same."""
    sent = text.encode() + noise + text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    chunks = [sent[start:end] for start, end in itertools.pairwise([0, *cuts, len(sent)])]
    wanted = sent.decode("utf-8", "surrogateescape").upper().encode("utf-8", "surrogateescape")
    assert passed(capitals(), chunks) == (wanted, False)
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
CUTS = st.lists(st.integers(0, 30), max_size=8)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Split data at the given places."""
    places = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


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
