"""Serve: send every byte back"""

from netkit import shell


@shell.command(
    words="ADDRESS [-- COMMAND...]",
    habits=shell.SERVER_HABITS,
    examples=[
        ("netkit echo 9007", "an echo server for this machine"),
        ("netkit echo 0 -- sh -c 'echo hi | netkit connect $NETKIT_ADDRESS'", "a server for as long as a test runs"),
        ("netkit echo unix:/tmp/echo.sock --for 1m", "on a unix socket, for a minute"),
    ],
)
@shell.server_options
def echo(server: shell.Server) -> int:
    """Send every byte back to the client that sent it, at once.

    Any number of clients are served side by side. A client's half-close is answered with ours, after its last byte.
    """
    from netkit.services.echo import echo as handler

    return server.run(handler(idle_timeout=server.clocks.idle_timeout))
