"""Serve: accept here, connect there"""

from netkit.cli import habits, options
from netkit.cli import server as server_module
from netkit.cli.command import command
from netkit.cli.rules import excluded


@command(
    words="LISTEN TARGET [-- COMMAND...]",
    habits={
        **habits.SERVER_HABITS,
        "-l": "the first address is listened on, the second connected to",
        "-e -c": "the second address is the target",
        "-u": "--udp relays datagrams",
        "-w": "-w bounds connecting to the target",
        "-o": "--log FILE keeps the bytes of both directions, --hexdump shows them",
        "-x": "--hexdump shows the bytes of both directions; --proxy socks5://HOST:PORT goes through a proxy",
        "--tls --ssl": "tls: before the first address, the second, or both",
        **habits.PROXY_HABITS,
    },
    rules=[excluded("--log", "--hexdump", by="--udp", why="datagrams are not recorded")],
    examples=[
        ("netkit relay 8080 db:5432", "a port of this machine leads to another's"),
        ("netkit relay tls::8443 127.0.0.1:80 --cert c.pem --key k.pem", "TLS in front of a server without it"),
        ("netkit relay --udp :53 192.0.2.53:53", "a name server behind this machine"),
    ],
)
@server_module.relay_options
@options.record_options
def relay(server: server_module.RelayOptions, record: options.RecordOptions) -> int:
    """Accept clients on LISTEN and join each to a connection of its own to TARGET.

    Data goes both ways as it comes, and the end of each side is passed on to the other, so that a late answer still
    arrives. If the target refuses, resets, or ends TLS without saying so, netkit prints a message and resets the
    client: a short answer never looks complete. If the client does so, netkit resets the target.

    LISTEN and TARGET may be TCP, TLS (tls:) or unix sockets (unix:). --cert and --key are for LISTEN if that is tls:,
    otherwise TARGET sees them; --cafile is about TARGET if that is tls:, and about https:// proxies, otherwise about
    clients. --log and --hexdump show the data between the client and netkit.

    With --proxy netkit reaches TARGET through a SOCKS or HTTP proxy, or several: see "netkit help proxies".

    With --starttls plain clients reach a TARGET that begins TLS after a plain dialogue; they get a greeting from netkit
    where the server greets before TLS. It does not apply to mysql, whose login depends on the server's own greeting.

    With --udp each client's address gets a socket of its own to TARGET, and answers leave from the address that the
    client used. It is closed after 60s without a datagram either way (--idle-timeout), or when nobody is at TARGET.
    There are at most 1024 at a time (--max-conns); datagrams of further clients are dropped, with a message.
    """
    return server.run(server.relaying, record=record)
