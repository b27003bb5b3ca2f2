"""Finding free ports, by binding port 0."""

from netkit.core import tcp_server, udp_server
from netkit.core.address import Endpoint, Protocol
from netkit.core.errors import Exit, Failure
from netkit.core.events import ignore

_MAX_REPEATS = 300  # times in a row that the system gives a known port before we take it that no others are free


async def free_ports(count: int, protocol: Protocol) -> list[int]:
    """Find ``count`` different ports that are free on all interfaces. Raises Failure BIND if there are not enough."""
    anywhere = Endpoint("", 0)
    found: dict[int, None] = {}
    again = 0
    while len(found) < count:
        if protocol == "udp":
            bound: udp_server.Bound | tcp_server.Listener = await udp_server.bind(anywhere)
        else:
            bound = await tcp_server.listen(anywhere, observe=ignore)
        port = bound.port
        bound.close()
        again = again + 1 if port in found else 0
        if port is None or again > _MAX_REPEATS:
            raise Failure(Exit.BIND, f"find {count} free ports", f"the system gave {len(found)}")
        found[port] = None
    return list(found)
