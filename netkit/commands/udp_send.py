"""Talk: send text or stdin as datagrams"""

from typing import TYPE_CHECKING, Literal

from netkit import options, shell, values

if TYPE_CHECKING:
    from netkit.core.address import Endpoint

HABITS = {
    **shell.HABITS,
    "-u": "datagrams are all that netkit udp-send sends",
    "-l": "netkit udp-serve ADDRESS receives",
    "-b": "--broadcast allows broadcast addresses",
    "-w": "--wait D waits for replies",
    "-s": "--source ADDR",
    "-p": "--source :PORT",
    "-M": "--ttl N",
    "-N": "it ends by itself once all is sent",
}


@shell.command(
    words="ADDRESS [TEXT...]",
    habits=HABITS,
    examples=[
        ("netkit udp-send localhost 8125 'hits:1|c'", "one datagram"),
        ("tail -f app.log | netkit udp-send --lines log 514", "each line as it comes"),
        ("netkit udp-send --replies 1 10.0.0.7 5000 status", "ask, and print the reply"),
    ],
)
@shell.address("client", udp=True, rest_as="texts")
@shell.option("--lines", is_flag=True, section="Data", help="Each line of stdin is a datagram, sent at once.")
@shell.option("--size", type=values.Size(most=65507), section="Data", help="Cut stdin into datagrams of SIZE bytes.")
@shell.option("--hex", "by_hex", is_flag=True, section="Data", help="Each line of stdin is a datagram in hex digits.")
@shell.option("--rate", type=values.Size(), section="Data", help="Send at most SIZE bytes per second.")
@shell.option("--repeat", type=values.Count(), section="Data", help="Send everything N times.")
@shell.option(
    "--interval",
    type=values.Duration(zero=True),
    section="Time",
    help="Pause for D between two times of --repeat; 1s unless given.",
)
@shell.option("--replies", type=values.CountOrAny(), section="Ending", help="Print the first N replies, or any.")
@shell.option(
    "--wait",
    type=values.Duration(zero=True),
    section="Time",
    help="Wait for a reply until D of silence (28 if too few came); 1s unless given.",
)
@options.output_options
@shell.option("--broadcast", is_flag=True, section="Addresses", help="Allow ADDRESS to be a broadcast address.")
@shell.option("--ttl", type=values.Count(most=255), section="Addresses", help="Let datagrams pass at most N routers.")
@shell.option("--source", type=values.Source(), section="Addresses", help="Send from this address and port.")
@options.timeout_option
@shell.option("--stats", is_flag=True, section="Talk", help="Say datagrams and bytes at the end, as JSON.")
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
    reach: options.Reach,
    talk: options.Talk,
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

    from netkit.core.datagram import connect
    from netkit.core.dial import Dialling
    from netkit.core.relay import fresh
    from netkit.services import datagrams
    from netkit.services.terminal import STDIN, incoming

    cuts = {"--lines": lines, "--size": size, "--hex": by_hex}
    shell.exclude(cuts)
    if texts:
        shell.unapplied("TEXT is what is sent", cuts)
        datagrams.check_texts(texts)
    elif not (size or by_hex):
        lines = lines or os.isatty(STDIN)
    framing = datagrams.framing(lines, size, by_hex)
    if framing:
        shell.unapplied("stdin is sent as it comes", {"--repeat": repeat})
    if repeat is None:
        shell.unapplied("nothing is repeated", {"--interval": interval})
    if replies is None and wait is None:
        shell.unapplied("no replies are waited for", output.given())
        wanted = None
    else:
        show = datagrams.shown(output.kind(talk), "udp-send")
        number = replies if isinstance(replies, int) else None
        wanted = datagrams.Replies(number, 1.0 if wait is None else wait, show, fresh(incoming(output.raw)))
    pause = 1.0 if interval is None else interval
    speak = datagrams.as_it_comes(framing) if framing else datagrams.all_at_once(texts, repeat or 1, pause)
    how = Dialling(reach.family(address), reach.numeric, source=source)
    totals = shell.totals(stats, "udp")
    observe = talk.observer(totals)

    async def work() -> None:
        opening = connect(address, how, broadcast=broadcast, hops=ttl, observe=observe)
        await datagrams.exchange(opening, speak, wanted, rate=rate, observe=observe)

    return shell.run(work(), talk, timeout=timeout, totals=totals)
