"""Look: look up names"""

import click

from netkit.cli import client as client_module
from netkit.cli import habits, options
from netkit.cli.command import DATA, TIME, command, gathered
from netkit.cli.rules import Case, excluded, needs, one_of
from netkit.cli.types import DURATION_OR_ZERO, word
from netkit.output.console import View


@command(
    words="[NAME...]",
    habits={
        **habits.HABITS,
        **habits.TLS_HABITS,
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
            *("--canonical", "--service", "--type", "--server", "--expect", "--wait"),
            on=Case("NAME", lambda values: values["words"]),
            why="it is about a NAME",
        ),
        needs(
            "--interval",
            on=Case("--wait", lambda values: values["wait"]),  # with 0 there is one look-up, too
            why="there is one look-up without --wait",
        ),
        one_of("--quiet", "--color"),
        one_of("--json", "--color"),
    ],
    examples=[
        ("netkit resolve example.org", "show addresses, in the order connect tries them"),
        ("netkit resolve example.org --type MX --server tls:9.9.9.9", "ask a DNS server, over TLS"),
        ("netkit resolve db --expect 10.0.0.5 --wait 60s", "wait until a name has an address"),
    ],
)
@click.argument("words", nargs=-1)
@options.version_options
@DATA.option("--canonical", help="Show the canonical name instead.")
@DATA.option("--service", type=word("NAME"), help="Show addresses with the port of this service.")
@DATA.option(
    "--type", "kind", type=word("TYPE"), help="Ask DNS for records of this type: A, AAAA, MX, TXT, NS, SOA, SRV..."
)
@DATA.option(
    "--server", type=word("ADDRESS"), help="Ask this DNS server, or this https URL (default port: 53, or 853 with TLS)."
)
@DATA.option(
    "--expect", type=word("VALUE"), multiple=True, help="Exit with 8 if VALUE is not among the answers; repeatable."
)
@options.question_tls_options
@options.connect_timeout_option("each look-up")
@TIME.option(
    "--wait", type=DURATION_OR_ZERO, help="Look up again until the answer is as expected; exit with 28 after D."
)
@TIME.option("--interval", type=DURATION_OR_ZERO, help="Time between two look-ups of --wait, at least 10ms.")
@options.timeout_option
@gathered("view", View, options.color_option)
@options.verbosity_options
@client_module.client_options
def resolve(
    client: client_module.ClientOptions,
    words: tuple[str, ...],
    canonical: bool,
    service: str | None,
    kind: str | None,
    server: str | None,
    expect: tuple[str, ...],
    interval: float | None,
    view: View,
) -> int:
    """Show the addresses of a name, in the order in which connect would try them.

    For an address netkit looks up the name. With several names each line begins with the name and a tab. A NAME of -
    reads names from standard input, one per line. Without a NAME netkit shows host name, fully qualified name and
    addresses of this machine.

    netkit asks the system's resolver, which uses the hosts file and the search list. With --type or --server it asks
    DNS directly. --type uses the search list, unless there is a --server or the name ends with a dot. With --type names
    that no host can have are allowed, such as *.example.org and _sip._tcp.example.org. A record that cannot be parsed
    is shown in the form of RFC 3597.

    With tls: before the server, or --tls, netkit asks over TLS (RFC 7858). With an https URL, such as
    https://HOST/dns-query, it asks over HTTPS (RFC 8484, by HTTP/1.1). The certificate must be valid for the server as
    you wrote it, or for --servername; otherwise netkit sends no question.

    With --expect each VALUE must be among the answers for each NAME. Addresses are compared as addresses, names and
    records as DNS compares them. The strings of a TXT record are joined, and need no quotation marks. With --wait
    netkit looks up each name until this is so or, without --expect, until there is an answer. Each name has the whole
    time.

    With -v a line says which server answered, over udp, tcp, tls or https, and how fast; -vv also says why a question
    was repeated. In JSON a TXT record has its strings and the joined text.

    Exit code 6 means that a name was not found or a resolver failed, or sent an HTTP status other than 200; the message
    says which. 8 means that an answer was malformed or not as expected, 28 that no answer came in time or --wait was
    over, 60 that the server's certificate is not acceptable, and 35 that the handshake failed. If one name fails, the
    others are still looked up.
    """
    from netkit.core.address import Endpoint
    from netkit.core.errors import Exit
    from netkit.output.resolve import write
    from netkit.services.resolve import Query, parse_query

    family, timeout = client.addresses.family(), client.addresses.connect_timeout
    how = Query(family, timeout, canonical, client.wait, interval, observe=client.observe)
    how = parse_query(words, how, kind, service, server, expect, tls=client.tls.tls)
    address = how.server or Endpoint()
    client.set_address(address)
    tls = client.tls if how.url is None else client.tls.for_url(True)

    async def work() -> int:
        layers = client.layers(tls, address, address.host or "", str(how.url or address))
        return await write(words, how._replace(layers=layers), view, client.verbosity)

    return client.run(work(), refused=Exit.RESOLVE)
