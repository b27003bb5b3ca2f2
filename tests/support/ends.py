"""The endpoints of a connection for tests of events, and their JSON fields."""

from typing import Any

from netkit.core.address import Endpoint

WHAT = ("address", "port")
PEER = Endpoint("192.0.2.7", 5432)
LOCAL = Endpoint("192.0.2.1", 40000)
P, L = ("192.0.2.7", 5432), ("192.0.2.1", 40000)


def ends(**ends: tuple[str, int]) -> dict[str, Any]:
    """Return the JSON fields for IPv4 endpoints over TCP."""
    named = {f"{who}_{what}": part for who, end in ends.items() for what, part in zip(WHAT, end, strict=True)}
    return {**named, "family": "ipv4", "protocol": "tcp"}
