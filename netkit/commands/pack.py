"""Bytes: turn values into bytes"""

from typing import TYPE_CHECKING

import click

from netkit.cli import options, run
from netkit.cli.command import DATA, command
from netkit.cli.rules import excluded, needs
from netkit.cli.types import PREFIX
from netkit.output.console import Verbosity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netkit.services.pack.framing import Prefix


@command(
    words="[FORMAT VALUE...]",
    rules=[
        excluded("--hex", "--length", "--lines", by="--show", why="--show shows one number"),
        excluded("--lines", by=options.FORMAT, why="the values of FORMAT are the record"),
        needs("--lines", on="--length"),
    ],
    examples=[
        ("netkit pack '!HIB' 80 1 255 | netkit connect host 9000", "send a header"),
        ("netkit pack --hex 'u16:port u32le:seq ip str' 80 7 10.0.0.1 hi", "show the bytes"),
        ("netkit pack --length u16 --lines < words", "put its length before each line"),
    ],
)
@click.argument("form", required=False)
@click.argument("values", nargs=-1)
@DATA.option("--hex", "in_hex", help="Write hex, one line per record.")
@DATA.option("--show", help="Show one number in native, little- and big-endian order.")
@DATA.option("--length", type=PREFIX, help="Write the length of each record before it.")
@DATA.option("--lines", help="With --length, take each line of stdin as a record.")
@options.max_size_option
@options.quiet_option
def pack(
    form: str | None,
    values: tuple[str, ...],
    in_hex: bool,
    show: bool,
    length: "Prefix | None",
    lines: bool,
    max_size: int,
    quiet: bool,
) -> int:
    """Turn values into bytes.

    FORMAT says what each VALUE becomes. It is typed fields, 'u16:port u32le:seq ip', or a struct format, '!HIB', in
    network order unless it begins with another mark. If a value does not fit its field, is missing or is left over, the
    exit code is 2, the message names the field and its offset, and nothing is written.

    Whole numbers are decimal, or hex after 0x. Strings are TEXT; if one begins with a hyphen, write \\x2d for it.

    With --length each record begins with its length. Without a FORMAT the record is all of stdin, or with --lines each
    line is a record. On a terminal, bytes are shown as a hex dump.
    """
    from netkit.core.errors import Invalid
    from netkit.output import records
    from netkit.services.pack import formats, framing

    talk = Verbosity(quiet=quiet)
    if form is not None:

        def packed(_: "Iterable[bytes]") -> "Iterable[bytes]":
            if show:
                return [records.orders(form, values, max_size).encode()]
            record = formats.parse(form, max_size).pack(values)
            return records.octets([length.frame(record) if length else record], in_hex=in_hex)

        return run.filtered(packed, talk, b"")
    if length is None:
        raise Invalid("FORMAT is missing, such as '!HIB' or 'u16:port ip'")
    frame = framing.lines if lines else framing.whole
    return run.filtered(lambda chunks: records.octets(frame(chunks, length, max_size), in_hex=in_hex), talk)
