"""Talk: open a stream and join it to stdin and stdout"""

from typing import TYPE_CHECKING, Any

from netkit.cli import command, habits, options, run, types
from netkit.cli.rules import Case, Values, excluded, needs, one_of
from netkit.output import escape
from netkit.output.console import Verbosity

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from netkit.core.address import Endpoint
    from netkit.core.pump import Change

HABITS = {
    **habits.HABITS,
    "-l": "netkit listen ADDRESS listens",
    "-e": "--exec CMD runs a program over the connection",
    "-c": "--sh-exec CMD has the shell run it",
    "-x": "--hexdump shows the bytes, --log FILE keeps them",
    "-p": "--source :PORT sets our own port",
    "-s": "--source ADDR sets our own address",
    "-N": "the end of input is sent anyway, see --no-shutdown",
    "-d": "--recv-only leaves stdin alone",
    "-i": "--idle-timeout D gives up when nothing moves",
}


def _moves_data(values: Values) -> bool:
    from netkit.services.progress import Ways

    ours = values["exec"] is None and values["sh_exec"] is None
    typed = values["text"] is not None or values["octets"] is not None
    ways = Ways(ours and not typed and not values["recv_only"], ours and not values["send_only"])
    return ways.sends or ways.receives


RULES = (
    one_of("--send-only", "--recv-only"),
    one_of("--send", "--send-hex", "--recv-only", "--exec", "--sh-exec"),
    excluded("--crlf", "--grace", "--hold", "--no-shutdown", by="--recv-only", why="--recv-only sends nothing"),
    excluded("--no-shutdown", by="--send-only", why="--send-only leaves with our input's end"),
    excluded("--raw", by="--send-only", why="--send-only shows nothing"),
    excluded(
        *("--grace", "--hold", "--no-shutdown", "--send-only"),
        by=("--until", "--max-bytes"),
        why="the pattern or the bytes end the conversation",
    ),
    excluded("--send-only", "--raw", by=("--exec", "--sh-exec"), why="the program sends and receives"),
    needs("--progress", on=Case("a file or a pipe", _moves_data), why="no file or pipe is sent or received"),
    excluded("--progress", by=options.DUMP, why="the dump is shown there"),
)


@command.command(
    words="ADDRESS",
    habits=HABITS,
    rules=RULES,
    examples=[
        ("netkit connect example.org 80", "talk to a TCP port"),
        ("netkit connect db:5432 --wait 30s < query", "keep trying until it is there"),
        ("netkit connect unix:/run/app.sock --send 'status\\n'", "ask a unix socket"),
    ],
)
@command.address("client")
@options.reach_options
@options.dial_options
@options.tls_options
@command.option(
    "--wait",
    type=types.DURATION_OR_ZERO,
    section="Time",
    help="Keep trying for D while refused, unreachable, unresolved or silent (28).",
)
@options.clock_options
@options.ending_options
@command.option(
    "--send-only", is_flag=True, section="Ending", help="Leave once our input has ended and is acknowledged."
)
@command.option("--recv-only", is_flag=True, section="Ending", help="Leave stdin alone; leave when the peer ends.")
@command.option(
    "--until",
    type=types.REGEX,
    section="Ending",
    help="Leave, with 0, once what came matches; the output ends with the match (8 if the peer ends first).",
)
@command.option("--max-bytes", type=types.COUNT, section="Ending", help="Leave, with 0, once N bytes came.")
@command.option("--send", "text", type=types.TEXT, section="Data", help="Send TEXT in place of stdin.")
@command.option("--send-hex", "octets", type=types.HEX, section="Data", help="Send these bytes in place of stdin.")
@command.option("-C", "--crlf", is_flag=True, section="Data", help="Send line ends as CR LF.")
@options.program_options
@options.raw_option
@options.talk_options
@options.progress_options
@options.record_options
@options.stats_option
def connect(
    address: "Endpoint",
    reach: options.FamilyOptions,
    dial: options.Dial,
    tls: options.Tls,
    wait: float | None,
    clocks: options.Clocks,
    ends: options.Ends,
    send_only: bool,
    recv_only: bool,
    until: "re.Pattern[bytes] | None",
    max_bytes: int | None,
    text: bytes | None,
    octets: bytes | None,
    crlf: bool,
    programs: options.Programs,
    raw: bool,
    talk: Verbosity,
    progress: options.Progress,
    recorded: options.Recorded,
    stats: bool,
) -> int:
    """Join stdin and stdout to a TCP, TLS or unix stream.

    All addresses of a name are raced, so one that is dead costs a quarter of a second. The end of our input is sent
    as a half-close, and the answer is read to its end, however late it comes. If the peer ends first, what our input
    still holds is sent, and netkit leaves once it has been idle for a moment (--grace).

    Some servers drop a client that half-closes, and with it what they still had to send: nc -l < file, or nginx as
    a proxy. For these there is --no-shutdown.

    With --exec or --sh-exec a program takes the place of stdin and stdout. It has a process group of its own, and
    NETKIT_PEER_HOST, NETKIT_PEER_PORT, NETKIT_LOCAL_HOST and NETKIT_LOCAL_PORT in its environment. Once the peer has
    ended, the program's end is waited for, unless --grace says for how long. Its exit code is ours.

    Exit code 0 means that the peer acknowledged every byte of ours and that all of its bytes were written. Data from
    the peer is shown on a terminal with its control bytes made visible; a pipe or a file gets it as it is.

    When data comes from or goes to a file or a pipe, progress is shown on stderr's terminal after half a second; it
    gives way to what the peer says there. Where somebody may type, it appears only after 64 KiB have come, and goes
    with the first line typed. What counts as sent is what the peer has acknowledged.
    """
    ending = ends.ending()
    if recv_only:
        ending = ending._replace(grace=0.0)
    if send_only:
        ending = ending._replace(send_only=True)
    if until is not None or max_bytes is not None:
        ending = ending._replace(grace=0.0)
    if programs.argv is not None and ends.grace is None:
        ending = ending._replace(grace=None)
    typed = octets if text is None else text
    ours = programs.argv is None
    reads, writes = ours and typed is None and not recv_only, ours and not send_only
    shown = progress.shown(talk, recorded, reads=reads, writes=writes, long=not crlf)
    how = dial.dialling(reach)
    totals = run.totals(stats)
    from netkit.output.events import observer

    observe = observer(talk, totals.watching if totals else None)
    secure = tls.client(address, talk)
    codes: list[int] = []

    async def work() -> int:
        from functools import partial

        from netkit.core.connection import serve_connection
        from netkit.core.dial import dial as dial_once
        from netkit.core.dial import dial_until
        from netkit.core.errors import Exit, Failure
        from netkit.core.kernel import Group
        from netkit.core.pump import fresh
        from netkit.core.sync import Event
        from netkit.services import join, transforms

        found = Event()
        wanted: list[Callable[[], Change]] = []
        if until is not None:
            wanted.append(partial(transforms.until, until, found.set, cut=True))
        if max_bytes is not None:
            wanted.append(partial(transforms.at_most, max_bytes))
        common: Any = {
            "outgoing": transforms.crlf() if crlf else None,
            "incoming": lambda stream: fresh([*wanted, *transforms.incoming(raw), *shown.changes()]),
            "idle_timeout": clocks.idle_timeout,
            "observe": observe,
        }
        if programs.argv is not None:
            from netkit.services.exec import running

            handler = running(programs.argv, ending, codes.append, alone=True, **common)
        else:
            handler = join.joining(
                lambda: join.Terminal(text=typed, reads=not recv_only, writes=not send_only), ending, **common
            )
        handler = recorded.around(shown.around(handler), talk)
        dialling = how._replace(layers=[secure(observe)] if secure else [])
        async with Group() as group:
            if wait is None:
                stream = await dial_once(address, dialling, observe, group)
            else:
                stream = await dial_until(address, wait, dialling, observe, group)
            if dial.keepalive is not None:
                stream.keep_alive(dial.keepalive)
            await serve_connection(stream, handler, observe, group=group)
        if until is not None and not found.is_set():
            raise Failure(Exit.PROTOCOL, f"find {escape.quoted(until)} in what {stream.name} sent", "it ended before")
        return codes[0] if codes else Exit.OK

    return run.run(work(), talk, timeout=clocks.timeout, totals=totals)
