"""The common options of servers, relays and proxies, and running them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from netkit.cli import options
from netkit.cli.client import ClientOptions
from netkit.cli.command import DATA, ENDING, OUTPUT, SERVING, TIME, address, chained, gathered
from netkit.cli.layers import NO_LAYERS, LayerOptions, layer_options
from netkit.cli.options import SECURED, UDP, UNIX, AddressOptions, RecordOptions, TlsOptions
from netkit.cli.proxies import ProxyOptions, proxy_options
from netkit.cli.rules import Case, excluded, needs, one_of
from netkit.cli.run import Run
from netkit.cli.types import CIDR, COUNT, DURATION, FILE, MODE, REGEX, TEXT
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.record import Record
from netkit.output import console
from netkit.output.console import Verbosity, hint

if TYPE_CHECKING:
    from netkit.core.access import Network
    from netkit.core.address import Endpoint
    from netkit.core.connection import Ended, Handler
    from netkit.core.layer import Layer
    from netkit.core.pump import Change
    from netkit.core.search import Pattern
    from netkit.core.stream import Connection
    from netkit.core.udp_server import Receiver
    from netkit.services.server import Service, Sockets


class ServingOptions(Record):
    """What a server reports, which clients it serves and how, and when it ends. It serves TCP by default."""

    port_file: str | None
    print_port: bool
    accept_timeout: float | None
    duration: float | None
    until: "Pattern | None"
    allow: "tuple[Network, ...]"
    deny: "tuple[Network, ...]"
    stats: bool
    once: bool = False
    max_clients: int | None = None
    max_conns: int | None = None
    greet: bytes | None = None
    keepalive: float | None = None
    mode: int | None = None
    udp: bool = False
    both: bool = False

    def admits(self) -> Callable[[str], bool] | None:
        """A function that says whether a host may connect, or None if all may."""
        if not self.allow and not self.deny:
            return None
        from netkit.core.access import Access

        return Access(self.allow, self.deny).admits


class ServerOptions:
    """The options of a server. ``observe`` gets its events; setting ``stop`` shuts it down gracefully."""

    def __init__(
        self,
        verbosity: Verbosity,
        address: "Endpoint",
        command: tuple[str, ...],
        addresses: AddressOptions,
        serving: ServingOptions,
        tls: TlsOptions = TlsOptions(),
        between: LayerOptions = NO_LAYERS,
        idle_timeout: float | None = None,
        timeout: float | None = None,
    ) -> None:
        from netkit.core.sync import Event

        if serving.udp or serving.both:
            address.check_datagrams()
        if serving.both and address.path is not None:
            raise Invalid(f"address {str(address)!r} is one for connections or for datagrams, and not for both")
        self.verbosity = verbosity
        self.address = address
        self.command = command
        self.addresses = addresses
        self.serving = serving
        self.idle_timeout = idle_timeout
        self.stop = Event()
        self._found = False
        self.tls = tls.wanted(address)
        self.tls.check_server()
        self.between = between
        self._run = Run(verbosity, timeout, stats=serving.stats)
        self._run.read_first(*self.tls.files)
        self.observe = self._run.observe

    def layers(self) -> "list[Layer]":
        """The layers of each connection, the one next to the wire first. Raises Failure READ for a file."""
        from netkit.core.layer import Setting

        setting = Setting(self.address, observe=self.observe, serves=True)
        secure = [self.tls.server(self.observe)] if self.tls.tls else []
        return self.between.around(secure, setting)

    def changes(self, *, one_shot: bool = False) -> "list[Callable[[], Change]]":
        """Factories of the changes to each client's data: the search of --until.

        A match ends the conversation, and thereby a ``one_shot`` server, however long its client takes for the rest of
        our data. It stops another server, which gives its clients a moment to end.
        """
        pattern = self.serving.until
        if pattern is None:
            return []
        from netkit.services.transforms import until

        def found() -> None:
            self._found = True
            if not one_shot:
                self.stop.set()

        return [lambda: until(pattern, found, cut=False)]

    def _expecting(self, handler: "Handler", ended: "list[str]") -> "Handler":
        """Wrap a handler to add to ``ended`` the name of a client that ended before --until matched."""

        async def handle(stream: "Connection") -> "Ended | None":
            how = await handler(stream)
            if not self._found:
                ended.append(stream.name)
            return how

        return handle

    def receiver(self, *receivers: "Receiver") -> "Receiver":
        """The receiver that passes datagrams to each of ``receivers``, then to the search of --until."""
        from netkit.services.udp.serve import in_turn, until

        pattern = self.serving.until
        return in_turn(*receivers, *([until(pattern, self.stop, self.observe)] if pattern is not None else []))

    def service(self, handler: "Handler", change: Callable[[bytes], bytes]) -> "Service":
        """The service that runs ``handler`` for clients, or sends datagrams back through ``change``, or both."""
        from netkit.services.server import Service

        if not (self.serving.udp or self.serving.both):
            return Service(handler)
        from netkit.services.udp.serve import answering, changed

        receiver = self.receiver(answering(changed(change), self.observe))
        return Service(None if self.serving.udp else handler, receiver=receiver)

    def run(
        self,
        serve: "Callable[[], Service]",
        *,
        one_shot: bool = False,
        ended: Callable[[], int] = lambda: 0,
        record: RecordOptions | None = None,
        groups: Sequence[str] = (),
        count: int | None = None,
        until_idle: float | None = None,
    ) -> int:
        """Listen, report the addresses, run the service that ``serve`` returns, and return the exit code.

        ``serve`` is called before clients can connect, and may raise Failure. ``one_shot`` serves one client, and ends
        as its conversation does. ``ended`` returns the exit code if nothing failed. ``record`` says whether data is
        logged or dumped. Datagrams are also received from the multicast ``groups``, at most ``count``, and until none
        came for ``until_idle`` seconds.
        """
        serving = self.serving
        in_vain: list[str] = []

        async def work() -> int:
            from netkit.core.bind import PRIVATE
            from netkit.core.descriptors import raise_limit
            from netkit.core.policy import Policy
            from netkit.services.server import keep_serving, open_sockets, port_file, welcoming

            raise_limit()
            layers = self.layers()
            service = serve()
            policy = Policy(
                limit=1 if one_shot or serving.once else serving.max_clients or count,
                max_conns=serving.max_conns or Policy().max_conns,
                accept_timeout=serving.accept_timeout,
                idle_timeout=None if service.handler else self.idle_timeout,
                until_idle=until_idle,
                admits=serving.admits(),
                layers=layers,
                told="accept_proxy" in self.between,
            )
            if service.handler is not None:
                handler = welcoming(service.handler, serving.greet, serving.keepalive)
                if one_shot and serving.until is not None:
                    handler = self._expecting(handler, in_vain)
                if record is not None:
                    handler = record.around(handler, self.verbosity)
                service = service._replace(handler=handler)
            sockets = await open_sockets(
                self.address,
                service,
                groups=groups,
                family=self.addresses.family(),
                numeric=self.addresses.numeric,
                mode=PRIVATE if serving.mode is None else serving.mode,
                observe=self.observe,
            )
            try:
                with port_file(serving.port_file, sockets.port):
                    code = await keep_serving(
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
            if in_vain and not code:
                raise Failure(Exit.PROTOCOL, f"find {serving.until} in what {in_vain[0]} sent", "it ended before")
            return code or ended()

        return self._run(work(), refused=Exit.BIND)

    async def _tell(self, sockets: "Sockets") -> None:
        from netkit.core.stdio import FileStream

        for each in sockets.listening:
            self.observe(each)
        wordy = self.verbosity.verbose and not (self.verbosity.quiet or self.verbosity.json)
        if wordy and self.address.host is None and sockets.port is not None:
            hint(f"this machine only; {console.program} :{sockets.port} takes every interface")
        if self.serving.print_port:
            stdout = FileStream(-1, console.STDOUT)
            try:
                await stdout.send(b"%d\n" % (sockets.port or 0))
            finally:
                stdout.close()


class RelayOptions(ServerOptions):
    """The options of a relay: a server that joins each client to a target; ``target`` has the options to dial it."""

    def __init__(
        self,
        verbosity: Verbosity,
        address: "Endpoint",
        target: "Endpoint",
        command: tuple[str, ...],
        addresses: AddressOptions,
        serving: ServingOptions,
        tls: TlsOptions,
        between: LayerOptions,
        proxies: ProxyOptions,
        idle_timeout: float | None,
        timeout: float | None,
        shutdown_after: float | None,
    ) -> None:
        if serving.udp:
            address.check_datagrams()
            target.check_datagrams()
        if target.path is not None and target.path == address.path:
            raise Invalid(f"{target} is this relay itself")
        for_clients, for_target = tls.sides(address.tls, target.tls or between.secures, proxies.secured)
        near, far = between.sides()
        super().__init__(
            verbosity, address, command, addresses, serving, tls=for_clients, between=near, timeout=timeout
        )
        self.shutdown_after = shutdown_after
        self.target = ClientOptions(
            verbosity,
            target,
            addresses,
            tls=for_target,
            between=far,
            proxies=proxies,
            idle_timeout=idle_timeout,
        )
        self.target.run = self._run
        self._run.read_first(*self.target.files)

    def relaying(self) -> "Service":
        """The service that joins each client to the target. Raises Failure READ for an unusable TLS file."""
        from netkit.services.server import Service

        target, how = self.target, self.target.dialling()
        if not self.serving.udp:
            from netkit.core.relay import AFTER_THE_ANSWER, AT_ONCE, Shutdown
            from netkit.services.relay import forwarding

            shutdown = AFTER_THE_ANSWER if target.may_drop else AT_ONCE
            if self.shutdown_after is not None:
                shutdown = Shutdown(self.shutdown_after, self.shutdown_after)
            return Service(
                forwarding(
                    target.address,
                    lambda client: target.dialling(client=client),
                    changes=self.changes,
                    keepalive=self.serving.keepalive,
                    shutdown=shutdown,
                    idle_timeout=target.idle_timeout,
                    observe=self.observe,
                )
            )
        from netkit.services.udp.relay import IDLE_TIMEOUT, MAX_ASSOCIATIONS, Associations

        found = Associations(
            target.address,
            how,
            limit=self.serving.max_conns or MAX_ASSOCIATIONS,
            idle_timeout=target.idle_timeout or IDLE_TIMEOUT,
            observe=self.observe,
        )
        return Service(beside=found.run, receiver=self.receiver(found.receive))


transport_options = chained(
    DATA.option("--prefix", type=TEXT, help="Put TEXT, as in --greet, before each line."),
    SERVING.option("--udp", help="Serve UDP datagrams instead of TCP."),
    SERVING.option("--both", help="Serve TCP and UDP on the same port."),
    rules=[
        one_of("--udp", "--both"),
        excluded("--udp", "--both", by="--prefix", why="a datagram is sent back as long as it was"),
        excluded("--udp", "--both", by=SECURED, why="datagrams are not secured"),
        excluded(
            *("--once", "--max-clients", "--max-conns", "--greet", "--keepalive", "--idle-timeout"),
            "--accept-proxy",
            by="--udp",
            why="datagrams make no connections",
        ),
        excluded("--log", "--hexdump", by=("--udp", "--both"), why="datagrams are not recorded"),
        excluded(
            *("--once", "--max-clients", "--accept-timeout"), by="--both", why="there are connections and datagrams"
        ),
    ],
)

_serving_choices = (
    SERVING.option("--port-file", type=FILE, help="Write the port number to FILE while serving."),
    SERVING.option("--print-port", help="Print the port number as the first line on stdout."),
    SERVING.option("--allow", type=CIDR, multiple=True, help="Accept only this network; repeatable."),
    SERVING.option("--deny", type=CIDR, multiple=True, help="Refuse this network; repeatable."),
    ENDING.option("--until", type=REGEX, help="Stop with exit code 0 when a client's data matches."),
    OUTPUT.option("--stats", help="Print what was served at the end, as JSON."),
    TIME.option("--accept-timeout", type=DURATION, help="Exit with 28 if no client comes within D."),
    TIME.option("--for", "duration", type=DURATION, help="Stop after D with exit code 0."),
)

_mode_option = SERVING.option("--mode", type=MODE, help="Mode of the unix socket's file (default: 600).")
_unix_rules = (
    needs("--mode", on=UNIX, why="only a unix socket has a mode"),
    excluded("--port-file", "--print-port", by=UNIX, why="a unix socket has no port"),
    excluded("--allow", "--deny", by=UNIX, why="a unix socket has no IP address"),
)

silent_serving_options = gathered(
    "serving",
    ServingOptions,
    *_serving_choices,
    SERVING.option("--once", help="Serve one client, then exit."),
    SERVING.option("--max-clients", type=COUNT, help="Serve N clients, then exit."),
    SERVING.option("--max-conns", type=COUNT, help="Serve at most N clients at once (default: 4096)."),
    _mode_option,
    TIME.option("--keepalive", type=DURATION, help="Probe a client that is silent for D (TCP keepalive)."),
    rules=[
        one_of("--once", "--max-clients"),
        *_unix_rules,
        excluded("--keepalive", by=UNIX, why="a unix socket has no keepalive"),
    ],
)

serving_options = chained(
    DATA.option("--greet", type=TEXT, help="Send TEXT first; {host} and {port} are the client's, {{ is a brace."),
    silent_serving_options,
)

_stream_options = (
    options.family_options,
    serving_options,
    options.server_tls_options,
    layer_options("accept_proxy"),
)
_unix_rule = excluded("-4", "-6", "-n", by=UNIX, why="a unix socket has no IP address")

server_options = gathered(
    "server",
    ServerOptions,
    address("server"),
    *_stream_options,
    options.server_timeout_options,
    options.verbosity_options,
    rules=[_unix_rule],
)

conversation_server_options = gathered(
    "server",
    ServerOptions,
    address("server", conversation=True),
    *_stream_options,
    options.conversation_timeout_options,
    options.verbosity_options,
    rules=[
        _unix_rule,
        excluded("--tls", by=UDP, why="datagrams are not secured"),
        excluded("--keepalive", "--accept-proxy", by=UDP, why="datagrams make no connection"),
    ],
)

datagram_server_options = gathered(
    "server",
    ServerOptions,
    address("server", udp=True),
    options.family_options,
    gathered("serving", ServingOptions, *_serving_choices, _mode_option, rules=_unix_rules),
    options.datagram_timeout_options,
    options.verbosity_options,
    rules=[_unix_rule],
)

_TO_UNIX = Case("a unix: address as TARGET", lambda values: values["target"].path is not None)
_BOTH_UNIX = Case("two unix: addresses", lambda values: values["address"].path and values["target"].path)

relay_options = gathered(
    "server",
    RelayOptions,
    address("server", target=True),
    options.family_options,
    options.connect_timeout_option(outcome=""),
    options.own_end_options,
    SERVING.option("--udp", help="Relay UDP datagrams instead of TCP."),
    serving_options,
    options.relay_tls_options,
    proxy_options,
    layer_options("accept_proxy", "send_proxy", "starttls"),
    options.shutdown_after_option,
    options.server_timeout_options,
    options.verbosity_options,
    rules=[
        excluded("-4", "-6", by=_BOTH_UNIX, why="a unix socket has no IP address"),
        excluded("-n", "--source", "--interface", by=_TO_UNIX, why="a unix socket has no IP address"),
        excluded("--proxy", by=_TO_UNIX, why="a proxy connects to hosts and ports"),
        excluded(
            *("--once", "--max-clients", "--greet", "--keepalive", "--shutdown-after"),
            *("--accept-proxy", "--proxy"),
            by="--udp",
            why="datagrams make no connections",
        ),
        excluded("--send-proxy", "--starttls", by="--udp", why="datagrams make no connections"),
    ],
)
