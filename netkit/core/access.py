"""Allow and deny rules of networks, applied to canonical addresses: ::ffff:10.0.0.1 is in 10.0.0.0/8."""

import ipaddress
from typing import NamedTuple

from netkit.core.errors import Invalid

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291, section 2.5.5.2


class Access(NamedTuple):
    """``allow`` has the allowed networks (empty: all), ``deny`` those that are denied even then."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()

    def admits(self, host: str) -> bool:
        """Whether a client of this address is served. A client without an address, "", is in no network."""
        if not host:
            return not self.allow
        address = canonical(host)
        if any(address in network for network in self.deny):
            return False
        return not self.allow or any(address in network for network in self.allow)


def canonical(host: str) -> IPAddress:
    """The address that rules are compared with: without zone, and IPv4 for an IPv4-mapped IPv6 address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def parse_network(text: str) -> Network:
    """Parse an address or a CIDR network. Raises Invalid for anything else, and for a network with host bits set."""
    if "%" in text:
        raise Invalid(f"{text!r} has a zone: a network is the same on every interface")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Invalid(f"{text!r} is neither an IP address nor a network such as 10.0.0.0/8") from None
    host = text.partition("/")[0]
    if ipaddress.ip_address(host) != network.network_address:
        raise Invalid(f"{text!r} is an address inside a network: write {network} if you mean that")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}")
    return network
