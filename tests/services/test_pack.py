"""Formats of ``pack`` and ``unpack``: the results are those of struct, and what struct silently accepts is refused."""

import math
import random
import re
import struct
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.errors import Exit, Failure, Invalid
from netkit.output.records import plain, spelled
from netkit.services import text
from netkit.services.pack.formats import MAX_VALUES, Value, parse
from netkit.services.pack.framing import Source, frames, parse_prefix, records
from tests.support.data import cut

MOST = 1 << 24
ORDERS = ("", "@", "=", "<", ">", "!")
INTEGERS = "bBhHiIlLqQ"
LITTLE = sys.byteorder == "little"


def oracle(form: str) -> str:
    """Return the format for struct, where one without a mark is in network order."""
    return form if form[0] in "@=<>!" else "!" + form


def pack(form: str, *words: str) -> bytes:
    """Return the words packed as bytes."""
    return parse(form, MOST).pack(words)


def unpack(form: str, data: bytes) -> list[Value]:
    """Return the values unpacked from bytes."""
    return parse(form, MOST, reading=True).unpack(data)


def refusal(form: str, *words: str) -> str:
    """Return the message with which these words are refused."""
    with pytest.raises(Invalid) as refused:
        pack(form, *words)
    assert str(refused.value).isprintable()
    return str(refused.value)


def failure(form: str, data: bytes, offset: int = 0) -> Failure:
    """Return the failure to unpack these bytes."""
    with pytest.raises(Failure) as failed:
        parse(form, MOST, reading=True).unpack(data, offset)
    return failed.value


# -- the vectors of CPython's test_struct

# Format, word, big-endian bytes (little-endian ones are reversed, except for strings), unpacked value.
VECTORS: list[tuple[str, str, bytes, Value]] = [
    ("c", "a", b"a", b"a"),
    ("xc", "a", b"\0a", b"a"),
    ("cx", "a", b"a\0", b"a"),
    ("s", "a", b"a", b"a"),
    ("10s", "helloworld", b"helloworld", b"helloworld"),
    ("11s", "helloworld", b"helloworld\0", b"helloworld\0"),
    ("20s", "helloworld", b"helloworld" + 10 * b"\0", b"helloworld" + 10 * b"\0"),
    ("b", "-7", b"\xf9", -7),
    ("B", "249", b"\xf9", 249),
    ("h", "-700", b"\xfdD", -700),
    ("H", "64836", b"\xfdD", 0x10000 - 700),
    ("i", "-70000000", b"\xfb\xd3\xe2\x80", -70000000),
    ("L", "4224967296", b"\xfb\xd3\xe2\x80", 0x100000000 - 70000000),
    ("f", "2.0", b"@\0\0\0", 2.0),
    ("d", "-2.0", b"\xc0\0\0\0\0\0\0\0", -2.0),
    ("?", "0", b"\0", False),
    ("?", "false", b"\0", False),
    ("?", "1", b"\1", True),
    ("?", "true", b"\1", True),
]


@pytest.mark.parametrize(("form", "word", "big", "value"), VECTORS)
def test_vector(form: str, word: str, big: bytes, value: Value) -> None:
    """Each code of struct packs and unpacks as in Python, in every byte order; the default is network order."""
    little = big if set(form) & set("xcs") else big[::-1]
    for mark, data in {"": big, ">": big, "!": big, "<": little, "=": little if LITTLE else big}.items():
        assert pack(mark + form, word) == data
        assert unpack(mark + form, data) == [value]
        assert parse(mark + form, MOST).size == len(data)


SIZES = "cbxxxxxxhhhhiillffd? 3c3b18x12h6i6l6f3d3? bBhHiIlLqQefd?spx 0i b0i bd0l 3xq xcbhilfd?"
NATIVE_SIZES = "@n @N @P @bnbNbP @b0n @c2P"


@pytest.mark.parametrize("form", [*(mark + form for mark in ORDERS for form in SIZES.split()), *NATIVE_SIZES.split()])
def test_sizes_are_those_of_struct(form: str) -> None:
    """Formats with every code, once and several times, have the size that struct gives, with padding."""
    assert parse(form, MOST).size == struct.calcsize(oracle(form))


def numbers(bits: int) -> Sequence[int]:
    """Return powers of two, random numbers, their negatives, and the numbers next to them."""
    chance = random.Random(bits)
    bases = [1 << power for power in range(bits + 3)] + [chance.randrange(1 << bits) for _ in range(8)]
    return [
        sign * base + step for base in [*bases, 300, 700000, sys.maxsize * 4] for sign in (-1, 1) for step in (-1, 0, 1)
    ]


@pytest.mark.parametrize("form", [*(mark + code for mark in ORDERS for code in INTEGERS), "@n", "@N", "@P"])
def test_integers(form: str) -> None:
    """A number that fits is packed as by struct and unpacks to itself; any other is refused."""
    size = struct.calcsize(oracle(form))
    for number in numbers(8 * size):
        signed = form[-1] in "bhilqn"
        low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << 8 * size) - 1)
        if low <= number <= high:
            data = struct.pack(oracle(form), number)
            assert pack(form, str(number)) == data
            assert unpack(form, data) == [number]
            assert failure(form, b"\1" + data).exit is Exit.PROTOCOL
        else:
            assert refusal(form, str(number)) == (
                f"field 1 ({form[-1]} at offset 0): {number} is not between {low} and {high}"
            )


@pytest.mark.parametrize("code", ["B", "i64"])
@pytest.mark.parametrize(
    "word",
    [
        *(
            "",
            " ",
            "a string",
            "1.0",
            "1.5",
            "1e3",
            "3+42j",
            "+80",
            " 80",
            "80 ",
            "80\n",
            "080",
            "00",
            "1_0",
            "--1",
            "-",
        ),
        *("0x", "0xg", "x50", "0b1", "0o7", "80abc", "nan", "inf", "0x_1", "@/etc/passwd", "%s%n"),
        *("\uff18\uff10", "\u0663", "\u00b2", "\u22121", "\udcff", "0\uff581"),
    ],
)
def test_what_is_no_integer(code: str, word: str) -> None:
    """A number has only ASCII digits, perhaps after a minus or 0x; a leading zero, which may mean octal, is refused."""
    assert "is not a whole number, such as 80, -1 or 0x50" in refusal(code, word)


@pytest.mark.parametrize(
    ("word", "number"), [("0x50", 80), ("-0x8000", -32768), ("0XfF", 255), ("-0", 0), ("0x0001", 1)]
)
def test_hex_integers(word: str, number: int) -> None:
    """A number may be given in hexadecimal."""
    assert unpack("h", pack("h", word)) == [number]


@pytest.mark.parametrize("word", ["9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, str(1 << 64)])
def test_integers_of_any_length(word: str) -> None:
    """A number with thousands of digits is out of range, and the message shows only the first digits."""
    message = refusal("Q", word)
    assert message.startswith("field 1 (Q at offset 0): ") and message.endswith(f" is not between 0 and {2**64 - 1}")
    assert len(message) < 120


@pytest.mark.parametrize("form", [mark + code for mark in ("", "=", "<", ">", "!") for code in "nNP"])
def test_native_codes_want_native_order(form: str) -> None:
    """Codes without a standard size are only allowed after @."""
    assert f"{form[-1]!r} is native alone, begin with @" in refusal(form, "0")


@pytest.mark.parametrize(
    ("form", "word", "data", "back"),
    [
        ("p", "", b"\0", b""),
        ("4p", "abc", b"\3abc", b"abc"),
        ("5p", "abc", b"\3abc\0", b"abc"),
        ("6p", "abc", b"\3abc\0\0", b"abc"),
        ("1000p", "x" * 255, b"\xff" + b"x" * 255 + bytes(744), b"x" * 255),
        ("0p", "", b"", b""),
        ("0s", "", b"", b""),
    ],
)
def test_strings_that_count_themselves(form: str, word: str, data: bytes, back: bytes) -> None:
    """A p has its length, at most 255, in its first byte, and is padded."""
    assert pack(form, word) == data
    assert unpack(form, data) == [back]


@pytest.mark.parametrize(
    ("form", "word", "size", "room"),
    [
        *(("0s", "helloworld", 10, 0), ("1s", "helloworld", 10, 1), ("9s", "helloworld", 10, 9)),
        *(("p", "abc", 3, 0), ("1p", "abc", 3, 0), ("2p", "abc", 3, 1), ("3p", "abc", 3, 2)),
        *(("1000p", "x" * 1000, 1000, 255), ("0p", "a", 1, 0), ("str3", "é€", 5, 3)),
    ],
)
def test_strings_are_not_cut(form: str, word: str, size: int, room: int) -> None:
    """A string that is too long is refused; struct would truncate it."""
    assert refusal(form, word).endswith(f" is {size} bytes, more than {room}")


def test_string_that_counts_more_than_it_has() -> None:
    """A p whose first byte is more than its room is malformed; struct would return what there is."""
    error = failure("!H4p", b"\0\1\x09abc", offset=100)
    assert error.exit is Exit.PROTOCOL
    assert str(error) == "cannot unpack field 2 (4p at offset 102): it says that it has 9 bytes, and has room for 3"


ROUNDED = [
    (">f", math.nextafter(2**24, 0.0), b"\x4b\x80\0\0"),  # with carry
    (">e", 0x1FFDFFFFFF * 2.0**-26, b"\x67\xff"),  # 2047; rounded to single precision first it would be 2048
    (">e", 1.0 + 2.0**-11 + 2.0**-16, b"\x3c\x01"),
    (">e", 1.0 + 2.0**-11, b"\x3c\x00"),
    (">e", 2.0**-25 + 2.0**-35, b"\0\1"),
    (">e", 2.0**-25, b"\0\0"),
    (">e", -0.0, b"\x80\0"),
    (">e", 65519.0, b"\x7b\xff"),
]


@pytest.mark.parametrize(("form", "number", "data"), ROUNDED)
def test_rounding(form: str, number: float, data: bytes) -> None:
    """Numbers are rounded once, to the nearest or to even."""
    assert pack(form, repr(number)) == data


LARGEST = [65519.0, 65520.0, 65536.0, math.ldexp((1 << 24) - 1, 127 - 23), math.ldexp((1 << 25) - 1, 127 - 24), 1e300]


@given(
    st.sampled_from([mark + code for mark in ORDERS for code in "efd"]),
    st.floats(allow_nan=False) | st.floats(-70000, 70000) | st.sampled_from([*LARGEST, *(-each for each in LARGEST)]),
)
def test_floats(form: str, number: float) -> None:
    """A float is packed and read back as by struct, also infinity. A finite number never becomes infinite."""
    try:
        data = struct.pack(oracle(form), number)
    except OverflowError:
        size = struct.calcsize(oracle(form))
        assert refusal(form, repr(number)) == (
            f"field 1 ({form[-1]} at offset 0): {number!r} is beyond what {size} bytes hold"
        )
    else:
        assert pack(form, repr(number)) == data
        assert unpack(form, data) == list(struct.unpack(oracle(form), data))


@pytest.mark.parametrize("little", [b"\x01\xfc", b"\x00\xfe", b"\xff\xff", b"\x01\x7c", b"\x00\x7e", b"\xff\x7f"])
def test_halves_that_are_no_number(little: bytes) -> None:
    """Every NaN is unpacked as nan, and nan is packed as a quiet NaN."""
    for form, data in (("<e", little), (">e", little[::-1])):
        [number] = unpack(form, data)
        assert isinstance(number, float) and math.isnan(number)
        assert spelled(number) == "nan"
    assert pack("<e", "nan")[1] & 0x7E == pack("<e", "-nan")[1] & 0x7E == 0x7E


@pytest.mark.parametrize("code", ["e", "f64"])
@pytest.mark.parametrize(
    "word",
    [
        *("", " ", ".", "-", "e5", "1e", "1_0.5", "1,5", "+1", "0x1p3", "1.5f", "1.2.3", "--1", "1 ", "\n1"),
        *("infinity", "Inf", "NaN", "nan(1)", "\uff11", "1\u0665", "\u221e"),
    ],
)
def test_what_is_no_float(code: str, word: str) -> None:
    """A float is a decimal number in ASCII, inf or nan."""
    assert "is not a number, such as 1.5, -2, 1e9, inf or nan" in refusal(code, word)


@pytest.mark.parametrize("word", ["1e309", "-1e309", "9" * 400, "1e" + "9" * 400])
def test_doubles_that_would_be_infinite(word: str) -> None:
    """A double never becomes infinite, although Python reads such words as infinity."""
    assert "is beyond what 8 bytes hold" in refusal("d", word)


@pytest.mark.parametrize("byte", [1, 0x7F, 0xFF, 0x0F, 0xF0])
def test_any_byte_but_zero_is_true(byte: int) -> None:
    """As in C, any byte other than zero is true."""
    assert unpack(">?", bytes([byte])) == [True]


@pytest.mark.parametrize("word", ["", "2", "-1", "True", "yes", "on", "test", "4294967296", "\uff11"])
def test_booleans_are_four_words(word: str) -> None:
    """A boolean is true, false, 1 or 0; struct would take anything."""
    assert "is none of true, false, 1 and 0" in refusal("?", word)


@pytest.mark.parametrize("word", ["", "ab", "é", r"\r\n"])
def test_a_character_is_one_byte(word: str) -> None:
    """A c takes one byte, which may be an escape."""
    assert f" is {len(text.parse(word))} bytes, not 1" in refusal("c", word)
    assert pack("2c", r"\xff", "\\0") == b"\xff\0"


@pytest.mark.parametrize(
    "form",
    [
        *("Z", "!Z", "F", "u", "i8i8", "@u8", "12345", "c12345", "14s42", "0", "2", "2 H", "H 2 H", "2\0i", "\0", "%s"),
        *("-1B", "+1B", "1.5B", "!!H", "H!", " !H", "B,B", "\uff11B", "B\u00a0B"),
    ],
)
def test_what_is_no_format(form: str) -> None:
    """Unknown codes, counts without a code and white space other than ASCII's are refused, and quoted."""
    with pytest.raises((struct.error, UnicodeEncodeError)):
        struct.calcsize(form)
    assert "is no code" in refusal(form)


@pytest.mark.parametrize("form", ["", " ", "\t\n"])
def test_empty_format(form: str) -> None:
    """An empty format is refused."""
    assert refusal(form) == "the format is empty"


# -- compared with struct


def words_of(code: str) -> st.SearchStrategy[tuple[str, Any]]:
    """Return a word and its value for a code, within the range of every byte order and size."""
    bits = {"b": 7, "h": 15, "i": 31, "l": 31, "q": 63, "n": 63}
    if code in "efd":
        width = {"e": 16, "f": 32, "d": 64}[code]
        return st.floats(width=width, allow_nan=False).map(lambda number: (repr(number), number))
    if code == "?":
        return st.booleans().map(lambda value: ("true" if value else "false", value))
    if code == "c":
        return st.binary(min_size=1, max_size=1).map(lambda data: (text.spell(data), data))
    if code in "BHILQNP":
        return st.integers(0, (2 << bits[code.lower().replace("p", "q")]) - 1).map(lambda number: (str(number), number))
    return st.integers(-1 << bits[code], (1 << bits[code]) - 1).map(lambda number: (hex(number), number))


@st.composite
def struct_cases(draw: st.DrawFn) -> tuple[str, list[str], list[Any]]:
    """Return a struct format, with words for it and their values."""
    mark = draw(st.sampled_from(ORDERS))
    codes = "xsp" + INTEGERS + "efdc?" + ("nNP" if mark == "@" else "")
    form, words, values = mark, [], []
    for code in draw(st.lists(st.sampled_from(codes), min_size=1, max_size=8)):
        count = draw(st.none() | st.integers(1 if code == "p" else 0, 4))  # struct writes past the end of its 0p
        times = 1 if count is None else count
        form += draw(st.sampled_from(["", " ", "\n"] if form else [""])) + ("" if count is None else str(count)) + code
        if code in "sp":
            room = max(times - (code == "p"), 0)
            data = draw(st.binary(min_size=times if code == "s" else 0, max_size=room))
            words.append(text.spell(data))
            values.append(data)
        elif code != "x":
            for word, value in draw(st.lists(words_of(code), min_size=times, max_size=times)):
                words.append(word)
                values.append(value)
    if not mark and {"ip", "hex"} & set(form.split()):
        form = "!" + form  # without a mark these would be fields
    return form, words, values


@given(struct_cases())
def test_as_struct_does(case: tuple[str, list[str], list[Any]]) -> None:
    """Any format gives the same bytes, size and values as in Python."""
    form, words, values = case
    layout = parse(form, MOST, reading=True)
    data = layout.pack(words)
    assert data == struct.pack(oracle(form), *values)
    assert layout.size == len(data)
    assert layout.unpack(data) == list(struct.unpack(oracle(form), data)) == values
    assert layout.pack([spelled(value) for value in values]) == data


# -- fields


@pytest.mark.parametrize(
    ("form", "words", "data", "values"),
    [
        ("u8", ["255"], b"\xff", [255]),
        ("i8", ["-128"], b"\x80", [-128]),
        ("u16:port", ["80"], b"\0P", [80]),
        ("u16le", ["80"], b"P\0", [80]),
        ("u32le:seq", ["7"], b"\7\0\0\0", [7]),
        ("i32", ["-2"], b"\xff\xff\xff\xfe", [-2]),
        ("u64", ["0xffffffffffffffff"], b"\xff" * 8, [2**64 - 1]),
        ("i64le", ["-2"], b"\xfe" + b"\xff" * 7, [-2]),
        ("f32", ["1.5"], b"\x3f\xc0\0\0", [1.5]),
        ("f64le", ["-inf"], b"\0\0\0\0\0\0\xf0\xff", [-math.inf]),
        ("ip", ["192.0.2.1"], b"\xc0\0\2\1", ["192.0.2.1"]),
        ("iple:host", ["127.0.0.1"], b"\1\0\0\x7f", ["127.0.0.1"]),
        ("ip6", ["2001:db8::1"], b"\x20\1\r\xb8" + bytes(11) + b"\1", ["2001:db8::1"]),
        ("mac", ["02-00-5E-10-00-01"], b"\2\0\x5e\x10\0\1", ["02:00:5e:10:00:01"]),
        ("macle", ["02:00:5e:10:00:01"], b"\1\0\x10\x5e\0\2", ["02:00:5e:10:00:01"]),
        ("str", [r"hi\n"], b"hi\n", ["hi\n"]),
        ("str", [""], b"", [""]),
        ("str8:name", ["bob"], b"bob\0\0\0\0\0", ["bob"]),
        ("str3le", ["abc"], b"cba", ["abc"]),
        ("str", [r"a\0"], b"a\0", ["a\0"]),
        ("hex", ["c0 FFee"], b"\xc0\xff\xee", ["c0ffee"]),
        ("hex2le", ["c0ff"], b"\xff\xc0", ["c0ff"]),
        ("ip u16:p str", ["10.0.0.1", "80", "hi"], b"\n\0\0\1\0Phi", ["10.0.0.1", 80, "hi"]),
        ("\tu8\n u8 ", ["1", "2"], b"\1\2", [1, 2]),
    ],
)
def test_fields(form: str, words: list[str], data: bytes, values: list[Value]) -> None:
    """Fields are in network order, or in little-endian order with le, and unpack to what was packed."""
    assert pack(form, *words) == data
    assert unpack(form, data) == values
    assert pack(form, *map(spelled, values)) == data


def test_ip_and_hex_are_fields_before_they_are_codes() -> None:
    """Both words are fields as well as codes of struct, for which they need a mark."""
    assert pack("ip", "1.2.3.4") == b"\1\2\3\4"
    assert pack("!ip", "1", "") == struct.pack("!ip", 1, b"")
    assert pack("hex", "ff") == b"\xff"
    assert pack("!hex", "1", "1.5") == struct.pack("!hex", 1, 1.5)


@pytest.mark.parametrize(
    ("form", "word", "message"),
    [
        ("ip", "127.1", "'127.1' is not an IPv4 address"),
        ("ip", "0177.0.0.1", "'0177.0.0.1' is not an IPv4 address"),
        ("ip", "1.2.3.256", "'1.2.3.256' is not an IPv4 address"),
        ("ip", "\uff11.2.3.4", "is not an IPv4 address"),
        ("ip", "1.2.3.4\0", "is not an IPv4 address"),
        ("ip", "::1", "'::1' is not an IPv4 address, such as 192.0.2.1 (ip6 is IPv6)"),
        ("ip", "localhost", "'localhost' is not an IPv4 address"),
        ("ip6", "1.2.3.4", "'1.2.3.4' is not an IPv6 address"),
        ("ip6", "fe80::1%lo", "'fe80::1%lo' is not an IPv6 address"),
        ("ip6", "[::1]", "'[::1]' is not an IPv6 address"),
        ("mac", "02:00:5e:10:00", "is not a MAC address"),
        ("mac", "02:00-5e:10:00:01", "is not a MAC address"),
        ("mac", "02005e100001", "is not a MAC address"),
        ("mac", "\uff10" * 2 + ":00:5e:10:00:01", "is not a MAC address"),
        ("hex", "abc", "'abc' is not pairs of hex digits"),
        ("hex", "zz", "'zz' is not pairs of hex digits"),
        ("hex", "0x50", "'0x50' is not pairs of hex digits"),
        ("hex2", "aa", "'aa' is 1 bytes, not 2"),
        ("hex2", "aabbcc", "'aabbcc' is 3 bytes, not 2"),
        ("str", r"\q", r"which is none of \n \r \t \0 \\ \xNN"),
    ],
)
def test_what_does_not_fit_a_field(form: str, word: str, message: str) -> None:
    """The message has the field, its type, its offset and the word."""
    answer = refusal(f"u16 {form}:name", "1", word)
    assert answer.startswith(f"field 2 'name' ({form} at offset 2): ")
    assert message in answer


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("u16 u24", "field 2: 'u24' is none of u8 u16"),
        ("u16 H", "field 2: 'H' is none of u8 u16"),
        ("H:port", "field 1: 'H' is none of u8 u16"),
        ("u16be", "'u16be' is no code"),
        ("u16be:x", "field 1: 'u16be' is none of u8 u16"),
        ("U16:x", "field 1: 'U16' is none of u8 u16"),
        ("u8:", "field 1: the name '' is no word"),
        ("u8:a u8:a", "field 2: the name 'a' is taken"),
        ("u8:2 u8", "field 1: the name '2' is no word"),
        ("u8:a:b", "field 1: the name 'a:b' is no word"),
        ("u8:caf\u00e9", "is no word of ASCII letters"),
        ("u8 str0", "field 2: 'str0' is none of"),
        ("u8 str08", "field 2: 'str08' is none of"),
        ("u8 u8\uff18", "field 2: 'u8\uff18' is none of"),
        ("u8 ip4", "field 2: 'ip4' is none of"),
        ("u16lele:x", "field 1: 'u16lele' is none of"),
        ("u8\u00a0u8", "is no code"),
    ],
)
def test_what_are_no_fields(form: str, message: str) -> None:
    """Unknown types are refused, and names that are invalid, used twice, or could be a position."""
    with pytest.raises(Invalid, match=re.escape(message)):
        parse(form, MOST)


@pytest.mark.parametrize("form", ["str u8", "hex:body u8", "str str", "u8 strle:a hex"])
def test_what_takes_the_rest_comes_last(form: str) -> None:
    """For unpacking, a string without a length has to be the last field; packing does not need this."""
    parse(form, MOST)
    with pytest.raises(Invalid, match=r"field [12] \((str|hex|strle)\) needs a length, as str8 has: more follow"):
        parse(form, MOST, reading=True)


# -- too few, too many, too large


@pytest.mark.parametrize(
    ("form", "words", "message"),
    [
        ("!HIB", ["1"], "field 2 (I at offset 2) has no value: 1 given, 3 wanted"),
        ("@bi", ["1"], "field 2 (i at offset 4) has no value: 1 given, 2 wanted"),
        ("u16 u32:seq", ["1"], "field 2 'seq' (u32 at offset 2) has no value: 1 given, 2 wanted"),
        ("str u8", ["hello"], "field 2 (u8 at offset 5) has no value: 1 given, 2 wanted"),
        ("3H", [], "field 1 (H at offset 0) has no value: 0 given, 3 wanted"),
        ("!HIB", ["1", "2", "3", "4"], "value 4 '4' has no field: the format has 3 and ends at offset 7"),
        ("4x", ["x" * 90], f"value 1 '{'x' * 40}...' has no field: the format has 0 and ends at offset 4"),
        ("0c", ["a"], "value 1 'a' has no field: the format has 0 and ends at offset 0"),
        ("HB", ["70000"], "field 1 (H at offset 0): 70000 is not between 0 and 65535"),
    ],
)
def test_too_few_and_too_many_values(form: str, words: list[str], message: str) -> None:
    """The message has the field without a value, or the value without a field."""
    assert refusal(form, *words) == message


def test_short_and_long_records() -> None:
    """A short record is PARTIAL, and the message has the field in which it ends; a long one is PROTOCOL."""
    short = {
        0: "field 1 (H at offset 1000): the record ended after 0 of 2 bytes",
        1: "field 1 (H at offset 1000): the record ended after 1 of 2 bytes",
        2: "field 2 (I at offset 1004): the record ended after 0 of 4 bytes",
        5: "field 2 (I at offset 1004): the record ended after 1 of 4 bytes",
        8: "padding at offset 1008: the record ended before its end",
        9: "padding at offset 1008: the record ended before its end",
    }
    for length, message in short.items():
        error = failure("H2xI2x", bytes(length), offset=1000)
        assert (error.exit, str(error)) == (Exit.PARTIAL, f"cannot unpack {message}")
    assert unpack("H2xI2x", bytes(10)) == [0, 0]
    error = failure("H2xI2x", bytes(11), offset=1000)
    assert (error.exit, str(error)) == (
        Exit.PROTOCOL,
        "cannot unpack a record of 10 bytes: more follow at offset 1010",
    )
    error = failure("u8:a u32:b str", b"\1\2\3")
    assert str(error) == "cannot unpack field 2 'b' (u32 at offset 1): the record ended after 2 of 4 bytes"


@pytest.mark.parametrize(
    "form",
    [
        *("999999999x", "4294967295s", "16777217x", "16777216xB", "18446744073709551616s", "9" * 100_000 + "x"),
        *("9223372036854775808b", "4611686018427387903b4611686018427387903H", "@8388608xq8388608x", "@16777213xi"),
        *("str16777217", "hex4294967295", "u8 str99999999999999999999", f"{MAX_VALUES + 1}B", "B" * (MAX_VALUES + 1)),
        "1048576x" * 17,
    ],
    ids=lambda form: form[:40],
)
def test_a_format_that_is_too_large(form: str) -> None:
    """A format beyond the limits of bytes or values is refused by its size, without using memory."""
    for reading in (False, True):
        with pytest.raises(Failure) as refused:
            parse(form, MOST, reading=reading)
        assert refused.value.exit is Exit.TOO_BIG
        assert len(str(refused.value)) < 200


def test_a_format_as_large_as_may_be() -> None:
    """Formats exactly at the limits are accepted."""
    assert parse("16777216x", MOST).size == MOST
    assert parse("@16777212xi", MOST).size == MOST
    assert parse("str16777216", MOST).size == MOST
    assert len(parse("B" * MAX_VALUES, MOST).fields) == MAX_VALUES
    assert len(parse(f"{MAX_VALUES}B", MOST).fields) == MAX_VALUES


def test_a_record_that_is_too_long() -> None:
    """Fields without a size may not make a record too long either."""
    form = parse("u8 str str", 4)
    assert form.pack(["1", "a", "bc"]) == b"\1abc"
    with pytest.raises(Failure, match=r"^cannot pack a record: it is more than 4 bytes \(--max-size\)$") as refused:
        form.pack(["1", "a", "bcd"])
    assert refused.value.exit is Exit.TOO_BIG


# -- packing and unpacking, in any chunks

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **{f"u{bits}": st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64)},
    **{f"i{bits}": st.integers(-1 << bits - 1, (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
    "f32": st.floats(width=32, allow_nan=False),
    "f64": st.floats(allow_nan=False),
    "ip": st.ip_addresses(v=4).map(str),
    "ip6": st.ip_addresses(v=6).map(lambda address: spelled(unpack("ip6", address.packed)[0])),
    "mac": st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":")),
    "str5": st.binary(max_size=5).map(lambda data: data.rstrip(b"\0").decode("utf-8", "surrogateescape")),
    "hex3": st.binary(min_size=3, max_size=3).map(bytes.hex),
    "str": st.binary(max_size=9).map(lambda data: data.decode("utf-8", "surrogateescape")),
    "hex": st.binary(max_size=9).map(bytes.hex),
}


@st.composite
def field_cases(draw: st.DrawFn) -> tuple[str, list[str], list[Any]]:
    """Return fields, with words for them and their values; the last field may have no length."""
    kinds = draw(
        st.lists(st.sampled_from([kind for kind in FIELDS if kind not in ("str", "hex")]), min_size=1, max_size=6)
    )
    kinds += draw(st.lists(st.sampled_from(["str", "hex"]), max_size=1))
    values = [draw(FIELDS[kind]) for kind in kinds]
    spelling = [
        kind + draw(st.sampled_from(["", "le"])) + draw(st.sampled_from(["", f":f{n}"])) for n, kind in enumerate(kinds)
    ]
    return " ".join(spelling), [spelled(value) for value in values], values


@given(
    struct_cases() | field_cases(),
    st.lists(st.integers(0, 60), max_size=8) | st.just(list(range(1000))),
    st.sampled_from(["u8", "u16", "u32", "u8le", "u16le", "u32le"]),
    st.integers(1, 3),
)
def test_what_was_packed_is_unpacked(
    case: tuple[str, list[str], list[Any]], places: list[int], length: str, times: int
) -> None:
    """Records unpack to what was packed, in every format and byte order, framed or not, however they are split."""
    form, words, values = case
    layout = parse(form, MOST, reading=True)
    record, prefix = layout.pack(words), parse_prefix(length)
    framed = frames(Source(cut(prefix.frame(record) * times, places)), prefix, MOST, repeat=True)
    assert [layout.unpack(data, offset) for offset, data in framed] == [values] * times
    if layout.size:
        plain = records(Source(cut(record * times, places)), layout.size, MOST, repeat=True)
        assert [(offset, layout.unpack(data, offset)) for offset, data in plain] == [
            (number * len(record), values) for number in range(times)
        ]
    else:
        [(_, data)] = records(Source(cut(record, places)), layout.size, MOST, repeat=False)
        assert layout.unpack(data) == values


@given(
    st.text() | st.text("0123456789@=<>! xcbB?hHiIlLqQnNefdspPu16leipmacstrhex:_"),
    st.lists(st.text(max_size=5), max_size=4),
)
def test_any_format_and_any_words(form: str, words: list[str]) -> None:
    """Any format and words are refused in one line, or give bytes that unpack to the same values."""
    try:
        layout = parse(form, MOST)
        data = layout.pack(words)
    except (Invalid, Failure) as error:
        assert "\n" not in str(error)
        return
    try:
        parse(form, MOST, reading=True)
    except Invalid:
        return
    assert layout.pack([spelled(value) for value in layout.unpack(data)]) == data


@given(struct_cases() | field_cases(), st.binary(max_size=40))
def test_any_bytes(case: tuple[str, list[str], list[Any]], data: bytes) -> None:
    """Any bytes unpack to printable values, or are PARTIAL or PROTOCOL."""
    layout = parse(case[0], MOST, reading=True)
    try:
        values = layout.unpack(data)
    except Failure as error:
        assert error.exit in (Exit.PARTIAL, Exit.PROTOCOL)
        return
    for value in values:
        assert spelled(value).isprintable()
        plain(value)
