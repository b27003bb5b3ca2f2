"""TEXT: what is shown can be entered again, and sends no control characters to a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.services.text import parse, spell


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"hello world", "hello world"),
        ("Zürich ☕".encode(), "Zürich ☕"),
        (b"a\tb\r\n\0", r"a\tb\r\n\0"),
        (b"C:\\n", r"C:\\n"),
        (b"\0001", r"\01"),
        (b"\x1b[31m\x7f", r"\x1b[31m\x7f"),
        (b"\xff\xc3", r"\xff\xc3"),
        ("\u202e\u0085\u2028".encode(), r"\xe2\x80\xae\xc2\x85\xe2\x80\xa8"),
        (b"\xed\xb3\xbf", r"\xed\xb3\xbf"),
    ],
)
def test_spell(data: bytes, text: str) -> None:
    """Printable UTF-8 is shown as it is, all else and the backslash as the shortest escape."""
    assert spell(data) == text
    assert parse(text) == data


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_what_is_spelled_is_read_back(data: bytes) -> None:
    """Any bytes have a printable spelling, which parses back to them."""
    text = spell(data)
    assert text.isprintable()
    assert parse(text) == data
