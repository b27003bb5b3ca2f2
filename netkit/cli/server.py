"""What servers are told on their command lines, and running them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from netkit.cli import options
from netkit.cli.command import address, gathered, option
from netkit.cli.rules import Case, excluded
from netkit.cli.run import run, totals
from netkit.core.errors import Exit, Invalid
from netkit.output import console
from netkit.output.console import Verbosity, hint

if TYPE_CHECKING:
    from netkit.core.address import Endpoint
    from netkit.core.connection import Handler
    from netkit.core.dial import Dialling
    from netkit.core.pump import Change
    from netkit.core.udp_server import Receiver
    from netkit.services.server import Service, Sockets


class Server:
    """All that a server was told on its command line, ``observe``, and ``stop``, the event that ends it in order."""

    _fields: tuple[str, ...] = ("address", "command", "reach", "serving", "clients", "tls", "clocks", "talk")

    def __init__(
        self,
        address: "Endpoint",
        command: tuple[str, ...],
        reach: options.FamilyOptions,
        serving: options.Serving,
        clocks: options.Clocks,
        talk: Verbosity,
        clients: options.Clients | None = None,
        tls: options.Tls | None = None,
    ) -> None:
        from netkit.core.sync import Event
        from netkit.output.events import observer

        self.address = address
        self.command = command
        self.reach = reach
        self.serving = serving
        self.clients = clients or options.Clients()
        self.clocks = clocks
        self.talk = talk
        self._secure = tls.server(address) if tls else None
        self.stop = Event()
        self._totals = totals(serving.stats)
        self.observe = observer(talk, self._totals.watching if self._totals else None)

    def changes(self) -> "list[Callable[[], Change]]":
        """Return what the data of each client goes through first: the watch of --until."""
        pattern = self.serving.until
        if pattern is None:
            return []
        from netkit.services.transforms import until

        return [lambda: until(pattern, self.stop.set, cut=False)]

    def receiver(self, *receivers: "Receiver") -> "Receiver":
        """Return what hands datagrams to each of these, and then to the watch of --until."""
        from netkit.services.udp.serve import in_turn, until

        pattern = self.serving.until
        return in_turn(*receivers, *([until(pattern, self.stop)] if pattern is not None else []))

    def check(self, transport: options.Transport) -> None:
        """Raise Invalid if datagrams are to be served and the address is none for them."""
        if (transport.udp or transport.both) and self.address.path is not None:
            raise Invalid(f"address {str(self.address)!r} is none for UDP datagrams")

    def service(self, transport: options.Transport, handler: "Handler", change: Callable[[bytes], bytes]) -> "Service":
        """Return what serves clients with ``handler``, or sends datagrams back through ``change``, or both."""
        from netkit.services.server import Service

        if not (transport.udp or transport.both):
            return Service(handler)
        from netkit.services.udp.serve import answering, changed

        receiver = self.receiver(answering(changed(change), self.observe))
        return Service(None if transport.udp else handler, receiver=receiver)

    def run(
        self,
        serve: "Callable[[], Service]",
        *,
        one_shot: bool = False,
        recorded: "options.Recorded | None" = None,
        groups: Sequence[str] = (),
        count: int | None = None,
    ) -> int:
        """Listen, tell where, and do what ``serve`` returns until it is time to stop; return the exit code.

        ``serve`` is called before anybody can come, and may raise Failure. ``one_shot`` serves one client, and ends as
        that conversation does. What goes over the wire is ``recorded``. Datagrams are received from multicast
        ``groups`` too, and no more than ``count``.
        """
        family = self.reach.family()
        serving, clients = self.serving, self.clients

        async def work() -> int:
            from netkit.core.policy import Policy
            from netkit.core.tcp_server import PRIVATE
            from netkit.services.server import keep_serving, open_sockets, port_file, welcoming

            layers = [self._secure(self.observe)] if self._secure else []
            service = serve()
            policy = Policy(
                limit=1 if one_shot or clients.once else clients.max_clients or count,
                max_conns=clients.max_conns or Policy().max_conns,
                accept_timeout=serving.accept_timeout,
                idle_timeout=None if service.handler else self._patience(),
                admits=serving.admits(),
                layers=layers,
            )
            if service.handler is not None:
                handler = welcoming(service.handler, clients.greet, clients.keepalive)
                if recorded is not None:
                    handler = recorded.around(handler, self.talk)
                service = service._replace(handler=handler)
            sockets = await open_sockets(
                self.address,
                service,
                groups=groups,
                family=family,
                numeric=self.reach.numeric,
                mode=PRIVATE if clients.mode is None else clients.mode,
                observe=self.observe,
            )
            try:
                with port_file(serving.port_file, sockets.port):
                    return await keep_serving(
                        sockets,
                        service,
                        policy,
                        self.command,
                        ready=lambda: self._tell(sockets),
                        stop=self.stop,
                        duration=serving.duration,
                        one_shot=one_shot,
                        observe=self.observe,
                    )
            finally:
                sockets.close()

        return run(work(), self.talk, timeout=self.clocks.timeout, refused=Exit.BIND, totals=self._totals)

    def _patience(self) -> float | None:
        """Return how long there may be no datagram at all."""
        return self.clocks.idle_timeout

    def _tell(self, sockets: "Sockets") -> None:
        for each in sockets.listening:
            self.observe(each)
        wordy = self.talk.verbose and not (self.talk.quiet or self.talk.json)
        if wordy and self.address.host is None and sockets.port is not None:
            hint(f"this machine only; {console.program} :{sockets.port} takes every interface")
        if self.serving.print_port:
            console.write(f"{sockets.port}\n")


class Relay(Server):
    """A server whose clients are joined to ``target``."""

    _fields = (*Server._fields, "target", "connect_timeout", "source", "udp")

    def __init__(
        self,
        target: "Endpoint",
        connect_timeout: float,
        source: tuple[str, int] | None,
        udp: bool,
        tls: options.BothTls,
        talk: Verbosity,
        **told: Any,
    ) -> None:
        from netkit.core.lookup import check_numeric

        for each in (told["address"], target):
            if udp and (each.tls or each.path is not None):
                raise Invalid(f"address {str(each)!r} is none for UDP datagrams")
        near, far = tls.sides(told["address"], target)
        super().__init__(tls=near, talk=talk, **told)
        if target.path is not None and target.path == self.address.path:
            raise Invalid(f"{target} is this relay itself")
        if self.reach.numeric and target.host:
            check_numeric(target.host)
        self.target = target
        self.udp = udp
        self._far = far.client(target, talk)
        self._dialling = options.Dial(connect_timeout, source, None).dialling(self.reach)

    def dialled(self) -> "Dialling":
        """Return how the target is dialled. Raises Failure READ for files that cannot be used."""
        return self._dialling._replace(layers=[self._far(self.observe)] if self._far else [])

    def associations(self) -> "Service":
        """Return what relays datagrams."""
        from netkit.services.server import Service
        from netkit.services.udp.relay import IDLE_TIMEOUT, MAX_ASSOCIATIONS, Associations

        found = Associations(
            self.target,
            self.dialled(),
            limit=self.clients.max_conns or MAX_ASSOCIATIONS,
            idle_timeout=self.clocks.idle_timeout or IDLE_TIMEOUT,
            observe=self.observe,
        )
        return Service(beside=found.run, receiver=self.receiver(found.receive))

    def _patience(self) -> float | None:
        return None


class DatagramServer(Server):
    """A server that knows no clients, and nothing of their options."""

    _fields = tuple(field for field in Server._fields if field not in ("clients", "tls"))


server_options = gathered(
    "server",
    Server,
    address("server"),
    options.reach_options,
    options.serving_options,
    options.client_options,
    options.server_tls_options,
    options.clock_options,
    options.talk_options,
    rules=[excluded("-4", "-6", "-n", by=options.UNIX, why="a unix socket has no IP address")],
)

datagram_server_options = gathered(
    "server",
    DatagramServer,
    address("server", udp=True),
    options.reach_options,
    options.serving_options,
    options.datagram_clock_options,
    options.talk_options,
)

_TO_UNIX = Case("a unix: address as TARGET", lambda values: values["target"].path is not None)

_BOTH_UNIX = Case("two unix: addresses", lambda values: values["address"].path and values["target"].path)

relay_options = gathered(
    "server",
    Relay,
    address("server", target=True),
    options.reach_options,
    options.connect_timeout_option,
    options.source_option,
    option("--udp", is_flag=True, section="Serving", help="Relay UDP datagrams instead of TCP."),
    options.serving_options,
    options.client_options,
    options.both_tls_options,
    options.clock_options,
    options.talk_options,
    rules=[
        excluded("-4", "-6", by=_BOTH_UNIX, why="a unix socket has no IP address"),
        excluded("-n", "--source", by=_TO_UNIX, why="a unix socket has no IP address"),
        excluded(
            *("--once", "--max-clients", "--greet", "--keepalive", "--mode"),
            by="--udp",
            why="datagrams make no connections",
        ),
    ],
)
