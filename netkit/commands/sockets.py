"""Look: list open sockets"""

import click

from netkit.cli import habits, options, run
from netkit.cli.command import DATA, TIME, command, gathered
from netkit.cli.rules import Case, excluded, one_of
from netkit.cli.types import COUNT, DURATION, word
from netkit.output.console import Verbosity, View

_UNIX_ALONE = Case("--unix alone", lambda values: values["unix"] and not (values["tcp"] or values["udp"]))


@command(
    words="",
    habits={
        **habits.HABITS,
        "-a": "sockets in every state are shown anyway",
        "-l": "--listening shows only listeners",
        "-n": "addresses and ports are numbers anyway",
        "-p": "processes are shown anyway; --pid N shows those of one",
        "-t": "--tcp shows only TCP, --tcp --udp both",
        "-u": "--udp shows only UDP, --tcp --udp both",
        "-x": "--unix shows only unix sockets",
        "-c": "--watch 1s shows them again every second",
        "-i": "--port N shows who has a port",
        "-e": "--json has user, uid and inode",
    },
    rules=[
        one_of("--quiet", "--json"),
        one_of("--quiet", "--watch"),
        one_of("--quiet", "--color"),
        one_of("--json", "--color"),
        one_of("--listening", "--state"),
        excluded("--port", by=_UNIX_ALONE, why="a unix socket has no port"),
        excluded("-4", "-6", by=_UNIX_ALONE, why="a unix socket has no IP address"),
        one_of("-4", "-6"),
    ],
    examples=[
        ("netkit sockets --listening --port 8080", "who has the port"),
        ("netkit sockets --tcp --state established --watch 1s", "connections, as they come and go"),
        ("netkit sockets --pid $(cat app.pid) --json", "the sockets of a process, for a script"),
    ],
)
@click.argument("words", nargs=-1)
@options.version_options
@DATA.option("--listening", help="Show listening sockets, and datagram sockets without a peer.")
@DATA.option("--tcp", help="Show TCP sockets; --tcp --udp shows both.")
@DATA.option("--udp", help="Show UDP sockets.")
@DATA.option("--unix", help="Show unix sockets.")
@DATA.option("--port", type=word("N"), help="Show sockets with this port at either end.")
@DATA.option("--pid", type=COUNT, help="Show sockets that this process has open.")
@DATA.option("--state", type=word("S"), help="Show sockets in this state; the names of ss and netstat work too.")
@TIME.option("--watch", type=DURATION, help="Show the sockets again every D until interrupted.")
@gathered("view", View, options.color_option)
@gathered("verbosity", Verbosity, options.quiet_option, options.json_option)
def sockets(
    words: tuple[str, ...],
    addresses: options.AddressOptions,
    listening: bool,
    tcp: bool,
    udp: bool,
    unix: bool,
    port: str | None,
    pid: int | None,
    state: str | None,
    watch: float | None,
    view: View,
    verbosity: Verbosity,
) -> int:
    """Show the TCP, UDP and unix sockets of this machine: queues, addresses, state, user and process.

    netkit reads the tables of the kernel, for its own network namespace, on Linux only. A socket is shown if it matches
    all options. --listening shows TCP and unix listeners, and datagram sockets that have an address but no peer.

    On a terminal netkit shows a table. In a pipe it prints columns below a line with their names; no cell is empty or
    contains a space. A - means none, or no permission: only root sees the processes of others. In a pipe --watch writes
    an empty line between two rounds; with --json it does not, and each object has its time.

    The queues are the bytes that wait to be read and those that wait to be acknowledged. For a listener they are the
    connections that wait to be accepted and their maximum. A process is PID/NAME, or PID+3/NAME if three more have the
    socket open; --json has all of them. Unix sockets are u_str, u_dgr and u_seq, as in ss, for the types stream, dgram
    and seqpacket; an unnamed one is inode:N. Names that are not printable ASCII are escaped.

    Exit code 3 means that there is no such socket; --watch continues. 26 means that the kernel does not have these
    tables, or does not show them to this user, as for --pid with a process of another user.
    """
    from netkit.core.address import parse_port
    from netkit.core.errors import Exit, Invalid
    from netkit.services.sockets import PROTOCOLS, Wanted, parse_state

    if words:
        meant = "--state S shows those in a state" if words[0] == "state" else "--port N shows who has a port"
        raise Invalid(f"unexpected word {words[0]!r}: {meant}")
    chosen = tuple(name for name, given in zip(PROTOCOLS, (tcp, udp, unix), strict=True) if given) or PROTOCOLS
    wanted = Wanted(
        protocols=chosen,
        family="ipv4" if addresses.ipv4 else "ipv6" if addresses.ipv6 else None,
        listening=listening,
        state=None if state is None else parse_state(state, chosen),
        port=None if port is None else parse_port(port),
        pid=pid,
    )

    async def work() -> None:
        from netkit.output import sockets as sockets_module

        if verbosity.quiet:
            sockets_module.check(wanted)
        elif watch is None:
            await sockets_module.write(wanted, view, json=verbosity.json)
        else:
            await sockets_module.watch(wanted, watch, view, json=verbosity.json)

    return run.Run(verbosity)(work(), refused=Exit.READ)
