"""Formats of records, which pack values into bytes and unpack them: a ``struct`` format, or typed and named fields."""

import functools
import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from netkit.core.errors import Exit, Failure, Invalid
from netkit.services import text

Value = int | float | bool | bytes | str

MAX_VALUES = 65536  # of one record, so that a large repeat count cannot use up the memory
_TYPES = "u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 ip ip6 mac str hex"
_NUMBERS = dict(zip(_TYPES.split(), "BHIQbhiqfd", strict=False))  # codes of struct for the first of these
_FIELD = re.compile(
    r"(?P<type>[ui](?:8|16|32|64)|f(?:32|64)|ip6?|mac|str|hex)(?P<size>(?<=str|hex)[1-9][0-9]*)?(?P<le>le)?"
    r"(?P<named>:(?P<name>.*))?"
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_MARKS = "@=<>!"
_SPACE = " \t\n\r\f\v"
_ITEM = re.compile(rf"[{_SPACE}]*([0-9]*)([xcbB?hHiIlLqQnNefdspP])")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*|0[xX][0-9A-Fa-f]+)")
_FLOAT = re.compile(r"-?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|nan)")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}")
_BOOLEANS = {"0": b"\0", "1": b"\1", "false": b"\0", "true": b"\1"}
_SHORT = 40  # characters of a word that are quoted in a message


class Codec(NamedTuple):
    """Encodes a value as ``size`` bytes (None: any number), and decodes it. Both raise Invalid with the reason.

    ``code`` is byte order and code of a number in the struct module, "" for other types.
    """

    size: int | None
    encode: Callable[[str], bytes]
    decode: Callable[[bytes], Value]
    code: str = ""


class Field(NamedTuple):
    """A field of a format; ``number`` counts from 1. ``start`` is its offset in a record, after ``padding`` bytes."""

    number: int
    name: str | None
    kind: str
    padding: int
    start: int
    codec: Codec

    @property
    def key(self) -> str:
        return self.name or str(self.number)

    def at(self, offset: int) -> str:
        """How messages call the field."""
        name = f" {_short(self.name)}" if self.name else ""
        return f"field {self.number}{name} ({self.kind} at offset {offset})"


class Format:
    """Fields in order, and ``padding`` bytes after the last, for records of at most ``max_size`` bytes.

    To unpack, only the last field may have no size: it takes the rest. ``numbers`` unpacks a whole record in one call,
    if all fields are numbers with the same byte order; else None.
    """

    def __init__(self, fields: Sequence[Field], padding: int, max_size: int) -> None:
        self.fields = fields
        self.padding = padding
        self.max_size = max_size
        last = fields[-1] if fields else None
        self.min_size = (last.start + (last.codec.size or 0) if last else 0) + padding
        self.size = None if last and last.codec.size is None else self.min_size
        self.numbers = _compiled(fields, padding)

    def pack(self, values: Sequence[str]) -> bytes:
        """Encode values, given as typed. Raises Invalid for one that does not fit, and for too few or too many.

        Raises Failure TOO_BIG if the fields without a size make the record too long.
        """
        packed = bytearray()
        for field in self.fields:
            packed += bytes(field.padding)
            if field.number > len(values):
                raise Invalid(f"{field.at(len(packed))} has no value: {len(values)} given, {len(self.fields)} wanted")
            try:
                packed += field.codec.encode(values[field.number - 1])
            except Invalid as error:
                raise Invalid(f"{field.at(len(packed))}: {error}") from error
        packed += bytes(self.padding)
        if len(values) > len(self.fields):
            extra = f"value {len(self.fields) + 1} {_short(values[len(self.fields)])}"
            raise Invalid(f"{extra} has no field: the format has {len(self.fields)} and ends at offset {len(packed)}")
        if len(packed) > self.max_size:
            raise Failure(Exit.TOO_BIG, "pack a record", f"it is more than {self.max_size} bytes", detail="--max-size")
        return bytes(packed)

    def unpack(self, data: bytes, offset: int = 0) -> list[Value]:
        """Decode one record; ``offset`` is its place in the input, for messages.

        Raises Failure: PARTIAL for too few bytes, PROTOCOL for too many or for a field that contradicts itself.
        """
        if len(data) != self.size and (self.size is not None or len(data) < self.min_size):
            raise self._misfit(len(data), offset)
        if self.numbers is not None:
            return list(self.numbers.unpack(data))
        values = []
        for field in self.fields:
            start, size = field.start, field.codec.size
            try:
                values.append(field.codec.decode(data[start:] if size is None else data[start : start + size]))
            except Invalid as error:
                raise Failure(Exit.PROTOCOL, f"unpack {field.at(offset + start)}", str(error)) from error
        return values

    def _misfit(self, length: int, offset: int) -> Failure:
        if length > self.min_size:
            more = f"more follow at offset {offset + self.min_size}"
            return Failure(Exit.PROTOCOL, f"unpack a record of {self.min_size} bytes", more)
        for field in self.fields:
            size = field.codec.size or 0
            if field.start + size > length:
                came = f"the record ended after {max(0, length - field.start)} of {size} bytes"
                return Failure(Exit.PARTIAL, f"unpack {field.at(offset + field.start)}", came)
        padding = f"padding at offset {offset + self.min_size - self.padding}"
        return Failure(Exit.PARTIAL, f"unpack {padding}", "the record ended before its end")


def _compiled(fields: Sequence[Field], padding: int) -> struct.Struct | None:
    codes = [field.codec.code for field in fields]
    orders = {field.codec.code[:1] for field in fields if field.codec.size != 1} or {">"}
    if not fields or not all(codes) or len(orders) > 1:
        return None
    codes = [f"{field.padding}x{field.codec.code[1]}" for field in fields]
    return struct.Struct("".join([*orders, *codes, f"{padding}x"]))


def parse(form: str, max_size: int, *, reading: bool = False) -> Format:
    """Parse a format for records of at most ``max_size`` bytes.

    It has typed fields if one of its words is such a field and it does not begin with a byte-order mark; otherwise it
    is a struct format. For ``reading``, only the last field may have no size. Raises Invalid, or Failure TOO_BIG before
    memory is allocated.
    """
    words = re.findall(rf"[^{_SPACE}]+", form)
    if not words:
        raise Invalid("the format is empty")
    layout = _Layout(form, max_size)
    if words[0][0] not in _MARKS and any(":" in word or _FIELD.fullmatch(word) for word in words):
        _lay_fields(layout, words)
    else:
        _lay_struct(layout, form)
    if reading:
        for field in layout.fields[:-1]:
            if field.codec.size is None:
                raise Invalid(f"field {field.number} ({field.kind}) needs a length, as str8 has: more follow")
    return Format(layout.fields, layout.padding, max_size)


def _short(word: str) -> str:
    return repr(_cut(word))


def _cut(word: str) -> str:
    return word if len(word) <= _SHORT else word[:_SHORT] + "..."


class _Layout:
    """Collects the fields of a format. Raises Failure TOO_BIG if a record would have too many bytes or values."""

    def __init__(self, form: str, max_size: int) -> None:
        self.fields: list[Field] = []
        self.padding = 0
        self._form = form
        self._max_size = max_size
        self._end = 0

    def pad(self, size: int) -> None:
        self.padding += size
        self._grow(size)

    def align(self, alignment: int) -> None:
        self.pad(-self._end % alignment)

    def add(self, kind: str, codec: Codec, count: int = 1, name: str | None = None) -> None:
        start = self._end
        self._grow((codec.size or 0) * count)
        if len(self.fields) + count > MAX_VALUES:
            raise self._too_big(f"it has more than {MAX_VALUES} values", hint="--repeat reads any number of records")
        for place in range(count):
            at = start + (codec.size or 0) * place
            self.fields.append(Field(len(self.fields) + 1, name, kind, self.padding, at, codec))
            self.padding = 0

    def _grow(self, size: int) -> None:
        self._end += size
        if self._end > self._max_size:
            raise self._too_big(f"it takes more than {self._max_size} bytes", detail="--max-size")

    def _too_big(self, reason: str, *, detail: str = "", hint: str = "") -> Failure:
        return Failure(Exit.TOO_BIG, f"use format {_short(self._form)}", reason, detail=detail, hint=hint)


def _lay_fields(layout: _Layout, words: Sequence[str]) -> None:
    names = set()
    for number, word in enumerate(words, 1):
        match = _FIELD.fullmatch(word)
        if not match:
            raise Invalid(f"field {number}: {_short(word.partition(':')[0])} is none of {_TYPES}, nor these with le")
        name = match["name"]
        if match["named"] and not _NAME.fullmatch(name):
            raise Invalid(f"field {number}: the name {_short(name)} is no word of ASCII letters, digits, _, - and .")
        if name and name in names:
            raise Invalid(f"field {number}: the name {_short(name)} is taken")
        names.add(name)
        size = _count(match["size"]) if match["size"] else None
        codec = _typed(match["type"], size, little=bool(match["le"]))
        layout.add(word.partition(":")[0], codec, name=name)


def _lay_struct(layout: _Layout, form: str) -> None:
    mark = form[0] if form[0] in _MARKS else ""
    place, end = len(mark), len(form.rstrip(_SPACE))
    while place < end:
        item = _ITEM.match(form, place, end)
        if not item:
            neither = "no struct format" if mark else f"neither fields of {_TYPES} nor a struct format"
            raise Invalid(f"format {_short(form)} is {neither}: {_short(form[place:end].lstrip(_SPACE))} is no code")
        place = item.end()
        digits, code = item.groups()
        count = _count(digits) if digits else 1
        if code == "x":
            layout.pad(count)
        elif code in "sp":
            layout.add(digits + code, _string(count) if code == "s" else _pascal(count))
        elif code in "c?":
            layout.add(code, _CHARACTER if code == "c" else _BOOLEAN, count)
        elif code in "nNP" and mark != "@":
            raise Invalid(f"format {_short(form)}: {code!r} is native alone, begin with @")
        else:
            if mark == "@":
                layout.align(struct.calcsize(f"@x{code}") - struct.calcsize(f"@{code}"))
            layout.add(code, _number((mark or ">") + code), count)


def _count(digits: str) -> int:
    return int(digits) if len(digits) < 20 else 10**20  # more than any limit; int() raises for thousands of digits


@functools.cache
def _typed(kind: str, size: int | None, *, little: bool) -> Codec:
    if kind in _NUMBERS:
        return _number(("<" if little else ">") + _NUMBERS[kind])
    if kind == "str":
        codec = _text(size)
    elif kind == "hex":
        codec = _hex(size)
    else:
        codec = _ADDRESSES[kind]
    if not little:
        return codec
    return Codec(codec.size, lambda word: codec.encode(word)[::-1], lambda data: codec.decode(data[::-1]))


@functools.cache
def _number(code: str) -> Codec:
    """A number, by byte order and code of struct, such as ``>H``."""
    layout = struct.Struct(code)
    encode = _float(layout) if code[1] in "efd" else _integer(layout, signed=code[1].islower())
    return Codec(layout.size, encode, lambda data: layout.unpack(data)[0], code)


def _integer(layout: struct.Struct, *, signed: bool) -> Callable[[str], bytes]:
    bits = 8 * layout.size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def encode(word: str) -> bytes:
        if not _INTEGER.fullmatch(word):
            raise Invalid(f"{_short(word)} is not a whole number, such as 80, -1 or 0x50")
        number = int(word, 16 if "x" in word.lower() else 10) if len(word) <= _SHORT else high + 1
        if not low <= number <= high:
            raise Invalid(f"{_cut(word)} is not between {low} and {high}")
        return layout.pack(number)

    return encode


def _float(layout: struct.Struct) -> Callable[[str], bytes]:
    def encode(word: str) -> bytes:
        if not _FLOAT.fullmatch(word):
            raise Invalid(f"{_short(word)} is not a number, such as 1.5, -2, 1e9, inf or nan")
        number = float(word)
        try:
            if math.isinf(number) and "inf" not in word:
                raise OverflowError
            return layout.pack(number)
        except OverflowError:
            raise Invalid(f"{_cut(word)} is beyond what {layout.size} bytes hold") from None

    return encode


def _encode_boolean(word: str) -> bytes:
    if word not in _BOOLEANS:
        raise Invalid(f"{_short(word)} is none of true, false, 1 and 0")
    return _BOOLEANS[word]


def _encode_character(word: str) -> bytes:
    data = text.parse(word)
    if len(data) != 1:
        raise Invalid(f"{_short(word)} is {len(data)} bytes, not 1")
    return data


def _at_most(size: int, word: str) -> bytes:
    data = text.parse(word)
    if len(data) > size:
        raise Invalid(f"{_short(word)} is {len(data)} bytes, more than {size}")
    return data


def _string(size: int) -> Codec:
    """Bytes, padded with NULs, which are not removed by decoding, as in struct."""
    return Codec(size, lambda word: _at_most(size, word).ljust(size, b"\0"), bytes)


def _pascal(size: int) -> Codec:
    """A Pascal string: a length byte, and as many bytes, padded with NULs. If ``size`` is 0 it is always empty."""
    room = min(max(size - 1, 0), 255)

    def encode(word: str) -> bytes:
        data = _at_most(room, word)
        return (bytes([len(data)]) + data).ljust(size, b"\0")[:size]

    def decode(data: bytes) -> bytes:
        length = data[0] if data else 0
        if length > room:
            raise Invalid(f"it says that it has {length} bytes, and has room for {room}")
        return data[1 : 1 + length]

    return Codec(size, encode, decode)


def _text(size: int | None) -> Codec:
    """UTF-8 text. If it has a size it is padded with NULs, which decoding removes."""
    if size is None:
        return Codec(None, text.parse, lambda data: data.decode("utf-8", "surrogateescape"))
    return Codec(size, _string(size).encode, lambda data: data.rstrip(b"\0").decode("utf-8", "surrogateescape"))


def _hex(size: int | None) -> Codec:
    def encode(word: str) -> bytes:
        try:
            data = bytes.fromhex(word)
        except ValueError:
            raise Invalid(f"{_short(word)} is not pairs of hex digits") from None
        if size is not None and len(data) != size:
            raise Invalid(f"{_short(word)} is {len(data)} bytes, not {size}")
        return data

    return Codec(size, encode, bytes.hex)


def _encode_ip(family: str, meaning: str, word: str) -> bytes:
    import socket

    try:
        return socket.inet_pton(getattr(socket, family), word)
    except (OSError, ValueError):
        raise Invalid(f"{_short(word)} is not {meaning}") from None


def _decode_ip6(data: bytes) -> str:
    from socket import AF_INET6, inet_ntop

    return inet_ntop(AF_INET6, data)


def _encode_mac(word: str) -> bytes:
    if not _MAC.fullmatch(word):
        raise Invalid(f"{_short(word)} is not a MAC address, such as 02:00:5e:10:00:01")
    return bytes.fromhex(word.replace(word[2], ""))


_CHARACTER = Codec(1, _encode_character, bytes)
_BOOLEAN = Codec(1, _encode_boolean, lambda data: data != b"\0")
_IPV4 = "AF_INET", "an IPv4 address, such as 192.0.2.1 (ip6 is IPv6)"
_IPV6 = "AF_INET6", "an IPv6 address, such as 2001:db8::1"
_ADDRESSES = {
    "ip": Codec(4, functools.partial(_encode_ip, *_IPV4), lambda data: ".".join(map(str, data))),
    "ip6": Codec(16, functools.partial(_encode_ip, *_IPV6), _decode_ip6),
    "mac": Codec(6, _encode_mac, lambda data: data.hex(":")),
}
