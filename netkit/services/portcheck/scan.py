"""Checking many ports of many hosts concurrently, once or until they are ready; with a limit of descriptors."""

import math
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any

from netkit.core import descriptors
from netkit.core.address import Endpoint, family_of
from netkit.core.dial import Dialling
from netkit.core.errors import Exit, Failure
from netkit.core.events import Observer, Retrying, ignore
from netkit.core.kernel import DeadlineExceeded, Group, checkpoint, deadline, now, sleep
from netkit.core.lookup import Address, lookup
from netkit.core.persistence import pauses
from netkit.core.stream import Connection
from netkit.core.sync import Event, Semaphore
from netkit.core.tcp_probe import SCARCE
from netkit.core.units import duration
from netkit.services.portcheck.check import OPEN, UNKNOWN, Check, ProbeResult, Report, Result, combined
from netkit.services.portcheck.probe import Prober, Securing, patience
from netkit.services.portcheck.targets import Target

_MAX_ATTEMPTS = 1024  # at one time, however many descriptors there are
_MAX_HOSTS = 2048  # at one time, or twice the number of attempts if that is more
_MAX_LOOKUPS = 16  # at one time
_PER_LOOKUP = 4  # descriptors that the system's resolver may use for a name
_CLOSING = 0.2  # s for an open port to answer our FIN with its own, so that it gets no reset for what it sends
_LAST_CLOSING = 0.02  # s for the connections that are still closing when the last result is known
_SCARCE_PAUSE, _SCARCE_PATIENCE = 0.02, 0.5  # s between tries, and s in all, while the system is out of sockets
_LAST_ROUND = 0.5  # s that a running round gets when the time is over
_SHORTEST_SLEEP = 0.001  # s: the resolution of epoll_wait(2)
_TURN = 16  # attempts without waiting after which other tasks run

_Job = tuple["HostScan", int, Address]
"""A port of a host at one of its addresses."""

Room = Callable[[], Awaitable[None]]
"""Waits until there is room for more reports."""


def limits(targets: Sequence[Target]) -> tuple[int, int]:
    """The numbers of concurrent attempts and look-ups for which enough descriptors are left."""
    room = descriptors.room()
    if room is None:
        return _MAX_ATTEMPTS, _MAX_LOOKUPS
    names = sum(bool(target.host) and family_of(target.first.host or "") is None for target in targets)
    lookups = max(1, min(names, _MAX_LOOKUPS, room // (2 * _PER_LOOKUP)))
    return max(1, min(_MAX_ATTEMPTS, room - (lookups * _PER_LOOKUP if names else 0))), lookups


class Checker:
    """Checks ports, at most ``attempts`` addresses and ``lookups`` names at a time.

    ``securing`` is for targets with TLS. ``rate`` is how many attempts may begin in a second, evenly spaced. With
    ``proxied`` targets are dialled through proxies, which get names unless ``resolve``. If the system runs out of
    descriptors, fewer attempts are made at a time, and repeated, so no result depends on that.
    """

    def __init__(
        self,
        check: Check,
        attempts: int,
        lookups: int = _MAX_LOOKUPS,
        observe: Observer = ignore,
        securing: Securing | None = None,
        proxied: Dialling | None = None,
        resolve: bool = True,
        rate: int | None = None,
    ) -> None:
        self.check = check
        self.observe = observe
        self._securing = securing
        self._proxied = proxied
        self._resolve = resolve
        self._max_workers = attempts
        self._workers = 0
        self._lookups = Semaphore(lookups)
        self._scans: deque[HostScan] = deque()
        self._again: list[_Job] = []  # to be repeated, as the system was out of sockets
        self._until = math.inf
        self._room: Room | None = None
        self._interval = 1 / rate if rate else 0.0  # s between two attempts
        self._next_turn = 0.0
        self._probing = Group()
        self._rounds = Group()
        self._closing = Group()

    async def run(self, targets: Sequence[Target], report: Report, room: Room | None = None) -> None:
        """Check all ports of the targets, and report each once. ``room`` is awaited now and then: see Room."""
        self._room = room
        all_hosts = ((number, host) for number, target in enumerate(targets) for host in target.hosts())
        await self._run_all([self._look(all_hosts, report)])

    async def wait(
        self,
        targets: Sequence[Target],
        until: float,
        interval: float | None,
        report: Report,
        *,
        tried: Report = ignore,
        settled: Callable[[int], bool] = lambda number: False,
    ) -> None:
        """Check ports repeatedly, each until it is as wanted, but not beyond ``until`` (kernel's clock).

        Names are looked up for each round. Each port is reported once: when it is as wanted, or at the end. ``tried``
        gets the result of each try. A target is not checked further if ``settled`` is true for its index. ``interval``
        is the pause between rounds in seconds, at least 0.01; the default grows from 0.02 to 0.5.
        """
        self._until = until
        numbered = enumerate(targets)
        await self._run_all(self._keep_trying(*each, interval, report, tried, settled) for each in numbered)

    def stop(self) -> None:
        """Make ``run`` or ``wait`` return now, without further reports."""
        self._rounds.cancel()

    async def _run_all(self, rounds: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Run the rounds; then cancel remaining attempts, and give connections a moment to close."""
        async with self._closing:
            async with self._probing:
                async with self._rounds:
                    for each in rounds:
                        self._rounds.start_soon(each)
                self._probing.cancel()
            with suppress(DeadlineExceeded), deadline(now() + _LAST_CLOSING):
                await self._closing.emptied()
            self._closing.cancel()

    async def _keep_trying(
        self,
        number: int,
        target: Target,
        interval: float | None,
        report: Report,
        tried: Report,
        settled: Callable[[int], bool],
    ) -> None:
        not_tried = ProbeResult(UNKNOWN, "not tried", Exit.TIMEOUT)
        everywhere = {host.place: host for host in target.hosts()}
        missing = {
            (name, port): self._result(number, host, port, not_tried)
            for name, host in everywhere.items()
            for port in host.ports
        }
        between = pauses(interval)

        def note(result: Result) -> None:
            place = result.host, result.port or 0
            if result.probe.exit is Exit.TIMEOUT and now() >= self._until and missing[place].probe is not not_tried:
                result = missing[place]  # a timeout because the time is over tells nothing: keep the last result
            missing[place] = result
            tried(result)
            if result.probe.exit is Exit.OK:
                report(missing.pop(place))

        while True:
            ports: dict[str, list[int]] = {}
            for name, port in missing:
                ports.setdefault(name, []).append(port)
            left_out = (everywhere[name]._replace(ports=tuple(those)) for name, those in ports.items())
            with suppress(DeadlineExceeded), deadline(self._until + _LAST_ROUND):
                await self._look(((number, host) for host in left_out), note)
            left = self._until - now()
            if not missing or left <= 0 or settled(number):
                break
            wait = min(next(between), left)
            first = next(iter(missing.values()))
            reason = f": {first.probe.reason}" if first.probe.reason else ""
            self.observe(Retrying(f"{first} is {first.probe.state}{reason}", wait))
            await sleep(wait)
        for result in missing.values():
            report(result)

    def _result(self, number: int, host: Target, port: int, probe: ProbeResult) -> Result:
        return Result(host.place, port or None, host.protocol, probe, host.tls, host.word, number)

    async def _look(self, numbered: Iterable[tuple[int, Target]], report: Report) -> None:
        """Check each port of the hosts once; enough hosts at a time to keep all attempts busy."""
        places = Semaphore(max(2 * self._max_workers, _MAX_HOSTS))

        async def look(number: int, host: Target) -> None:
            await self._round(number, host, report)
            places.release()

        async with Group() as group:
            for number, host in numbered:
                await places.acquire()
                group.start_soon(look(number, host))

    async def _round(self, number: int, host: Target, report: Report) -> None:
        """Check each port of a host once."""
        try:
            addresses = await self._addresses(host)
        except Failure as failure:
            unknown = ProbeResult(UNKNOWN, failure.reason, failure.exit)
            for port in host.ports:
                report(self._result(number, host, port, unknown))
            return
        scan = HostScan(host, addresses, lambda port, probe: report(self._result(number, host, port, probe)))
        self._scans.append(scan)
        try:
            self._start_worker()
            await scan.finished.wait()
        finally:
            scan.drop()

    async def _addresses(self, target: Target) -> list[Address]:
        """Look up the target's name, at most ``lookups`` at a time. Raises Failure; TIMEOUT if there is no answer."""
        host = target.host
        if target.path is not None or not self._resolve:
            return [Address(socket.AF_UNSPEC, (host, 0))]
        if not host or family_of(host) is not None:  # no query is needed
            return await lookup(Endpoint(host), self.check.family, observe=self.observe)
        async with self._lookups:
            time_left = patience(self.check, self._until)
            try:
                with deadline(now() + time_left):
                    while True:
                        try:
                            return await lookup(Endpoint(host), self.check.family, observe=self.observe)
                        except Failure as failure:
                            if failure.errno not in SCARCE:
                                raise
                        await sleep(_SCARCE_PAUSE)
            except DeadlineExceeded:
                reason = f"no answer of the resolver within {duration(time_left)}"
                raise Failure(Exit.TIMEOUT, f"resolve {host}", reason) from None

    def _start_worker(self) -> None:
        """Start another worker if there are jobs; a worker calls this before it waits for an answer."""
        if self._workers < self._max_workers and (self._again or any(scan.waiting for scan in self._scans)):
            self._workers += 1
            self._probing.start_soon(self._work())

    def _next_job(self) -> _Job | None:
        if self._again:
            return self._again.pop()
        while self._scans:
            job = self._scans[0].next()
            if job is not None:
                return self._scans[0], *job
            self._scans.popleft()
        return None

    async def _turn(self) -> None:
        """Wait until ``rate`` allows the next attempt. Times too short to sleep are skipped, and made up for later."""
        turn = max(self._next_turn, now() - _SHORTEST_SLEEP)
        self._next_turn = turn + self._interval
        if turn - now() > _SHORTEST_SLEEP:
            await sleep(turn - now())

    async def _work(self) -> None:
        """A worker: probe one address after the other, until none is left."""
        prober = Prober(
            self.check,
            self._start_worker,
            until=self._until,
            observe=self.observe,
            securing=self._securing,
            proxied=self._proxied,
        )
        done = 0
        scarce_since: float | None = None
        try:
            while (job := self._next_job()) is not None:
                scan, port, address = job
                if self._interval:
                    await self._turn()
                try:
                    probe, stream = await prober.probe(address, scan.target)
                except OSError as error:  # one of SCARCE
                    self._again.append(job)
                    if self._workers > 1:  # the others continue, one fewer from now on
                        self._max_workers = self._workers - 1
                        return
                    scarce_since = scarce_since or now()
                    if now() - scarce_since > _SCARCE_PATIENCE:
                        raise Failure(Exit.CONNECT, f"check {Endpoint(address.host, port)}", error) from error
                    await sleep(_SCARCE_PAUSE)
                    continue
                scarce_since = None
                closing = self._closing.start_soon(_close(stream)) if stream is not None else None
                scan.note(port, probe, conclusive=probe.state == OPEN and (self.check.closed or not probe.exit))
                if closing is not None:
                    self._start_worker()
                    await closing.finished.wait()
                done += 1
                if not done % _TURN:
                    await checkpoint()
                    if self._room is not None:
                        await self._room()
        finally:
            self._workers -= 1
            prober.close()


class HostScan:
    """The jobs and results of one host. ``report`` is called once for each port; then ``finished`` is set."""

    def __init__(
        self, target: Target, addresses: Sequence[Address], report: Callable[[int, ProbeResult], None]
    ) -> None:
        self.target = target
        self.waiting = len(target.ports) * len(addresses)  # attempts not begun
        self.finished = Event()
        self._jobs = ((port, address) for port in target.ports for address in addresses)
        self._report = report
        self._unreported = len(target.ports)
        self._begun: set[int] = set()  # ports with an attempt begun that are not reported yet
        self._latest = -1  # the port of the last job
        self._addresses = len(addresses)
        self._probes: dict[int, list[ProbeResult]] = {}

    def next(self) -> tuple[int, Address] | None:
        """The next port and address to try; None if there is none. Ports that are reported already are skipped."""
        while self.waiting:
            self.waiting -= 1
            port, (family, sockaddr) = next(self._jobs)
            if port != self._latest:
                self._latest = port
                self._begun.add(port)
            if port in self._begun:
                return port, Address(family, (sockaddr[0], port, *sockaddr[2:]))
        return None

    def drop(self) -> None:
        """Drop all remaining jobs and results."""
        self.waiting = 0
        self._begun.clear()

    def note(self, port: int, probe: ProbeResult, *, conclusive: bool) -> None:
        """Note the result for one address; report the port if it is ``conclusive``, or was the last address."""
        if port not in self._begun:
            return
        if self._addresses > 1:
            probes = self._probes.setdefault(port, [])
            probes.append(probe)
            if not conclusive and len(probes) < self._addresses:
                return
            del self._probes[port]
            probe = probe if conclusive else combined(probes)
        self._begun.remove(port)
        self._unreported -= 1
        self._report(port, probe)
        if not self._unreported:
            self.finished.set()


async def _close(stream: Connection) -> None:
    """Close a connection with FIN, and read for a moment what still comes, as unread data would cause a reset."""
    try:
        with suppress(DeadlineExceeded, Failure), deadline(now() + _CLOSING):
            await stream.send_eof()
            while await stream.recv():
                pass
    finally:
        stream.close()
