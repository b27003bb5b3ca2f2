"""Serve: send every byte back in upper case"""

from netkit import shell


@shell.command(
    words="ADDRESS [-- COMMAND...]",
    habits=shell.SERVER_HABITS,
    examples=[
        ("netkit upper 9007", "an upper-casing server for this machine"),
        ("netkit upper 9007 --once", "serve one client, then exit"),
    ],
)
@shell.server_options
def upper(server: shell.Server) -> int:
    """Send every byte back in upper case, at once.

    The letters a to z become A to Z; every other byte, UTF-8 included, comes back as it is. Any number of clients are
    served side by side. A client's half-close is answered with ours, after its last byte.
    """
    from netkit.services.echo import echo as handler
    from netkit.services.server import Service

    return server.run(
        lambda: Service(handler([*server.changes(), lambda: bytes.upper], idle_timeout=server.clocks.idle_timeout))
    )
