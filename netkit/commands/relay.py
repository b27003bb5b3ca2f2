"""Serve: forward connections"""

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
        ("netkit relay 8080 db:5432", "forward a local port to another machine"),
        ("netkit relay tls::8443 127.0.0.1:80 --cert c.pem --key k.pem", "add TLS to a server without it"),
        ("netkit relay --udp :53 192.0.2.53:53", "forward DNS queries to a name server"),
    ],
)
@server_module.relay_options
@options.record_options
def relay(server: server_module.RelayOptions, record: options.RecordOptions) -> int:
    """Accept clients on LISTEN and join each to a connection of its own to TARGET.

    Data is passed on both ways as it comes. The end of one side is passed on to the other as a half-close, so a late
    answer still arrives. If the target refuses, resets, or ends TLS without close_notify, netkit prints a message and
    resets the client, so a short answer never looks complete. If the client does so, netkit resets the target.

    LISTEN and TARGET may be TCP, TLS (tls:) or unix sockets (unix:). --cert and --key are for LISTEN if it is tls:,
    otherwise for TARGET. --cafile is for TARGET if it is tls:, and for https:// proxies, otherwise for clients. --log
    and --hexdump show the data between the client and netkit.

    With --proxy netkit reaches TARGET through a SOCKS or HTTP proxy, or several: see "netkit help proxies".

    With --starttls clients without TLS reach a TARGET that starts TLS after a plain dialogue. If the protocol has a
    greeting before TLS, netkit sends one to the clients. mysql is not possible, because its login depends on the
    greeting of the server.

    With --udp each client address gets a socket of its own to TARGET. Answers are sent from the address that the client
    used. The socket is closed after 60s without a datagram either way (--idle-timeout), or when TARGET refuses. There
    are at most 1024 sockets at a time (--max-conns). For a new client beyond that, the oldest client that never got an
    answer is dropped; if there is none, the datagrams of the new client are dropped, with a message.
    """
    return server.run(server.relaying, record=record)
