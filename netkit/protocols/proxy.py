"""Parsing of proxy URLs and of the environment (http_proxy, no_proxy). Nothing is looked up."""

import base64
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from netkit.core.address import Endpoint, family_of
from netkit.core.errors import Failure, Invalid
from netkit.protocols.url import Url, parse_place, without_password

_PORTS = {"socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080, "http": 8080, "https": 443}
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)/?")
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
AUTHENTICATION_HINT = "USER:PASSWORD@ in front of the proxy's host, or --proxy-user-file FILE"
_MAX_SOCKS5 = 255  # bytes of a user, and of a password: RFC 1929


class TargetFailure(Failure):
    """A failure of the target that a proxy reports. ``errno`` is that of an equivalent connect(2), if it is known.

    The exit code is CONNECT, TIMEOUT if the proxy did not answer, or PROXY if it does not know the type of address, or
    closed the connection.
    """


class Proxy(NamedTuple):
    """A proxy and our credentials. Its text is the URL without user and password, so that messages do not show them.

    ``user`` is None if none was given; an empty ``password`` is the same as none.
    """

    scheme: str
    endpoint: Endpoint
    user: bytes | None = None
    password: bytes = b""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.endpoint}"

    def __repr__(self) -> str:
        return str(self)

    @property
    def is_http(self) -> bool:
        """Whether it speaks HTTP, so that http URLs can be requested from it directly."""
        return self.scheme in ("http", "https")

    @property
    def resolves(self) -> bool:
        """Whether it gets host names and looks them up itself."""
        return self.scheme not in ("socks4", "socks5")

    @property
    def family(self) -> int:
        """The only address family that it supports, or AF_UNSPEC."""
        return int(socket.AF_INET if self.scheme.startswith("socks4") else socket.AF_UNSPEC)

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization, Basic (RFC 7617); None without a user."""
        if self.user is None:
            return None
        return "Basic " + base64.b64encode(self.user + b":" + self.password).decode()

    def authenticated(self, user: bytes, password: bytes) -> "Proxy":
        """A copy with these credentials. Raises Invalid if its protocol cannot express them."""
        if self.is_http and b":" in user:
            raise Invalid(f"proxy {self}: a user has no colon in HTTP")
        if self.scheme.startswith("socks4") and password:
            raise Invalid(f"proxy {self}: SOCKS4 knows users, and no passwords")
        if self.scheme.startswith("socks4") and b"\0" in user:
            raise Invalid(f"proxy {self}: a user has no NUL byte in SOCKS4")
        if self.scheme.startswith("socks5") and not (0 < len(user) <= _MAX_SOCKS5 >= len(password)):
            raise Invalid(f"proxy {self}: SOCKS5 wants a user of 1 to 255 bytes, and a password of at most 255")
        return self._replace(user=user, password=password)

    def check(self, target: Endpoint) -> None:
        """Raise Invalid for a target that makes no sense to a proxy, or that its protocol cannot express."""
        if not target.host:
            raise Invalid(f"address '{target}' is this machine: write the host that the proxy is to connect to")
        if "%" in target.host:
            raise Invalid(f"address '{target}' has a zone, which means nothing to a proxy")
        if self.family == socket.AF_INET and family_of(target.host) == socket.AF_INET6:
            raise Invalid(f"address '{target}' is IPv6, which SOCKS4 does not know: write socks5://")


def parse(text: str) -> Proxy:
    """Parse ``SCHEME://[USER[:PASSWORD]@]HOST[:PORT]``, user and password percent-encoded. Raises Invalid."""
    shown = without_password(text)
    if not text:
        raise Invalid("the URL of the proxy is empty")
    if _CONTROL.search(text):
        raise Invalid(f"proxy {shown!r} contains a space or a control character")
    if not _HAS_SCHEME.match(text):
        place = shown.lstrip("/")
        raise Invalid(f"proxy {shown!r} has no scheme: write socks5h://{place} or http://{place}")
    scheme = text.partition("://")[0].lower()
    if scheme not in _PORTS:
        raise Invalid(f"proxy {shown!r} is of scheme {scheme}: there are {', '.join(_PORTS)}")
    match = _PARTS.fullmatch(text)
    if not match:
        encoded = "in user and password / is %2F, ? is %3F and # is %23"
        raise Invalid(f"proxy {shown!r}: {encoded if '@' in text else 'behind host and port is nothing'}")
    userinfo, at, place = match[2].rpartition("@")
    try:
        found = Proxy(scheme, parse_place(place, _PORTS[scheme]))
    except Invalid as error:
        raise Invalid(f"proxy {shown!r}: {error}") from None
    if not at:
        return found
    user, _, password = (unquote_to_bytes(part) for part in os.fsencode(userinfo).partition(b":"))
    return found.authenticated(user, password)


class Environment(NamedTuple):
    """The proxies of the environment for http and https URLs, and the hosts, domains and networks without proxy.

    As in curl the variables are https_proxy and HTTPS_PROXY, http_proxy in lower case only (in a CGI program HTTP_PROXY
    is a header field of the client), all_proxy and ALL_PROXY for both, no_proxy and NO_PROXY.
    """

    http: Proxy | None = None
    https: Proxy | None = None
    excluded: tuple[str, ...] = ()

    def proxy(self, url: Url) -> Proxy | None:
        """The proxy for a URL, if any."""
        found = self.https if url.scheme == "https" else self.http
        host = (url.endpoint.host or "").removesuffix(".")
        return None if any(_covers(pattern, host) for pattern in self.excluded) else found


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Parse the variables of the environment; the default scheme is http. Raises Invalid, which names the variable."""
    everything = ("all_proxy", "ALL_PROXY")
    excluded = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return Environment(
        _first(environ, "http_proxy", *everything),
        _first(environ, "https_proxy", "HTTPS_PROXY", *everything),
        tuple(excluded.lower().replace(",", " ").split()),
    )


def _first(environ: Mapping[str, str], *names: str) -> Proxy | None:
    for name in names:
        if text := environ.get(name):
            if text.lower().startswith("socks://"):  # set by some desktops; curl takes it for socks4, too
                text = "socks4" + text[len("socks") :]
            try:
                return parse(text if _HAS_SCHEME.match(text) else f"http://{text}")
            except Invalid as error:
                raise Invalid(f"{name} in the environment: {error}") from None
    return None


def _covers(pattern: str, host: str) -> bool:
    """Whether a word of no_proxy matches a host: ``*``, a network, or a name with all its subdomains."""
    if pattern == "*":
        return True
    if family_of(host) is None:
        name = pattern.strip(".")
        return bool(name) and f".{host}".endswith(f".{name}")
    try:
        return ipaddress.ip_address(host.partition("%")[0]) in ipaddress.ip_network(pattern.strip("[]"), strict=False)
    except ValueError:
        return False
