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
@DATA.option("--unicode", help="Change all letters of UTF-8 text, not only a to z.")
@server_module.transport_options
@options.record_options
@server_module.server_options
def upper(
    server: server_module.ServerOptions, record: options.RecordOptions, unicode: bool, prefix: bytes | None
) -> int:
    """Send every byte back in upper case, at once.

    The ASCII letters a to z become A to Z. All other bytes come back unchanged, including letters with accents and of
    other alphabets. With --unicode these are changed too if they are UTF-8. Bytes that are not UTF-8 come back as they
    are, and half a character waits for its rest. netkit serves any number of clients at a time. When a client
    half-closes, netkit sends the rest and half-closes too.

    Over UDP each datagram is sent back in upper case, marked as an answer (DSCP 1). netkit never answers datagrams with
    that mark, from ports 7, 13, 17, 19 and 37, or from this server itself, so that a forged datagram cannot make two
    servers answer each other. An answer is as long as its datagram: letters whose capital takes more or fewer bytes
    stay as they are.
    """
    from netkit.services.echo import echo as handler
    from netkit.services.transforms import capitals, capitals_in_place

    change = capitals if unicode else lambda: bytes.upper
    serve = handler([*server.changes(), change], prefix=prefix, idle_timeout=server.idle_timeout)
    return server.run(lambda: server.service(serve, capitals_in_place if unicode else bytes.upper), record=record)
