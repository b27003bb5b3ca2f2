"""How the values of DNS records are compared."""

import pytest

from netkit.core.errors import Invalid
from netkit.protocols.dns import comparable


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:db8::1", "2001:DB8:0:0::1"),
        ("MX", "10 mail.example.", "010 MAIL.example"),
        ("CAA", '0 issue "ca.example"', "0 issue ca.example"),
        ("TXT", '"one " "two"', "one two"),
        ("TXT", '"one two"', '"one " "two"'),
        ("TXT", r'"\\\"\255"', '\\"\udcff'),
        ("TXT", '""', ""),
        ("A", r"\# 4 c0000201", "192.0.2.1"),
        ("A", r"\# 3 010203", r"\# 3 01 0203"),
        ("TYPE65400", r"\# 2 abcd", r"\# 2 ABCD"),
    ],
)
def test_values_that_are_the_same(kind: str, one: str, other: str) -> None:
    """Spellings of the same value are equal; the first one is how an answer shows it."""
    assert comparable(kind, one) == comparable(kind, other)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("MX", "10 mail.example.", "20 mail.example."),
        ("TXT", '"One"', "one"),
        ("TXT", '"one"', "one two"),
        ("CAA", '0 issue "ca.example"', '0 issue "CA.example"'),
        ("A", r"\# 3 010203", r"\# 3 010204"),
    ],
)
def test_values_that_differ(kind: str, one: str, other: str) -> None:
    """Values differ in numbers, and in the case of letters that are not part of a name."""
    assert comparable(kind, one) != comparable(kind, other)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("A", "::1"),
        ("A", "127.1"),
        ("MX", "mail"),
        ("SRV", ""),
        ("TXT", '"open'),
        ("NS", "a..b"),
        ("A", "\\# 1 0\udcff"),
    ],
)
def test_what_is_no_value(kind: str, text: str) -> None:
    """An invalid value is refused with a message."""
    with pytest.raises(Invalid, match=f"is none of type {kind}"):
        comparable(kind, text)
