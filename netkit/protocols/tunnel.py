"""Connecting to a target through a chain of proxies."""

from collections.abc import Sequence
from typing import NamedTuple

from netkit.core.address import Endpoint, family_of
from netkit.core.dial import Connect, Dialling, TimeLimit, interleave, open_connection
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.events import Observer, Tunnelled
from netkit.core.kernel import Group, now
from netkit.core.layer import Layer
from netkit.core.lookup import lookup
from netkit.core.stream import Connection
from netkit.protocols.proxy import Proxy, TargetFailure


class Hop(NamedTuple):
    """A proxy of a chain, and the layer that secures the connection to it, if any."""

    proxy: Proxy
    secure: Layer | None = None


def through_proxies(hops: Sequence[Hop]) -> Connect:
    """A ``Connect`` that goes through these proxies, the nearest first. The peer of the connection is the nearest one.

    If a proxy takes only addresses and no names, those of the target are tried one after the other, each over a new
    connection.
    """

    async def connect(
        target: Endpoint, how: Dialling, limit: TimeLimit, observe: Observer, group: Group | None
    ) -> Connection:
        stream = await _Way(how, limit, observe, group).reach(hops, target, str(target))
        stream.name = str(target)
        return stream

    return connect


def to_last_proxy(hops: Sequence[Hop]) -> Connect:
    """A ``Connect`` that goes to the last of these proxies, through those before it, for any target."""

    async def connect(
        target: Endpoint, how: Dialling, limit: TimeLimit, observe: Observer, group: Group | None
    ) -> Connection:
        return await _Way(how, limit, observe, group).reach_proxy(hops, str(target))

    return connect


class _Way:
    """Makes a connection through a chain; it holds the arguments that are the same for all proxies."""

    def __init__(self, how: Dialling, limit: TimeLimit, observe: Observer, group: Group | None) -> None:
        self._how = how
        self._limit = limit
        self._observe = observe
        self._group = group

    async def reach(self, hops: Sequence[Hop], target: Endpoint, whom: str) -> Connection:
        """Connect to ``target``, which messages call ``whom``, through ``hops``, or directly if there are none."""
        if not hops:
            return await open_connection(target, self._how, self._limit, self._observe)
        proxy = hops[-1].proxy
        action = f"connect to {whom} through proxy {proxy}"
        target = target._replace(tls=False)
        try:
            proxy.check(target)
        except Invalid as error:
            raise Failure(Exit.PROXY, action, str(error)) from error
        addresses = await self._addresses(proxy, target)
        missed: list[tuple[str, TargetFailure]] = []
        for address in addresses:
            stream = await self.reach_proxy(hops, whom)
            try:
                stream = await self._ask(stream, proxy, address, action)
            except TargetFailure as failure:
                stream.abort()
                missed.append((address.host or "", failure))
                if failure.exit is Exit.TIMEOUT:
                    break  # the time limit is for all addresses together
            except BaseException:
                stream.abort()
                raise
            else:
                return stream
        raise _of_all(missed, resolved=addresses != [target])

    async def reach_proxy(self, hops: Sequence[Hop], whom: str) -> Connection:
        """Connect to the last of these proxies. ``whom`` is the target, for messages."""
        *nearer, (proxy, secure) = hops
        name = f"proxy {proxy} for {whom}"
        try:
            stream = await self.reach(nearer, proxy.endpoint, name)
        except Failure as failure:
            raise _of_proxy(failure, name, straight=not nearer) from failure
        stream.name = name
        if secure is None:
            return stream
        assert self._group is not None, "layers need a group"
        try:
            with self._limit.during(f"secure the connection to {name}"):
                return await secure(stream, self._group)
        except BaseException:
            stream.abort()
            raise

    async def _addresses(self, proxy: Proxy, target: Endpoint) -> list[Endpoint]:
        """The targets to ask the proxy for, in order: the name, or the addresses if it does not resolve names."""
        if proxy.resolves or family_of(target.host or "") is not None:
            return [target]
        with self._limit.during(f"resolve {target.host}"):
            found = await lookup(target, proxy.family, numeric=self._how.numeric, observe=self._observe)
        return [Endpoint(address.sockaddr[0], target.port) for address in interleave(found)]  # no proxy knows our zones

    async def _ask(self, stream: Connection, proxy: Proxy, target: Endpoint, action: str) -> Connection:
        """Do the proxy's handshake for ``target``, and restart the counts of the stream."""
        if proxy.is_http:
            from netkit.protocols.http_connect import handshake
        else:
            from netkit.protocols.socks import handshake

        begun = now()
        try:
            with self._limit.during(action):
                stream = await handshake(stream, proxy, target, action)
        except Failure as failure:
            if failure.exit is Exit.TIMEOUT:
                raise TargetFailure(Exit.TIMEOUT, action, failure.reason, hint=failure.hint) from failure
            if failure.exit is Exit.PROXY or isinstance(failure, TargetFailure):
                raise
            raise Failure(Exit.PROXY, action, failure.reason) from failure
        stream.counts.restart()
        self._observe(Tunnelled(str(proxy), str(target), now() - begun))
        return stream


def _of_proxy(failure: Failure, whom: str, *, straight: bool) -> Failure:
    """The failure to reach a proxy, worded so that it is not taken for a failure of the target."""
    exit, action = failure.exit, failure.action
    if exit is Exit.RESOLVE:
        exit, action = Exit.PROXY_NAME, f"resolve {whom}"
    elif straight and exit in (Exit.CONNECT, Exit.TIMEOUT):
        action = f"connect to {whom}"
    told = Failure(exit, action, failure.reason, detail=failure.detail, hint=failure.hint)
    told.errno = failure.errno
    return told


def _of_all(missed: Sequence[tuple[str, TargetFailure]], *, resolved: bool) -> TargetFailure:
    """One failure for all addresses of a target."""
    _, last = missed[-1]
    reasons: dict[str, list[str]] = {}
    for host, failure in missed:
        reasons.setdefault(failure.reason, []).append(host)
    if len(reasons) == 1:
        last.detail = ", ".join(host for host, _ in missed) if resolved else last.detail
        return last
    detail = ", ".join(f"{', '.join(hosts)}: {reason}" for reason, hosts in reasons.items())
    exit = min((failure.exit for _, failure in missed), key=(Exit.TIMEOUT, Exit.CONNECT, Exit.PROXY).index)
    return TargetFailure(exit, last.action, "no address answered", detail=detail)
