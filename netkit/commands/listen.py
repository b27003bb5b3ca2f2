"""Serve: accept a client on stdin and stdout"""

from netkit.cli import habits, options, types
from netkit.cli import server as server_module
from netkit.cli.command import DATA, SERVING, command
from netkit.cli.layers import layer_options
from netkit.cli.rules import Case, Values, excluded, needs, one_of

HABITS = {
    **habits.SERVER_HABITS,
    "-l": "netkit listen ADDRESS listens already",
    "-u --udp": "udp:PORT is the address of a conversation in datagrams",
    "-o": "> FILE keeps what comes, --log FILE the data of both directions",
    "--broker --chat": "clients do not hear each other; --keep sends stdin to all of them",
    "-N": "the end of input is sent anyway, see --no-shutdown",
    "-e": "--exec CMD runs a program over each connection",
    "-c": "--sh-exec CMD has the shell run it",
    "-i": "--idle-timeout D gives up when nothing moves",
    "-t": "--telnet answers the negotiation",
}


def _keeps(values: Values) -> bool:
    replies = values["reply"] is not None or values["reply_file"] is not None
    return values["keep"] or replies or (values["max_clients"] or 1) > 1


def _leaves(values: Values) -> bool:
    return values["send_only"] and not _keeps(values)


def _receives_only(values: Values) -> bool:
    speaks = ("reply", "reply_file", "exec", "sh_exec")
    return values["command"] and all(values[name] is None for name in speaks)


def _moves_data(values: Values) -> bool:
    from netkit.services.progress import Ways

    ours = values["exec"] is None and values["sh_exec"] is None and not (_keeps(values) or values["command"])
    return Ways(ours, ours).moves


_ENDS = ("--grace", "--hold", "--no-shutdown", "--shutdown-after", "--send-only")

RULES = (
    one_of("--reply", "--reply-file", "--exec", "--sh-exec"),
    excluded(*_ENDS, by=options.COMMAND, why="stdin is COMMAND's"),
    excluded(*_ENDS, by=("--reply", "--reply-file"), why="the reply ends the conversation"),
    excluded("--crlf", by=Case("COMMAND without a reply or a program", _receives_only), why="stdin is COMMAND's"),
    excluded("--label", "--raw", by=("--exec", "--sh-exec"), why="the program gets what comes"),
    excluded("--progress", by=Case("several clients", _keeps), why="it would show one client"),
    needs("--progress", on=Case("a file or a pipe", _moves_data), why="no file or pipe is sent or received"),
    excluded("--progress", by=options.DUMP, why="the dump is shown there"),
    needs("--max-conns", on=Case("--keep", _keeps), why="one client is served"),
    excluded("--label", by="--send-only", why="--send-only shows nothing"),
    excluded("--until", by=Case("--send-only for one client", _leaves), why="--send-only leaves with our input's end"),
    excluded("--telnet", by=options.UDP, why="datagrams make no connection"),
    excluded(
        *("--grace", "--hold", "--no-shutdown", "--shutdown-after"),
        by=options.UDP,
        why="a peer of datagrams has no end",
    ),
)


@command(
    words="ADDRESS [-- COMMAND...]",
    habits=HABITS,
    rules=RULES,
    examples=[
        ("netkit listen 9000 > file", "save what one client on this machine sends"),
        ("netkit listen :9000 --keep --label", "many clients; each line begins with its sender"),
        (
            "netkit listen 8080 --reply 'HTTP/1.1 200 OK\\r\\n\\r\\nhi\\n'",
            "an HTTP server that answers hi to every request",
        ),
    ],
)
@layer_options("telnet")
@server_module.conversation_server_options
@SERVING.option("-k", "--keep", help="Keep listening, and serve any number of clients at a time.")
@options.ending_options
@DATA.option("--label", help="Write HOST:PORT and a tab before each line.")
@DATA.option(
    "--reply",
    type=types.text_beside("--reply"),
    help="Send TEXT to each client, as in --greet, and close; implies --keep.",
)
@DATA.option("--reply-file", type=types.FILE, help="Send FILE to each client instead of stdin; implies --keep.")
@options.crlf_option
@options.program_options
@options.raw_option
@options.progress_options
@options.record_options
def listen(
    server: server_module.ServerOptions,
    keep: bool,
    ending: options.EndingOptions,
    label: bool,
    reply: bytes | None,
    reply_file: str | None,
    crlf: bool,
    program: options.ProgramOptions,
    raw: bool,
    progress: options.ProgressOptions,
    record: options.RecordOptions,
) -> int:
    """Accept a client and join it to stdin and stdout; with --keep any number of clients.

    A bare PORT listens on this machine only; :PORT listens on every interface. Without --keep the listening socket
    closes when the first client comes, so a second client is refused at once. The conversation ends as with connect:
    exit code 0 means that every byte was delivered both ways, and 8 that the client ended before --until matched.

    If stdin is /dev/null, netkit sends its end when the client ends, or after 10s of silence. "netkit help ending" has
    the details.

    With --keep, data from stdin goes to all connected clients. netkit starts to read stdin when the first client comes,
    and sends the end of stdin to all clients, also to those that come later. A client that falls 1 MiB behind the
    fastest is reset, with a message. With --reply or --reply-file each client gets the same bytes and then the end; the
    client's data goes to stdout until the client ends too, or is silent for a second.

    With --exec or --sh-exec a program talks to each client. It runs in a process group of its own, with
    NETKIT_PEER_HOST, NETKIT_PEER_PORT, NETKIT_LOCAL_HOST and NETKIT_LOCAL_PORT in its environment. After the client's
    end netkit waits for the program, but no longer than --grace if that is given, and then ends what is left of the
    process group. Without --keep netkit exits with the program's exit code.

    With COMMAND, stdin belongs to COMMAND, and without a reply or a program listen only receives. What clients send
    goes to stdout, which COMMAND shares: sh -c 'COMMAND > FILE' keeps its output apart. When COMMAND ends, listen exits
    with its exit code.

    With udp: before the address the conversation is in datagrams, with the first peer that sends one, or with --keep
    with every peer. Each read of stdin is sent as a datagram. UDP does not tell when a peer has ended, and the end of
    stdin does not end the conversation: --idle-timeout, --max-clients, COMMAND or a signal does.

    With --telnet netkit answers the options of a telnet client. It agrees to suppress go-aheads, and to nothing else.

    When data of a single client comes from or goes to a file or a pipe, progress is shown on stderr's terminal.
    """
    from functools import partial

    from netkit.core.relay import AFTER_SILENCE, AFTER_THE_ANSWER, AT_ONCE, NEVER
    from netkit.output.escape import printable
    from netkit.services import join, transforms
    from netkit.services.server import Service

    replies = reply is not None or reply_file is not None
    keep = keep or replies or (server.serving.max_clients or 1) > 1
    ours = not (keep or program.argv is not None or server.command)
    shown = progress.shown(server.verbosity, record, reads=ours, writes=ours, long=not crlf)
    codes = [0]

    kind = join.input_kind(program=program.argv is not None, reads=replies or not server.command)
    waits = server.serving.until is not None and not keep and not server.address.udp
    if replies or not join.is_null(kind):
        shutdown = AFTER_THE_ANSWER if waits else AT_ONCE
    else:
        shutdown = NEVER if keep else AFTER_SILENCE
    conversation = join.Conversation(
        ending.ending(kind, shutdown, with_peer=waits and program.argv is None)._replace(asks=False),
        incoming=lambda stream: [
            *server.changes(one_shot=not keep),
            *transforms.incoming(raw),
            *([partial(transforms.labelled, printable(stream.name))] if label else []),
            *shown.changes(),
        ],
        idle_timeout=server.idle_timeout,
        observe=server.observe,
        outgoing=transforms.crlf if crlf else None,
    )
    terminal = partial(join.Terminal, reads=not server.command, writes=not ending.send_only, by_line=label)

    def serve() -> Service:
        if replies:
            from netkit.services.reply import reply_to, replying

            return replying(reply_to(reply, reply_file), terminal(), conversation)
        if keep and program.argv is None:
            from netkit.services.broadcast import keeping

            return keeping(terminal(), conversation)
        return Service(shown.around(program.joining(terminal, conversation, codes.append, alone=not keep)))

    return server.run(serve, one_shot=not keep, ended=lambda: 0 if keep else codes[-1], record=record)
