"""Parsing the targets of a check: ports of hosts and networks, unix sockets, URLs of services; from stdin, too."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from netkit.core.address import Endpoint, Protocol, family_of, is_digits, parse, parse_ports, take_host, without_tls
from netkit.core.errors import Invalid
from netkit.core.stdio import iter_lines

if TYPE_CHECKING:
    from netkit.protocols.url import Url

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HTTP = ("http", "https")
_DRIVER = re.compile(r"^(postgresql|mysql|mariadb)\+\w+$")  # a program's way to speak it, in URLs of SQLAlchemy
_NETWORK = re.compile(r"(?P<before>\[?[0-9A-Fa-f.:]+)/(?P<length>[0-9]+)(?P<after>\]?(?::.*)?)", re.DOTALL)
_MAX_ADDRESSES = 65536  # of a network
_MAX_LINE = 1 << 16  # bytes of a line of stdin


class Target(NamedTuple):
    """Ports of a host, each once, in the order given. A ``host`` of "" is this machine, ``10.0.0.0/8`` is a network.

    A unix socket has a ``path``, and the port 0. ``probe`` is the scheme of the readiness probe, "" for none;
    ``resource`` is the path of its URL, and ``alpn`` are the protocols to offer in TLS. For http and https there is
    a ``url``. ``word`` is how messages call a target that is more than a host and ports.
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
        """The host, or the unix socket, for results."""
        return self.word if self.path is not None else self.host or "localhost"

    def __str__(self) -> str:
        """The target as it could be typed: ``db:22,80,8000-8010``."""
        if self.word:
            return self.word
        return str(Endpoint(self.place, 0, tls=self.tls)).removesuffix("0") + _listed(self.ports)

    @property
    def is_network(self) -> bool:
        """Whether it stands for each address of a network."""
        address, slash, _ = self.host.partition("/")
        return bool(slash) and family_of(address) is not None

    @property
    def size(self) -> int:
        """The number of its ports, times the number of its addresses."""
        if not self.is_network:
            return len(self.ports)
        from ipaddress import ip_network

        return len(self.ports) * ip_network(self.host).num_addresses

    @property
    def first(self) -> Endpoint:
        """Its first port at its first address."""
        return Endpoint(next(self.hosts()).host, self.ports[0], self.path)

    def hosts(self) -> "Iterator[Target]":
        """Yield a target for each address of a network; otherwise just this target."""
        if not self.is_network:
            yield self
            return
        from ipaddress import ip_network

        for address in ip_network(self.host):
            yield self._replace(host=str(address))


STDIN = Target("-", ())
"""Stands for the targets on standard input."""


def _listed(ports: Sequence[int]) -> str:
    """Ports as they could be typed, with ranges of three and more."""
    runs: list[list[int]] = []
    for port in ports:
        if runs and port == runs[-1][-1] + 1:
            runs[-1].append(port)
        else:
            runs.append([port])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def take_targets(words: Sequence[str], protocol: Protocol = "tcp", *, tls: bool = False) -> list[Target]:
    """Parse ``HOST:PORTS``, ``HOST PORTS``, ``unix:PATH`` and URLs; return each target once. Raises Invalid.

    HOST may be a network in CIDR notation; ``-`` is STDIN. Two targets may overlap. ``protocol`` and ``tls`` (the same
    as ``tls:`` before each) apply to targets that do not have their own.
    """
    if not words:
        raise Invalid("a target is missing: HOST PORTS or HOST:PORTS")
    found: dict[Target, None] = {}
    rest = list(words)
    while rest:
        first = rest.pop(0)
        if first == "-":
            target = STDIN
        elif match := _URL.fullmatch(first):
            target = _service(first, match[1].lower(), match[2], protocol, tls)
        else:
            word, secured = without_tls(first, "target")
            if secured and _URL.fullmatch(word):
                from netkit.protocols.url import without_password

                raise Invalid(f"target {without_password(first)!r}: a URL says itself whether there is TLS")
            if word.startswith("unix:"):
                target = _unix(first, protocol, tls=tls or secured)
            else:
                host, text = _take_host(word, rest)
                target = Target(host, tuple(parse_ports(text, protocol)), tls or secured, protocol)
        found[target] = None
    return list(found)


def _take_host(word: str, rest: list[str]) -> tuple[str, str]:
    """Return the checked host or network of a word, and its ports, removed from the front of ``rest`` if need be."""
    network = _NETWORK.fullmatch(word)
    if network:
        if not rest and ":" not in network["after"]:
            raise Invalid(f"target {word!r} has no port: NETWORK PORTS or NETWORK:PORTS")
        word = network["before"] + network["after"]
    elif word.startswith("udp:") and word.count(":") > 1:
        raise Invalid(f"target {word!r} does not apply: udp: is for connect and listen, and --udp checks UDP ports")
    host, ports = take_host(word, rest, "target", is_port=is_digits(word) and not rest)
    return _check_network(f"{host}/{network['length']}") if network else host, ports


def _check_network(text: str) -> str:
    from netkit.core.access import parse_network

    network = parse_network(text)
    if network.num_addresses > _MAX_ADDRESSES:
        raise Invalid(f"network {network} has {network.num_addresses} addresses, and {_MAX_ADDRESSES} are the most")
    return str(network)


def _unix(word: str, protocol: Protocol, *, tls: bool) -> Target:
    if protocol == "udp":
        raise Invalid(f"target {word!r} is a unix socket: --udp does not apply")
    if tls:
        raise Invalid(f"target {word!r} is a unix socket: TLS does not apply")
    endpoint = parse(word, "client")
    return Target("", (0,), path=endpoint.path, word=str(endpoint))


def _service(word: str, scheme: str, rest: str, protocol: Protocol, tls: bool) -> Target:
    """Parse the URL of a service. Its user and password are ignored, and messages do not show them."""
    from netkit.protocols.probes.table import PROBES
    from netkit.protocols.url import parse as parse_url
    from netkit.protocols.url import parse_place, without_password

    if protocol == "udp":
        raise Invalid(f"target {without_password(word)!r} says itself how it is reached: --udp does not apply")
    if scheme in _HTTP:
        url = parse_url(word)
        host, port = url.endpoint.host or "", url.endpoint.port
        return Target(host, (port,), tls or scheme == "https", probe=scheme, url=url, word=str(url))
    scheme = _DRIVER.sub(r"\1", scheme)
    if scheme in ("tcp", "udp"):
        udp = ", with --udp" if scheme == "udp" else ""
        raise Invalid(f"no probe for {scheme}://: HOST:PORT alone looks whether a port is open{udp}")
    if scheme not in PROBES:
        raise Invalid(f"no probe for {scheme}://: there are http, https, {', '.join(PROBES)}")
    probe = PROBES[scheme]
    authority, _, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    place = authority.rpartition("@")[2]
    if "," in place:  # as in URLs of MongoDB and PostgreSQL
        raise Invalid(f"target {without_password(word)!r} has several hosts: write a URL for each")
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


async def with_stdin(targets: Sequence[Target], take: Callable[[Sequence[str]], Sequence[Target]]) -> list[Target]:
    """Replace STDIN among the targets by those on standard input; ``take`` parses the words of a line.

    A line has any number of targets; ``#`` at the beginning of a word starts a comment. Raises Invalid for a line that
    cannot be parsed, and if there is no target at all; Failure READ.
    """
    given: dict[Target, None] = {}
    number = 0
    async for line in iter_lines("a target", _MAX_LINE):
        number += 1
        words = line.split()
        with suppress(StopIteration):
            del words[next(place for place, word in enumerate(words) if word.startswith("#")) :]
        try:
            found = take(words) if words else ()
            if STDIN in found:
                raise Invalid("'-' is no target within standard input")
        except Invalid as error:
            raise Invalid(f"line {number} of stdin: {error}", hint=error.hint) from error
        given.update(dict.fromkeys(found))
    if not given and len(targets) == 1:
        raise Invalid("a target is missing: there is none on stdin")
    at = targets.index(STDIN)
    return list(dict.fromkeys((*targets[:at], *given, *targets[at + 1 :])))
