"""HTTP proxies: CONNECT (RFC 9110, section 9.3.6), the handshake of a client."""

import errno

from netkit import __version__
from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure
from netkit.core.stream import Connection
from netkit.protocols.http import Exchange, Head, Request
from netkit.protocols.proxy import AUTHENTICATION_HINT, Proxy, TargetFailure

AUTHENTICATION_REQUIRED = 407
# A status by which a proxy says that it cannot reach the target: RFC 9110, sections 15.6.3 to 15.6.5.
_OF_TARGET = {502: errno.EHOSTUNREACH, 503: errno.EHOSTUNREACH, 504: errno.ETIMEDOUT}


async def handshake(stream: Connection, proxy: Proxy, target: Endpoint, action: str) -> Connection:
    """Ask an HTTP proxy to connect to ``target``, and return the stream to it. The caller closes.

    Raises TargetFailure; Failure PROXY, and those of ``Exchange.head``.
    """
    told = {"Host": str(target), "User-Agent": f"netkit/{__version__}", "Proxy-Authorization": proxy.authorization}
    fields = [(name, value.encode()) for name, value in told.items() if value]
    exchange = Exchange(stream, Request("CONNECT", str(target), fields), str(proxy))
    await exchange.ask()
    head = await exchange.head()
    if 200 <= head.status < 300:
        return exchange.tunnel()
    if head.status == AUTHENTICATION_REQUIRED:
        raise refused(proxy, head, action)
    if head.status in _OF_TARGET:
        failure = TargetFailure(Exit.CONNECT, action, f"the proxy answered {head.status_line}")
        failure.errno = _OF_TARGET[head.status]
        raise failure
    raise Failure(Exit.PROXY, action, f"it answered {head.status_line}")


def refused(proxy: Proxy, head: Head, action: str) -> Failure:
    """The failure for a response of 407: the proxy wants authentication, or rejects ours."""
    asked = head.get("proxy-authenticate")
    detail = "" if asked is None or asked.lower().startswith("basic") else f"by {asked.partition(' ')[0]}"
    hint = AUTHENTICATION_HINT if proxy.user is None and not detail else ""
    return Failure(Exit.PROXY, action, f"it answered {head.status_line}", detail=detail, hint=hint)
