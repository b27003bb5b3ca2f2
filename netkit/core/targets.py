"""Which targets the clients of a proxy may reach, by rules about networks, names and ports.

The address that is dialled is checked, whatever name it was found by.
"""

from collections.abc import Callable
from typing import NamedTuple

from netkit.core.access import IPAddress, Network, canonical, parse_network
from netkit.core.address import Endpoint, check_host, family_of, parse_port
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.local_address import is_local
from netkit.core.lookup import Address

_NOT_OURS = "addresses of this machine are for clients on this machine"
_NOT_LINK_LOCAL = "link-local addresses are for clients on this machine"


class NotAllowed(Failure):
    """The rules forbid to dial a target."""

    def __init__(self, target: Endpoint, reason: str, detail: str = "") -> None:
        super().__init__(Exit.CONNECT, f"connect to {target}", reason, detail=detail)


class Rule(NamedTuple):
    """The targets in a network, or those that are asked for by a name; at one port, or at any (None)."""

    network: Network | None
    name: str = ""
    port: int | None = None

    def covers(self, target: Endpoint, address: IPAddress | None) -> bool | None:
        """Whether it is about a target that has this address; None if that depends on the address, not known yet."""
        if self.port not in (None, target.port):
            return False
        if self.network is None:
            return self.name == _plain(target.host or "")
        return None if address is None else address in self.network

    @property
    def is_narrow(self) -> bool:
        """Whether it names one address, or nothing but loopback or link-local addresses."""
        found = self.network
        return found is not None and (found.num_addresses == 1 or found.is_loopback or found.is_link_local)


class Targets(NamedTuple):
    """Targets that are allowed, all if there are no such rules, and targets that are denied in any case.

    A client from outside reaches an address of this machine, or a link-local one, only if a narrow rule allows that.
    """

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()

    def check_name(self, target: Endpoint) -> None:
        """Raise NotAllowed for a target that is not allowed whatever its address is: it need not be looked up."""
        if reason := self._objection(target, None, outside=False):
            raise NotAllowed(target, reason)

    def choosing(self, target: Endpoint, *, outside: bool) -> Callable[[list[Address]], list[Address]]:
        """The function that picks the addresses of a target that a client may reach; it raises NotAllowed for none."""

        def choose(found: list[Address]) -> list[Address]:
            reasons = {address: self._objection(target, canonical(address.host), outside=outside) for address in found}
            allowed = [address for address, reason in reasons.items() if not reason]
            if not allowed:
                address, reason = reasons.popitem()
                raise NotAllowed(target, reason, "" if address.host == target.host else address.host)
            return allowed

        return choose

    def _objection(self, target: Endpoint, address: IPAddress | None, *, outside: bool) -> str:
        """Why a target may not be reached at an address (None: not known yet); empty if nothing speaks against it."""
        if any(rule.covers(target, address) for rule in self.deny):
            return "it is denied"
        covering = [rule for rule in self.allow if rule.covers(target, address) is not False]
        if self.allow and not covering:
            return "it is not allowed"
        if not outside or address is None or any(rule.is_narrow for rule in covering):
            return ""
        if address.is_loopback or address.is_unspecified or is_local(address):
            return _NOT_OURS
        return _NOT_LINK_LOCAL if address.is_link_local else ""


def is_outside(peer: Endpoint, local: Endpoint) -> bool:
    """Whether a client at ``peer`` that reached us at ``local`` may be on another machine.

    One on this machine has a loopback address or, as the system chooses it, the very address that it dialled. Packets
    from outside that claim such a source are dropped by the system (RFC 1812, section 5.3.7).
    """
    if peer.path is not None:
        return False
    return not (peer.host == local.host or canonical(peer.host or "").is_loopback)


def parse_rule(text: str) -> Rule:
    """Read ``CIDR`` or ``HOST``, maybe with ``:PORT``; IPv6 has brackets then. Raises Invalid."""
    host, port = _split(text)
    found = None if port is None else parse_port(port)
    if "/" in host or family_of(host) is not None:
        return Rule(parse_network(host), port=found)
    return Rule(None, _plain(check_host(host)), found)


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise Invalid(f"{text!r} is not [CIDR] or [CIDR]:PORT")
        return host, after[1:] if after else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _plain(name: str) -> str:
    """A name as names are compared."""
    return name.removesuffix(".").lower()
