"""The proxy options of clients."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from netkit.cli.command import ADDRESSES, Decorator, gathered
from netkit.cli.rules import Case, needs
from netkit.cli.types import FILE, Parsed

if TYPE_CHECKING:
    from netkit.core.address import Endpoint
    from netkit.core.events import Observer
    from netkit.protocols.proxy import Proxy
    from netkit.protocols.tunnel import Hop

_PASSWORD = "NETKIT_PROXY_PASSWORD"
_MAX_LINE = 4096  # bytes


class ProxyOptions(NamedTuple):
    """The proxies to go through, the nearest first, and the file with user and password. ``--proxy ''`` is None."""

    proxy: "tuple[Proxy | None, ...]" = ()
    proxy_user_file: str | None = None

    @property
    def chain(self) -> "tuple[Proxy, ...]":
        """The proxies, without None."""
        return tuple(proxy for proxy in self.proxy if proxy is not None)

    @property
    def secured(self) -> bool:
        """Whether a proxy is an https:// one, whose certificate is verified."""
        return any(proxy.scheme == "https" for proxy in self.chain)

    def check(self, target: "Endpoint") -> None:
        """Raise Invalid if the last proxy cannot be asked for ``target``, or another one for the next proxy."""
        for proxy in reversed(self.chain):
            proxy.check(target)
            target = proxy.endpoint

    def authenticated(self, chain: "tuple[Proxy, ...]") -> "tuple[Proxy, ...]":
        """The proxies. One without a user gets that of the file; one with a user only, the environment's password.

        Raises Failure READ for the file, and Invalid for a user or password that a proxy cannot take.
        """
        named = self._named()
        secret = os.environ.get(_PASSWORD)
        found = []
        for proxy in chain:
            if proxy.user is None and named is not None:
                proxy = proxy.authenticated(*named)
            elif proxy.user is not None and secret and not proxy.password and not proxy.scheme.startswith("socks4"):
                proxy = proxy.authenticated(proxy.user, os.fsencode(secret))
            found.append(proxy)
        return tuple(found)

    def _named(self) -> tuple[bytes, bytes] | None:
        if self.proxy_user_file is None:
            return None
        from netkit.core.errors import Exit, Failure, doing
        from netkit.core.files import source

        action = f"read user and password from {self.proxy_user_file}"
        with doing(Exit.READ, action), open(source(self.proxy_user_file), "rb") as file:
            line = file.readline(_MAX_LINE).rstrip(b"\r\n")
        user, colon, password = line.partition(b":")
        if not colon:
            raise Failure(Exit.READ, action, "its first line is not USER:PASSWORD")
        return user, password


def hops(chain: "tuple[Proxy, ...]", cafile: str | None, observe: "Observer") -> "list[Hop]":
    """The proxies as hops, with TLS to https:// ones. Raises Failure READ for ``cafile``."""
    from netkit.protocols.tunnel import Hop

    found = []
    for proxy in chain:
        secure = None
        if proxy.scheme == "https":
            from netkit.core.tls import client
            from netkit.core.tls_context import Security

            secure = client(Security(cafile), proxy.endpoint.host or "", observe, options={"--cafile"})
        found.append(Hop(proxy, secure))
    return found


def _parse_or_none(text: str) -> "Proxy | None":
    from netkit.protocols.proxy import parse

    return parse(text) if text else None


_FORM = "socks5h://[USER:PASSWORD@]HOST[:PORT], or socks5, socks4a, socks4, http, https; repeatable, the nearest first"

HTTPS_PROXY = Case("an https:// proxy", lambda values: ProxyOptions(values.get("proxy", ())).secured)


def _proxy_options(parse: Callable[[str], "Proxy | None"] | str, words: str) -> Decorator:
    return gathered(
        "proxies",
        ProxyOptions,
        ADDRESSES.option("--proxy", type=Parsed("URL", parse), multiple=True, help=f"{words}: {_FORM}."),
        ADDRESSES.option(
            "--proxy-user-file", type=FILE, help="Read USER:PASSWORD from FILE, for proxies whose URL has no user."
        ),
        rules=[needs("--proxy-user-file", on="--proxy")],
    )


proxy_options = _proxy_options("netkit.protocols.proxy.parse", "Connect through a proxy")
fetch_proxy_options = _proxy_options(
    _parse_or_none, "Go through a proxy instead of those in the environment, '' through none"
)
