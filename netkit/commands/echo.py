"""Serve: send every byte back"""

from typing import TYPE_CHECKING

from netkit import shell

if TYPE_CHECKING:
    from netkit.core.address import Endpoint


@shell.command(
    words="ADDRESS [-- COMMAND...]",
    habits=shell.SERVER_HABITS,
    examples=[
        ("netkit echo 9007", "an echo server for this machine"),
        ("netkit echo 0 -- sh -c 'echo hi | netkit connect $NETKIT_ADDRESS'", "a server for as long as a test runs"),
        ("netkit echo unix:/tmp/echo.sock --for 1m", "on a unix socket, for a minute"),
    ],
)
@shell.address("server")
@shell.reach_options
@shell.serving_options
@shell.clock_options
@shell.talk_options
def echo(
    address: "Endpoint",
    reach: shell.Reach,
    serving: shell.Serving,
    command: tuple[str, ...],
    clocks: shell.Clocks,
    talk: shell.Talk,
) -> int:
    """Send every byte back to the client that sent it, at once.

    Any number of clients are served side by side. A client's half-close is answered with ours, after its last byte.
    """
    from netkit.services.echo import echo as handler

    work = shell.serve(address, handler(idle_timeout=clocks.idle_timeout), serving, command, reach, talk)
    return shell.run(work, quiet=talk.quiet, timeout=clocks.timeout)
