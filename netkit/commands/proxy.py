"""Serve: run a SOCKS and HTTP proxy"""

from netkit.cli import habits, options
from netkit.cli import server as server_module
from netkit.cli.command import command


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
@server_module.proxy_server_options
@options.record_options
def proxy(server: server_module.ProxyServerOptions, record: options.RecordOptions) -> int:
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
    return server.run(lambda: server.proxying(record))
