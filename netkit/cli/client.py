"""The common options of clients, and dialling with them: ``ClientOptions`` and ``UrlDialler``."""

import os
from functools import cache, cached_property
from typing import TYPE_CHECKING

from netkit.cli.command import gathered
from netkit.cli.layers import NO_LAYERS, LayerOptions
from netkit.cli.options import AddressOptions, TlsOptions
from netkit.cli.proxies import ProxyOptions, hops
from netkit.cli.run import Run
from netkit.core.errors import Exit, Failure, Invalid
from netkit.output.console import Verbosity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from netkit.core.address import Endpoint
    from netkit.core.connection import Handler
    from netkit.core.dial import Connect, Dialling
    from netkit.core.events import Observer
    from netkit.core.kernel import Group
    from netkit.core.layer import Layer
    from netkit.core.stream import Connection
    from netkit.protocols.proxy import Proxy
    from netkit.protocols.url import Url


class ClientOptions:
    """The options of a client; times are in seconds. ``dial`` connects to ``address``, which may be set later.

    A UDP conversation sends each line as a datagram if it is ``in_lines``, otherwise each chunk that was read. It ends
    when nothing was received for ``silence`` seconds after the end of our input.
    """

    protocol: str | None = None

    def __init__(
        self,
        verbosity: Verbosity,
        address: "Endpoint | None" = None,
        addresses: AddressOptions = AddressOptions(),
        keepalive: float | None = None,
        tls: TlsOptions = TlsOptions(),
        between: LayerOptions = NO_LAYERS,
        proxies: ProxyOptions = ProxyOptions(),
        wait: float | None = None,
        idle_timeout: float | None = None,
        timeout: float | None = None,
        stats: bool = False,
    ) -> None:
        self.verbosity = verbosity
        self.addresses = addresses
        self.keepalive = keepalive
        self.tls = tls
        self.between = between
        self.proxies = proxies
        self.wait = wait
        self.idle_timeout = idle_timeout
        self.timeout = timeout
        self.stats = stats
        self.in_lines = False
        self.silence = 1.0
        self._warned: set[str] = set()
        if address is not None:
            self.set_address(address)

    @cached_property
    def run(self) -> Run:
        """The run, created on first use, when all options are set."""
        run = Run(self.verbosity, self.timeout, stats=self.stats, protocol=self.protocol)
        run.read_first(*self.files)
        return run

    @property
    def files(self) -> tuple[str | None, ...]:
        """The input files that the options name."""
        return *self.tls.files, self.proxies.proxy_user_file

    @property
    def observe(self) -> "Observer":
        """The observer of the run's events."""
        return self.run.observe

    def watch(self, watching: "Callable[[Observer], Observer]") -> None:
        """Wrap the observer of the run by ``watching``. Must be called before ``observe`` is used."""
        self.run.observe = watching(self.run.observe)

    def set_address(self, address: "Endpoint", *, name: str | None = None) -> None:
        """Set the address to dial. Its certificate must be for ``name``, by default its host. Raises Invalid."""
        self.check(address)
        self.address = address
        self.tls = self.tls.wanted(address, implied=self.between.secures)
        self._name = name or address.host or ("localhost" if address.path is None else "")
        if self.tls.tls and self.tls.verifies_name and not (self._name or self.tls.servername):
            raise Invalid("a unix socket has no name that a certificate could have: --servername NAME says it")

    def check(self, address: "Endpoint") -> None:
        """Raise Invalid if the options do not allow to dial ``address``, or the address of a proxy."""
        for host in (address.host, *(proxy.endpoint.host for proxy in self.proxies.chain)):
            self.addresses.check(host)
        self.proxies.check(address)

    @cached_property
    def connect(self) -> "Connect | None":
        """The function that connects through the proxies, if any. Raises Failure READ, and Invalid."""
        if not self.proxies.chain:
            return None
        from netkit.protocols.tunnel import through_proxies

        return through_proxies(hops(self.proxies.authenticated(self.proxies.chain), self.tls.cafile, self.observe))

    @property
    def may_drop(self) -> bool:
        """Whether our half-close may make the peer drop unsent data, as TLS servers and proxies do."""
        return self.tls.tls or bool(self.proxies.chain)

    def layers(
        self, tls: TlsOptions, address: "Endpoint", name: str, whom: str, client: "Connection | None" = None
    ) -> "list[Layer]":
        """The layers of a connection to ``address``, the one next to the wire first.

        The certificate must be for ``name``; messages call the server ``whom``. ``client`` is the connection for which
        a relay dials. Raises Failure READ for a file.
        """
        from netkit.core.layer import Setting

        setting = Setting(address, tls.servername or name, client, self.observe)
        if tls.tls and whom not in self._warned:
            self._warned.add(whom)
            tls.warn(whom, self.verbosity)
        secure = [tls.client(name, self.observe, starttls=self.between.offers("starttls"))] if tls.tls else []
        return self.between.around(secure, setting)

    def securing(self, name: str, observe: "Observer", alpn: tuple[str, ...] = ()) -> "list[Layer]":
        """The layers of a connection to the server ``name``, with TLS. Raises Failure READ for a file.

        ``alpn`` are the protocols to offer unless --alpn says others.
        """
        from netkit.core.address import Endpoint
        from netkit.core.layer import Setting

        setting = Setting(Endpoint(name), self.tls.servername or name, observe=observe)
        tls = self.tls._replace(alpn=self.tls.alpn or alpn)
        return self.between.around([tls.client(name, observe, starttls=self.between.offers("starttls"))], setting)

    def dialling(self, layers: "list[Layer] | None" = None, client: "Connection | None" = None) -> "Dialling":
        """The core's settings to dial with ``layers``, by default our own, for ``client``. Raises Failure READ."""
        if layers is None:
            layers = self.layers(self.tls, self.address, self._name, str(self.address), client)
        return self.addresses.dialling(layers, self.connect)

    async def dial(
        self,
        group: "Group",
        address: "Endpoint | None" = None,
        how: "Dialling | None" = None,
        wait: float | None = None,
    ) -> "Connection":
        """Connect to ``address`` as ``how`` says, by default our own. The tasks of layers are started in ``group``.

        ``wait`` is for how many seconds to keep trying to reach a peer again; else --wait says that of the first time.

        The caller cancels the group and closes the connection. Raises Failure: READ, and those of the core's ``dial``.
        """
        from netkit.core.dial import NOT_BACK, UNREACHED, dial, dial_until

        if self.address.udp:
            from netkit.core.udp_stream import dial_datagrams

            return await dial_datagrams(
                self.address,
                self.dialling([]),
                self.observe,
                group,
                by_line=self.in_lines,
                patience=self.silence,
            )
        address, how = address or self.address, how or self.dialling()
        patience = self.wait if wait is None else wait
        if patience is None:
            stream = await dial(address, how, self.observe, group)
        else:
            again = UNREACHED if wait is None else NOT_BACK
            stream = await dial_until(address, patience, how, self.observe, group, again)
        if self.keepalive is not None:
            stream.keep_alive(self.keepalive)
        return stream

    async def converse(self, handler: "Handler", wait: float | None = None) -> None:
        """Dial, and run ``handler`` on the connection; ``wait`` is as for ``dial``. Raises the Failures of both."""
        from netkit.core.connection import serve_connection
        from netkit.core.kernel import Group

        async with Group() as group:
            await serve_connection(await self.dial(group, wait=wait), handler, self.observe, group=group)


class UrlDialler:
    """Dials the servers of ``urls`` and of the URLs that they redirect to, or ``via`` in place of all of them.

    It uses the proxies of the command line, or the one that the environment names for a URL. Without a proxy,
    ``resolved`` maps a host and port to the address to dial. The caller says whether a URL is of our ``own`` origin,
    that of a typed URL: only such a server gets our certificate and --servername.

    Raises Invalid for a URL that the options do not allow to dial.
    """

    def __init__(
        self,
        client: ClientOptions,
        urls: "Sequence[Url]",
        via: "Endpoint | None",
        resolved: "Iterable[tuple[Endpoint, Endpoint]]" = (),
    ) -> None:
        from netkit.protocols.proxy import Environment, read_environment

        self._client = client
        self._via = via
        self._resolved = dict(resolved)
        for url in urls:
            client.set_address(self._place(url), name=url.endpoint.host)
        typed = via is not None or client.proxies.proxy
        self._environment = Environment() if typed else read_environment(os.environ)
        for proxy in self._environment[:2]:
            client.addresses.check(proxy.endpoint.host if proxy else None)
        self._chain = cache(self._authenticated)
        self._secured = cache(self._layers)
        for url in urls:
            if url.endpoint in self._resolved and self._environment.proxy(url):
                raise Invalid(f"--resolve does not apply: the environment has a proxy for {url}; --proxy '' uses none")

    async def __call__(self, url: "Url", own: bool, group: "Group", patience: float | None = None) -> "Connection":
        layers = self._secured(url, own) if url.scheme == "https" else []
        how = self._client.dialling(layers)
        if patience is not None:
            how = how._replace(timeout=min(how.timeout, patience))
        if chain := self._chain(url):
            from netkit.protocols.tunnel import through_proxies, to_last_proxy

            connect = through_proxies if self.forwarder(url) is None else to_last_proxy
            way = hops(chain, self._client.tls.cafile, self._client.observe)
            how = how._replace(connect=connect(way))
        try:
            return await self._client.dial(group, url.endpoint if chain else self._place(url), how)
        except Invalid as error:  # a redirect leads to a name, in spite of --numeric
            raise Failure(Exit.RESOLVE, f"resolve {url.endpoint.host}", str(error)) from error

    def _place(self, url: "Url") -> "Endpoint":
        return self._via or self._resolved.get(url.endpoint, url.endpoint)

    def forwarder(self, url: "Url") -> "Proxy | None":
        """The HTTP proxy that gets the request for ``url`` in place of its server, if any. Raises Failure READ."""
        chain = self._chain(url)
        return chain[-1] if chain and chain[-1].is_http and url.scheme == "http" else None

    def _authenticated(self, url: "Url") -> "tuple[Proxy, ...]":
        named = self._environment.proxy(url)
        proxies = self._client.proxies
        return proxies.authenticated((named,) if named else proxies.chain)

    def _layers(self, url: "Url", own: bool) -> "list[Layer]":
        tls = self._client.tls.for_url(own)
        return self._client.layers(tls, self._place(url), url.endpoint.host or "", url.authority)


class DatagramClientOptions(ClientOptions):
    """The options of a client that sends datagrams; its totals count them."""

    protocol = "udp"


client_options = gathered("client", ClientOptions)
datagram_client_options = gathered("client", DatagramClientOptions)
