"""Serve: run a SOCKS and HTTP proxy"""

from typing import TYPE_CHECKING

from netkit.cli import habits, options
from netkit.cli import server as server_module
from netkit.cli.command import ADDRESSES, SERVING, address, command, gathered
from netkit.cli.types import FILE, TARGET

if TYPE_CHECKING:
    from netkit.core.targets import Rule


@command(
    words="ADDRESS [-- COMMAND...]",
    habits={
        **habits.SERVER_HABITS,
        "-w": "-w bounds connecting to a target",
        "-x -X --proxy-type": "SOCKS4, SOCKS5 and HTTP are all served on this port",
        "-P --proxy-auth": "--auth-file FILE has users and passwords",
    },
    examples=[
        ("netkit proxy 1080", "a proxy for this machine"),
        ("netkit proxy :1080 --allow 10.0.0.0/8", "a proxy for a network"),
        ("netkit proxy 0 -- sh -c 'curl -x socks5h://$NETKIT_ADDRESS http://db/'", "for as long as a command runs"),
    ],
)
@address("server")
@options.family_options
@ADDRESSES.option("--allow-target", type=TARGET, multiple=True, help="Connect clients only to this target; repeatable.")
@ADDRESSES.option(
    "--deny-target", type=TARGET, multiple=True, help="Do not connect clients to this target; repeatable."
)
@options.connect_timeout_option("resolving and connecting", outcome="")
@options.own_end_options
@SERVING.option(
    "--auth-file", type=FILE, help="Require a user and a password from FILE, which has USER:PASSWORD lines."
)
@server_module.silent_serving_options
@options.server_tls_options
@options.server_timeout_options
@options.verbosity_options
@options.record_options
@gathered("server", server_module.ServerOptions)
def proxy(
    server: server_module.ServerOptions,
    auth_file: str | None,
    allow_target: "tuple[Rule, ...]",
    deny_target: "tuple[Rule, ...]",
    record: options.RecordOptions,
) -> int:
    """Connect each client to the target that it asks for by SOCKS4, SOCKS4a, SOCKS5 or HTTP CONNECT.

    One port serves all four protocols, and netkit looks up the names. Once the target is reached, data goes both ways
    as in relay. If the target cannot be reached, the client gets the reason in its own protocol. A client that asks for
    nothing within 10s, or speaks another protocol, is reset. Of SOCKS only CONNECT is served, not BIND or UDP. A plain
    GET gets status 405.

    Clients on other machines cannot reach loopback, link-local and own addresses of this machine, unless --allow-target
    gives that single address, or a network that has only loopback or only link-local addresses.

    TARGET is an address, a network or a name, with :PORT to mean only that port: db:5432, 10.0.0.0/8:443,
    [fd00::/8]:443. An address or a network is compared with the address that netkit dials, so a name cannot get around
    it. A name is compared with the name that the client asks for; to deny a host under all its names, deny its address.
    With --allow-target all other targets are denied. --deny-target takes precedence over --allow-target.

    FILE of --auth-file must not be accessible to group and others (chmod 600). With it SOCKS4 is refused, because it
    has no passwords. Passwords are sent in clear text, so use tls: on networks that you do not trust.

    -n, -w and --source apply to targets; -4 and -6 apply to ADDRESS too. --log and --hexdump show what follows the
    request.
    """
    from netkit.core.targets import Targets
    from netkit.services.proxy import proxying, read_users
    from netkit.services.server import Service

    def serve() -> Service:
        return Service(
            proxying(
                server.addresses.dialling(),
                Targets(allow_target, deny_target),
                None if auth_file is None else read_users(auth_file),
                changes=server.changes,
                keepalive=server.serving.keepalive,
                idle_timeout=server.idle_timeout,
                record=record.recording(server.verbosity),
                observe=server.observe,
            )
        )

    return server.run(serve)
