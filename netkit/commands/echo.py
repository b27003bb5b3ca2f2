"""Serve: send every byte back"""

from netkit import shell


@shell.command(
    words="ADDRESS [-- COMMAND...]",
    habits=shell.SERVER_HABITS,
    examples=[
        ("netkit echo 9007", "an echo server for this machine"),
        ("netkit echo 0 -- sh -c 'echo hi | netkit connect $NETKIT_ADDRESS'", "a server for as long as a test runs"),
        ("netkit echo 9087 --prefix 'You said ' --until bye -v", "a chat server, until somebody says bye"),
    ],
)
@shell.option("--prefix", type=shell.Text(), section="Data", help="Put TEXT in front of each line.")
@shell.server_options
def echo(server: shell.Server, prefix: bytes | None) -> int:
    """Send every byte back to the client that sent it, at once.

    Any number of clients are served side by side. A client's half-close is answered with ours, after its last byte.
    """
    from functools import partial

    from netkit.services.echo import echo as handler
    from netkit.services.pattern import prefixed
    from netkit.services.server import Service

    changes = server.changes()
    if prefix is not None:
        changes.append(partial(prefixed, prefix))
    return server.run(lambda: Service(handler(changes, idle_timeout=server.clocks.idle_timeout)))
