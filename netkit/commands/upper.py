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
@options.record_options
@server_module.server_options
def upper(server: server_module.ServerOptions, record: options.RecordOptions) -> int:
    """Send every byte back in upper case, at once.

    The letters a to z become A to Z; all other bytes, UTF-8 included, come back unchanged. Any number of clients are
    served at a time. When a client half-closes, so does netkit, after the last byte.

    Over UDP each datagram is sent back in upper case, marked as an answer (DSCP 1). Datagrams with that mark are never
    answered, nor those from ports 7, 13, 17, 19 and 37 or from this server itself, so that a forged datagram cannot
    make two servers talk to each other.
    """
    from netkit.services.echo import echo as handler

    serve = handler([*server.changes(), lambda: bytes.upper], idle_timeout=server.idle_timeout)
    return server.run(lambda: server.service(serve, bytes.upper), record=record)
