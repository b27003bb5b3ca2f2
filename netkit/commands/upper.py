"""Serve: send every byte back in upper case"""

from typing import TYPE_CHECKING

from netkit import shell

if TYPE_CHECKING:
    from netkit.core.address import Endpoint


@shell.command(
    words="ADDRESS [-- COMMAND...]",
    habits=shell.SERVER_HABITS,
    examples=[
        ("netkit upper 9007", "an upper-casing server for this machine"),
        ("netkit upper 9007 --once", "serve one client, then exit"),
    ],
)
@shell.address("server")
@shell.reach_options
@shell.serving_options
@shell.clock_options
@shell.talk_options
def upper(
    address: "Endpoint",
    reach: shell.Reach,
    serving: shell.Serving,
    command: tuple[str, ...],
    clocks: shell.Clocks,
    talk: shell.Talk,
) -> int:
    """Send every byte back in upper case, at once.

    The letters a to z become A to Z; every other byte, UTF-8 included, comes back as it is. Any number of clients are
    served side by side. A client's half-close is answered with ours, after its last byte.
    """
    from netkit.services.echo import echo as handler

    work = shell.serve(
        address, handler(lambda: bytes.upper, idle_timeout=clocks.idle_timeout), serving, command, reach, talk
    )
    return shell.run(work, quiet=talk.quiet, timeout=clocks.timeout)
