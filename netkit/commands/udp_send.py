"""Talk: send text or stdin as datagrams"""

from typing import TYPE_CHECKING, Literal

from netkit.cli import command, habits, options, run, types
from netkit.cli.rules import Case, Values, excluded, needs, one_of
from netkit.output.console import Verbosity

if TYPE_CHECKING:
    from netkit.core.address import Endpoint

HABITS = {
    **habits.HABITS,
    "-u": "datagrams are all that netkit udp-send sends",
    "-l": "netkit udp-serve ADDRESS receives",
    "-b": "--broadcast allows broadcast addresses",
    "-w": "--wait D waits for replies",
    "-s": "--source ADDR",
    "-p": "--source :PORT",
    "-M": "--ttl N",
    "-N": "it ends by itself once all is sent",
}


def _is_typed(values: Values) -> bool:
    import os

    return not values["texts"] and os.isatty(0)


_CUTS = ("--lines", "--size", "--hex")

RULES = (
    one_of(*_CUTS),
    excluded(*_CUTS, by=Case("TEXT", lambda values: values["texts"]), why="TEXT is what is sent"),
    excluded("--repeat", by=(*_CUTS, Case("text typed on a terminal", _is_typed)), why="stdin is sent as it comes"),
    needs("--interval", on="--repeat", why="nothing is repeated"),
    needs("--output", "--raw", on=("--replies", "--wait"), why="no replies are waited for"),
)


@command.command(
    words="ADDRESS [TEXT...]",
    habits=HABITS,
    rules=RULES,
    examples=[
        ("netkit udp-send localhost 8125 'hits:1|c'", "one datagram"),
        ("tail -f app.log | netkit udp-send --lines log 514", "each line as it comes"),
        ("netkit udp-send --replies 1 10.0.0.7 5000 status", "ask, and print the reply"),
    ],
)
@command.address("client", udp=True, rest_as="texts")
@command.option("--lines", is_flag=True, section="Data", help="Each line of stdin is a datagram, sent at once.")
@command.option("--size", type=types.size(most=65507), section="Data", help="Cut stdin into datagrams of SIZE bytes.")
@command.option("--hex", "by_hex", is_flag=True, section="Data", help="Each line of stdin is a datagram in hex digits.")
@command.option("--rate", type=types.SIZE, section="Data", help="Send at most SIZE bytes per second.")
@command.option("--repeat", type=types.COUNT, section="Data", help="Send everything N times.")
@command.option(
    "--interval",
    type=types.DURATION_OR_ZERO,
    section="Time",
    help="Pause for D between two times of --repeat; 1s unless given.",
)
@command.option("--replies", type=types.COUNT_OR_ANY, section="Ending", help="Print the first N replies, or any.")
@command.option(
    "--wait",
    type=types.DURATION_OR_ZERO,
    section="Time",
    help="Wait for a reply until D of silence (28 if too few came); 1s unless given.",
)
@options.output_options
@command.option("--broadcast", is_flag=True, section="Addresses", help="Allow ADDRESS to be a broadcast address.")
@command.option("--ttl", type=types.count(most=255), section="Addresses", help="Let datagrams pass at most N routers.")
@command.option("--source", type=types.SOURCE, section="Addresses", help="Send from this address and port.")
@options.timeout_option
@command.option("--stats", is_flag=True, section="Talk", help="Say datagrams and bytes at the end, as JSON.")
@options.reach_options
@options.talk_options
def udp_send(
    address: "Endpoint",
    texts: tuple[bytes, ...],
    lines: bool,
    size: int | None,
    by_hex: bool,
    rate: int | None,
    repeat: int | None,
    interval: float | None,
    replies: "int | Literal['any'] | None",
    wait: float | None,
    output: options.Output,
    broadcast: bool,
    ttl: int | None,
    source: "tuple[str, int] | None",
    timeout: float | None,
    stats: bool,
    reach: options.FamilyOptions,
    talk: Verbosity,
) -> int:
    """Send each TEXT as one datagram, and exit.

    Without TEXT, all of stdin is one datagram, the empty one included; with --lines, --size or --hex it is many, sent
    as they are complete. On a terminal --lines is meant. A datagram holds at most 65507 bytes: more in a TEXT or in
    all of stdin is a mistake (2), in a line of stdin exit code 63; a line that is no hex is 26. A TEXT that begins with
    a hyphen is written with \\x2d in its place.

    UDP acknowledges nothing. Exit code 0 means that the system took every datagram, and that no error had come back
    for one; a port that nobody has is 7, at once on this machine, elsewhere if its answer comes while --wait waits.
    --wait alone waits for any number of replies, and is content with none. A broadcast or multicast address hears
    whoever replies, any other address its owner alone.
    """
    import os

    from netkit.core.dial import Dialling
    from netkit.core.pump import fresh
    from netkit.core.udp import connect
    from netkit.output import datagrams
    from netkit.services.join import STDIN
    from netkit.services.transforms import incoming
    from netkit.services.udp import formatter, send
    from netkit.services.udp import framing as framing_module

    if texts:
        framing_module.check_texts(texts)
    elif not (size or by_hex):
        lines = lines or os.isatty(STDIN)
    framing = framing_module.framing(lines, size, by_hex)
    if replies is None and wait is None:
        wanted = None
    else:
        form = formatter.with_change(datagrams.shown(output.kind(talk), "udp-send"), fresh(incoming(output.raw)))
        number = replies if isinstance(replies, int) else None
        wanted = send.Replies(number, 1.0 if wait is None else wait, form)
    pause = 1.0 if interval is None else interval
    batches = send.as_it_comes(framing) if framing else send.repeated(texts, repeat or 1, pause)
    how = Dialling(reach.family(), reach.numeric, source=source)
    totals = run.totals(stats, "udp")
    from netkit.output.events import observer

    observe = observer(talk, totals.watching if totals else None)

    async def work() -> None:
        opening = connect(address, how, broadcast=broadcast, hops=ttl, observe=observe)
        await send.exchange(opening, batches, wanted, rate=rate, observe=observe)

    return run.run(work(), talk, timeout=timeout, totals=totals)
