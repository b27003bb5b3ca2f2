"""Serve: send every byte back"""

from netkit.cli import habits, options
from netkit.cli import server as server_module
from netkit.cli.command import command


@command(
    words="ADDRESS [-- COMMAND...]",
    habits={**habits.SERVER_HABITS, "-u": "--udp serves datagrams"},
    examples=[
        ("netkit echo 9007", "an echo server for this machine"),
        ("netkit echo 0 -- sh -c 'echo hi | netkit connect $NETKIT_ADDRESS'", "a server for as long as a test runs"),
        ("netkit echo 9087 --prefix 'You said ' --until bye -v", "a chat server, until somebody says bye"),
    ],
)
@server_module.transport_options
@options.record_options
@server_module.server_options
def echo(server: server_module.ServerOptions, record: options.RecordOptions, prefix: bytes | None) -> int:
    """Send every byte back to the client that sent it, at once.

    It serves any number of clients at a time. When a client half-closes, netkit sends the rest and half-closes too.

    Over UDP each datagram is sent back unchanged, marked as an answer (DSCP 1). netkit never answers
    datagrams with that mark, from ports 7, 13, 17, 19 and 37, or from this server itself, so that a forged datagram
    cannot make two servers answer each other.
    """
    from netkit.services.echo import echo as handler

    serve = handler(server.changes(), prefix=prefix, idle_timeout=server.idle_timeout)
    return server.run(lambda: server.service(serve, bytes), record=record)
