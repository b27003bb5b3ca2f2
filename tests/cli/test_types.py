"""Values of options: valid and invalid durations, text, hex, counts, sizes, lengths and sources."""

import ast
import math
import os
from typing import Any

import click
import pytest
from hypothesis import example, given, settings
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
    TEXT,
    choice,
    count,
    size,
)

PROPERTY = settings(max_examples=100, deadline=None, database=None)
TEN_YEARS = 10 * 365 * 24 * 3600
ARGUMENTS = st.text() | st.binary().map(os.fsdecode)


def read(kind: Any, text: str) -> Any:
    """Parse a value as a command does."""
    return kind.convert(text, None, None)


def refusal(kind: Any, text: str) -> str:
    """Return the one-line message with which a value is refused."""
    with pytest.raises(click.BadParameter) as refused:
        read(kind, text)
    message: str = refused.value.message
    assert message
    assert message.isprintable()
    return message


# -- durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("2s", 2),
        ("1.5", 1.5),
        ("1.5s", 1.5),
        ("1m", 60),
        ("1h", 3600),
        ("1.5h", 5400),
        ("0.25m", 15),
        ("7", 7),
        ("007", 7),
        ("1500ms", 1.5),
        ("0.5ms", 0.0005),
        (".5", 0.5),
        ("1.", 1),
        ("1" + "0" * 8, 10**8),
        ("315360000", TEN_YEARS),
        ("30d", 2_592_000),
        ("3650d", TEN_YEARS),
        ("87600h", TEN_YEARS),
        ("5256000m", TEN_YEARS),
        ("315360000000ms", TEN_YEARS),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    """A duration is a number with a unit, without one in seconds, up to ten years."""
    for zero in (False, True):
        assert read(DURATION_OR_ZERO if zero else DURATION, text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.fault("odd duration")
@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "abc", "s", "ms", ".", ".s", "nan", "NaN", "inf", "infinity", "-inf", "-1", "-0", "+1", "1e3"),
        *("1e100", "1_0", "1,5", "1 s", " 1", "1 ", "1\n", "1s\n", "\n1", "1\0", "0x10", "1.2.3", "1..5", "1w"),
        *("1w", "1S", "1M", "2H", "1sec", "1min", "1ss", "1h30m", "1:30", "\uff15", "\u0665", "1\u0665", "\u00b2"),
        *("\u00bd", "1\u202fs", "1\u017f", "@/etc/passwd", "%s%n", "~", "*", "-", "--", "\x1b[31m1", "\udcff"),
    ],
)
def test_duration_is_refused(text: str) -> None:
    """Other text is refused, even if Python accepts it as a number, and the message has an example."""
    for zero in (False, True):
        assert "is not a duration, such as 500ms" in refusal(DURATION_OR_ZERO if zero else DURATION, text)


@pytest.mark.parametrize(
    "text",
    [
        "315360001",
        "315360000.1",
        "87601h",
        "3651d",
        "5256001m",
        "315360000001ms",
        "9" * 400,
        "9" * 400 + "h",
        "1" + "0" * 9,
    ],
)
def test_duration_beyond_ten_years(text: str) -> None:
    """More than ten years is refused, with any number of digits."""
    assert "longer than ten years" in refusal(DURATION, text)
    assert "longer than ten years" in refusal(DURATION_OR_ZERO, text)


@pytest.mark.parametrize("text", ["0", "0s", "0ms", "0m", "0h", "0.0", ".0", "00", "0." + "0" * 400 + "1"])
def test_duration_of_nothing(text: str) -> None:
    """Zero is only accepted by DURATION_OR_ZERO."""
    assert read(DURATION_OR_ZERO, text) == 0
    assert "no time at all" in refusal(DURATION, text)


def test_duration_that_is_a_default() -> None:
    """A default that is already a number of seconds is unchanged."""
    assert DURATION.convert(10.0, None, None) == 10.0


@PROPERTY
@given(
    st.integers(1, TEN_YEARS // 86400),
    st.sampled_from([("ms", 0.001), ("s", 1), ("", 1), ("m", 60), ("h", 3600), ("d", 86400)]),
)
def test_duration_is_number_times_unit(number: int, unit: tuple[str, float]) -> None:
    """A whole number with a unit is that number times the unit."""
    name, seconds = unit
    assert read(DURATION, f"{number}{name}") == pytest.approx(number * seconds, rel=1e-12)


@PROPERTY
@given(st.floats(0.001, TEN_YEARS - 1).map(lambda seconds: f"{seconds:f}"))
def test_duration_with_a_fraction(text: str) -> None:
    """A decimal fraction is that number of seconds."""
    assert read(DURATION, text) == float(text)


@PROPERTY
@given(ARGUMENTS | st.text("0123456789.mshde+-_ \n\u0665\uff15"), st.booleans())
@example("1" * 10_000, False)
@example("1." + "1" * 10_000, False)
@example("." * 10_000, False)
def test_any_text_is_a_duration_or_refused(text: str, zero: bool) -> None:
    """Any text is refused in one line, or is a finite number of seconds up to ten years."""
    try:
        seconds = read(DURATION_OR_ZERO if zero else DURATION, text)
    except click.BadParameter as error:
        assert error.message.isprintable()
    else:
        assert math.isfinite(seconds)
        assert 0 <= seconds <= TEN_YEARS
        assert seconds or zero
        assert text.isascii()


# -- text


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("hello", b"hello"),
        (r"a\r\n", b"a\r\n"),
        (r"\t\0\\", b"\t\0\\"),
        (r"\x00\xff\xFf\x1b", b"\0\xff\xff\x1b"),
        (r"\x414", b"A4"),
        (r"\012", b"\x0012"),
        (r"\\n", b"\\n"),
        (r"\\\n", b"\\\n"),
        (r"\\x41", b"\\x41"),
        ("\u00e9\u20ac\U0001f600", "\u00e9\u20ac\U0001f600".encode()),
        (r"\xc3\xa9", b"\xc3\xa9"),
        ("\udcff", b"\xff"),
        ("a\nb\x1b", b"a\nb\x1b"),
        ("@/etc/passwd", b"@/etc/passwd"),
        ("%s%n$HOME`id`", b"%s%n$HOME`id`"),
        ("~", b"~"),
        ("*", b"*"),
        ("-", b"-"),
        ("--", b"--"),
    ],
)
def test_text(text: str, data: bytes) -> None:
    """Escapes become bytes, and other text is unchanged."""
    assert read(TEXT, text) == data


@pytest.mark.parametrize(
    "text",
    [
        *("\\", "a\\", r"\x", r"\x4", r"\xg0", r"\x 41", r"\x4g", r"\X41", r"\q", r"\a", r"\b"),
        *(r"\e", r"\u00e9", r"\1", r"\N", r"\R", r"\"", r"\'", "\\\n", "\\ ", "\\\u00e9", "\\\udcff"),
        *("\\\uff58" + "41", "\\x\uff14\uff11"),
    ],
)
def test_text_is_refused(text: str) -> None:
    """An unknown escape is refused, and the message lists the known ones."""
    assert r"\n \r \t \0 \\ \xNN" in refusal(TEXT, text)


def spelled(data: bytes) -> st.SearchStrategy[str]:
    """Return a strategy for spellings of these bytes."""

    def ways(byte: int) -> st.SearchStrategy[str]:
        short = {10: r"\n", 13: r"\r", 9: r"\t", 0: r"\0", 92: r"\\"}
        plain = [short[byte]] if byte in short else [chr(byte)] if byte < 128 else []
        return st.sampled_from([*plain, f"\\x{byte:02x}", f"\\x{byte:02X}"])

    return st.tuples(*map(ways, data)).map("".join)


@PROPERTY
@given(st.binary(max_size=20).flatmap(lambda data: st.tuples(st.just(data), spelled(data))))
def test_text_can_spell_any_bytes(case: tuple[bytes, str]) -> None:
    """Any bytes can be spelled as text, each byte in any of its spellings."""
    data, text = case
    assert read(TEXT, text) == data


@PROPERTY
@given(ARGUMENTS.filter(lambda text: "\\" not in text))
def test_text_without_escapes_is_itself(text: str) -> None:
    """Text without a backslash becomes the bytes of the argument, UTF-8 or not."""
    assert read(TEXT, text) == os.fsencode(text)


@PROPERTY
@given(ARGUMENTS | st.text("\\xX0419afgnrt\n \u00e9"))
@example("\\" * 10_001)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Any text becomes bytes, or is refused in one line."""
    try:
        data = read(TEXT, text)
    except click.BadParameter as error:
        assert "\\" in text
        assert error.message.isprintable()
    else:
        assert isinstance(data, bytes)
        assert len(data) <= len(os.fsencode(text))


# -- hex


@pytest.mark.parametrize("shown", [repr(b"\0P"), repr(b"'\"\\\n\xff"), repr(b"it's"), r"\x00\x50", r"\x41\n"])
def test_bytes_as_python_shows_them(shown: str) -> None:
    """Bytes as Python and ``pack --show`` print them are accepted, besides hex."""
    assert read(OCTETS, shown) == ast.literal_eval(shown if shown.startswith("b") else f"b'{shown}'")
    assert read(OCTETS, "00 50") == b"\0P"


@pytest.mark.parametrize("text", [r"\xg0", "b'", "b'é'", "b'a' + b'b'", "b''.x", r"\x00'", "b'a'.join"])
def test_bytes_that_python_does_not_show(text: str) -> None:
    """Other Python expressions are refused, and not evaluated."""
    assert "is neither pairs of hex digits nor bytes" in refusal(OCTETS, text)


@pytest.mark.parametrize(
    ("text", "data"),
    [("00", b"\0"), ("0aFf", b"\n\xff"), ("de ad be ef", b"\xde\xad\xbe\xef"), ("68656c6c6f", b"hello")],
)
def test_hex(text: str, data: bytes) -> None:
    """Hex is pairs of digits in either case, optionally with spaces between the pairs."""
    assert read(HEX, text) == data


@pytest.mark.parametrize(
    "text",
    [
        *("0", "000", "0 0", "de a", "0x00", "\\x00", "gg", "-1", "+1", "1_0", "00,00", "00:00", "00\0"),
        *("\uff10\uff10", "\u0660\u0660", "@/etc/passwd", "-", "--", "~~", "**", "%s", "\u00e9\u00e9"),
        *("\udcff\udcff", "\x1b[31m"),
    ],
)
def test_hex_is_refused(text: str) -> None:
    """Anything but whole pairs of ASCII hex digits is refused."""
    assert "not pairs of hex digits" in refusal(HEX, text)


@PROPERTY
@given(st.binary())
def test_hex_can_spell_any_bytes(data: bytes) -> None:
    """Any bytes are parsed from hex, with spaces or without."""
    assert read(HEX, data.hex()) == data
    assert read(HEX, data.hex(" ").upper()) == data


@PROPERTY
@given(ARGUMENTS | st.text("0123456789abcdefABCDEF xg\n\uff10"))
def test_any_text_is_hex_or_refused(text: str) -> None:
    """Any text is refused in one line, or is the hex of the bytes."""
    try:
        data = read(HEX, text)
    except click.BadParameter as error:
        assert error.message.isprintable()
    else:
        assert data.hex() == "".join(text.split()).lower()


# -- counts


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("10", 10), ("4096", 4096), ("9" * 18, 10**18 - 1)])
def test_count(text: str, number: int) -> None:
    """A count is a positive whole number."""
    assert read(COUNT, text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "0", "00", "01", "-1", "+1", " 1", "1 ", "1\n", "1\0", "1.0", "1.", "1e3", "1_0", "1,000"),
        *("0x1", "1K", "one", "nan", "inf", "\uff11", "\u0661", "1\u0661", "\u00b2", "9" * 5000, "@/etc/passwd"),
        *("-", "--", "*", "\udcff"),
    ],
)
def test_count_is_refused(text: str) -> None:
    """Text other than ASCII decimal digits is refused, and so is zero."""
    assert "not a whole number from 1 on" in refusal(COUNT, text)


@PROPERTY
@given(ARGUMENTS | st.text("0123456789+-_. \n\u0661\uff11"))
def test_any_text_is_a_count_or_refused(text: str) -> None:
    """Any text is refused in one line, or is the decimal form of the count."""
    try:
        number = read(COUNT, text)
    except click.BadParameter as error:
        assert error.message.isprintable()
    else:
        assert number >= 1
        assert str(number) == text


# -- sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("1500", 1500), ("64K", 65536), ("1M", 1 << 20), ("2G", 2 << 30), ("9" * 12, 10**12 - 1)],
)
def test_size(text: str, size: int) -> None:
    """A size is a number of bytes, or with K, M or G of powers of 1024."""
    assert read(SIZE, text) == size


def test_size_that_is_a_default() -> None:
    """A default that is already a number of bytes is unchanged."""
    assert SIZE.convert(1 << 24, None, None) == 1 << 24


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "0", "0K", "01", "K", "-1", "+1", " 1", "1 ", "1\n", "1\0", "1.5K", "1e3", "1_0", "1,000", "0x1"),
        *("1k", "1m", "1g", "1T", "1KB", "1KiB", "1 K", "nan", "inf", "\uff11", "\u0661", "1\u0661", "1\u212a"),
        *("9" * 13, "9" * 5000, "@/etc/passwd", "-", "--", "*", "\udcff"),
    ],
)
def test_size_is_refused(text: str) -> None:
    """Other text is refused, and the message has examples."""
    assert "is not a size, such as 1500, 64K, 1M or 2G" in refusal(SIZE, text)


@PROPERTY
@given(ARGUMENTS | st.text("0123456789KMGBi+-_. \n\u0661\uff11"))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    """Any text is refused in one line, or is a positive number of bytes."""
    try:
        size = read(SIZE, text)
    except click.BadParameter as error:
        assert error.message.isprintable()
    else:
        assert size >= 1
        assert text.isascii()


# -- lengths of records


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        *(("u8", (1, "big")), ("u16", (2, "big")), ("u32", (4, "big"))),
        *(("u8le", (1, "little")), ("u16le", (2, "little")), ("u32le", (4, "little"))),
    ],
)
def test_length(text: str, prefix: tuple[int, str]) -> None:
    """A length prefix has 1, 2 or 4 bytes, big-endian unless it ends in le."""
    assert read(PREFIX, text) == prefix


@pytest.mark.parametrize("text", ["", "u", "u0", "u64", "u16be", "U16", "i16", "16", "u16 ", "u16\n", "le", "\uff11"])
def test_length_is_refused(text: str) -> None:
    """Other text is refused, and the message names the valid lengths."""
    assert "is none of u8, u16, u32, nor these with le" in refusal(PREFIX, text)


# -- sources


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("127.0.0.1", ("127.0.0.1", 0)),
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        (":5000", ("", 5000)),
        ("[::1]:5000", ("::1", 5000)),
        ("fe80::1%eth0", ("fe80::1%eth0", 0)),
    ],
)
def test_source(text: str, source: tuple[str, int]) -> None:
    """A source is an address, a port, or both."""
    assert read(SOURCE, text) == source


@pytest.mark.parametrize(
    "text", ["", ":", "localhost", "127.1", "127.0.0.1:70000", "[::1", "::g", "fe80::1", "\uff11.0.0.1"]
)
def test_source_is_refused(text: str) -> None:
    """Text that is no usable IP address, port, or both, is refused."""
    refusal(SOURCE, text)


@PROPERTY
@given(ARGUMENTS)
def test_any_text_is_a_source_or_refused(text: str) -> None:
    """Any text is refused in one line, or is an address with a valid port."""
    try:
        _, port = read(SOURCE, text)
    except click.BadParameter as error:
        assert error.message.isprintable()
    else:
        assert 0 <= port <= 65535


# -- bounds and choices


def test_bounds() -> None:
    """A size or a count may have a maximum, which is in the message."""
    assert read(size(most=65507), "65507") == 65507
    assert refusal(size(most=65507), "64K") == "'64K' is more than 65507"
    assert read(count(most=255), "255") == 255
    assert refusal(count(most=255), "256") == "'256' is more than 255"


def test_words() -> None:
    """A choice is one of some words, and COUNT_OR_ANY also accepts "any"."""
    assert read(COUNT_OR_ANY, "any") == "any" and read(COUNT_OR_ANY, "3") == 3
    assert "is not a whole number" in refusal(COUNT_OR_ANY, "Any")
    assert read(choice("raw", "hex"), "hex") == "hex"
    assert refusal(choice("raw", "hex"), "HEX") == "'HEX' is none of raw, hex"


@pytest.mark.parametrize("pattern", ["[[a]", "[a~~b]", "[a||b]"])
def test_no_warning_of_a_pattern(pattern: str) -> None:
    """A pattern about which Python has a FutureWarning is accepted without a warning."""
    assert read(REGEX, pattern).search(b"a")
