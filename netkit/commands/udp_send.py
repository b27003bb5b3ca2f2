"""Talk: send datagrams"""

from typing import TYPE_CHECKING, Literal

from netkit.cli import client as client_module
from netkit.cli import habits, options
from netkit.cli.command import ADDRESSES, DATA, ENDING, OUTPUT, TIME, address, command, gathered
from netkit.cli.rules import Case, Values, excluded, needs, one_of
from netkit.cli.types import COUNT, COUNT_OR_ANY, DURATION_OR_ZERO, INTERFACE, SIZE, SOURCE, count, size

if TYPE_CHECKING:
    from netkit.services.udp.framing import Framing


def _is_typed(values: Values) -> bool:
    import os

    return not values["texts"] and os.isatty(0)


_CUTS = ("--lines", "--size", "--hex")


@command(
    words="ADDRESS [TEXT...]",
    habits={
        **habits.HABITS,
        "-u": "datagrams are all that netkit udp-send sends",
        "-l": "netkit udp-serve ADDRESS receives",
        "-b": "--broadcast allows broadcast addresses",
        "-w": "--wait D waits for replies",
        "-s": "--source ADDR",
        "-p": "--source :PORT",
        "-M": "--ttl N",
        "-N": "it ends by itself once all is sent",
    },
    rules=[
        one_of(*_CUTS),
        excluded(*_CUTS, by=Case("TEXT", lambda values: values["texts"]), why="TEXT is what is sent"),
        excluded("--repeat", by=(*_CUTS, Case("text typed on a terminal", _is_typed)), why="stdin is sent as it comes"),
        needs("--interval", on="--repeat", why="nothing is repeated"),
        needs("--output", "--raw", on=("--replies", "--wait"), why="no replies are waited for"),
        excluded(
            *("-4", "-6", "-n", "--source", "--broadcast", "--ttl", "--any-source"),
            by=options.UNIX,
            why="a unix socket has no IP address",
        ),
        excluded("--keep-going", by=options.UNIX, why="without a receiver nothing can be sent to a unix socket"),
        needs("--any-source", on=("--replies", "--wait"), why="no replies are waited for"),
    ],
    examples=[
        ("netkit udp-send log 514 '<14>deploy: done'", "send one datagram"),
        ("tail -f app.log | netkit udp-send --lines log 514", "send each line as it comes"),
        ("netkit udp-send --replies 1 host 5000 status", "send a question, print the reply"),
    ],
)
@address("client", udp=True, rest_as="texts")
@DATA.option("--lines", help="Send each line of stdin as a datagram, as it comes.")
@DATA.option("--size", type=size(most=65507), help="Send stdin in datagrams of SIZE bytes.")
@DATA.option("--hex", "by_hex", help="Send each line of stdin, in hex, as a datagram.")
@DATA.option("--rate", type=SIZE, help="Send at most SIZE bytes per second.")
@DATA.option("--repeat", type=COUNT, default=1, help="Send everything N times.")
@TIME.option(
    "--interval", type=DURATION_OR_ZERO, default=1.0, help="Pause between two rounds of --repeat (default: 1s)."
)
@ENDING.option("--replies", type=COUNT_OR_ANY, help="Print N replies, then exit; with any, print all that come.")
@TIME.option(
    "--wait",
    "patience",
    type=DURATION_OR_ZERO,
    help="Wait for replies until none comes for D (default: 1s); exit with 28 if too few came.",
)
@options.output_options
@ENDING.option("--keep-going", help="Continue if the port is refused; exit with 7 at the end.")
@ADDRESSES.option("--broadcast", help="Allow ADDRESS to be a broadcast address, such as '<broadcast>'.")
@ADDRESSES.option("--any-source", help="Accept replies from any address and port, as TFTP needs.")
@ADDRESSES.option("--ttl", type=count(most=255), help="Let datagrams pass at most N routers (TTL).")
@ADDRESSES.option("--source", type=SOURCE, help="Send from this address and port.")
@ADDRESSES.option("--interface", type=INTERFACE, help="Send through this interface only, such as eth0.")
@options.timeout_option
@OUTPUT.option("--stats", help="Print datagrams and bytes at the end, as JSON.")
@options.family_options
@options.verbosity_options
@client_module.datagram_client_options
@gathered("framing", "netkit.services.udp.framing.framing")
def udp_send(
    client: client_module.ClientOptions,
    texts: tuple[bytes, ...],
    framing: "Framing | None",
    rate: int | None,
    repeat: int,
    interval: float,
    replies: "int | Literal['any'] | None",
    patience: float | None,
    output: options.OutputOptions,
    keep_going: bool,
    broadcast: bool,
    any_source: bool,
    ttl: int | None,
) -> int:
    """Send each TEXT as one datagram, and exit.

    Without TEXT, all of stdin is one datagram, even if it is empty. --lines, --size and --hex split stdin into many,
    each sent when it is complete. On a terminal --lines is the default. A datagram holds at most 65507 bytes. A TEXT or
    a stdin that is longer is exit code 2, a longer line of stdin 63. A line that is not hex is 26. If a TEXT begins
    with a hyphen, write \\x2d for the hyphen.

    UDP has no acknowledgements. Exit code 0 means that the system took every datagram, and that no error came back. A
    port on which nobody listens is exit code 7: at once on this machine, and from elsewhere if the error comes during
    --wait. netkit tries all addresses of a name, one after the other, until one does not refuse.

    --wait alone waits for any number of replies, and succeeds without any. Replies must come from ADDRESS, unless it is
    a broadcast or multicast address or --any-source is given.

    unix:PATH and unix:@NAME are unix datagram sockets, such as /dev/log. They take datagrams of up to about 200 KiB.
    """
    from netkit.core.pump import fresh
    from netkit.core.udp import LARGEST, LARGEST_UNIX, connect
    from netkit.output import datagrams
    from netkit.services.transforms import incoming
    from netkit.services.udp import formatter, send
    from netkit.services.udp.framing import check_texts

    largest = LARGEST if client.address.path is None else LARGEST_UNIX
    check_texts(texts, largest)
    wanted = None
    if replies is not None or patience is not None:
        form = datagrams.shown(output.kind(client.verbosity), "udp-send")
        number = None if replies == "any" else replies
        shown = formatter.with_change(form, fresh(incoming(output.raw)))
        wanted = send.Replies(number, 1.0 if patience is None else patience, shown)
    batches = send.as_it_comes(framing) if framing and not texts else send.repeated(texts, largest, repeat, interval)

    async def work() -> None:
        opening = connect(
            client.address,
            client.dialling(),
            broadcast=broadcast,
            hops=ttl,
            any_source=any_source,
            keep_going=keep_going,
            observe=client.observe,
        )
        await send.exchange(opening, batches, wanted, rate=rate, observe=client.observe)

    return client.run(work())
