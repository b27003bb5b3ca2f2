"""Serve: accept here, connect there"""

from netkit.cli import habits, options
from netkit.cli import server as server_module
from netkit.cli.command import command
from netkit.cli.rules import excluded

HABITS = {
    **habits.SERVER_HABITS,
    "-l": "the first address is listened on, the second connected to",
    "-e": "the second address is the target",
    "-c": "the second address is the target",
    "-u": "--udp relays datagrams",
    "-w": "-w bounds connecting to the target",
}


@command(
    words="LISTEN TARGET [-- COMMAND...]",
    habits=HABITS,
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
    """Accept clients on LISTEN and join each to TARGET, which is dialled for it.

    Every byte goes both ways as it comes, and each side's end is passed on to the other, so that a late answer still
    arrives. A target that refuses, resets, or ends TLS without saying so, resets the client: a short answer never looks
    whole. It is one line here. A client that does it resets the target.

    LISTEN and TARGET may be TCP, TLS (tls:) or unix sockets (unix:). --cert and --key are for LISTEN if that is tls:,
    else shown to TARGET; --cafile says who may be TARGET if that is tls:, else who may come. With --log and --hexdump
    the bytes are those between the client and us.

    With --udp each client's address gets a socket of its own to TARGET, and answers leave from the address that was
    asked. After 60s without a datagram either way (--idle-timeout), or when TARGET turns out not to be there, it is
    closed. There are at most 1024 at one time (--max-conns); what further clients send is dropped, and told.
    """
    return server.run(server.relaying, record=record)
