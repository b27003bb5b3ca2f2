"""Probing one port at one address: TCP, TLS, UDP, banners and --expect."""

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from netkit.core.address import Endpoint, family_of
from netkit.core.dial import Dialling, dial
from netkit.core.errors import Exit, Failure, describe
from netkit.core.events import CoreEvent, Distrusted, Observer, Secured
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
from netkit.core.layer import Layer, through
from netkit.core.lookup import Address
from netkit.core.search import WINDOW, SearchTimeout
from netkit.core.stream import Connection
from netkit.core.tcp_probe import SCARCE, TcpProber
from netkit.core.udp import connect
from netkit.core.units import duration
from netkit.services.portcheck.check import CLOSED, FILTERED, OPEN, SILENT, UNKNOWN, UNREACHABLE, Check, ProbeResult
from netkit.services.portcheck.targets import Target

if TYPE_CHECKING:
    from netkit.services.portcheck.readiness import Datagrams

_MIN_PATIENCE = 0.001  # s that a step gets at least
_UDP_TRIES = 3  # datagrams to a silent port, spread over the timeout
_REJECTION = 0.2  # s that a TLS 1.3 server has at least to reject our certificate, or the lack of one
_MAX_BANNER = 256  # bytes
_DAY = 86400.0  # s
_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # a machine without IPv6, where nobody can listen on ::1
_NOBODY = (errno.ECONNREFUSED, errno.ENOENT)  # ENOENT: there is no such unix socket

Securing = Callable[[str, Observer, tuple[str, ...]], list[Layer]]
"""Makes the layers for TLS with a host: of its name, an observer, and the protocols to offer (ALPN)."""


class Prober:
    """Probes addresses one by one, until the time ``until`` at most. Its owner closes it.

    ``waiting`` is called before it waits. ``proxied`` is how to dial through proxies, if any; then an Address may have
    a name for a host.
    """

    def __init__(
        self,
        check: Check,
        waiting: Callable[[], None],
        *,
        until: float,
        observe: Observer,
        securing: Securing | None,
        proxied: Dialling | None = None,
    ) -> None:
        self._check = check
        self._waiting = waiting
        self._until = until
        self._observe = observe
        self._securing = securing
        self._tcp = TcpProber(waiting)
        self._proxied = proxied
        self._host: str | None = None
        self._begun = 0.0

    def close(self) -> None:
        """Close the sockets that are kept for the next address."""
        self._tcp.close()

    async def probe(self, address: Address, target: Target) -> tuple[ProbeResult, Connection | None]:
        """Probe an address of a target; return the result and the connection, if any, which the caller closes.

        Raises OSError if the system is out of sockets, ports or memory (SCARCE).
        """
        self._host = None if family_of(address.host) is None else address.host  # None if a proxy gets the name
        self._begun = now()
        try:
            if target.protocol == "udp":
                return await self._probe_udp(address, target), None
            if self._proxied is None and target.path is None and self._tcp.refuses(address):
                return self._closed(_reason(errno.ECONNREFUSED)), None
            return await self._probe_tcp(address, target)
        except DeadlineExceeded:
            return self._silent(FILTERED), None
        except OSError as error:
            if error.errno in SCARCE:
                raise
            if isinstance(error, Failure) and self._proxied is not None:
                return self._not_through(error), None
            code = error.errno or 0
            if code == errno.ETIMEDOUT or (isinstance(error, Failure) and error.exit is Exit.TIMEOUT):
                return self._silent(FILTERED), None
            if code in _NOBODY:
                return self._closed(_reason(code)), None
            absent = code in _NO_IPV6 and self._host == "::1"
            return self._found(UNREACHABLE, _reason(code), Exit.CONNECT)._replace(absent=absent), None

    def _not_through(self, failure: Failure) -> ProbeResult:
        """The result if a proxy did not connect us: the state that it reports, or UNKNOWN if it does not tell one."""
        from netkit.protocols.proxy import TargetFailure

        if not isinstance(failure, TargetFailure) or failure.exit is Exit.PROXY:
            return self._found(UNKNOWN, f"cannot {failure.action}: {failure.reason}", failure.exit)
        if failure.errno == errno.ECONNREFUSED:
            return self._closed(failure.reason)
        if failure.errno == errno.ETIMEDOUT or failure.exit is Exit.TIMEOUT:
            return self._found(FILTERED, failure.reason, Exit.TIMEOUT)
        return self._found(UNREACHABLE, failure.reason, Exit.CONNECT)

    def _closed(self, reason: str) -> ProbeResult:
        return self._found(CLOSED, reason, Exit.OK if self._check.closed else Exit.CONNECT)

    def _found(self, state: str, reason: str, exit: Exit) -> ProbeResult:
        return ProbeResult(state, reason, exit, self._host, now() - self._begun)

    def _open(self) -> ProbeResult:
        return self._found(OPEN, "", Exit.CONNECT if self._check.closed else Exit.OK)

    def _silent(self, state: str) -> ProbeResult:
        return self._found(state, "no answer", Exit.TIMEOUT)

    async def _probe_udp(self, address: Address, target: Target) -> ProbeResult:
        time_left = patience(self._check, self._until)
        sock = await connect(Endpoint(address.host, address.sockaddr[1]), Dialling(timeout=time_left))
        found = self._silent(SILENT)
        service = _datagrams(target)
        try:
            for part in range(1, _UDP_TRIES + 1):
                await sock.send(service.payload if service else self._check.payload)
                self._waiting()
                with suppress(DeadlineExceeded), deadline(self._begun + time_left * part / _UDP_TRIES):
                    while found.state != OPEN or found.exit is Exit.TIMEOUT:
                        data, _ = await sock.receive()
                        found = service.answered(data, self._open(), found) if service else self._answered(data)
                    return found
        finally:
            sock.close()
        return found._replace(seconds=now() - self._begun)

    def _answered(self, data: bytes) -> ProbeResult:
        """The result for a UDP port that sent a datagram."""
        found = self._open()
        if self._check.banner or self._check.expect is not None:
            found = found._replace(data=data[:_MAX_BANNER])
        try:
            if self._check.expect is not None and not self._check.expect.search(data):
                return found._replace(reason=f"no match within {duration(self._check.timeout)}", exit=Exit.TIMEOUT)
        except SearchTimeout as failure:
            return found._replace(reason=failure.reason, exit=failure.exit)
        return found

    async def _probe_tcp(self, address: Address, target: Target) -> tuple[ProbeResult, Connection]:
        time_left = patience(self._check, self._until)
        stream = await self._connect(address, target, time_left)
        try:
            found = self._open()
            if target.tls:
                self._waiting()
                found, stream = await self._secure(stream, target, found, self._begun + time_left)
                found = found._replace(seconds=now() - self._begun)
                if not (found.exit or target.probe or self._check.converses):
                    found = await self._await_rejection(stream, found)
            if not found.exit and (target.probe or self._check.converses):
                self._waiting()
                begun = now()
                if target.probe:
                    from netkit.services.portcheck.readiness import ask

                    found = await ask(stream, target, self._check, found, patience(self._check, self._until))
                    found = found._replace(seconds=now() - self._begun)
                else:
                    found = await self._converse(stream, found)
                if self._check.settle is not None and not found.exit:
                    found = await self._settle(stream, found, begun)
        except BaseException:
            stream.close()
            raise
        return found, stream

    async def _connect(self, address: Address, target: Target, time_left: float) -> Connection:
        if target.path is not None:
            return await dial(Endpoint(path=target.path), Dialling(timeout=time_left))
        if self._proxied is None:
            return await self._tcp.connect(address, time_left)
        self._waiting()
        endpoint = Endpoint(address.host, address.sockaddr[1])
        async with Group() as group:  # only for the handshake with a proxy: TLS starts no tasks
            stream = await dial(endpoint, self._proxied._replace(timeout=time_left), self._observe, group)
        return stream

    async def _secure(
        self, stream: Connection, target: Target, found: ProbeResult, due: float
    ) -> tuple[ProbeResult, Connection]:
        """Do the TLS handshake; return the result with its outcome, and the stream, secured unless that failed.

        The caller closes it.
        """
        seen: list[Secured | Distrusted] = []

        def observe(event: CoreEvent) -> None:
            if isinstance(event, Secured | Distrusted):
                seen.append(event)
            if not isinstance(event, Distrusted):  # the result has the certificates, and --wait would repeat the event
                self._observe(event)

        assert self._securing is not None
        try:
            layers = self._securing(target.host or "localhost", observe, target.alpn)
            async with Group() as group:  # only for the handshakes: TLS starts no tasks
                with deadline(due):
                    secured = await through(stream, layers, group)
        except DeadlineExceeded:
            return found._replace(reason="no TLS handshake in time", exit=Exit.TIMEOUT), stream
        except Failure as failure:
            shown = seen[0].certificates if seen else ()
            # A reset amid a plain dialogue is no failure of TLS.
            exit = Exit.PROTOCOL if failure.exit in (Exit.SEND, Exit.RECV) else failure.exit
            found = found._replace(reason=failure.reason, exit=exit, certificates=shown, hint=failure.hint)
            return found, stream
        [event] = seen
        assert isinstance(event, Secured)
        found = found._replace(secured=event, certificates=event.certificates)
        if self._check.expires is not None and event.certificates:
            from netkit.core.x509 import read

            end = read(event.certificates[0]).not_after
            left = end.timestamp() - time.time() if end is not None else 0.0
            if left < self._check.expires:
                found = found._replace(reason=f"its certificate ends in {left / _DAY:.1f} days", exit=Exit.CERT)
        return found, secured

    async def _await_rejection(self, stream: Connection, found: ProbeResult) -> ProbeResult:
        """Wait for an alert: in TLS 1.3 a server rejects a missing client certificate only after our handshake.

        Our end is sent, which a server that accepts us answers with its own. It has at least ``_REJECTION`` seconds.
        """
        assert found.secured is not None
        if found.secured.protocol != "TLSv1.3":
            return found
        try:
            with suppress(DeadlineExceeded), deadline(now() + max(_REJECTION, 2 * (found.seconds or 0))):
                await stream.send_eof()
                while await stream.recv():
                    pass
        except Failure as failure:
            if failure.exit is Exit.TLS:
                return found._replace(reason=failure.reason, exit=Exit.TLS)
        return found

    async def _converse(self, stream: Connection, found: ProbeResult) -> ProbeResult:
        """Send the payload, and wait for the answer if one is expected or shown."""
        time_left = patience(self._check, self._until)
        try:
            with deadline(now() + time_left):
                return await self._hear(stream, found)
        except DeadlineExceeded:
            if self._check.expect is not None:
                return found._replace(reason=f"no match within {duration(time_left)}", exit=Exit.TIMEOUT)
        except Failure as failure:
            # An alert, such as that of TLS 1.3 for a missing client certificate, counts without --expect, too.
            if failure.exit is Exit.TLS or isinstance(failure, SearchTimeout):
                return found._replace(reason=failure.reason, exit=failure.exit)
            if self._check.expect is not None:
                return found._replace(reason=f"{failure.reason} before a match", exit=Exit.PROTOCOL)
        return found

    async def _hear(self, stream: Connection, found: ProbeResult) -> ProbeResult:
        expect = self._check.expect
        data = b""
        await stream.send(self._check.payload)
        while expect is not None or self._check.banner:
            chunk = await stream.recv()
            data = (data + chunk)[-WINDOW:]
            if expect is None:
                return found._replace(data=data[:_MAX_BANNER] or None)
            if (match := expect.search(data)) is not None:
                return found._replace(data=match[0][:_MAX_BANNER])
            if not chunk:
                reason = "closed by the peer before a match"
                return found._replace(reason=reason, exit=Exit.PROTOCOL, data=data[:_MAX_BANNER] or None)
        return found

    async def _settle(self, stream: Connection, found: ProbeResult, begun: float) -> ProbeResult:
        """Check that the connection stays open until ``check.settle`` seconds after ``begun``."""
        settled = begun + (self._check.settle or 0)
        reason = "closed by the peer"
        try:
            with deadline(min(settled, self._until)):
                while await stream.recv():
                    pass
        except DeadlineExceeded:
            if settled <= self._until:
                return found
            return found._replace(reason=f"open for {duration(now() - begun)} only", exit=Exit.TIMEOUT)
        except Failure as failure:
            reason = failure.reason
            if failure.exit is Exit.TLS:
                return found._replace(reason=reason, exit=Exit.TLS)
        reason = f"accepted, then {reason} after {duration(now() - begun)}"
        return found._replace(state=CLOSED, reason=reason, exit=Exit.CONNECT, data=None)


def patience(check: Check, until: float) -> float:
    """How many seconds a step that begins now may take."""
    return max(min(check.timeout, until - now()), _MIN_PATIENCE)


def _datagrams(target: Target) -> "Datagrams | None":
    """The readiness probe over UDP, if the target has one."""
    if not target.probe:
        return None
    from netkit.services.portcheck.readiness import Datagrams

    return Datagrams(target)


@cache
def _reason(code: int) -> str:
    return describe(OSError(code, os.strerror(code)))
