"""Tables without rich: rows of cells as aligned lines."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.output import columns
from netkit.output.columns import aligned, table, widths

ROWS = [("NAME", "SIZE", "REST"), ("a", "1", ""), ("longer", "12345", "b c")]


def test_columns_are_even() -> None:
    """Cells are aligned left, or right in the named columns; the last column is not padded."""
    assert list(map("|".join, aligned(ROWS, right=["SIZE"]))) == [
        "NAME  | SIZE|REST",
        "a     |    1|",
        "longer|12345|b c",
    ]
    assert widths(ROWS) == [6, 5, 4]


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=1))
def test_cells_are_only_padded(rows: list[tuple[str, str]]) -> None:
    """For any text the first cells are padded to the widest one, and the last cells are unchanged."""
    for row, padded in zip(rows, aligned(rows), strict=True):
        assert padded == [row[0].ljust(widths(rows)[0]), row[1]]


@pytest.mark.parametrize(
    ("room", "octets"),
    [
        (30, ["octets  254 128 0 0 0 0 0 0 0", "        0"]),
        (16, ["octets  254 128", "        0 0 0 0", "        0 0 0 0"]),
        (15, ["octets  254 128 0 0 0 0 0 0 0 0"]),
    ],
)
def test_a_narrow_terminal(room: int, octets: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a narrow terminal the last cell is folded between words if there is room; long words are not broken."""
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 1)
    monkeypatch.setattr(columns, "terminal_size", lambda fd: os.terminal_size((room, 24)))
    rows = [("octets", "254 128 0 0 0 0 0 0 0 0"), ("hex", "0x" + "f" * 32), ("none", "")]
    assert table(rows).split("\n") == [*octets, "hex     0x" + "f" * 32, "none"]


@pytest.mark.parametrize("terminal", [True, False])
def test_table(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are in columns on a terminal, and separated by tabs in a pipe; control characters are escaped."""
    monkeypatch.setattr(os, "isatty", lambda fd: terminal and fd == 1)
    lines = ["a      1", "b\\x0a  \\x1b  c"] if terminal else ["a\t1\t", "b\\x0a\t\\x1b\tc"]
    assert table([("a", "1", ""), ("b\n", "\x1b", "c")]).split("\n") == lines
