"""Service names to ports and back, by /etc/services, or by our own table where the system has none."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from netkit.core.errors import Invalid
from netkit.core.port_table import TABLE

_PATH = "/etc/services"
_ROW = re.compile(r"([^\s#]+)\s+([0-9]{1,5})/([a-z,]+)([^#]*)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class Service(NamedTuple):
    """A row of the table: a service, its port, "tcp" or "udp", and its other names."""

    name: str
    port: int
    protocol: str
    aliases: tuple[str, ...] = ()


@cache
def table() -> tuple[Service, ...]:
    """The services of TCP and UDP, in the table's order."""
    try:
        with open(_PATH, encoding="utf-8", errors="surrogateescape") as file:
            found = tuple(parse(file.read()))
    except OSError:
        found = ()
    return found or tuple(parse(TABLE))


def parse(text: str) -> Iterator[Service]:
    """Yield the services of a table in the format of services(5). Rows of ours may have ``tcp,udp`` as protocol."""
    for line in text.splitlines():
        if match := _ROW.match(line):
            for protocol in match[3].split(","):
                if protocol in ("tcp", "udp") and 0 < int(match[2]) < 65536:
                    yield Service(match[1], int(match[2]), protocol, tuple(match[4].split()))


def find(word: str) -> list[Service]:
    """The services of a name or port, such as ``http``, ``80`` or ``53/udp``. Raises Invalid for malformed words.

    If the system's table has none, our own is searched.
    """
    name, slash, protocol = word.partition("/")
    if not name:
        raise Invalid(f"service {word!r} has no name")
    if slash and protocol not in ("tcp", "udp"):
        raise Invalid(f"protocol {protocol!r} is neither tcp nor udp")
    if re.fullmatch(r"0[0-9]+", name):
        raise Invalid(f"port {name[:40]} has a leading zero")
    if re.fullmatch(r"-?[0-9]+", name) and not (_PORT.fullmatch(name) and int(name) <= 65535):
        raise Invalid(f"port {name[:40]} is not between 1 and 65535")

    def among(services: Iterable[Service]) -> list[Service]:
        return [
            service
            for service in services
            if (name in (service.name, *service.aliases) or name == str(service.port))
            and (not slash or protocol == service.protocol)
        ]

    return among(table()) or among(parse(TABLE))


def name_of(port: int, protocol: str) -> str | None:
    """The first name of a port, None if it has none."""
    return _names().get((port, protocol))


@cache
def _names() -> dict[tuple[int, str], str]:
    return {(service.port, service.protocol): service.name for service in reversed(table())}
