"""Talk: join stdin and stdout to a server"""

from typing import TYPE_CHECKING

from netkit.cli import client as client_module
from netkit.cli import habits, options, types
from netkit.cli.command import DATA, ENDING, TIME, TLS, address, command
from netkit.cli.layers import layer_options
from netkit.cli.proxies import proxy_options
from netkit.cli.rules import Case, Values, excluded, needs, one_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from netkit.core.connection import Handler
    from netkit.core.search import Pattern

HABITS = {
    **habits.HABITS,
    **habits.TLS_HABITS,
    "-l": "netkit listen ADDRESS listens",
    "-u --udp": "udp:HOST:PORT is the address of a conversation in datagrams",
    "-e": "--exec CMD runs a program over the connection",
    "-c": "--sh-exec CMD has the shell run it",
    "-x": "--proxy socks5://HOST:PORT goes through a proxy; --hexdump shows the bytes, --log FILE keeps them",
    **habits.PROXY_HABITS,
    "-p": "--source :PORT sets our own port",
    "-s": "--source ADDR sets our own address",
    "-o": "> FILE keeps what comes, --log FILE the data of both directions",
    "--host --port": "host and port are the address: HOST PORT or HOST:PORT",
    "-k": "--insecure does not verify a certificate; netkit listen --keep takes any number of clients",
    "-N": "the end of input is sent anyway, see --no-shutdown",
    "-t": "--telnet answers the negotiation",
    "-d": "--recv-only leaves stdin alone",
    "-i": "--idle-timeout D gives up when nothing moves",
    "-connect": "the address needs no option",
    "-CAfile": "--cafile FILE has the authorities to trust",
}


def _moves_data(values: Values) -> bool:
    from netkit.services.progress import Ways

    ours = values["exec"] is None and values["sh_exec"] is None
    typed = values["text"] is not None or values["octets"] is not None
    return Ways(ours and not typed and not values["recv_only"], ours and not values["send_only"]).moves


RULES = (
    excluded("--proxy", by=options.UNIX, why="a proxy connects to hosts and ports"),
    one_of("--send-only", "--recv-only"),
    one_of("--send", "--send-hex", "--recv-only", "--exec", "--sh-exec"),
    excluded(
        *("--crlf", "--grace", "--hold", "--no-shutdown", "--shutdown-after"),
        by="--recv-only",
        why="--recv-only sends nothing",
    ),
    excluded(
        *("--grace", "--hold", "--send-only"),
        by=("--until", "--max-bytes"),
        why="the pattern or the bytes end the conversation",
    ),
    excluded("--send-only", "--raw", by=("--exec", "--sh-exec"), why="the program sends and receives"),
    excluded(
        *("--exec", "--sh-exec", "--recv-only", "--send", "--send-hex", "--until", "--max-bytes", "--crlf", "--grace"),
        by="--reconnect",
        why="it sends stdin, as it is, over several connections",
    ),
    excluded("--progress", by="--reconnect", why="it shows one connection"),
    needs("--progress", on=Case("a file or a pipe", _moves_data), why="no file or pipe is sent or received"),
    excluded("--progress", by=options.DUMP, why="the dump is shown there"),
    needs("--show-certs", on=options.SECURED_LATER, why=options.BARE_LATER),
    excluded(
        *("--send-only", "--recv-only", "--send", "--send-hex", "--exec", "--sh-exec", "--crlf", "--raw", "--progress"),
        *("--grace", "--hold", "--no-shutdown", "--shutdown-after", "--until", "--max-bytes", "--reconnect"),
        *("--idle-timeout", "--log", "--hexdump"),
        by="--show-certs",
        why="nothing is sent or received but certificates",
    ),
    needs("--lines", on=options.UDP, why="a stream has no datagrams"),
    excluded("--lines", by="--recv-only", why="--recv-only sends nothing"),
    excluded("--tls", by=options.UDP, why="datagrams are not secured"),
    excluded(
        *("--keepalive", "--wait", "--reconnect", "--proxy", "--send-proxy", "--starttls", "--telnet"),
        by=options.UDP,
        why="datagrams make no connection",
    ),
    excluded("--hold", "--no-shutdown", "--shutdown-after", by=options.UDP, why="a peer of datagrams has no end"),
)


@command(
    words="ADDRESS",
    habits=HABITS,
    rules=RULES,
    examples=[
        ("netkit connect example.org 80", "talk to a TCP port"),
        ("netkit connect db:5432 --wait 30s < query", "keep trying until the server is up"),
        ("netkit connect udp:localhost:5000", "a conversation in datagrams"),
    ],
)
@address("client", conversation=True)
@options.family_options
@options.dial_options
@options.client_tls_options
@proxy_options
@layer_options("send_proxy", "starttls", "telnet")
@TLS.option("--show-certs", help="Print the certificates of the server, in PEM, and exit.")
@TIME.option("--wait", type=types.DURATION_OR_ZERO, help="Keep trying to connect for D, then exit with 28.")
@TIME.option(
    "--reconnect",
    type=types.DURATION,
    help="If the peer ends or resets before our input ends, try to connect again for D, then exit with 28.",
)
@options.timeout_options
@options.ending_options
@ENDING.option("--recv-only", help="Do not read stdin; exit when the peer ends.")
@ENDING.option(
    "--until",
    type=types.REGEX,
    help="Exit with 0 after the first match in the peer's data; with 8 if the peer ends before.",
)
@ENDING.option("--max-bytes", type=types.COUNT, help="Exit with 0 after N bytes from the peer.")
@DATA.option("--send", "text", type=types.TEXT, help="Send TEXT instead of stdin.")
@DATA.option("--send-hex", "octets", type=types.HEX, help="Send these bytes instead of stdin.")
@DATA.option("--lines", help="Send each line as a datagram of its own (udp:).")
@options.crlf_option
@options.program_options
@options.raw_option
@options.verbosity_options
@options.progress_options
@options.record_options
@options.stats_option
@client_module.client_options
def connect(
    client: client_module.ClientOptions,
    ending: options.EndingOptions,
    recv_only: bool,
    reconnect: float | None,
    until: "Pattern | None",
    max_bytes: int | None,
    text: bytes | None,
    octets: bytes | None,
    lines: bool,
    crlf: bool,
    program: options.ProgramOptions,
    raw: bool,
    progress: options.ProgressOptions,
    record: options.RecordOptions,
) -> int:
    """Join stdin and stdout to a TCP, TLS or unix stream.

    netkit tries all addresses of a name in a race, so an address that does not answer costs a quarter of a second. It
    sends our input, then a half-close, and reads the answer to its end, however late it comes. To a TLS server or
    through a proxy it sends the end later, after the answer: when nothing has come for 2s, or for 10s without any
    answer (see --shutdown-after and --send-only). If the peer ends first, netkit sends the input that is already there,
    and exits once the input is idle for a moment (--grace). If that peer never sent a byte, it sends all of the input.
    "netkit help ending" has the details.

    Exit code 0 means that the peer acknowledged every byte of our input, and that every byte of the peer was written.
    On a terminal, control bytes from the peer are made visible; a pipe or a file gets them as they are.

    Some servers drop a client that half-closes, together with the data that they still had to send: nc -l < file,
    telnetd and ZooKeeper. With these use --no-shutdown, or --until or --max-bytes.

    With --starttls netkit has the plain dialogue that starts TLS, without showing it; all TLS options apply. It is exit
    code 8 if the server does not offer TLS, refuses it, or sends anything after its consent. xmpp asks for the domain
    of --servername or ADDRESS. With postgres and mysql netkit starts TLS, but does not log in.

    With --proxy netkit goes through a SOCKS or HTTP proxy, or several: see "netkit help proxies".

    With udp: before the address the conversation is in datagrams. netkit sends each read of stdin as one datagram, or
    each line if it is typed or with --lines, and prints datagrams as they come. After the end of input it exits when
    nothing has come for a second (--grace). A port on which nobody listens is exit code 7.

    With --exec or --sh-exec a program takes the place of stdin and stdout. It runs in a process group of its own, with
    NETKIT_PEER_HOST, NETKIT_PEER_PORT, NETKIT_LOCAL_HOST and NETKIT_LOCAL_PORT in its environment. After the peer's end
    netkit waits for the program, but no longer than --grace if that is given. It then ends what is left of the process
    group, and exits with the program's exit code.

    With --reconnect, if the peer ends or resets, netkit connects again and continues with the line that contains the
    first unacknowledged byte, so the peer may see bytes twice. Bytes are lost if the peer's system acknowledged them
    but its program never read them; a message says that the connection was reset. If the peer ended without having sent
    anything, netkit connects again only once it resets.

    With --telnet netkit answers the options of a telnet server. It agrees only to tell the type and the size of the
    terminal on stdin and stdout, and to suppress go-aheads. The server does not echo, so a terminal shows each line
    once, as it is typed; this includes passwords, unless you use "stty -echo". Lines are sent as they are; --crlf ends
    them as telnet does. No key has a special meaning.

    With --show-certs netkit prints the certificates of the server, its own first, and exits without reading stdin. It
    prints them even if they are not acceptable; the exit code says whether they are.

    When data comes from or goes to a file or a pipe, progress is shown on stderr's terminal after half a second, until
    the peer's data appears there. At the end a line says how much was transferred and how fast. If stdin is a terminal,
    progress is shown once 64 KiB have come, until the first line is typed. Data counts as sent when the peer has
    acknowledged it.
    """
    from functools import partial

    from netkit.core.relay import AFTER_THE_ANSWER, AT_ONCE
    from netkit.services import join, transforms

    if client.tls.show_certs:
        return client.run(client.converse(join.leave))
    limits = transforms.Limits(until, max_bytes)
    client.in_lines = lines
    client.silence = 1.0 if ending.grace is None else ending.grace
    typed = octets if text is None else text
    reads = program.argv is None and typed is None and not recv_only
    writes = program.argv is None and not ending.send_only
    shown = progress.shown(client.verbosity, record, reads=reads, writes=writes, long=not crlf)
    changes = [*limits.changes(), *transforms.incoming(raw), *shown.changes()]
    conversation = join.Conversation(
        ending.ending(
            join.input_kind(program=program.argv is not None, reads=not recv_only),
            AFTER_THE_ANSWER if client.may_drop or (limits and not client.address.udp) else AT_ONCE,
            with_peer=bool(limits) and program.argv is None,
        ),
        incoming=lambda _: changes,
        outgoing=transforms.crlf if crlf else None,
        idle_timeout=client.idle_timeout,
        observe=client.observe,
    )
    terminal = partial(join.Terminal, text=typed, reads=not recv_only, writes=not ending.send_only)
    if reconnect is not None:
        from netkit.services.reconnect import reconnecting

        def converse(handler: "Handler", again: bool) -> "Awaitable[None]":
            return client.converse(record.around(handler, client.verbosity), reconnect if again else None)

        conversation = conversation._replace(ending=conversation.ending._replace(grace=0.0))
        return client.run(reconnecting(terminal, conversation, converse))
    codes = [0]

    async def work() -> int:
        handler = shown.around(program.joining(terminal, conversation, codes.append))
        handler = record.around(handler, client.verbosity)
        await client.converse(handler)
        limits.check(str(client.address))
        return codes[-1]

    return client.run(work())
