"""Networks that are allowed or denied, compared with canonical addresses, so that no spelling slips through."""

import ipaddress
from typing import NamedTuple

from netkit.core.errors import Invalid

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291, section 2.5.5.2


class Access(NamedTuple):
    """Networks that are allowed, all if there are none, and networks that are denied in any case."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()

    def admits(self, host: str) -> bool:
        """Whether a client of this address is served. One without an address, "", is in no network."""
        if not host:
            return not self.allow
        address = canonical(host)
        if any(address in network for network in self.deny):
            return False
        return not self.allow or any(address in network for network in self.allow)


def canonical(host: str) -> IPAddress:
    """The address as rules compare it: without its zone, and as IPv4 if it is that within IPv6."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def parse_network(text: str) -> Network:
    """Read an address or a CIDR network; raise Invalid for anything else, host bits included."""
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
