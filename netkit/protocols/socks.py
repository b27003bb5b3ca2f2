"""The client's handshakes of SOCKS 4, 4a and 5 (RFC 1928, RFC 1929). The library socksio encodes the requests."""

import errno
import os

from socksio import (
    SOCKS4ARequest,
    SOCKS4Command,
    SOCKS4Connection,
    SOCKS4Request,
    SOCKS5AuthMethod,
    SOCKS5AuthMethodsRequest,
    SOCKS5Command,
    SOCKS5CommandRequest,
    SOCKS5Connection,
    SOCKS5UsernamePasswordRequest,
)

from netkit.core.address import Endpoint, family_of
from netkit.core.errors import Exit, Failure
from netkit.core.layer import unread
from netkit.core.stream import Connection
from netkit.protocols.proxy import AUTHENTICATION_HINT, Proxy, TargetFailure

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
    answers = _Answers(stream, action)
    if proxy.scheme in ("socks4", "socks4a"):
        await _socks4(answers, proxy, target)
    else:
        await _socks5(answers, proxy, target)
    return answers.rest()


class _Answers:
    """Reads the answers of the proxy piece by piece; ``rest`` is the stream with all that follows them."""

    def __init__(self, stream: Connection, action: str) -> None:
        self._stream = stream
        self._action = action
        self._held = b""
        self._began = False

    async def ask(self, request: bytes, count: int) -> bytes:
        """Send a request, and receive the first ``count`` bytes of its answer."""
        self._began = False
        await self._stream.send(request)
        return await self.next(count)

    async def ask_for_target(self, request: bytes) -> tuple[int, int]:
        """Send the request to connect, and receive the first two bytes of the reply, version and code."""
        try:
            version, code = await self.ask(request, 2)
        except Failure as failure:
            if self._began or failure.exit is not Exit.PROXY:
                raise
            raise TargetFailure(Exit.PROXY, self._action, failure.reason, hint=_CLOSED_HINT) from failure
        return version, code

    async def next(self, count: int) -> bytes:
        while len(self._held) < count:
            data = await self._stream.recv()
            if not data:
                raise self.failure("it closed the connection" + (" amid its answer" if self._began else ""))
            self._held += data
            self._began = True
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def rest(self) -> Connection:
        return unread(self._stream, self._held) if self._held else self._stream

    def failure(self, reason: str, *, hint: str = "") -> Failure:
        return Failure(Exit.PROXY, self._action, reason, hint=hint)

    def of_target(self, reason: str | OSError, exit: Exit = Exit.CONNECT) -> Failure:
        return TargetFailure(exit, self._action, reason)


async def _socks4(answers: _Answers, proxy: Proxy, target: Endpoint) -> None:
    user = proxy.user or b""
    connection = SOCKS4Connection(user)
    kind = SOCKS4ARequest if family_of(target.host or "") is None else SOCKS4Request
    connection.send(kind.from_address(SOCKS4Command.CONNECT, (target.host or "", target.port), user))
    version, code = await answers.ask_for_target(connection.data_to_send())
    if version:
        raise answers.failure("it does not speak SOCKS4")
    if code == _FAILED:
        raise answers.of_target("the proxy rejected the request, or it failed")
    if code != _GRANTED:
        raise answers.failure(_REFUSALS.get(code) or f"it answered with the unknown code {code}")
    await answers.next(6)  # port and address, without meaning for CONNECT


async def _socks5(answers: _Answers, proxy: Proxy, target: Endpoint) -> None:
    connection = SOCKS5Connection()
    named = [SOCKS5AuthMethod.USERNAME_PASSWORD] if proxy.user is not None else []
    connection.send(SOCKS5AuthMethodsRequest([SOCKS5AuthMethod.NO_AUTH_REQUIRED, *named]))
    version, *method = answer = await answers.ask(connection.data_to_send(), 2)
    if version != 5:
        raise answers.failure("it does not speak SOCKS5")
    if bytes(method) == SOCKS5AuthMethod.NO_ACCEPTABLE_METHODS.value:
        reason = "it wants another way of authentication" if named else "it wants authentication"
        raise answers.failure(reason, hint="" if named else AUTHENTICATION_HINT)
    if bytes(method) not in (SOCKS5AuthMethod.NO_AUTH_REQUIRED.value, *(each.value for each in named)):
        raise answers.failure("it chose an authentication that was not offered")
    connection.receive_data(answer)
    if bytes(method) == SOCKS5AuthMethod.USERNAME_PASSWORD.value:
        connection.send(SOCKS5UsernamePasswordRequest(proxy.user or b"", proxy.password))
        _, status = await answers.ask(connection.data_to_send(), 2)  # the version should be 1; some proxies send 5
        if status:
            raise answers.failure("it refused user and password")
        connection.receive_data(b"\1\0")  # the library accepts only version 1
    connection.send(SOCKS5CommandRequest.from_address(SOCKS5Command.CONNECT, (target.host or "", target.port)))
    version, code = await answers.ask_for_target(connection.data_to_send())
    if version != 5:
        raise answers.failure("its answer is malformed")
    if code in _OF_TARGET:
        raise answers.of_target(OSError(_OF_TARGET[code], os.strerror(_OF_TARGET[code])))
    if code == _NO_SUCH_ADDRESSES:
        raise answers.of_target("it does not know this type of address", Exit.PROXY)
    if code:
        raise answers.failure(_OF_PROXY.get(code) or f"it answered with the unknown code {code}")
    _, kind = await answers.next(2)
    if kind == _NAME:
        (size,) = await answers.next(1)
    elif (size := _ADDRESS_BYTES.get(kind, -1)) < 0:
        raise answers.failure("its answer is malformed")
    await answers.next(size + 2)  # the address and port that the proxy connects from
