"""Looking names up: by the system's resolver as connect does, or by asking DNS servers; many at a time, in order."""

import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from netkit.core.address import Endpoint, check_host, family_of, parse_port, split, without_tls
from netkit.core.dial import interleave
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.events import ignore
from netkit.core.kernel import Group, Task, now
from netkit.core.layer import Layer
from netkit.core.lookup import canonical, lookup, resolving, reverse
from netkit.core.stdio import iter_lines
from netkit.core.sync import Semaphore

_MAX_LOOKUPS = 16  # at one time
_MAX_LINE = 1024  # bytes of a line that may be a name
_DNS_PORT, _SECURED_PORT = 53, 853  # the latter of RFC 7858
_CONFIGURATION = "/etc/resolv.conf"


class Value(NamedTuple):
    """One address, name or record; ``kind`` is "address", "name" or a type of DNS. ``ttl`` is in seconds."""

    kind: str
    text: str
    ttl: int | None = None


class Answer(NamedTuple):
    """What is known of a name, or of this machine if it is empty: at least one value; who told, if not the system."""

    name: str
    values: tuple[Value, ...]
    seconds: float
    canonical: str | None = None
    server: str | None = None
    protocol: str | None = None


class Outcome(NamedTuple):
    """A name as it was given, and its answer, or why there is none."""

    name: str
    result: Answer | Failure


class Query(NamedTuple):
    """How to look up: which records, and whom to ask, over TLS with ``layers``; none of these for the system."""

    family: int = 0
    timeout: float = 10.0
    canonical: bool = False
    port: int | None = None
    kinds: tuple[str, ...] = ()
    server: Endpoint | None = None
    layers: Sequence[Layer] = ()


def parse_query(
    words: Sequence[str], kind: str | None, service: str | None, server: str | None, *, tls: bool = False
) -> Query:
    """Read what is to be looked up for these names: a type of record, a service's port, a server; raise Invalid."""
    kinds: tuple[str, ...] = ()
    if kind is not None:
        from netkit.protocols.dns import check_kind

        kinds = (check_kind(kind),)
    port = None if service is None else parse_port(service)
    query = Query(port=port, kinds=kinds, server=None if server is None else parse_server(server, tls=tls))
    for word in words:
        if word != "-":
            check(word, query)
    return query


def parse_server(text: str, *, tls: bool = False) -> Endpoint:
    """Read the address of a DNS server, whose port need not be given; ``tls`` is as ``tls:`` in front of it."""
    word, secured = without_tls(text, "server")
    if word.startswith("unix:"):
        raise Invalid(f"server {text!r} is a unix socket")
    tls = tls or secured
    host, port = split(word)
    if host or not word.startswith(":"):
        host = check_host(host)
    usual = _SECURED_PORT if tls else _DNS_PORT
    return Endpoint(host, usual if port is None else parse_port(port, protocol="tcp" if tls else "udp"), tls=tls)


def check(name: str, how: Query) -> str:
    """Check a name or an address, and return it as it is looked up. Raises Invalid."""
    if how.kinds and name == ".":
        return name
    if name.count(":") == 1:
        raise Invalid(f"name {name!r} has a port")
    if how.kinds and name.startswith("*."):
        return "*." + check(name[2:], how)
    try:
        host = check_host(name)
    except Invalid:
        if how.kinds and _is_dns_name(name):
            return name
        raise
    if family_of(host) is not None and how.kinds not in ((), ("PTR",)):
        raise Invalid(f"host {host!r} is an address, and has no {how.kinds[0]} record: see --type PTR")
    return host


def _is_dns_name(name: str) -> bool:
    from netkit.protocols.dns import is_name

    return is_name(name)


async def answer(host: str, how: Query) -> Answer:
    """Look one name up, or an address for its name. Raises Failure."""
    if how.kinds or how.server:
        return await _from_dns(host, how)
    with resolving(host, how.timeout):
        return await _from_system(host, how)


async def _from_system(host: str, how: Query) -> Answer:
    begun = now()
    name: str | None = None
    if family_of(host) is None:
        found, name = await canonical(host, 0, how.family)
    elif how.port is None:
        return Answer(host, (Value("name", await reverse(host)),), now() - begun)
    else:
        found = await lookup(Endpoint(host), how.family, observe=ignore)
    hosts = [address.host for address in interleave(found)]
    if how.canonical:
        values = [Value("name", name or host)]
    else:
        values = [Value("address", text if how.port is None else str(Endpoint(text, how.port))) for text in hosts]
    return Answer(host, tuple(values), now() - begun, name)


async def _from_dns(host: str, how: Query) -> Answer:
    """Ask for a name, or where the system's servers are asked, for those that its search list makes of it, in turn."""
    begun = now()
    failures: dict[str, Failure] = {}
    for name in [host] if how.server else _candidates(host):
        try:
            return (await _asked(name, how, begun))._replace(name=host)
        except Failure as failure:
            if failure.exit is not Exit.RESOLVE:
                raise
            failures[name] = failure
    raise failures[host]


async def _asked(host: str, how: Query, begun: float) -> Answer:
    from netkit.protocols.dns import Reply, ask

    with resolving(how.server, how.timeout):
        servers = await _servers(how)
    kinds = how.kinds or _kinds(host, how.family)
    replies: dict[str, Reply] = {}

    async def one(kind: str) -> None:
        replies[kind] = await ask(host, kind, servers, begun, how.timeout, how.layers)

    async with Group() as group:
        for kind in kinds:
            group.start_soon(one(kind))
    first = replies[kinds[0]]
    values = tuple(Value(*record) for kind in kinds for record in replies[kind].records)
    if not values:
        alias = "" if first.canonical == host.rstrip(".") else f", {first.canonical}, its canonical name"
        reason = f"no {' or '.join(kinds)} record"
        raise Failure(Exit.RESOLVE, f"resolve {host}", reason, detail=str(first.server) + alias)
    if how.canonical:
        values = (Value("name", first.canonical),)
    return Answer(host, values, now() - begun, first.canonical, str(first.server), first.protocol)


def _kinds(host: str, family: int) -> tuple[str, ...]:
    """The types of record that answer for a name, or for an address, unless others are asked for."""
    if family_of(host) is not None:
        return ("PTR",)
    return {0: ("A", "AAAA"), socket.AF_INET: ("A",), socket.AF_INET6: ("AAAA",)}[family]


async def _servers(how: Query) -> list[Endpoint]:
    if how.server is None:
        return [Endpoint(host, _DNS_PORT) for host in _configured()]
    if how.layers:
        return [how.server._replace(tls=False)]  # whose addresses are raced when it is dialled
    found = await lookup(how.server, 0, observe=ignore)
    return [Endpoint(address.host, how.server.port) for address in found]


def _configured() -> list[str]:
    """The system's name servers."""
    found = [row[1] for row in _configuration() if row[0] == "nameserver" and family_of(row[1]) is not None]
    return found or ["127.0.0.1"]


def _candidates(host: str) -> list[str]:
    """The names that ``host`` may stand for, in the order in which the system's resolver asks for them."""
    if host.endswith(".") or family_of(host) is not None:
        return [host]
    suffixes: list[str] = []
    dots = 1
    for word, *values in _configuration():
        if word in ("search", "domain"):
            suffixes = values
        elif word == "options":
            dots = next((int(each[6:]) for each in values if re.fullmatch("ndots:[0-9]{1,2}", each)), dots)
    longer = [f"{host}.{suffix}" for each in suffixes if (suffix := each.strip("."))]
    return [host, *longer] if host.count(".") >= dots else [*longer, host]


def _configuration() -> list[list[str]]:
    """The rows of resolv.conf(5) that say something."""
    try:
        with open(_CONFIGURATION, encoding="utf-8", errors="replace") as file:
            return [row for line in file if len(row := line.split()) > 1]
    except OSError:
        return []


async def local_host(how: Query) -> Answer:
    """What this machine is called: its host name, its full name and the addresses of that. Raises Failure."""
    host = socket.gethostname()
    begun = now()
    with resolving(host, how.timeout):
        found, name = await canonical(host, 0, how.family)
    values = [Value("hostname", host)]
    values += [Value("fqdn", name)] if name else []
    values += [Value("address", address.host) for address in interleave(found)]
    return Answer("", tuple(values), now() - begun, name)


async def answers(names: AsyncIterator[str], how: Query, report: Callable[[Outcome], None]) -> None:
    """Look many names up, several at a time, and report each in its turn. No name is read before it is begun with."""
    places = Semaphore(_MAX_LOOKUPS)
    last: Task | None = None

    async def look_up(name: str, before: Task | None) -> None:
        outcome = Outcome(name, await _outcome(name, how))
        places.release()
        if before is not None:
            await before.finished.wait()
        report(outcome)

    async with Group() as group:
        async for name in names:
            await places.acquire()
            last = group.start_soon(look_up(name, last))


async def _outcome(name: str, how: Query) -> Answer | Failure:
    try:
        return await answer(check(name, how), how)
    except Failure as failure:
        return failure
    except Invalid as error:
        return Failure(Exit.READ, f"resolve {name[:80]}", str(error))


async def iter_names(words: Sequence[str]) -> AsyncIterator[str]:
    """Yield the words; for ``-`` the lines of stdin, as they come, without those that are empty."""
    for word in words:
        if word != "-":
            yield word
            continue
        async for line in iter_lines("a name", _MAX_LINE):
            if line:
                yield line
