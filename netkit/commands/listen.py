"""Serve: accept a stream and join it to stdin and stdout"""

from typing import TYPE_CHECKING, Any

from netkit import options, serving, shell, values

if TYPE_CHECKING:
    from netkit.core.relay import Change
    from netkit.core.stream import Connection

HABITS = {
    **shell.SERVER_HABITS,
    "-l": "netkit listen ADDRESS listens already",
    "-N": "the end of input is sent anyway, see --no-shutdown",
    "-e": "--exec CMD runs a program over each connection",
    "-c": "--sh-exec CMD has the shell run it",
    "-i": "--idle-timeout D gives up when nothing moves",
}


@shell.command(
    words="ADDRESS [-- COMMAND...]",
    habits=HABITS,
    examples=[
        ("netkit listen 9000 > file", "keep what one client on this machine sends"),
        ("netkit listen :9000 --keep --label", "many clients, each line with who sent it"),
        ("netkit listen 8080 --reply-file page.http", "the same answer for everybody"),
    ],
)
@serving.server_options
@shell.option("-k", "--keep", is_flag=True, section="Serving", help="Serve any number of clients, side by side.")
@options.ending_options
@shell.option("--label", is_flag=True, section="Data", help="Write each line as HOST:PORT<TAB>line.")
@shell.option(
    "--reply", type=values.Text(), section="Data", help="Send TEXT to each client in place of stdin (--keep)."
)
@shell.option(
    "--reply-file", type=values.Path(), section="Data", help="Send FILE to each client in place of stdin (--keep)."
)
@options.program_options
@options.raw_option
@options.progress_options
@options.record_options
def listen(
    server: serving.Server,
    keep: bool,
    ends: options.Ends,
    label: bool,
    reply: bytes | None,
    reply_file: str | None,
    programs: options.Programs,
    raw: bool,
    progress: options.Progress,
    recorded: options.Recorded,
) -> int:
    """Accept a client and join it to stdin and stdout; with --keep any number of them.

    For one client, the listening socket closes as soon as it has come, so that a second one is refused rather than
    swallowed. The conversation ends as that of connect does: exit code 0 means that every byte was delivered both ways.

    With --keep what comes from stdin goes to all who are there. It is not read before the first has come, and its end
    is sent to all, later ones included. A client that falls 1 MiB behind the fastest is reset, and a line says so. With
    --reply or --reply-file each client gets the same bytes, then our end; what it sends goes to stdout until it ends
    too, or is silent for a second.

    With --exec or --sh-exec a program talks to each client. It has a process group of its own, and NETKIT_PEER_HOST,
    NETKIT_PEER_PORT, NETKIT_LOCAL_HOST and NETKIT_LOCAL_PORT in its environment. Once the client has ended, the
    program's end is waited for, unless --grace says for how long. Without --keep its exit code is ours.

    When data of one client comes from or goes to a file or a pipe, progress is shown on stderr's terminal.

    A bare PORT listens on this machine alone; :PORT on every interface. With COMMAND, stdin is COMMAND's and listen
    only receives; when COMMAND ends, so does listen, with its code.
    """
    from netkit.core.relay import fresh
    from netkit.services import terminal
    from netkit.services.server import Service

    shell.exclude({"--reply": reply, "--reply-file": reply_file, **programs.given()})
    recorded.check(server.talk)
    ending = ends.ending()
    replies = reply is not None or reply_file is not None
    if server.command:
        shell.unapplied("stdin is COMMAND's", ends.given())
        ending = ending._replace(grace=0.0)
    if replies:
        shell.unapplied("the reply ends the conversation", ends.given())
    if programs.argv is not None:
        shell.unapplied("the program gets what comes", {"--label": label, "--raw": raw})
        if ends.grace is None:
            ending = ending._replace(grace=None)
    keep = keep or replies or (server.clients.max_clients or 1) > 1
    if keep:
        shell.unapplied("it would show one client", progress.given())
    ours = not keep and programs.argv is None and not server.command
    shown = progress.shown(server.talk, recorded, reads=ours, writes=ours)
    code = 0

    def finished(with_code: int) -> None:
        nonlocal code
        code = 0 if keep else with_code

    def change(stream: "Connection") -> "Change | None":
        labels = [lambda: terminal.labelled(stream.name)] if label else []
        return fresh([*server.changes(), *terminal.incoming(raw), *labels, *shown.changes()])

    def open_terminal() -> terminal.Terminal:
        return terminal.Terminal(reads=not server.command, by_line=label)

    def serve() -> Service:
        common: Any = {"incoming": change, "idle_timeout": server.clocks.idle_timeout, "observe": server.observe}
        if programs.argv is not None:
            from netkit.services.program import running

            return Service(running(programs.argv, ending, finished, alone=not keep, **common))
        if replies:
            from netkit.services.reply import file, replying, text

            reply_from = file(reply_file) if reply_file is not None else text(reply or b"")
            return replying(reply_from, open_terminal(), **common)
        if keep:
            from netkit.services.crowd import keeping

            return keeping(open_terminal(), ending, **common)
        return Service(shown.around(terminal.joining(open_terminal, ending, **common)))

    return server.run(serve, one_shot=not keep, recorded=recorded) or code
