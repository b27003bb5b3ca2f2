"""Looking up names for ``netkit resolve``: by the system's resolver or DNS servers, many at a time, in order."""

import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from netkit.core.address import Endpoint, check_host, family_of, parse_port, split, without_tls
from netkit.core.dial import interleave
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.events import Observer, Replied, ignore
from netkit.core.kernel import Group, Task, now
from netkit.core.layer import Layer
from netkit.core.lookup import FAMILY_NAMES, canonical, lookup, resolving, reverse
from netkit.core.persistence import persist
from netkit.core.stdio import iter_lines
from netkit.core.sync import Semaphore

if TYPE_CHECKING:
    from netkit.protocols.url import Url

_MAX_LOOKUPS = 16  # at one time
_MAX_UNREPORTED = 1024  # names that are looked up, and wait for the report of an earlier one
_MAX_LINE = 1024  # bytes of a line that may be a name
_DNS_PORT, _SECURED_PORT = 53, 853  # the latter of RFC 7858
_CONFIGURATION = "/etc/resolv.conf"
_AGAIN = (Exit.RESOLVE, Exit.PROTOCOL, Exit.TIMEOUT)  # failures after which --wait tries again


class Value(NamedTuple):
    """One value of an answer: an address (with a port, if asked for), a name or a record.

    ``kind`` is "address", "name" or a record type. ``ttl`` is in seconds. ``strings`` are those of a TXT record.
    """

    kind: str
    text: str
    ttl: int | None = None
    strings: tuple[bytes, ...] = ()
    port: int | None = None

    def __str__(self) -> str:
        return self.text if self.port is None else str(Endpoint(self.text, self.port))


class Answer(NamedTuple):
    """The answer for a name ("" is this machine), with at least one value; ``server`` is that of a DNS query."""

    name: str
    values: tuple[Value, ...]
    seconds: float
    canonical: str | None = None
    server: str | None = None
    protocol: str | None = None


class Outcome(NamedTuple):
    """A name as it was given, and its answer, or the failure."""

    name: str
    result: Answer | Failure


class Expected(NamedTuple):
    """A value that must be among the answers: as typed, and in the canonical form for comparison."""

    text: str
    form: bytes


class Query(NamedTuple):
    """How to look up names.

    ``kinds`` are record types. ``server`` is asked, over TLS with ``layers``, or over HTTPS at ``url``. Without these
    the system's resolver is used, and without ``server`` the system's DNS servers. ``timeout`` is for one look-up, in
    seconds. With ``wait`` a name is looked up again, every ``interval`` seconds, until the answer has all that is
    ``expected``, or ``wait`` seconds are over.
    """

    family: int = 0
    timeout: float = 10.0
    canonical: bool = False
    wait: float | None = None
    interval: float | None = None
    observe: Observer = ignore
    port: int | None = None
    kinds: tuple[str, ...] = ()
    server: Endpoint | None = None
    url: "Url | None" = None
    layers: Sequence[Layer] = ()
    expected: tuple[Expected, ...] = ()


def parse_query(
    words: Sequence[str],
    how: Query,
    kind: str | None,
    service: str | None,
    server: str | None,
    expected: Sequence[str] = (),
    *,
    tls: bool = False,
) -> Query:
    """Add to ``how`` the parsed record type, service, server and expected values; check the names. Raises Invalid."""
    if kind is not None:
        from netkit.protocols.dns import check_kind

        how = how._replace(kinds=(check_kind(kind),))
    if service is not None:
        how = how._replace(port=parse_port(service))
    if server is not None:
        endpoint, url = parse_server(server, tls=tls)
        how = how._replace(server=endpoint, url=url)
    # Without a record type an expected value must be an address or a name.
    forms = (_form(text if how.kinds else check_host(text), how) for text in expected)
    how = how._replace(expected=tuple(map(Expected, expected, forms)))
    hosts = [check(word, how) for word in words if word != "-"]
    has_names = "-" in words or any(family_of(host) is None for host in hosts)
    if how.family and how.port is None and hosts and not has_names:
        raise Invalid(f"host {hosts[0]!r} is an address, whose name is of no family: leave out -4 and -6")
    return how


def parse_server(text: str, *, tls: bool = False) -> "tuple[Endpoint, Url | None]":
    """Parse the address of a DNS server, with an optional port, or an https URL. ``tls`` is as ``tls:`` in front."""
    if "://" in text:
        from netkit.protocols.url import parse

        url = parse(text)
        if url.scheme != "https":
            raise Invalid(f"server {str(url)!r} is not secured: https is asked, or HOST alone")
        return url.endpoint._replace(tls=True), url
    word, secured = without_tls(text, "server")
    if word.startswith("unix:"):
        raise Invalid(f"server {text!r} is a unix socket")
    tls = tls or secured
    host, port = split(word)
    if host or not word.startswith(":"):
        host = check_host(host)
    usual = _SECURED_PORT if tls else _DNS_PORT
    number = usual if port is None else parse_port(port, protocol="tcp" if tls else "udp")
    return Endpoint(host, number, tls=tls), None


def _form(text: str, how: Query) -> bytes:
    """The canonical form of a value, for comparison. Raises Invalid if it is no value of the record type."""
    if how.kinds:
        from netkit.protocols.dns import comparable

        return comparable(how.kinds[0], text)
    family = family_of(text)
    if family is None:
        return text.rstrip(".").lower().encode("utf-8", "surrogateescape")
    address, _, zone = text.partition("%")
    return socket.inet_pton(family, address) + zone.encode()


def check(name: str, how: Query) -> str:
    """Check a name or an address, and return it in the form for the look-up. Raises Invalid."""
    if how.kinds and name == ".":
        return name
    if "://" in name:
        from netkit.protocols.url import without_password

        raise Invalid(f"name {without_password(name)!r} is a URL: write its host alone")
    if name.count(":") == 1:
        raise Invalid(f"name {name!r} has a port: write {name.partition(':')[0]}")
    if name.startswith("@") and name[1:]:
        raise Invalid(f"name {name!r} is how dig names a server: --server {name[1:]}")
    if how.kinds and name.startswith("*."):
        from netkit.protocols.dns import can_ask

        if not can_ask(name := "*." + check(name[2:], how)):
            raise Invalid(f"name of {len(name)} bytes is too long: {name[:40]}...")
        return name
    try:
        host = check_host(name)
    except Invalid:
        if how.kinds:
            from netkit.protocols.dns import is_name

            if is_name(name):
                return name
        raise
    if family_of(host) is not None and how.kinds not in ((), ("PTR",)):
        raise Invalid(f"host {host!r} is an address, and has no {how.kinds[0]} record: see --type PTR")
    if not how.kinds:
        _check_expected(host, how)
    return host


def _check_expected(host: str, how: Query) -> None:
    """Raise Invalid if an expected value can never be among the answers: an address among names, or the reverse."""
    has_names = how.canonical or family_of(host) is not None
    for text, _ in how.expected:
        family = family_of(check_host(text))
        if has_names and family is not None:
            raise Invalid(f"value {text!r} is an address, and the answer for {host!r} is a name")
        if not has_names and family is None:
            raise Invalid(f"value {text!r} is no address, as the answers for {host!r} are")
        if not has_names and how.family not in (0, family):
            raise Invalid(f"value {text!r} is no {FAMILY_NAMES[how.family]} address")


def _is_kind(word: str) -> bool:
    """Whether a word is a record type in upper case, such as MX, which dig takes beside a name."""
    from netkit.protocols.dns import check_kind

    try:
        return word.isupper() and check_kind(word) == word
    except Invalid:
        return False


async def answer(host: str, how: Query) -> Answer:
    """Look up a name, or the name of an address; with ``how.wait`` until it is as expected. Raises Failure."""

    async def attempt(seconds: float) -> Answer:
        found = await _looked_up(host, how._replace(timeout=seconds))
        _check_answer(found, how)
        return found

    if how.wait is None:
        return await attempt(how.timeout)
    return await persist(attempt, how.wait, _AGAIN, timeout=how.timeout, interval=how.interval, observe=how.observe)


def _check_answer(found: Answer, how: Query) -> None:
    """Raise Failure PROTOCOL if something that is expected is not in an answer."""
    forms = {_shown_form(value.text, how) for value in found.values} if how.expected else set()
    if missing := [text for text, form in how.expected if form not in forms]:
        reason = f"no {' and no '.join(missing)} among the answers"
        raise Failure(Exit.PROTOCOL, f"resolve {found.name}", reason, detail=", ".join(map(str, found.values)))


def _shown_form(text: str, how: Query) -> bytes:
    try:
        return _form(text, how)
    except Invalid:  # a type whose values dnspython can print but not parse
        return text.encode()


async def _looked_up(host: str, how: Query) -> Answer:
    if how.kinds or how.server:
        return await _from_dns(host, how)
    try:
        with resolving(host, how.timeout):
            found = await _from_system(host, how)
    except Failure as failure:
        if failure.exit is Exit.RESOLVE and _is_kind(host):
            failure.hint = f"--type {host} asks DNS for that type of record"
        raise
    how.observe(Replied(host, None, None, None, found.seconds))
    return found


async def _from_system(host: str, how: Query) -> Answer:
    begun = now()
    name: str | None = None
    if family_of(host) is None:
        found, name = await canonical(host, 0, how.family)
    elif how.port is None:
        return Answer(host, (Value("name", await reverse(host)),), now() - begun)
    else:
        found = await lookup(Endpoint(host), how.family, observe=ignore)
    if how.canonical:
        values = [Value("name", name or host)]
    else:
        values = [Value("address", address.host, port=how.port) for address in interleave(found)]
    return Answer(host, tuple(values), now() - begun, name)


async def _from_dns(host: str, how: Query) -> Answer:
    """Query DNS for a name. With the system's servers the names of its search list are tried in turn."""
    from netkit.protocols.dns import NOT_FOUND

    begun = now()
    failures: dict[str, Failure] = {}
    for name in [host] if how.server else _candidates(host):
        try:
            return (await _asked(name, how, begun))._replace(name=host)
        except Failure as failure:
            if failure.exit is not Exit.RESOLVE:
                raise
            failures[name] = failure
    # That one name has no such record, or that a server failed, says more than that another name does not exist.
    raise next((failure for failure in failures.values() if failure.reason != NOT_FOUND), failures[host])


async def _asked(host: str, how: Query, begun: float) -> Answer:
    from netkit.protocols.dns import Asking, Reply, ask

    with resolving(how.server, how.timeout):
        servers = await _servers(how)
    asking = Asking(servers, begun, how.timeout, how.layers, how.url, how.observe)
    kinds = how.kinds or _kinds(host, how.family)
    replies: dict[str, Reply] = {}
    failures: dict[str, Failure] = {}

    async def one(kind: str) -> None:
        try:
            replies[kind] = await ask(host, kind, asking)
        except Failure as failure:
            failures[kind] = failure

    async with Group() as group:
        for kind in kinds:
            group.start_soon(one(kind))
    values = tuple(Value(*record) for kind in kinds if kind in replies for record in replies[kind].records)
    in_order = [failures[kind] for kind in kinds if kind in failures]
    answered = [failure for failure in in_order if failure.exit is Exit.RESOLVE]
    others = [failure for failure in in_order if failure.exit is not Exit.RESOLVE]
    if not values and failures:
        raise (answered or others)[0]
    if others:  # otherwise the server only has an error for the other type: RFC 4074, section 4
        raise others[0]
    first = next(replies[kind] for kind in kinds if kind in replies)
    if not values:
        alias = "" if first.canonical == host.rstrip(".") else f", {first.canonical}, its canonical name"
        reason = f"no {' or '.join(kinds)} record"
        raise Failure(Exit.RESOLVE, f"resolve {host}", reason, detail=first.server + alias)
    if how.canonical:
        values = (Value("name", first.canonical),)
    return Answer(host, values, now() - begun, first.canonical, first.server, first.protocol)


def _kinds(host: str, family: int) -> tuple[str, ...]:
    """The record types to query for a name, or for an address, by default."""
    if family_of(host) is not None:
        return ("PTR",)
    return {0: ("A", "AAAA"), socket.AF_INET: ("A",), socket.AF_INET6: ("AAAA",)}[family]


async def _servers(how: Query) -> list[Endpoint]:
    if how.server is None:
        return [Endpoint(host, _DNS_PORT) for host in _configured()]
    if how.layers:
        return [how.server._replace(tls=False)]  # not looked up here: ``dial`` does that, and races the addresses
    found = await lookup(how.server, 0, observe=ignore)
    return [Endpoint(address.host, how.server.port) for address in found]


def _configured() -> list[str]:
    """The system's name servers."""
    found = [row[1] for row in _configuration() if row[0] == "nameserver" and family_of(row[1]) is not None]
    return found or ["127.0.0.1"]


def _candidates(host: str) -> list[str]:
    """The full names to try for ``host``, in the order of the system's resolver: search list and ndots."""
    from netkit.protocols.dns import can_ask

    if host.endswith(".") or family_of(host) is not None:
        return [host]
    suffixes: list[str] = []
    dots = 1
    for word, *values in _configuration():
        if word in ("search", "domain"):
            suffixes = values
        elif word == "options":
            dots = next((int(each[6:]) for each in values if re.fullmatch("ndots:[0-9]{1,2}", each)), dots)
    longer = [name for each in suffixes if (suffix := each.strip(".")) and can_ask(name := f"{host}.{suffix}")]
    return [host, *longer] if host.count(".") >= dots else [*longer, host]


def _configuration() -> list[list[str]]:
    """The lines of resolv.conf(5) with at least two words, split into words."""
    try:
        with open(_CONFIGURATION, encoding="utf-8", errors="replace") as file:
            return [row for line in file if len(row := line.split()) > 1]
    except OSError:
        return []


async def local_host(how: Query) -> Answer:
    """This machine's host name, its fully qualified name, and the addresses of that. Raises Failure."""
    host = socket.gethostname()
    begun = now()
    with resolving(host, how.timeout):
        found, name = await canonical(host, 0, how.family)
    values = [Value("hostname", host)]
    values += [Value("fqdn", name)] if name else []
    values += [Value("address", address.host) for address in interleave(found)]
    return Answer("", tuple(values), now() - begun, name)


async def answers(names: AsyncIterator[str], how: Query, report: Callable[[Outcome], None]) -> None:
    """Look up many names, 16 at a time, and report them in order. A name is read only once its look-up can start."""
    places, unreported = Semaphore(_MAX_LOOKUPS), Semaphore(_MAX_UNREPORTED)
    last: Task | None = None

    async def look_up(name: str, before: Task | None) -> None:
        outcome = Outcome(name, await _outcome(name, how))
        places.release()
        if before is not None:
            await before.finished.wait()
        report(outcome)
        unreported.release()

    async with Group() as group:
        async for name in names:
            await unreported.acquire()
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
    """Yield the words; for ``-`` the non-empty lines of stdin, as they come."""
    for word in words:
        if word != "-":
            yield word
            continue
        async for line in iter_lines("a name", _MAX_LINE):
            if line:
                yield line
