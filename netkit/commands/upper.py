"""Serve: send every byte back in upper case"""

from netkit.cli import habits, options
from netkit.cli import server as server_module
from netkit.cli.command import command


@command(
    words="ADDRESS [-- COMMAND...]",
    habits={**habits.SERVER_HABITS, "-u": "--udp serves datagrams"},
    examples=[
        ("netkit upper 9007", "an upper-casing server for this machine"),
        ("netkit upper 9007 --once", "serve one client, then exit"),
        ("netkit upper 9007 --udp", "the same for datagrams"),
    ],
)
@options.transport_options
@server_module.server_options
def upper(server: server_module.ServerOptions) -> int:
    """Send every byte back in upper case, at once.

    The letters a to z become A to Z; every other byte, UTF-8 included, comes back as it is. Any number of clients are
    served side by side. A client's half-close is answered with ours, after its last byte.

    Over UDP each datagram comes back so, marked as an answer (DSCP 1). What is marked is never answered, nor what comes
    from ports 7, 13, 17, 19 and 37 or from this server itself, so that no forged datagram makes two servers talk.
    """
    from netkit.services.echo import echo as handler

    serve = handler([*server.changes(), lambda: bytes.upper], idle_timeout=server.idle_timeout)
    return server.run(lambda: server.service(serve, bytes.upper))
