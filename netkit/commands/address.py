"""Look: explain an address"""

import click

from netkit.cli import habits, options, run
from netkit.cli.command import ADDRESSES, command


@command(
    words="WORD...",
    habits=habits.HABITS,
    examples=[
        ("netkit address 10.1.2.3/8", "a network: range, mask and size"),
        ("netkit address fe80::1%eth0", "an address in every form"),
        ("netkit address 0177.1", "what a legacy spelling means"),
    ],
)
@click.argument("words", nargs=-1)
@ADDRESSES.option("--endpoint", help="Accept only HOST:PORT, and exit with 2 for anything else.")
@options.json_option
def address(words: tuple[str, ...], endpoint: bool, json: bool) -> int:
    """Explain an address or a network: its canonical form, octets, kind and range.

    WORD is an address, a network such as 10.0.0.0/8, a name, HOST:PORT, unix:PATH or tls:ADDRESS. Each WORD is
    explained on its own. A name that is not ASCII is shown as its A-label. netkit looks up no names. Legacy spellings
    of IPv4 addresses, which other commands refuse, are explained.

    Exit code 2 means that a WORD is not well formed, or with --endpoint that it is not a host and a port.
    """
    from netkit.core.errors import Invalid
    from netkit.output.jsonl import record
    from netkit.services.address import explain, explain_endpoint, fields

    if not words:
        raise Invalid("a word is missing: an address, a network or HOST:PORT")
    found = [(word, explain_endpoint(word) if endpoint else explain(word)) for word in words]
    if json:
        return run.answer("\n".join(record("address", "address", target=word, **fields(rows)) for word, rows in found))
    return run.answer_rows([(word, *row) if len(words) > 1 else row for word, rows in found for row in rows])
