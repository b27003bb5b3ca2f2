"""Bytes, records and their values as output: raw for programs, readable on a terminal, or as JSON."""

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any

from netkit.core.errors import Exit, Failure, Invalid
from netkit.output import jsonl
from netkit.output.columns import aligned
from netkit.output.console import STDOUT, terminal_size
from netkit.output.hexdump import dump, width_in
from netkit.services import text
from netkit.services.pack.formats import Format, Value, parse

_NATIVE = "nNP"  # codes with native byte order only
_STRUCT = re.compile(r"[@=<>!]?([bBhHiIlLqQnNPefd])")
_FIELD = re.compile(r"([ui](?:8|16|32|64)|f(?:32|64))(?:le)?(?::.*)?")


def octets(pieces: Iterable[bytes], *, in_hex: bool = False) -> Iterator[bytes]:
    """Yield bytes as they are, on a terminal as a hex dump; or ``in_hex``, one line for each piece."""
    width = width_in(terminal_size(STDOUT).columns) if os.isatty(STDOUT) else 0
    offset = 0
    for data in pieces:
        if in_hex:
            yield f"{data.hex()}\n".encode()
        else:
            yield dump(data, offset, width).encode() if width else data
        offset += len(data)


def lines(records: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield records as lines, on a terminal with control bytes made visible. Raises Failure if one has a newline."""
    from netkit.services.transforms import visible

    change = visible() if os.isatty(STDOUT) else bytes
    for offset, data in records:
        if b"\n" in data:
            raise Failure(Exit.PROTOCOL, f"write the record at offset {offset} as a line", "there is a newline in it")
        yield change(data + b"\n")


def values(records: Iterable[tuple[int, bytes]], form: Format, *, json: bool) -> Iterator[bytes]:
    """Yield the values of each record as a line, separated by tabs, or as a JSON object."""
    for offset, data in records:
        found = form.unpack(data, offset)
        if json:
            named = {field.key: plain(value) for field, value in zip(form.fields, found, strict=True)}
            line = jsonl.record("record", "unpack", offset=offset, values=named)
        else:
            line = "\t".join(map(spelled, found))
        yield line.encode()
        yield b"\n"


def numbers(batches: Iterable[tuple[int, bytes]], form: Format, *, json: bool) -> Iterator[bytes]:
    """Yield what ``values`` does, faster, for batches of records of numbers only (``form.numbers``)."""
    assert form.numbers is not None
    line = "\t".join(["%r"] * len(form.fields)) + "\n"
    has_floats = any(field.codec.code[1] in "efd" for field in form.fields)
    for offset, data in batches:
        if len(data) < form.min_size:
            form.unpack(data, offset)  # raises
        rows = form.numbers.iter_unpack(data)
        if json:
            line = _object(form)
            found = (map(_number, row) for row in rows) if has_floats else rows
            text = "".join([line % (at, *row) for at, row in zip(count(offset, form.min_size), found, strict=False)])
        else:
            text = line * (len(data) // form.min_size) % tuple(chain.from_iterable(rows))
        yield text.encode()


def _object(form: Format) -> str:
    """The JSON line of a record at this time, with ``%s`` for its offset and its values."""
    line = jsonl.record("record", "unpack", offset=0, values=dict.fromkeys((field.key for field in form.fields), 0))
    return line.replace("%", "%%").replace(": 0", ": %s") + "\n"


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else f'"{value!r}"'


def spelled(value: Value) -> str:
    """A value as one would type it: printable, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return text.spell(value.encode("utf-8", "surrogateescape"))
    return text.spell(value) if isinstance(value, bytes) else repr(value)


def plain(value: Value) -> Any:
    """A value for JSON: bytes, and text that is not UTF-8, as ``octets``; inf and nan as strings."""
    if isinstance(value, str):
        fields = jsonl.octets(value.encode("utf-8", "surrogateescape"))
        return fields.get("text", fields)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return jsonl.octets(value) if isinstance(value, bytes) else value


def orders(form: str, words: Sequence[str], most: int) -> str:
    """A table: a number in decimal and hex, and its bytes in each order, in hex and as Python literals."""
    if code := _STRUCT.fullmatch(form):
        spellings = {"native": f"@{code[1]}", "little": f"<{code[1]}", "big": f">{code[1]}"}
        if code[1] in _NATIVE:
            spellings = {"native": form}
    elif field := _FIELD.fullmatch(form):
        little, big = f"{field[1]}le", field[1]
        spellings = {"native": little if sys.byteorder == "little" else big, "little": little, "big": big}
    else:
        raise Invalid(f"--show takes the format of one number, such as i or u32, not {form[:40]!r}")
    parse(form, most).pack(words)  # raises for a mistake, and names the format as typed
    packed = {order: parse(spelling, most).pack(words) for order, spelling in spellings.items()}
    [number] = parse(spellings["native"], most).unpack(packed["native"])
    in_hex = hex(number) if isinstance(number, int) else "0x" + packed["big"].hex()
    lines = [f"{spelled(number)} = {in_hex}", f"native is {sys.byteorder}-endian here, the network is big-endian", ""]
    lines += map("  ".join, aligned([(order, data.hex(" "), repr(data)) for order, data in packed.items()]))
    return "\n".join(lines) + "\n"
