"""The forms of an address or network that ``netkit address`` prints. Nothing is looked up."""

import ipaddress
import socket
from collections.abc import Sequence

from netkit.core.address import check_host, family_of, legacy, parse, split
from netkit.core.errors import Invalid
from netkit.core.port_names import name_of

Rows = list[tuple[str, str]]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The kind of an address is the first row that contains it: IANA's registries of special-purpose addresses.
_KINDS: Sequence[tuple[str, Sequence[str]]] = (
    ("unspecified", ("0.0.0.0/32", "::/128")),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("this network", ("0.0.0.0/8",)),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    ("shared, behind a carrier's NAT", ("100.64.0.0/10",)),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("documentation", ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")),
    ("benchmarking", ("198.18.0.0/15", "2001:2::/48")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    ("broadcast", ("255.255.255.255/32",)),
    ("reserved", ("240.0.0.0/4", "192.0.0.0/24")),
    ("IPv4-mapped", ("::ffff:0:0/96",)),
    ("NAT64", ("64:ff9b::/96", "64:ff9b:1::/48")),
    ("discard-only", ("100::/64",)),
    ("Teredo", ("2001::/32",)),
    ("6to4", ("2002::/16",)),
    ("unique local", ("fc00::/7",)),
    ("global", ("0.0.0.0/0", "2000::/3")),
    ("reserved", ("::/0",)),
)


def explain(word: str) -> Rows:
    """Names and values for an address, a network, a host or HOST:PORT. Raises Invalid for anything else."""
    if word.startswith(("unix:", "tls:")):
        return _endpoint(word)
    if "/" in word:
        return _network(word)
    host, port = split(word)
    if port is not None:
        return _endpoint(word)
    meant = legacy(host)
    if meant is not None:
        return [("spelling", _spelling(host, meant)), *_address(meant)]
    return _address(host) if _is_address(host) else _name(check_host(host))


def explain_endpoint(word: str) -> Rows:
    """Names and values for HOST:PORT, also with tls: in front. Raises Invalid for anything else."""
    if word.startswith(("unix:", "tls:unix:")):
        raise Invalid(f"{word!r} is a unix socket, and not HOST:PORT")
    return _endpoint(word)


def fields(rows: Rows) -> dict[str, object]:
    """The rows as fields of JSON. Only the port is a number, as other integers may exceed those of JavaScript."""
    return {name: int(value) if name == "port" else value for name, value in rows}


def _is_address(host: str) -> bool:
    """Whether ``host`` is an address. Raises Invalid for a bad zone; a link-local address needs none here."""
    return family_of(host) is not None and bool("%" not in host or check_host(host))


def _endpoint(word: str) -> Rows:
    endpoint = parse(word, "client")
    tls = [("tls", "yes")] if endpoint.tls else []
    if endpoint.path is not None:
        abstract = endpoint.path.startswith("\0")
        kind = "abstract unix socket" if abstract else "unix socket"
        return [*tls, ("path", endpoint.path.replace("\0", "@")), ("kind", kind)]
    service = name_of(endpoint.port, "tcp") or name_of(endpoint.port, "udp")
    rows = [*tls, ("port", str(endpoint.port)), *([("service", service)] if service else [])]
    if not endpoint.host:
        return [("host", "this machine"), *rows]
    return [*(_address(endpoint.host) if _is_address(endpoint.host) else _name(endpoint.host)), *rows]


def _name(host: str) -> Rows:
    return [("name", host), ("kind", "host name")]


def _address(text: str) -> Rows:
    plain, _, zone = text.partition("%")
    address = ipaddress.ip_address(plain)
    packed = address.packed
    rows = [("address", _canonical(address)), *([("zone", zone)] if zone else []), ("kind", _kind(address))]
    if isinstance(address, ipaddress.IPv6Address):
        rows.append(("exploded", address.exploded))
        inner = address.ipv4_mapped or address.sixtofour
        rows += [("ipv4", str(inner))] if inner else []
    return [
        *rows,
        ("octets", " ".join(map(str, packed))),
        ("binary", " ".join(f"{octet:08b}" for octet in packed)),
        ("hex", f"0x{packed.hex()}"),
        ("integer", str(int(address))),
        ("packed", "".join(f"\\x{octet:02x}" for octet in packed)),
        ("reverse", address.reverse_pointer),
    ]


def _network(word: str) -> Rows:
    host, _, length = word.partition("/")
    if family_of(host) is None or "%" in host:
        check_host(host)
        raise Invalid(f"{word!r} is neither an IP address nor a network such as 10.0.0.0/8")
    most = 128 if ":" in host else 32
    if not (length.isascii() and length.isdigit() and str(int(length[:4])) == length and int(length) <= most):
        raise Invalid(f"prefix length {length!r} is not between 0 and {most}")
    network = ipaddress.ip_network(word, strict=False)
    address = ipaddress.ip_address(host)
    rows = [("network", f"{_canonical(network.network_address)}/{network.prefixlen}")]
    rows += [("address", _canonical(address))] if address != network.network_address else []
    rows += [("kind", _kind(network)), ("mask", str(network.netmask))]
    rows += [("wildcard", str(network.hostmask))] if most == 32 else []
    return [
        *rows,
        ("first", _canonical(network[0])),
        ("last", _canonical(network[-1])),
        ("size", str(network.num_addresses)),
        ("reverse", _zone(network)),
    ]


def _zone(network: _Network) -> str:
    """The DNS zone of the network's PTR records."""
    width, labels = (8, 4) if network.version == 4 else (4, 32)
    names = network.network_address.reverse_pointer.split(".")
    return ".".join(names[labels - network.prefixlen // width :])


def _canonical(address: _Address) -> str:
    """The address in the form of RFC 5952: an IPv4-mapped one has its IPv4 address."""
    return socket.inet_ntop(socket.AF_INET if address.version == 4 else socket.AF_INET6, address.packed)


def _kind(what: _Address | _Network) -> str:
    network = ipaddress.ip_network(what)
    for kind, texts in _KINDS:
        for known in map(ipaddress.ip_network, texts):
            if known.version == network.version and known.overlaps(network):
                return kind if known.prefixlen <= network.prefixlen else "of several kinds"
    raise AssertionError("every address is in 0.0.0.0/0 or ::/0")


def _spelling(host: str, meant: str) -> str:
    """Explain how inet_aton(3) reads ``host``."""
    parts = host.split(".")
    notes = [f"{part} is hexadecimal" for part in parts if part[:2] in ("0x", "0X")]
    notes += [f"{part} is octal" for part in parts if len(part) > 1 and part.isdigit() and part.startswith("0")]
    if len(parts) < 4:
        last = "all 4 octets" if len(parts) == 1 else f"the last {5 - len(parts)} octets"
        notes.append(f"{parts[-1]} fills {last}")
    return f"legacy, for {meant}: {', '.join(notes)}"
