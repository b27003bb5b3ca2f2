"""Bytes: turn bytes into values"""

from typing import TYPE_CHECKING

import click

from netkit.cli import options, run
from netkit.cli.command import DATA, command
from netkit.cli.rules import Case, excluded, needs, one_of
from netkit.cli.types import OCTETS, PREFIX
from netkit.output.console import Verbosity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from netkit.services.pack.framing import Prefix


_WITHOUT_FORMAT = Case(
    "--length without FORMAT", lambda values: values["form"] is None and values["length"] is not None
)


@command(
    words="[FORMAT [HEX...]]",
    rules=[
        one_of("--quiet", "--json"),
        excluded("--lines", by=options.FORMAT, why="with a FORMAT each record is a line"),
        needs("--lines", on="--length"),
        excluded("--json", by=_WITHOUT_FORMAT, why="without a FORMAT there are no values"),
    ],
    examples=[
        ("netkit connect time.example.org 37 | netkit unpack u32", "seconds since 1900"),
        ("netkit unpack 'u16:port ip:host' 0050 7f000001", "values, with tabs between them"),
        ("netkit listen 9000 | netkit unpack --repeat --length u16 str", "a line for each record"),
    ],
)
@click.argument("form", required=False)
@click.argument("octets", nargs=-1, type=OCTETS)
@DATA.option("--repeat", help="Read any number of records, each as it comes.")
@DATA.option("--length", type=PREFIX, help="Read the length of each record before it.")
@DATA.option("--lines", help="With --length and no FORMAT, write each record as a line.")
@options.max_size_option
@DATA.option("--json", help="Write records and failures as JSON Lines.")
@options.quiet_option
def unpack(
    form: str | None,
    octets: tuple[bytes, ...],
    repeat: bool,
    length: "Prefix | None",
    lines: bool,
    max_size: int,
    json: bool,
    quiet: bool,
) -> int:
    """Turn bytes into values.

    The bytes come from stdin or from HEX, which may also be what netkit pack --show prints, such as b'\\x00P'. FORMAT
    is that of netkit pack; a str or a hex without a length takes the rest, and must be last. Each record becomes a line
    of values, separated by tabs, in the form that netkit pack reads: strings are TEXT. With --json each record becomes
    an object, with the values by name, or by position, counted from 1.

    The bytes are one record. If they end within it the exit code is 18, if more follow it is 8, and nothing is written.
    With --repeat there may be any number of records, each written when it is complete.

    With --length a length before each record says how long it is, and FORMAT must fit it. Without a FORMAT the records
    themselves are written, on a terminal as a hex dump. A length above --max-size is exit code 63.
    """
    from netkit.core.errors import Invalid

    if form is None and length is None:
        raise Invalid("FORMAT is missing, such as '!HIB' or 'u16:port ip'")

    def change(chunks: "Iterable[bytes]") -> "Iterator[bytes]":
        from netkit.output import records as records_module
        from netkit.services.pack import formats, framing

        layout = None if form is None else formats.parse(form, max_size, reading=True)
        source = framing.Source(chunks)
        if layout is not None and layout.numbers is not None and repeat and length is None:
            return records_module.numbers(framing.batches(source, layout.min_size), layout, json=json)
        if length is not None:
            records = framing.frames(source, length, max_size, repeat=repeat or lines)
        else:
            records = framing.records(source, layout.size if layout else None, max_size, repeat=repeat)
        if layout is not None:
            return records_module.values(records, layout, json=json)
        return records_module.lines(records) if lines else records_module.octets(data for _, data in records)

    return run.filtered(change, Verbosity(quiet=quiet, json=json), b"".join(octets) if octets else None)
