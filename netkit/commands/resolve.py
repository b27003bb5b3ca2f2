"""Look: addresses of a name"""

import click

from netkit.cli import client as client_module
from netkit.cli import habits, options
from netkit.cli.command import DATA, command
from netkit.cli.rules import Case, excluded, needs, one_of
from netkit.cli.types import word
from netkit.output.console import View


@command(
    words="[NAME...]",
    habits={
        **habits.HABITS,
        "-t": "--type MX asks DNS for that type of record",
        "-x": "an address is looked up in reverse anyway",
        "-p": "the port is part of the server's address: --server HOST:PORT",
    },
    rules=[
        one_of("-4", "-6"),
        one_of("--canonical", "--service", "--type"),
        excluded("-4", "-6", by="--type", why="--type says which addresses"),
        excluded("--service", by="--server", why="a DNS server knows no services"),
        needs(
            *("--canonical", "--service", "--type", "--server"),
            on=Case("NAME", lambda values: values["words"]),
            why="it is about a NAME",
        ),
        needs("--tls", on="--server", why="without --server nothing is secured"),
        one_of("--quiet", "--color"),
        one_of("--json", "--color"),
    ],
    examples=[
        ("netkit resolve example.org", "the addresses that connect would try, in its order"),
        ("netkit resolve example.org --type MX --server tls:9.9.9.9", "ask a DNS server, over TLS"),
        ("netkit resolve - < names", "many names, one per line"),
    ],
)
@click.argument("words", nargs=-1)
@options.version_options
@DATA.option("--canonical", help="Show the canonical name instead.")
@DATA.option("--service", type=word("NAME"), help="Show addresses with the port of this service.")
@DATA.option(
    "--type", "kind", type=word("TYPE"), help="Ask DNS for records of this type: A, AAAA, MX, TXT, NS, SOA, SRV..."
)
@DATA.option("--server", type=word("ADDRESS"), help="Ask this DNS server (default port: 53, or 853 with TLS).")
@options.tls_options
@options.connect_timeout_option("each name")
@options.timeout_option
@options.view_options
@options.verbosity_options
@client_module.client_options
def resolve(
    client: client_module.ClientOptions,
    words: tuple[str, ...],
    canonical: bool,
    service: str | None,
    kind: str | None,
    server: str | None,
    view: View,
) -> int:
    """Show the addresses of a name, in the order in which connect would try them.

    netkit asks the system's resolver, with its hosts file and its search list; --type and --server ask DNS itself, and
    --type with the search list, unless there is a --server or the name ends with a dot. With --type a name need be no
    host's: *.example.org and _sip._tcp.example.org are asked for as they stand. A record that cannot be read is shown
    as RFC 3597 writes it.

    For an address netkit looks up the name. With several names each line begins with the name and a tab. A NAME of -
    reads names from standard input, one per line. Without a NAME it shows this machine: hostname, fqdn and addresses.

    With tls: before the server, or --tls, netkit asks over TLS (RFC 7858). The certificate must be for the server as it
    is written, or for --servername; otherwise nothing is asked.

    Exit code 6 means that a name was not found or a resolver failed, and the message says which; 28 that no answer came
    in time; 60 that the server's certificate is not acceptable, and 35 that the handshake failed. The other names are
    looked up all the same.
    """
    from netkit.core.address import Endpoint
    from netkit.output.resolve import write
    from netkit.services.resolve import parse_query

    query = parse_query(words, kind, service, server, tls=client.tls.tls)
    query = query._replace(family=client.family.family(), timeout=client.connect_timeout, canonical=canonical)
    client.set_address(query.server or Endpoint())

    async def work() -> int:
        return await write(words, query._replace(layers=client.dialling().layers), view, client.verbosity)

    return client.run(work())
