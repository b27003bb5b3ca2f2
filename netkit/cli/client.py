"""What clients are told on their command lines, and dialling as it says."""

from functools import cache, cached_property
from typing import TYPE_CHECKING

from netkit.cli.command import gathered
from netkit.cli.layers import NO_LAYERS, LayerOptions
from netkit.cli.options import FamilyOptions, TlsOptions
from netkit.cli.run import Run
from netkit.core.errors import Invalid
from netkit.output.console import Verbosity

if TYPE_CHECKING:
    from netkit.core.address import Endpoint
    from netkit.core.connection import Handler
    from netkit.core.dial import Dialling
    from netkit.core.events import Observer
    from netkit.core.kernel import Group
    from netkit.core.layer import Layer
    from netkit.core.stream import Connection
    from netkit.protocols.url import Url
    from netkit.services.fetch.client import Dial


class ClientOptions:
    """All that a client was told on its command line, in seconds. It dials ``address``, which may be set later."""

    protocol: str | None = None

    def __init__(
        self,
        verbosity: Verbosity,
        address: "Endpoint | None" = None,
        family: FamilyOptions = FamilyOptions(),
        source: tuple[str, int] | None = None,
        interface: str | None = None,
        connect_timeout: float = 10.0,
        keepalive: float | None = None,
        tls: TlsOptions = TlsOptions(),
        between: LayerOptions = NO_LAYERS,
        wait: float | None = None,
        idle_timeout: float | None = None,
        timeout: float | None = None,
        stats: bool = False,
    ) -> None:
        self.verbosity = verbosity
        self.family = family
        self.source = source
        self.interface = interface
        self.connect_timeout = connect_timeout
        self.keepalive = keepalive
        self.tls = tls
        self.between = between
        self.wait = wait
        self.idle_timeout = idle_timeout
        self.timeout = timeout
        self.stats = stats
        self._warned: set[str] = set()
        if address is not None:
            self.set_address(address)

    @cached_property
    def run(self) -> Run:
        """The run, made when all is known that it was told."""
        return Run(self.verbosity, self.timeout, stats=self.stats, protocol=self.protocol)

    @property
    def observe(self) -> "Observer":
        """Gets the events of the run."""
        return self.run.observe

    def set_address(self, address: "Endpoint", *, name: str | None = None) -> None:
        """Dial ``address``, whose certificate is for its host, or for ``name``. Raises Invalid if it has neither."""
        self.family.check(address.host)
        self.address = address
        self.tls = self.tls.wanted(address)
        self._name = name or address.host or ("localhost" if address.path is None else "")
        if self.tls.tls and not (self._name or self.tls.servername or self.tls.insecure):
            raise Invalid("a unix socket has no name that a certificate could have: --servername NAME says it")

    def layers(
        self, tls: TlsOptions, address: "Endpoint", name: str, whom: str, client: "Connection | None" = None
    ) -> "list[Layer]":
        """What a connection to ``address`` goes through before it is used, in this order.

        A certificate is for ``name``; ``whom`` is what a person calls the server. A relay dials for its ``client``.
        Raises Failure READ for a file.
        """
        from netkit.core.layer import Setting

        setting = Setting(address, name, client, self.observe)
        layers = self.between.make(setting, over_tls=False)
        if tls.tls:
            if whom not in self._warned:
                self._warned.add(whom)
                tls.warn(whom, self.verbosity)
            layers.append(tls.client(name, self.observe))
        return layers + self.between.make(setting, over_tls=True)

    def dialling(self, layers: "list[Layer] | None" = None, client: "Connection | None" = None) -> "Dialling":
        """How the core dials: through these layers, or our own, made for the ``client`` if any. Raises Failure READ."""
        from netkit.core.dial import Dialling

        if layers is None:
            layers = self.layers(self.tls, self.address, self._name, str(self.address), client)
        return Dialling(
            self.family.family(),
            self.family.numeric,
            self.connect_timeout,
            self.source,
            layers,
            interface=self.interface,
        )

    async def dial(
        self,
        group: "Group",
        address: "Endpoint | None" = None,
        layers: "list[Layer] | None" = None,
        wait: float | None = None,
    ) -> "Connection":
        """The connection to our address, or to another through these layers, which run in ``group``.

        ``wait`` is how long to keep trying, in seconds, where it is not --wait that says so.

        The caller cancels the group and closes the connection. Raises Failure: READ, and those of the core's ``dial``.
        """
        from netkit.core.dial import dial, dial_until

        address, how = address or self.address, self.dialling(layers)
        patience = self.wait if wait is None else wait
        if patience is None:
            stream = await dial(address, how, self.observe, group)
        else:
            stream = await dial_until(address, patience, how, self.observe, group)
        if self.keepalive is not None:
            stream.keep_alive(self.keepalive)
        return stream

    async def converse(self, handler: "Handler", wait: float | None = None) -> None:
        """Dial, and let ``handler`` have the connection until it ends. Raises Failure as both do."""
        from netkit.core.connection import serve_connection
        from netkit.core.kernel import Group

        async with Group() as group:
            await serve_connection(await self.dial(group, wait=wait), handler, self.observe, group=group)

    def url_dialler(self, url: "Url", via: "Endpoint | None") -> "Dial":
        """What dials the server of ``url`` and of those it leads to, or ``via`` in place of all of them.

        It is told whether a URL has the origin of ``url``: our certificate, its key and the name are for that alone.
        """
        self.set_address(via or url.endpoint, name=url.endpoint.host)

        @cache
        def layers(url: "Url", own: bool) -> "list[Layer]":
            return self.layers(self.tls.for_url(own), via or url.endpoint, url.endpoint.host or "", url.authority)

        async def dial(url: "Url", own: bool, group: "Group") -> "Connection":
            secured = layers(url, own) if url.scheme == "https" else []
            return await self.dial(group, via or url.endpoint, secured)

        return dial


class DatagramClientOptions(ClientOptions):
    """A client that sends datagrams, and whose totals are of them."""

    protocol = "udp"


client_options = gathered("client", ClientOptions)
datagram_client_options = gathered("client", DatagramClientOptions)
