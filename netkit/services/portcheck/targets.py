"""What is checked, as it is typed: ports of hosts, unix sockets, services that can be asked whether they are ready."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from netkit.core.address import Protocol, is_digits, parse, parse_ports, take_host, without_tls
from netkit.core.errors import Invalid

if TYPE_CHECKING:
    from netkit.protocols.url import Url

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HTTP = ("http", "https")


class Target(NamedTuple):
    """Ports of a host, each once and in the order given; an empty ``host`` is this machine.

    A unix socket has a ``path``, and no port but 0. ``probe`` is the scheme of what asks the service whether it is
    ready, ``resource`` what of it is asked for, and ``alpn`` the protocols that TLS agrees on; with http and https
    there is a ``url``. ``word`` is how a person is told of a target that is more than a host and a port.
    """

    host: str
    ports: tuple[int, ...]
    tls: bool = False
    protocol: Protocol = "tcp"
    path: str | None = None
    probe: str = ""
    resource: str = ""
    alpn: tuple[str, ...] = ()
    url: "Url | None" = None
    word: str = ""

    @property
    def place(self) -> str:
        """The host, or the unix socket, as results have it."""
        return self.word if self.path is not None else self.host or "localhost"


def take_targets(words: Sequence[str], protocol: Protocol = "tcp", *, tls: bool = False) -> list[Target]:
    """Read ``HOST:PORTS``, ``HOST PORTS``, ``unix:PATH`` and URLs from the left, each port once. Raises Invalid.

    ``protocol`` and ``tls``, which is as ``tls:`` before them all, are for those that do not say it themselves.
    """
    if not words:
        raise Invalid("a target is missing: HOST PORTS or HOST:PORTS")
    found: dict[Target, dict[int, None]] = {}
    rest = list(words)
    while rest:
        first = rest.pop(0)
        if match := _URL.fullmatch(first):
            target = _service(first, match[1].lower(), match[2], protocol, tls)
            ports = list(target.ports)
        else:
            word, secured = without_tls(first, "target")
            if secured and _URL.fullmatch(word):
                from netkit.protocols.url import without_password

                raise Invalid(f"target {without_password(first)!r}: a URL says itself whether there is TLS")
            if word.startswith("unix:"):
                target, ports = _unix(first, protocol, tls=tls or secured), [0]
            else:
                host, text = take_host(word, rest, "target", is_port=is_digits(word) and not rest)
                target, ports = Target(host, (), tls or secured, protocol), parse_ports(text, protocol)
        found.setdefault(target._replace(ports=()), {}).update(dict.fromkeys(ports))
    return [target._replace(ports=tuple(ports)) for target, ports in found.items()]


def _unix(word: str, protocol: Protocol, *, tls: bool) -> Target:
    if protocol == "udp":
        raise Invalid(f"target {word!r} is a unix socket: --udp does not apply")
    if tls:
        raise Invalid(f"target {word!r} is a unix socket: TLS does not apply")
    endpoint = parse(word, "client")
    return Target("", (), path=endpoint.path, word=str(endpoint))


def _service(word: str, scheme: str, rest: str, protocol: Protocol, tls: bool) -> Target:
    """A target that says what ready means. Of the URL of a service host and port count; the rest is never shown."""
    from netkit.protocols.probes.table import PROBES
    from netkit.protocols.url import parse as parse_url
    from netkit.protocols.url import parse_place, without_password

    if protocol == "udp":
        raise Invalid(f"target {without_password(word)!r} says itself how it is reached: --udp does not apply")
    if scheme in _HTTP:
        url = parse_url(word)
        host, port = url.endpoint.host or "", url.endpoint.port
        return Target(host, (port,), tls or scheme == "https", probe=scheme, url=url, word=str(url))
    if scheme not in PROBES:
        raise Invalid(f"no probe for {scheme}://: there are http, https, {', '.join(PROBES)}")
    probe = PROBES[scheme]
    authority, _, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    place = authority.rpartition("@")[2]
    try:
        endpoint = parse_place(place, probe.port)
    except Invalid as error:
        raise Invalid(f"target {without_password(word)!r}: {error}") from None
    shown = place if place.isascii() else str(endpoint)
    secured = probe.tls or (tls and probe.protocol == "tcp")
    return Target(
        endpoint.host or "",
        (endpoint.port,),
        secured,
        probe.protocol,
        probe=scheme,
        resource=path,
        alpn=probe.alpn,
        word=f"{scheme}://{shown}" + (f"/{path}" if path and probe.resource else ""),
    )
