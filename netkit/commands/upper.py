"""Serve: echo in upper case"""

from netkit.cli import habits, options
from netkit.cli import server as server_module
from netkit.cli.command import DATA, command


@command(
    words="ADDRESS [-- COMMAND...]",
    habits={**habits.SERVER_HABITS, "-u": "--udp serves datagrams"},
    examples=[
        ("netkit upper 9007", "an upper-casing server for this machine"),
        ("netkit upper 9007 --udp", "the same for datagrams"),
        ("netkit upper 9007 --unicode", "for text in any language"),
    ],
)
@DATA.option("--unicode", help="Change all letters of UTF-8 text, and not a to z alone.")
@options.transport_options
@options.record_options
@server_module.server_options
def upper(
    server: server_module.ServerOptions, record: options.RecordOptions, unicode: bool, prefix: bytes | None
) -> int:
    """Send every byte back in upper case, at once.

    The letters a to z of ASCII become A to Z; all other bytes come back unchanged, so the letters of other alphabets,
    and those with accents, do too. With --unicode they are changed where they are UTF-8, and bytes that are no UTF-8
    come back as they are; half a character waits for its rest. Any number of clients are served at a time. When a
    client half-closes, so does netkit, after the last byte.

    Over UDP each datagram is sent back in upper case, marked as an answer (DSCP 1). Datagrams with that mark are never
    answered, nor those from ports 7, 13, 17, 19 and 37 or from this server itself, so that a forged datagram cannot
    make two servers talk to each other. An answer is as long as its datagram: a letter whose capital takes more or
    fewer bytes stays as it is.
    """
    from netkit.services.echo import echo as handler
    from netkit.services.transforms import capitals, capitals_in_place

    change = capitals if unicode else lambda: bytes.upper
    serve = handler([*server.changes(), change], prefix=prefix, idle_timeout=server.idle_timeout)
    return server.run(lambda: server.service(serve, capitals_in_place if unicode else bytes.upper), record=record)
