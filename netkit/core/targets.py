"""Rules for the targets that clients of a proxy may reach: networks, names and ports.

It is the dialled address that is checked, so a name cannot hide it.
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
    """The rules do not allow a target."""

    def __init__(self, target: Endpoint, reason: str, detail: str = "") -> None:
        super().__init__(Exit.CONNECT, f"connect to {target}", reason, detail=detail)


class Rule(NamedTuple):
    """A rule for the addresses of a network, or for a name as the client asks for it; for one port or any (None)."""

    network: Network | None
    name: str = ""
    port: int | None = None

    def covers(self, target: Endpoint, address: IPAddress | None) -> bool | None:
        """Whether the rule applies to a target with this address; None if the address matters and is not known yet."""
        if self.port not in (None, target.port):
            return False
        if self.network is None:
            return self.name == _plain(target.host or "")
        return None if address is None else address in self.network

    @property
    def is_narrow(self) -> bool:
        """Whether its network is one address, or only loopback or link-local addresses."""
        found = self.network
        return found is not None and (found.num_addresses == 1 or found.is_loopback or found.is_link_local)


class Targets(NamedTuple):
    """``allow`` are the rules for allowed targets (none: all are), ``deny`` those for targets denied even then.

    A client from another machine may reach an address of this machine, or a link-local one, only by a narrow rule.
    """

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()

    def check_name(self, target: Endpoint) -> None:
        """Raise NotAllowed if a target is not allowed at any address, so that it need not be looked up."""
        if reason := self._objection(target, None, outside=False):
            raise NotAllowed(target, reason)

    def choosing(self, target: Endpoint, *, outside: bool) -> Callable[[list[Address]], list[Address]]:
        """A function for ``Dialling.choose`` that returns the allowed addresses; it raises NotAllowed if none is."""

        def choose(found: list[Address]) -> list[Address]:
            reasons = {address: self._objection(target, canonical(address.host), outside=outside) for address in found}
            allowed = [address for address, reason in reasons.items() if not reason]
            if not allowed:
                address, reason = reasons.popitem()
                raise NotAllowed(target, reason, "" if address.host == target.host else address.host)
            return allowed

        return choose

    def _objection(self, target: Endpoint, address: IPAddress | None, *, outside: bool) -> str:
        """Why a target may not be reached at an address (None: not known yet); "" if it may."""
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
    """Whether a client at ``peer`` that connected to ``local`` may be on another machine.

    A client on this machine has a loopback address, or the address that it connected to, which the system chooses as
    its source. The system drops packets from outside with such a source (RFC 1812, section 5.3.7).
    """
    if peer.path is not None:
        return False
    return not (peer.host == local.host or canonical(peer.host or "").is_loopback)


def parse_rule(text: str) -> Rule:
    """Parse ``CIDR`` or ``HOST``, optionally with ``:PORT``; IPv6 then needs brackets. Raises Invalid."""
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
    """A name in lower case without the final dot, for comparison."""
    return name.removesuffix(".").lower()
