"""Serve: accept a stream and join it to stdin and stdout"""

from typing import TYPE_CHECKING

from netkit import shell

if TYPE_CHECKING:
    from netkit.core.address import Endpoint

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
@shell.address("server")
@shell.reach_options
@shell.serving_options
@shell.clock_options
@shell.ending_options
@shell.raw_option
@shell.talk_options
def listen(
    address: "Endpoint",
    reach: shell.Reach,
    serving: shell.Serving,
    command: tuple[str, ...],
    clocks: shell.Clocks,
    ends: shell.Ends,
    raw: bool,
    talk: shell.Talk,
) -> int:
    """Accept one client and join it to stdin and stdout.

    The listening socket closes as soon as the client has come, so that a second one is refused rather than
    swallowed. The conversation ends as that of connect does: exit code 0 means that every byte was delivered both ways.

    A bare PORT listens on this machine alone; :PORT on every interface. With COMMAND, stdin is COMMAND's and listen
    only receives; when COMMAND ends, so does listen, with its code.
    """
    if (serving.max_clients or 1) > 1:
        shell.unapplied("listen serves one client in this version", {"--max-clients": serving.max_clients})
    ending = ends.ending()
    if command:
        shell.unapplied("stdin is COMMAND's", ends.given())
        ending = ending._replace(grace=0.0)

    async def work() -> int:
        from netkit.services import terminal

        ours = terminal.Terminal(reads=not command)
        handler = terminal.joining(
            ours, ending, incoming=terminal.incoming(raw), idle_timeout=clocks.idle_timeout, observe=talk.observe
        )
        return await shell.serve(address, handler, serving, command, reach, talk, one_shot=True)

    return shell.run(work(), quiet=talk.quiet, timeout=clocks.timeout)
