"""Mutations of valid input for parsers."""

import random
from collections.abc import Sequence

from hypothesis import strategies as st

_INTERESTING = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b"%",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"\x1b",
    b"\xc3",
    b":",
    b"/",
)

_LONGEST = 16 << 10  # bytes, as the targets call some parsers for each byte


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Return one of the seeds with some bytes changed, removed, repeated, or replaced by a part of another seed."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        length = chance.choice((0, 1, 1, 2, 4, 16))
        other = chance.choice(seeds)
        start = chance.randrange(len(other) + 1)
        data[at : at + length] = chance.choice(
            (
                b"",
                chance.randbytes(length),
                chance.choice(_INTERESTING),
                other[start : start + 16],
                bytes(data[at : at + length]) * chance.choice((2, 2, 1000)),
            )
        )
    return bytes(data[:_LONGEST])


def near(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy for seeds with a few edits, and for arbitrary bytes."""
    edits = st.tuples(st.integers(0, 200), st.integers(0, 8), st.binary(max_size=8) | st.sampled_from(_INTERESTING))

    def edit(seed: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for at, length, new in changes:
            place = at % (len(seed) + 1)
            seed = seed[:place] + new + seed[place + length :]
        return seed

    return st.builds(edit, st.sampled_from(list(seeds)), st.lists(edits, max_size=5)) | st.binary(max_size=200)
