"""Checking ports: many at a time, each with a verdict of its own, told as soon as it is known."""

import errno
import math
import os
import re
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from netkit.core.address import Endpoint, Protocol, Target
from netkit.core.dial import Dialling
from netkit.core.errors import Exit, Failure, describe
from netkit.core.events import Observer, Retrying, Secured, ignore, span
from netkit.core.kernel import DeadlineExceeded, Group, checkpoint, deadline, now, sleep
from netkit.core.lookup import Address, lookup
from netkit.core.stream import Connection, Secure
from netkit.core.sync import Event
from netkit.core.tcp_probe import SCARCE, Prober
from netkit.core.udp import connect
from netkit.services.transforms import WINDOW

OPEN, CLOSED, FILTERED, UNREACHABLE, UNKNOWN = "open", "closed", "filtered", "unreachable", "unknown"

SILENT = "open|filtered"  # over UDP: no answer may mean either

COLLAPSE_AFTER = 25  # ports of a host that may share a state before it is summed up

_MOST = 1024  # attempts at one time, however many descriptors there are

_LOOKUPS = 16  # names at one time

_PER_LOOKUP = 4  # descriptors that the system's resolver may hold for a name

_FAREWELL = 0.2  # s for an open port to take our FIN and to end, so that nothing it says meets a closed socket

_SCARCE_PAUSE, _SCARCE_PATIENCE = 0.02, 0.5  # s

_FIRST_RETRY, _LAST_RETRY = 0.02, 0.5  # s between rounds

_TURN = 16  # attempts after which others get a turn, though nothing was waited for

_SHORTEST = 0.001  # s of patience, however near the end

_UDP_TRIES = 3  # datagrams to a port that is silent, spread over its time

_TOLD = 256  # bytes of a banner

_DAY = 86400.0  # s

# Of the addresses of a host the one that counts: a port is closed only if all of them say so.
_RANK = (OPEN, FILTERED, SILENT, UNREACHABLE, CLOSED)


class Check(NamedTuple):
    """What is asked of each port, and what is wanted: open, unless ``closed``.

    ``timeout`` seconds bound each look-up, each attempt, and each wait for an answer. ``payload`` is what a UDP port is
    sent, or what a TCP port is told before its answer is expected. A certificate is to be good for ``expires`` seconds.
    """

    protocol: Protocol = "tcp"
    timeout: float = 3.0
    closed: bool = False
    payload: bytes = b""
    expect: re.Pattern[bytes] | None = None
    banner: bool = False
    settle: float | None = None
    expires: float | None = None
    family: int = 0
    numeric: bool = False

    @property
    def converses(self) -> bool:
        """Whether an open connection is more than closed again."""
        return self.expect is not None or self.banner or self.settle is not None


class ProbeResult(NamedTuple):
    """What one address had to say; ``exit`` is OK if that is as wanted.

    ``data`` is what it sent, for a banner. ``secured`` is there if a TLS handshake was done.
    """

    state: str
    reason: str
    exit: Exit
    address: str | None = None
    seconds: float | None = None
    data: bytes | None = None
    secured: Secured | None = None

    @property
    def brief(self) -> str:
        """The state, and the reason where the state alone is none."""
        return f"{self.state}: {self.reason}" if self.state in (OPEN, UNKNOWN) and self.reason else self.state


class Result(NamedTuple):
    """The verdict on a port. ``host`` is never empty."""

    host: str
    port: int
    protocol: str
    finding: ProbeResult

    def __str__(self) -> str:
        return str(Endpoint(self.host, self.port))


# Which verdict a script is told of when ports differ.
_PRECEDENCE = (Exit.CERT, Exit.TLS, Exit.CONNECT, Exit.RESOLVE, Exit.PROTOCOL, Exit.TIMEOUT)

_NAMED = 10  # ports that a failure names

Report = Callable[[Result], None]


Securing = Callable[[str, Observer], Secure]
"""Makes the handshake with a host; the observer is told of it."""


_NOTHING = ProbeResult(UNKNOWN, "not tried", Exit.TIMEOUT)


def limit(names: int) -> tuple[int, int]:
    """Return how many attempts and how many look-ups the descriptors that are left allow at one time."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST, _LOOKUPS
    used = len(os.listdir("/dev/fd"))
    room = max(soft - used, 1)
    lookups = max(1, min(names, _LOOKUPS, room // (2 * _PER_LOOKUP)))
    return max(1, min(_MOST, room - (lookups * _PER_LOOKUP if names else 0))), lookups


class Summary:
    """What a check came to: of ``total`` ports the ``known``, ``open`` and ``good`` ones, these as they are wanted."""

    def __init__(self, check: Check, targets: Sequence[Target], *, any: bool) -> None:
        self.total = sum(len(target.ports) for target in targets)
        self.known = self.open = self.good = 0
        self._wanted = CLOSED if check.closed else OPEN
        self._any = any
        self._exits: set[Exit] = set()
        self._bad: list[Result] = []
        self._more = False
        self._states: dict[str, int] = {}

    @property
    def enough(self) -> bool:
        """Whether nothing that is still to come can change the outcome."""
        return self._any and self.good > 0

    def note(self, result: Result) -> None:
        """Count a verdict."""
        self.known += 1
        self.open += result.finding.state == OPEN
        if result.finding.exit is Exit.OK:
            self.good += 1
            return
        self._exits.add(result.finding.exit)
        self._states[result.finding.state] = self._states.get(result.finding.state, 0) + 1
        if len(self._bad) < _NAMED:
            self._bad.append(result)
        else:
            self._more = True

    def failure(self, seconds: float, *, waited: bool = False) -> Failure | None:
        """Return what is not as wanted after so many seconds, None if all is well; ``waited`` is until time ran out."""
        if self.good == self.total or self.enough:
            return None
        exit = Exit.TIMEOUT if waited else min(self._exits, key=_PRECEDENCE.index)
        after = f"after {span(seconds)}"
        if self.total == 1:
            [result] = self._bad
            reason = result.finding.reason or f"it is {result.finding.state}"
            reason = f"still {reason}" if waited else reason
            detail = ", ".join(filter(None, (result.finding.address, after)))
            return Failure(exit, f"find {result} {self._wanted}", reason, detail=detail, hint=self._hint(exit, waited))
        if self._more:
            detail = ", ".join(f"{count} {state}" for state, count in self._states.items())
        else:
            detail = ", ".join(f"{result} {result.finding.brief}" for result in self._bad)
        some = "any of" if self._any else "all"
        reason = f"{self.good or 'none'} as wanted {after}"
        hint = self._hint(exit, waited)
        return Failure(exit, f"find {some} {self.total} ports {self._wanted}", reason, detail=detail, hint=hint)

    def _hint(self, exit: Exit, waited: bool) -> str:
        if waited or self._wanted == CLOSED:
            return ""
        if exit is Exit.CONNECT:
            return "not there yet? --wait 30s keeps trying"
        return "a firewall may drop packets; -w waits longer" if exit is Exit.TIMEOUT else ""


class Checker:
    """Checks ports, ``attempts`` addresses and ``lookups`` names at one time; ``securing`` is for targets with TLS.

    If descriptors run out all the same, fewer are tried at a time; what a port is called never changes for it.
    """

    def __init__(
        self,
        check: Check,
        attempts: int,
        lookups: int = _LOOKUPS,
        observe: Observer = ignore,
        securing: Securing | None = None,
    ) -> None:
        self.check = check
        self.observe = observe
        self._securing = securing
        self._most = attempts
        self._workers = 0
        self._lookups = lookups
        self._looking: deque[Event] = deque()
        self._sweeps: deque[HostScan] = deque()
        self._again: list[tuple[HostScan, int, Address]] = []
        self._until = math.inf
        self._group = Group()
        self._rounds = Group()
        self._leaving = Group()

    async def run(self, targets: Sequence[Target], report: Report) -> None:
        """Report each port of the targets once."""
        await self._each(self._round(target, report) for target in targets)

    async def wait(self, targets: Sequence[Target], patience: float, interval: float | None, report: Report) -> None:
        """Check again and again until ``patience`` seconds have passed, a port no more once it is as wanted.

        Names are looked up anew each time. Each port is reported once: when it is as wanted, or at the end. Between
        two rounds ``interval`` seconds pass; by default less at first than later.
        """
        self._until = now() + patience
        await self._each(self._keep_trying(target, interval, report) for target in targets)

    def stop(self) -> None:
        """Let ``run`` or ``wait`` return now: what is not known yet is not reported."""
        self._rounds.cancel()

    async def _each(self, works: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Run what is to be done for each target; then drop attempts that matter no more, but end connections well."""
        async with self._leaving, self._group:
            async with self._rounds:
                for work in works:
                    self._rounds.start_soon(work)
            self._group.cancel()

    async def _keep_trying(self, target: Target, interval: float | None, report: Report) -> None:
        missing = {port: self._result(target.host, port, _NOTHING) for port in target.ports}
        pause = _FIRST_RETRY

        def note(result: Result) -> None:
            missing[result.port] = result
            if result.finding.exit is Exit.OK:
                report(missing.pop(result.port))

        while True:
            await self._round(target._replace(ports=tuple(missing)), note)
            left = self._until - now()
            if not missing or left <= 0:
                break
            wait = min(pause if interval is None else interval, left)
            first = next(iter(missing.values()))
            reason = f": {first.finding.reason}" if first.finding.reason else ""
            self.observe(Retrying(f"{first} is {first.finding.state}{reason}", wait))
            await sleep(wait)
            pause = min(pause * 2, _LAST_RETRY)
        for result in missing.values():
            report(result)

    def _patience(self, begun: float) -> float:
        """Return how long something that began now may take, in seconds."""
        return max(min(self.check.timeout, self._until - begun), _SHORTEST)

    def _result(self, host: str, port: int, finding: ProbeResult) -> Result:
        return Result(host or "localhost", port, self.check.protocol, finding)

    async def _round(self, target: Target, report: Report) -> None:
        """Check each port of a target once."""
        try:
            addresses = await self._addresses(target.host)
        except Failure as failure:
            finding = ProbeResult(UNKNOWN, failure.reason, failure.exit)
            for port in target.ports:
                report(self._result(target.host, port, finding))
            return
        sweep = HostScan(target, addresses, lambda port, finding: report(self._result(target.host, port, finding)))
        self._sweeps.append(sweep)
        try:
            self._start_worker()
            await sweep.finished.wait()
        finally:
            sweep.waiting = 0
            if sweep in self._sweeps:
                self._sweeps.remove(sweep)

    async def _addresses(self, host: str) -> list[Address]:
        """Look a name up, in its turn. Raises Failure, with TIMEOUT if the resolver was silent."""
        if self._lookups:
            self._lookups -= 1
        else:
            handed = Event()
            self._looking.append(handed)
            await handed.wait()
        begun = now()
        patience = self._patience(begun)
        try:
            with deadline(begun + patience):
                while True:
                    try:
                        return await lookup(Endpoint(host), self.check.family, observe=self.observe)
                    except Failure as failure:
                        if failure.errno not in SCARCE:
                            raise
                    await sleep(_SCARCE_PAUSE)
        except DeadlineExceeded:
            reason = f"no answer of the resolver within {span(patience)}"
            raise Failure(Exit.TIMEOUT, f"resolve {host}", reason) from None
        finally:
            if self._looking:
                self._looking.popleft().set()
            else:
                self._lookups += 1

    def _start_worker(self) -> None:
        """Let somebody else go on with what waits; called by whoever is about to wait for an answer."""
        if self._workers < self._most and (self._again or any(sweep.waiting for sweep in self._sweeps)):
            self._workers += 1
            self._group.start_soon(self._work())

    def _next(self) -> "tuple[HostScan, int, Address] | None":
        if self._again:
            return self._again.pop()
        while self._sweeps:
            job = self._sweeps[0].next()
            if job is not None:
                return self._sweeps[0], *job
            self._sweeps.popleft()
        return None

    async def _work(self) -> None:
        """Try one address after the other, until none is left."""
        prober = Prober(self._start_worker)
        done = 0
        scarce_since: float | None = None
        try:
            while (job := self._next()) is not None:
                sweep, port, address = job
                begun = now()
                stream = None
                try:
                    if self.check.protocol == "udp":
                        finding = await self._udp(address, begun)
                    else:
                        finding, stream = await self._tcp(prober, sweep.target, address, begun)
                except OSError as error:
                    if error.errno in SCARCE:
                        self._again.append(job)
                        if self._workers > 1:  # somebody else goes on
                            self._most = self._workers - 1
                            return
                        scarce_since = scarce_since or begun
                        if begun - scarce_since > _SCARCE_PATIENCE:
                            raise Failure(Exit.CONNECT, f"check {Endpoint(address.host, port)}", error) from error
                        await sleep(_SCARCE_PAUSE)
                        continue
                    finding = self._missed(error, address, begun)
                scarce_since = None
                leaving = self._leaving.start_soon(_leave(stream)) if stream is not None else None
                sweep.note(port, finding, conclusive=finding.state == OPEN and (self.check.closed or not finding.exit))
                if leaving is not None:
                    self._start_worker()
                    await leaving.finished.wait()
                done += 1
                if not done % _TURN:
                    await checkpoint()
        finally:
            self._workers -= 1
            prober.close()

    async def _tcp(
        self, prober: Prober, target: Target, address: Address, begun: float
    ) -> tuple[ProbeResult, Connection | None]:
        stream: Connection
        try:
            stream = await prober.connect(address, self._patience(begun))
        except DeadlineExceeded:
            return self._silent(FILTERED, address, begun), None
        try:
            finding = ProbeResult(OPEN, "", Exit.CONNECT if self.check.closed else Exit.OK, address.host)
            if target.tls:
                self._start_worker()
                finding, stream = await self._secure(stream, target.host, finding, begun)
            finding = finding._replace(seconds=now() - begun)
            if self.check.converses and not finding.exit:
                self._start_worker()
                finding = await self._converse(stream, finding)
        except BaseException:
            stream.close()
            raise
        return finding, stream

    async def _secure(
        self, stream: Connection, host: str, finding: ProbeResult, begun: float
    ) -> tuple[ProbeResult, Connection]:
        """Go through the handshake; return what that adds to the finding, and the secured stream if there is one."""
        seen: list[Secured] = []

        def observe(event: Any) -> None:
            seen.append(event)
            self.observe(event)

        assert self._securing is not None
        secure = self._securing(host or "localhost", observe)
        try:
            with deadline(begun + self._patience(begun)):
                secured = await secure(stream)
        except DeadlineExceeded:
            return finding._replace(reason="no TLS handshake in time", exit=Exit.TIMEOUT), stream
        except Failure as failure:
            return finding._replace(reason=failure.reason, exit=failure.exit), stream
        finding = finding._replace(secured=seen[0])
        if self.check.expires is not None and seen[0].not_after:
            from netkit.core.tls import seconds_of

            left = seconds_of(seen[0].not_after) - time.time()
            if left < self.check.expires:
                finding = finding._replace(reason=f"its certificate ends in {left / _DAY:.1f} days", exit=Exit.CERT)
        return finding, secured

    async def _udp(self, address: Address, begun: float) -> ProbeResult:
        patience = self._patience(begun)
        target = Endpoint(address.host, address.sockaddr[1])
        sock = await connect(target, Dialling(timeout=patience))
        finding = self._silent(SILENT, address, begun)
        try:
            for part in range(1, _UDP_TRIES + 1):
                await sock.send(self.check.payload)
                self._start_worker()
                try:
                    with deadline(begun + patience * part / _UDP_TRIES):
                        while finding.state != OPEN or finding.exit is Exit.TIMEOUT:
                            data, _ = await sock.receive()
                            finding = self._answered(data, address, begun)
                        return finding
                except DeadlineExceeded:
                    pass
        finally:
            sock.close()
        return finding._replace(seconds=now() - begun)

    def _answered(self, data: bytes, address: Address, begun: float) -> ProbeResult:
        """Return the finding on a UDP port from which a datagram came."""
        exit, reason = (Exit.CONNECT if self.check.closed else Exit.OK), ""
        if self.check.expect is not None and not self.check.expect.search(data):
            exit, reason = Exit.TIMEOUT, f"no match within {span(self.check.timeout)}"
        shown = data[:_TOLD] if self.check.banner or self.check.expect is not None else None
        return ProbeResult(OPEN, reason, exit, address.host, now() - begun, shown)

    async def _converse(self, stream: Connection, found: ProbeResult) -> ProbeResult:
        """Say and hear what is asked for on an open connection, and see how long it stays open."""
        begun = now()
        patience = self._patience(begun)
        finding = found
        try:
            with deadline(begun + patience):
                finding = await _hear(stream, self.check, found)
        except DeadlineExceeded:
            if self.check.expect is not None:
                finding = found._replace(reason=f"no match within {span(patience)}", exit=Exit.TIMEOUT)
        except Failure as failure:
            if failure.exit is Exit.TLS:  # an alert: of TLS 1.3 a client whose certificate is missed hears it now
                finding = found._replace(reason=failure.reason, exit=Exit.TLS)
            elif self.check.expect is not None:
                finding = found._replace(reason=f"{failure.reason} before a match", exit=Exit.PROTOCOL)
        if self.check.settle is None or finding.exit is not Exit.OK:
            return finding
        settled = begun + self.check.settle
        reason = "closed by the peer"
        try:
            with deadline(min(settled, self._until)):
                while await stream.recv():
                    pass
        except DeadlineExceeded:
            if settled <= self._until:
                return finding
            return finding._replace(reason=f"open for {span(now() - begun)} only", exit=Exit.TIMEOUT)
        except Failure as failure:
            reason = failure.reason
        reason = f"accepted, then {reason} after {span(now() - begun)}"
        return found._replace(state=CLOSED, reason=reason, exit=Exit.CONNECT)

    def _silent(self, state: str, address: Address, begun: float) -> ProbeResult:
        return ProbeResult(state, "no answer", Exit.TIMEOUT, address.host, now() - begun)

    def _missed(self, error: OSError, address: Address, begun: float) -> ProbeResult:
        code = error.errno or 0
        if code == errno.ETIMEDOUT:
            return self._silent(FILTERED, address, begun)
        state = CLOSED if code == errno.ECONNREFUSED else UNREACHABLE
        exit = Exit.OK if state == CLOSED and self.check.closed else Exit.CONNECT
        return ProbeResult(state, _reason(code), exit, address.host, now() - begun)


class HostScan:
    """The ports of a host on their way: what is still to be tried, and what the addresses have said so far."""

    def __init__(self, target: Target, addresses: Sequence[Address], tell: Callable[[int, ProbeResult], None]) -> None:
        self.target = target
        self.waiting = len(target.ports) * len(addresses)  # attempts that have not begun
        self.finished = Event()
        self._jobs = self._all(target.ports, addresses)
        self._tell = tell
        self._left = len(target.ports)
        self._addresses = len(addresses)
        self._found: dict[int, list[ProbeResult]] = {}
        self._told: set[int] = set()

    @staticmethod
    def _all(ports: Sequence[int], addresses: Sequence[Address]) -> Iterator[tuple[int, Address]]:
        for port in ports:
            for family, sockaddr in addresses:
                yield port, Address(family, (sockaddr[0], port, *sockaddr[2:]))

    def next(self) -> tuple[int, Address] | None:
        """Return a port and an address to try, or None if nothing is left to begin."""
        while self.waiting:
            self.waiting -= 1
            job = next(self._jobs)
            if job[0] not in self._told:
                return job
        return None

    def note(self, port: int, finding: ProbeResult, *, conclusive: bool) -> None:
        """Take in what one address said; tell the port's verdict when it is certain."""
        if self._addresses > 1:
            if port in self._told:
                return
            found = self._found.setdefault(port, [])
            found.append(finding)
            if not conclusive and len(found) < self._addresses:
                return
            del self._found[port]
            self._told.add(port)
            if not conclusive:
                finding = _combined(found)
        self._tell(port, finding)
        self._left -= 1
        if not self._left:
            self.finished.set()


def _combined(findings: Sequence[ProbeResult]) -> ProbeResult:
    """Return the one of several addresses' findings that counts, with the reasons of all."""
    chosen = min(findings, key=lambda finding: _RANK.index(finding.state))
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        reasons.setdefault(finding.reason, []).append(finding.address or "")
    if len(reasons) > 1:
        text = "; ".join(f"{', '.join(hosts)}: {reason}" for reason, hosts in reasons.items())
        return chosen._replace(reason=text)
    return chosen


@cache
def _reason(code: int) -> str:
    return describe(OSError(code, os.strerror(code)))


async def _hear(stream: Connection, check: Check, found: ProbeResult) -> ProbeResult:
    """Send what is to be sent, and return what came in answer, if that matters."""
    data = b""
    await stream.send(check.payload)
    while check.expect is not None or check.banner:
        chunk = await stream.recv()
        data = (data + chunk)[-WINDOW:]
        if check.expect is None:
            return found._replace(data=data[:_TOLD] or None)
        if (match := check.expect.search(data)) is not None:
            return found._replace(data=match[0][:_TOLD])
        if not chunk:
            reason = "closed by the peer before a match"
            return found._replace(reason=reason, exit=Exit.PROTOCOL, data=data[:_TOLD] or None)
    return found


async def _leave(stream: Connection) -> None:
    """End a connection by FIN, and take what is still on its way, so that no RST follows."""
    try:
        with deadline(now() + _FAREWELL):
            await stream.send_eof()
            while await stream.recv():
                pass
    except (DeadlineExceeded, Failure):
        pass
    finally:
        stream.close()
