"""Serve: accept a stream and join it to stdin and stdout"""

from netkit import shell

HABITS = {
    **shell.SERVER_HABITS,
    "-l": "netkit listen ADDRESS listens already",
    "-N": "the end of input is sent anyway, see --no-shutdown",
    "-k": "this version serves one client; netkit echo and netkit upper serve many",
    "-i": "--idle-timeout D gives up when nothing moves",
}


@shell.command(
    words="ADDRESS [-- COMMAND...]",
    habits=HABITS,
    examples=[
        ("netkit listen 9000 > file", "keep what one client on this machine sends"),
        ("netkit listen :9000 < file", "give a file to the first who asks, everywhere"),
        ("netkit listen 0 --print-port --accept-timeout 10s", "any free port, for a script"),
    ],
)
@shell.server_options
@shell.ending_options
@shell.raw_option
def listen(server: shell.Server, ends: shell.Ends, raw: bool) -> int:
    """Accept one client and join it to stdin and stdout.

    The listening socket closes as soon as the client has come, so that a second one is refused rather than
    swallowed. The conversation ends as that of connect does: exit code 0 means that every byte was delivered both ways.

    A bare PORT listens on this machine alone; :PORT on every interface. With COMMAND, stdin is COMMAND's and listen
    only receives; when COMMAND ends, so does listen, with its code.
    """
    from netkit.services import terminal

    if (server.serving.max_clients or 1) > 1:
        shell.unapplied("listen serves one client in this version", {"--max-clients": server.serving.max_clients})
    ending = ends.ending()
    if server.command:
        shell.unapplied("stdin is COMMAND's", ends.given())
        ending = ending._replace(grace=0.0)
    handler = terminal.joining(
        lambda: terminal.Terminal(reads=not server.command),
        ending,
        incoming=[*server.changes(), *terminal.incoming(raw)],
        idle_timeout=server.clocks.idle_timeout,
        observe=server.observe,
    )
    return server.run(handler, one_shot=True)
