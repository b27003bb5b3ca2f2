"""Values of options: valid and invalid durations, text, hex, counts, sizes, lengths and sources."""

import ast
import math
import os
from collections.abc import Callable
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.cli.types import (
    COUNT,
    COUNT_OR_ANY,
    DURATION,
    DURATION_OR_ZERO,
    HEX,
    OCTETS,
    PREFIX,
    REGEX,
    SIZE,
    SOURCE,
    STATUSES,
    TEXT,
    Parsed,
    choice,
    count,
    size,
)

TEN_YEARS = 10 * 365 * 24 * 3600
ARGUMENTS = st.text() | st.binary().map(os.fsdecode)
# Text that no number is, even if Python accepts some of it as one, and text that a shell or an option would take.
NO_NUMBER = [
    *("", " ", "-1", "+1", "1e3", "1_0", " 1", "1 ", "1\n", "1\0", "nan", "inf", "\uff11", "\u0661", "1\u0661"),
    *("@/etc/passwd", "-", "--", "*", "\udcff"),
]


def read(kind: Parsed, text: str) -> Any:
    """Parse a value as a command does."""
    return kind.convert(text, None, None)


def refusal(kind: Parsed, text: str) -> str:
    """Return the one-line message with which a value is refused."""
    with pytest.raises(click.BadParameter) as refused:
        read(kind, text)
    message: str = refused.value.message
    assert message
    assert message.isprintable()
    return message


# -- tables

VALUES: list[tuple[Parsed, dict[str, Any]]] = [
    (COUNT, {"1": 1, "10": 10, "4096": 4096, "9" * 18: 10**18 - 1}),
    (COUNT_OR_ANY, {"3": 3, "any": "any"}),
    (SIZE, {"1": 1, "1500": 1500, "64K": 65536, "1M": 1 << 20, "2G": 2 << 30, "9" * 12: 10**12 - 1}),
    (size(most=65507), {"65507": 65507}),
    (count(most=255), {"255": 255}),
    (choice("raw", "hex"), {"hex": "hex"}),
    (HEX, {"00": b"\0", "0aFf": b"\n\xff", "de ad be ef": b"\xde\xad\xbe\xef", "68656c6c6f": b"hello"}),
    (OCTETS, {"00 50": b"\0P"}),
    (PREFIX, {"u8": (1, "big"), "u16": (2, "big"), "u32": (4, "big")}),
    (PREFIX, {"u8le": (1, "little"), "u16le": (2, "little"), "u32le": (4, "little")}),
    (SOURCE, {"127.0.0.1": ("127.0.0.1", 0), "127.0.0.1:5000": ("127.0.0.1", 5000), ":5000": ("", 5000)}),
    (SOURCE, {"[::1]:5000": ("::1", 5000), "fe80::1%eth0": ("fe80::1%eth0", 0)}),
    (STATUSES, {"200": (200,), "503,200": (200, 503), "2xx,404,204": (*range(200, 300), 404)}),
    (TEXT, {"": b"", "hello": b"hello", r"a\r\n": b"a\r\n", r"\t\0\\": b"\t\0\\"}),
    (TEXT, {r"\x00\xff\xFf\x1b": b"\0\xff\xff\x1b", r"\x414": b"A4", r"\012": b"\x0012", r"\xc3\xa9": b"\xc3\xa9"}),
    (TEXT, {r"\\n": b"\\n", r"\\\n": b"\\\n", r"\\x41": b"\\x41"}),
    (TEXT, {"\u00e9\u20ac\U0001f600": "\u00e9\u20ac\U0001f600".encode(), "\udcff": b"\xff", "a\nb\x1b": b"a\nb\x1b"}),
    (TEXT, {same: same.encode() for same in ("@/etc/passwd", "%s%n$HOME`id`", "~", "*", "-", "--")}),
]
REFUSED: list[tuple[Parsed, str, list[str]]] = [
    (COUNT, "not a whole number from 1 on", NO_NUMBER),
    (
        COUNT,
        "not a whole number from 1 on",
        ["0", "00", "01", "1.0", "1.", "1,000", "0x1", "1K", "one", "\u00b2", "9" * 5000],
    ),
    (COUNT_OR_ANY, "is not a whole number", ["Any", "0"]),
    (SIZE, "is not a size, such as 1500, 64K, 1M or 2G", NO_NUMBER),
    (
        SIZE,
        "is not a size, such as 1500, 64K, 1M or 2G",
        [
            *("0", "0K", "01", "K", "1.5K", "1,000", "0x1", "1k", "1m", "1g", "1T", "1KB", "1KiB", "1 K", "1\u212a"),
            *("9" * 13, "9" * 5000),
        ],
    ),
    (size(most=65507), "'64K' is more than 65507", ["64K"]),
    (count(most=255), "'256' is more than 255", ["256"]),
    (choice("raw", "hex"), "'HEX' is none of raw, hex", ["HEX"]),
    (
        HEX,
        "not pairs of hex digits",
        [
            *("0", "000", "0 0", "de a", "0x00", "\\x00", "gg", "-1", "+1", "1_0", "00,00", "00:00", "00\0"),
            *("\uff10\uff10", "\u0660\u0660", "@/etc/passwd", "-", "--", "~~", "**", "%s", "\u00e9\u00e9"),
            *("\udcff\udcff", "\x1b[31m"),
        ],
    ),
    (
        OCTETS,
        "is neither pairs of hex digits nor bytes",
        [r"\xg0", "b'", "b'\u00e9'", "b'a' + b'b'", "b''.x", r"\x00'", "b'a'.join", r"\x41\q", r"b'\q'"],
    ),
    (
        PREFIX,
        "is none of u8, u16, u32, nor these with le",
        ["", "u", "u0", "u64", "u16be", "U16", "i16", "16", "u16 ", "u16\n", "le", "\uff11"],
    ),
    (
        SOURCE,
        "",
        ["", ":", "localhost", "127.1", "127.0.0.1:70000", "[::1", "::g", "fe80::1", "\uff11.0.0.1"],
    ),
    (
        STATUSES,
        "is not statuses from 200 to 599",
        ["", "199", "600", "20", "2000", "2XX", "xx", "200,", "200-299", "2x0"],
    ),
    (
        TEXT,
        r"\n \r \t \0 \\ \xNN",
        [
            *(r"\x", r"\x4", r"\xg0", r"\x 41", r"\x4g", r"\X41", r"\q", r"\a", r"\b"),
            *(r"\e", r"\u00e9", r"\1", r"\N", r"\R", r"\"", r"\'", "\\\n", "\\ ", "\\\u00e9", "\\\udcff"),
            *("\\\uff58" + "41", "\\x\uff14\uff11"),
        ],
    ),
    (TEXT, r"ends within an escape: write \\ for a backslash", ["\\", "a\\", "\\" * 10_001]),
]


@pytest.mark.parametrize(("kind", "text", "value"), [(kind, *row) for kind, rows in VALUES for row in rows.items()])
def test_value(kind: Parsed, text: str, value: object) -> None:
    """A value is read as what it means."""
    assert read(kind, text) == value


@pytest.mark.parametrize(("kind", "why", "text"), [(kind, why, text) for kind, why, each in REFUSED for text in each])
def test_value_is_refused(kind: Parsed, why: str, text: str) -> None:
    """Any other text is refused in one line, which has examples or names what is possible."""
    assert why in refusal(kind, text)


@pytest.mark.parametrize(("kind", "default"), [(DURATION, 10.0), (SIZE, 1 << 24)])
def test_value_that_is_a_default(kind: Parsed, default: float) -> None:
    """A default that is already a number is unchanged."""
    assert kind.convert(default, None, None) == default


# -- durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("500ms", 0.5), ("2s", 2), ("1.5", 1.5), ("1.5s", 1.5), ("1m", 60), ("1h", 3600), ("1.5h", 5400)),
        *(("0.25m", 15), ("7", 7), ("007", 7), ("1500ms", 1.5), ("0.5ms", 0.0005), (".5", 0.5), ("1.", 1)),
        *(("100000000", 10**8), ("315360000", TEN_YEARS), ("30d", 2_592_000), ("3650d", TEN_YEARS)),
        *(("87600h", TEN_YEARS), ("5256000m", TEN_YEARS), ("315360000000ms", TEN_YEARS)),
        ("1." + "1" * 10_000, 10 / 9),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    """A duration is a number with a unit, without one in seconds, up to ten years."""
    for kind in (DURATION, DURATION_OR_ZERO):
        assert read(kind, text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.fault("odd duration")
@pytest.mark.parametrize(
    "text",
    [
        *NO_NUMBER,
        *("abc", "s", "ms", ".", ".s", "NaN", "infinity", "-inf", "-0", "1e100", "1,5", "1 s", "1s\n", "\n1", "0x10"),
        *("1.2.3", "1..5", "1w", "1S", "1M", "2H", "1sec", "1min", "1ss", "1h30m", "1:30", "\u00b2"),
        *("\u00bd", "1\u202fs", "1\u017f", "%s%n", "~", "\x1b[31m1", "." * 10_000),
    ],
)
def test_duration_is_refused(text: str) -> None:
    """Other text is refused, even if Python accepts it as a number, and the message has an example."""
    for kind in (DURATION, DURATION_OR_ZERO):
        assert "is not a duration, such as 500ms" in refusal(kind, text)


@pytest.mark.parametrize(
    "text",
    [
        *("315360001", "315360000.1", "87601h", "3651d", "5256001m", "315360000001ms", "1" + "0" * 9),
        *("9" * 400, "9" * 400 + "h", "9" * 10_000),
    ],
)
def test_duration_beyond_ten_years(text: str) -> None:
    """More than ten years is refused, with any number of digits."""
    for kind in (DURATION, DURATION_OR_ZERO):
        assert "longer than ten years" in refusal(kind, text)


@pytest.mark.parametrize("text", ["0", "0s", "0ms", "0m", "0h", "0.0", ".0", "00", "0." + "0" * 400 + "1"])
def test_duration_of_nothing(text: str) -> None:
    """Zero is only accepted by DURATION_OR_ZERO."""
    assert read(DURATION_OR_ZERO, text) == 0
    assert "no time at all" in refusal(DURATION, text)


@given(
    st.integers(1, TEN_YEARS // 86400),
    st.sampled_from([("ms", 0.001), ("s", 1), ("", 1), ("m", 60), ("h", 3600), ("d", 86400)]),
)
def test_duration_is_number_times_unit(number: int, unit: tuple[str, float]) -> None:
    """A whole number with a unit is that number times the unit."""
    name, seconds = unit
    assert read(DURATION, f"{number}{name}") == pytest.approx(number * seconds, rel=1e-12)


@given(st.floats(0.001, TEN_YEARS - 1).map(lambda seconds: f"{seconds:f}"))
def test_duration_with_a_fraction(text: str) -> None:
    """A decimal fraction is that number of seconds."""
    assert read(DURATION, text) == float(text)


# -- text and hex


def spelled(data: bytes) -> st.SearchStrategy[str]:
    """Return a strategy for spellings of these bytes."""

    def ways(byte: int) -> st.SearchStrategy[str]:
        short = {10: r"\n", 13: r"\r", 9: r"\t", 0: r"\0", 92: r"\\"}
        plain = [short[byte]] if byte in short else [chr(byte)] if byte < 128 else []
        return st.sampled_from([*plain, f"\\x{byte:02x}", f"\\x{byte:02X}"])

    return st.tuples(*map(ways, data)).map("".join)


@given(st.binary(max_size=20).flatmap(lambda data: st.tuples(st.just(data), spelled(data))))
def test_text_can_spell_any_bytes(case: tuple[bytes, str]) -> None:
    """Any bytes can be spelled as text, each byte in any of its spellings."""
    data, text = case
    assert read(TEXT, text) == data


@given(ARGUMENTS.filter(lambda text: "\\" not in text))
def test_text_without_escapes_is_itself(text: str) -> None:
    """Text without a backslash becomes the bytes of the argument, UTF-8 or not."""
    assert read(TEXT, text) == os.fsencode(text)


@pytest.mark.parametrize("shown", [repr(b"\0P"), repr(b"'\"\\\n\xff"), repr(b"it's"), r"\x00\x50", r"\x41\n"])
def test_bytes_as_python_shows_them(shown: str) -> None:
    """Bytes as Python and ``pack --show`` print them are accepted, besides hex."""
    assert read(OCTETS, shown) == ast.literal_eval(shown if shown.startswith("b") else f"b'{shown}'")


@given(st.binary())
def test_hex_can_spell_any_bytes(data: bytes) -> None:
    """Any bytes are parsed from hex, with spaces or without."""
    assert read(HEX, data.hex()) == data
    assert read(HEX, data.hex(" ").upper()) == data


# -- any text


def is_duration(text: str, seconds: float) -> bool:
    """Whether a text may be read as this duration."""
    return math.isfinite(seconds) and 0 <= seconds <= TEN_YEARS and text.isascii()


ANY: list[tuple[Parsed, str, Callable[[str, Any], bool]]] = [
    (DURATION, "0123456789.mshde+-_ \n\u0665\uff15", lambda text, seconds: seconds > 0 and is_duration(text, seconds)),
    (DURATION_OR_ZERO, "0123456789.mshde+-_ \n\u0665\uff15", is_duration),
    (COUNT, "0123456789+-_. \n\u0661\uff11", lambda text, number: number >= 1 and str(number) == text),
    (SIZE, "0123456789KMGBi+-_. \n\u0661\uff11", lambda text, size: size >= 1 and text.isascii()),
    (HEX, "0123456789abcdefABCDEF xg\n\uff10", lambda text, data: data.hex() == "".join(text.split()).lower()),
    (TEXT, "\\xX0419afgnrt\n \u00e9", lambda text, data: len(data) <= len(os.fsencode(text))),
    (SOURCE, "0123456789.:[]%", lambda text, source: 0 <= source[1] <= 65535),
]


@pytest.mark.parametrize(("kind", "letters", "fits"), ANY, ids=[kind.name for kind, _, _ in ANY])
@given(data=st.data())
def test_any_text_is_a_value_or_refused(
    kind: Parsed, letters: str, fits: Callable[[str, Any], bool], data: st.DataObject
) -> None:
    """Any text, also of the letters of such values, is refused in one line, or is a value that it can mean."""
    text = data.draw(ARGUMENTS | st.text(letters))
    try:
        value = read(kind, text)
    except click.BadParameter as error:
        assert error.message.isprintable()
        assert kind is not TEXT or "\\" in text
    else:
        assert fits(text, value)


@pytest.mark.parametrize("pattern", ["[[a]", "[a~~b]", "[a||b]"])
def test_no_warning_of_a_pattern(pattern: str) -> None:
    """A pattern about which Python has a FutureWarning is accepted without a warning."""
    assert read(REGEX, pattern).search(b"a")
