"""Searching received data with a regular expression: the same matches as ``re``, within a budget of CPU time."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.search import BUDGET, Pattern, SearchTimeout, parse
from tests.support.properties import examples

PATTERNS = [
    *(rb"ready", rb"", rb"a?", rb"a+b", rb"^a*$", rb"\Aa?b", rb"a*\Z", rb"\n*$", rb"b*", rb"(?:)|a", rb"\ba|b\b"),
    *(rb"(a)(b)?\1", rb"(?<=b)a+", rb"(?<!b)a+?", rb"(?P<n>a|b){2}(?P=n)", rb"a.*b", rb"(?s)a.*b", rb"(?i)A+"),
    *(rb"(?x) a+ # a comment", rb"(?i)(?x)A+b # another"),
]


@pytest.mark.parametrize("pattern", PATTERNS)
@examples(20)
@given(
    before=st.sampled_from([0, 1, 254, 255, 256, 257, 512]), text=st.text("abA\nx", max_size=20), after=st.booleans()
)
def test_finds_what_re_finds(pattern: bytes, before: int, text: str, after: bool) -> None:
    """Match and groups are those of ``re``, wherever they are in the data."""
    data = b"x" * before + text.encode() + b"x" * 300 * after
    ours, theirs = Pattern(pattern).search(data), re.compile(pattern, re.MULTILINE).search(data)
    assert (ours and (ours.span(), ours.groups())) == (theirs and (theirs.span(), theirs.groups()))


@pytest.mark.parametrize(
    "pattern, data",
    [
        (rb"(a+)+$", b"a" * 40 + b"b"),  # exponential at one position
        (rb"(a|a)*$", b"a" * 60 + b"b"),
        (rb"(.*)(.*)(.*)(.*)x", b"a" * 2000),
        (rb"\w+@", b"x" * 320_000),  # quadratic over all positions, each of which is quick
        (rb"\s+$", b" " * 320_000 + b"x"),
        (rb"x{0,4000}x*y", b"x" * 65536),
        (rb"(?i)(X+X+)+Y", b"x" * 40),
    ],
)
def test_search_that_runs_away(pattern: bytes, data: bytes) -> None:
    """A search that takes too long is ended at a small multiple of its budget, and the failure names the pattern."""
    begun = time.process_time()
    with pytest.raises(SearchTimeout) as failed:
        Pattern(pattern).search(data)
    assert time.process_time() - begun < 10 * BUDGET
    assert str(failed.value) == f"cannot search what came: looking for {pattern.decode()!r} takes more than 200 ms"
    found = Pattern(rb"o+k").search(b"and the next is ook")
    assert found and found[0] == b"ook"


@pytest.mark.parametrize("text", ["(", "a{99999999999999999999}", "*", "a(?i)b"])
def test_no_pattern(text: str) -> None:
    """An invalid pattern is refused with a message."""
    with pytest.raises(ValueError, match="is not a regular expression: "):
        parse(text)
