"""The client's handshakes of SOCKS 4, 4a and 5 (RFC 1928, RFC 1929). The library socksio encodes the requests."""

import errno
import os

from socksio import (
    SOCKS4ARequest,
    SOCKS4Command,
    SOCKS4Request,
    SOCKS5AuthMethod,
    SOCKS5AuthMethodsRequest,
    SOCKS5Command,
    SOCKS5CommandRequest,
    SOCKS5UsernamePasswordRequest,
)

from netkit.core.address import Endpoint, family_of
from netkit.core.errors import Exit, Failure
from netkit.core.layer import unread
from netkit.core.stream import Connection
from netkit.protocols.dialogue import Conversation, Refused, Steps, read_exactly
from netkit.protocols.proxy import AUTHENTICATION_HINT, Proxy, TargetFailure

_CLOSED = "it closed the connection"
_CLOSED_HINT = "ssh -D does that if it cannot reach the target"
_IPV4, _NAME, _IPV6 = 1, 3, 4  # types of address: RFC 1928, section 5
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}
# The meaning of SOCKS5 reply codes (RFC 1928, section 6): those about the target, and those about the proxy.
_OF_TARGET = {3: errno.ENETUNREACH, 4: errno.EHOSTUNREACH, 5: errno.ECONNREFUSED, 6: errno.ETIMEDOUT}
_OF_PROXY = {1: "general failure", 2: "its rules forbid it", 7: "it does not know the command CONNECT"}
_NO_SUCH_ADDRESSES = 8
_REFUSALS = {92: "it cannot reach an identd here", 93: "the identd here names another user"}
_GRANTED, _FAILED = 90, 91


async def handshake(stream: Connection, proxy: Proxy, target: Endpoint, action: str) -> Connection:
    """Ask a SOCKS proxy to connect to ``target``, and return the stream to it. Raises TargetFailure, Failure PROXY."""
    came = b""
    if proxy.scheme in ("socks4", "socks4a"):
        request = _ask_socks4(proxy, target, action)
    else:
        came = await _converse(stream, _authenticate(proxy, action), came, action)
        request = _ask_socks5(target, action)
    try:
        came = await _converse(stream, request, came, action)
    except Failure as failure:
        if failure.reason != _CLOSED:
            raise
        raise TargetFailure(Exit.PROXY, action, _CLOSED, hint=_CLOSED_HINT) from failure
    return unread(stream, came) if came else stream


async def _converse(stream: Connection, steps: Steps[None], came: bytes, action: str) -> bytes:
    """Have a dialogue, whose first bytes have come; return what came after it. Refused becomes Failure PROXY."""
    conversation = Conversation(steps)
    amid = ""
    try:
        while True:
            if request := conversation.receive(came):
                await stream.send(request)
                amid = ""
            if conversation.done:
                return conversation.unread
            came = await stream.recv()
            if not came:
                raise Refused(_CLOSED + amid)
            amid = " amid its answer"
    except Refused as refused:
        raise Failure(Exit.PROXY, action, str(refused)) from refused


def _ask_socks4(proxy: Proxy, target: Endpoint, action: str) -> Steps[None]:
    user = proxy.user or b""
    kind = SOCKS4ARequest if family_of(target.host or "") is None else SOCKS4Request
    yield kind.from_address(SOCKS4Command.CONNECT, (target.host or "", target.port), user).dumps()
    version, code = yield from read_exactly(2)
    if version:
        raise Refused("it does not speak SOCKS4")
    if code == _FAILED:
        raise TargetFailure(Exit.CONNECT, action, "the proxy rejected the request, or it failed")
    if code != _GRANTED:
        raise Refused(_REFUSALS.get(code) or f"it answered with the unknown code {code}")
    yield from read_exactly(6)  # port and address, without meaning for CONNECT


def _authenticate(proxy: Proxy, action: str) -> Steps[None]:
    """Agree with a SOCKS5 proxy on no authentication, or on that by our user and password."""
    named = [SOCKS5AuthMethod.USERNAME_PASSWORD] if proxy.user is not None else []
    offered = [SOCKS5AuthMethod.NO_AUTH_REQUIRED, *named]
    yield SOCKS5AuthMethodsRequest(offered).dumps()
    answer = yield from read_exactly(2)
    version, method = answer[0], answer[1:]
    if version != 5:
        raise Refused("it does not speak SOCKS5")
    if method == SOCKS5AuthMethod.NO_ACCEPTABLE_METHODS:
        reason = "it wants another way of authentication" if named else "it wants authentication"
        raise Failure(Exit.PROXY, action, reason, hint="" if named else AUTHENTICATION_HINT)
    if method not in offered:
        raise Refused("it chose an authentication that was not offered")
    if method == SOCKS5AuthMethod.USERNAME_PASSWORD:
        yield SOCKS5UsernamePasswordRequest(proxy.user or b"", proxy.password).dumps()
        _, status = yield from read_exactly(2)  # the version should be 1; some proxies send 5
        if status:
            raise Refused("it refused user and password")


def _ask_socks5(target: Endpoint, action: str) -> Steps[None]:
    yield SOCKS5CommandRequest.from_address(SOCKS5Command.CONNECT, (target.host or "", target.port)).dumps()
    version, code = yield from read_exactly(2)
    if version != 5:
        raise Refused("its answer is malformed")
    if code in _OF_TARGET:
        raise TargetFailure(Exit.CONNECT, action, OSError(_OF_TARGET[code], os.strerror(_OF_TARGET[code])))
    if code == _NO_SUCH_ADDRESSES:
        raise TargetFailure(Exit.PROXY, action, "it does not know this type of address")
    if code:
        raise Refused(_OF_PROXY.get(code) or f"it answered with the unknown code {code}")
    _, kind = yield from read_exactly(2)
    if kind == _NAME:
        (size,) = yield from read_exactly(1)
    elif (size := _ADDRESS_BYTES.get(kind, -1)) < 0:
        raise Refused("its answer is malformed")
    yield from read_exactly(size + 2)  # the address and port that the proxy connects from
