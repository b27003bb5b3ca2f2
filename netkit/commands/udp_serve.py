"""Serve: receive datagrams"""

from netkit.cli import habits, options
from netkit.cli import server as server_module
from netkit.cli.command import ADDRESSES, DATA, ENDING, command
from netkit.cli.rules import excluded, one_of
from netkit.cli.types import COUNT, DURATION, GROUP, TEXT, choice


@command(
    words="ADDRESS [-- COMMAND...]",
    habits={
        **habits.SERVER_HABITS,
        "--ssl": "datagrams are not secured",
        "-u": "datagrams are all that netkit udp-serve receives",
        "-e": "--exec CMD runs a program for each peer",
        "-c": "--sh-exec CMD has the shell run it",
        "-k": "any number of peers are heard",
        "-w -i": "--idle-timeout D gives up when nothing comes",
        "-W": "--count N",
    },
    rules=[
        one_of("--reply", "--reply-with", "--exec", "--sh-exec"),
        one_of("--until-idle", "--idle-timeout"),
        excluded(
            *("--output", "--raw", "--count", "--until-idle", "--join", "--until", "--accept-timeout"),
            by=("--exec", "--sh-exec"),
            why="a program talks to each peer",
        ),
        excluded("--join", by=options.UNIX, why="a unix socket has no groups"),
    ],
    examples=[
        ("netkit udp-serve :514 --output lines", "print what other machines log"),
        ("netkit udp-serve 0 --count 1 -- make test", "a receiver for as long as a test runs"),
        ("netkit udp-serve :5000 --output hex | netkit udp-send --hex host 5000", "pass datagrams on"),
    ],
)
@options.output_options
@DATA.option(
    "--reply", type=TEXT, help="Answer each datagram with TEXT; {host} and {port} are its sender's, {{ is a brace."
)
@DATA.option("--reply-with", type=choice("echo", "upper"), help="Answer each datagram with itself, or in upper case.")
@options.program_options
@ENDING.option("--count", type=COUNT, help="Receive N datagrams, then exit.")
@ENDING.option("--until-idle", type=DURATION, help="Exit with 0 when no datagram comes for D.")
@ADDRESSES.option(
    "--join", type=GROUP, multiple=True, help="Join this multicast group, GROUP or GROUP%INTERFACE; repeatable."
)
@server_module.datagram_server_options
def udp_serve(
    server: server_module.ServerOptions,
    output: options.OutputOptions,
    reply: bytes | None,
    reply_with: str | None,
    program: options.ProgramOptions,
    count: int | None,
    until_idle: float | None,
    join: tuple[str, ...],
) -> int:
    """Receive datagrams from every peer, and print each as it arrives.

    A bare PORT receives on this machine only; :PORT receives on every interface. --join GROUP also receives what is
    sent to a multicast group on that port. It uses the interface of ADDRESS, or with GROUP%INTERFACE that interface.

    Datagrams arrive whole, with up to 65507 bytes (about 200 KiB over unix: sockets), and may be empty. --output lines
    ends each with a newline unless it has one. hex prints a line of digits for each, which netkit udp-send --hex reads
    back. json prints an object with the source of each. The kernel drops datagrams that come faster than they are read.
    netkit reports how many; the true number may be higher, as datagrams that the kernel had joined count as one.

    Replies are sent from the address that the datagram was sent to, and are marked (DSCP 1). There is no reply to
    datagrams with that mark, from ports 7, 13, 17, 19 and 37, or from this server itself, so that a forged datagram
    cannot make two servers answer each other.

    With --exec or --sh-exec a program talks to each peer. It reads what the datagrams contain, and each of its writes
    is sent as one datagram. It is ended when its peer has been silent for 60s (--idle-timeout).
    """
    from netkit.core.pump import fresh
    from netkit.output import datagrams
    from netkit.services.broadcast import Output
    from netkit.services.join import Terminal
    from netkit.services.server import Service
    from netkit.services.transforms import incoming
    from netkit.services.udp import formatter, serve

    if program.argv is not None:
        from netkit.core.relay import Ending, Input
        from netkit.services import exec
        from netkit.services.join import Conversation

        ending, patience = Ending(Input.PROGRAM), server.idle_timeout or 60.0
        conversation = Conversation(ending, lambda _: [], server.observe, idle_timeout=patience)
        argv = program.argv

        def programs() -> Service:
            return Service(exec.running(argv, conversation, lambda code: None, alone=False), converses=True)

        return server.run(programs)
    serve.check_groups(server.address, join, server.addresses.family())
    kind = output.kind(server.verbosity)
    answer = serve.replying(reply, reply_with)
    receivers = [] if answer is None else [serve.answering(answer, server.observe)]

    def receiving() -> Service:
        if kind == "none":
            return Service(receiver=server.receiver(*receivers))
        stdout = Output(Terminal(reads=False))
        form = formatter.with_change(datagrams.shown(kind, "udp-serve"), fresh(incoming(output.raw)))
        receiver = server.receiver(serve.showing(form, stdout), *receivers)
        return Service(None, stdout.run, receiver, flush=stdout.flush)

    return server.run(receiving, groups=join, count=count, until_idle=until_idle)
