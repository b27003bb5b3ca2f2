"""Fetching URLs: sending requests, following redirects, retrying, and writing responses to their places."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import NamedTuple

from netkit.core.connection import acknowledged, with_idle_timeout
from netkit.core.dial import UNREACHED
from netkit.core.errors import Exit, Failure
from netkit.core.events import Answered, Forwarded, Observer, Redirected
from netkit.core.flow import Flow, Transfer
from netkit.core.kernel import DeadlineExceeded, Group, Task, deadline, now, sleep
from netkit.core.pump import PROMOTED_AFTER
from netkit.core.record import Record
from netkit.core.relay import classify
from netkit.core.splice import move
from netkit.core.stream import Connection, Stream
from netkit.protocols.http import NOT_MODIFIED, PARTIAL_CONTENT, TLS_HINT, UNSATISFIABLE, Exchange, Head, Upload, names
from netkit.protocols.http_connect import AUTHENTICATION_REQUIRED, refused
from netkit.protocols.proxy import Proxy
from netkit.protocols.url import Url
from netkit.services.fetch.asked import Asked
from netkit.services.fetch.connections import Connections
from netkit.services.fetch.places import Place
from netkit.services.fetch.retry import BUSY, LEFT, NO_ANSWER, Tries, retry_after
from netkit.services.fetch.timing import Timing
from netkit.services.progress import Show, Tell

_PATIENCE = 1.0  # s in which a server that has answered must acknowledge more of the request
_MAX_UNREAD = 64 * 1024  # bytes of an unneeded body that are read so that the connection can be kept
_CONDITIONS = frozenset(("if-none-match", "if-modified-since"))

Forwarder = Callable[[Url], Proxy | None]
"""Returns the HTTP proxy to which the request for a URL is sent, None if it is sent to the server."""


class Fetching(Record):
    """How URLs are fetched: connections, proxy, and retries: ``retry`` times, or for ``wait`` seconds."""

    connections: Connections
    forwarder: Forwarder
    observe: Observer
    timing: Timing
    retry: int | None = None
    wait: float | None = None


class _Busy(NamedTuple):
    """A failure after which to retry, and after how many seconds by Retry-After, if the server sent that."""

    failure: Failure
    after: float | None


class Fetch:
    """Fetches one URL. ``is_last`` is whether the connection can be closed after it."""

    def __init__(self, asked: Asked, place: Place, how: Fetching, *, is_last: bool = True) -> None:
        self._asked = asked
        self._place = place
        self._how = how
        self._is_last = is_last
        self._tries = Tries(how.retry, how.wait, how.observe)
        self._exchange: Exchange | None = None  # the latest one
        self._body: Exchange | None = None  # the one whose body is written to the place
        self._is_answered = False  # whether any byte of a response to the latest request has come

    async def run(self) -> None:
        """Send the request, follow redirects, and write the response to its place.

        Raises Failure: those of ``Dial``, of ``Exchange`` and of the place; HTTP for a status of 400 or more with
        ``fail``, PROXY if the proxy wants authentication, REDIRECTS, TOO_BIG, PROTOCOL for a response that does not fit
        the request, SEND if not all of the request was acknowledged, READ for a body that cannot be sent again, TIMEOUT
        after ``wait``.
        """
        try:
            await self._follow()
            if self._is_last:
                await self._how.connections.close()
        except BaseException as error:
            self._how.connections.cut(error)
            raise
        finally:
            if told := self._how.timing.told(str(self._asked.url)):
                self._how.observe(told)

    def moving(self) -> list[Transfer]:
        """The progress of the transfer: first of the upload, then of the response's body; empty if there is neither."""
        upload, body = self._upload, self._body
        if body is None:
            return [] if upload is None else [Transfer("sent", upload.stream.counts.received, upload.length)]
        if self._place.is_shown:
            return []
        before, left = self._place.before, body.left
        here = before + body.counts.received
        return [Transfer("received", here, None if left is None else here + left, before)]

    def moved(self) -> list[Transfer]:
        """The totals of the transfers."""
        rows = []
        if self._upload is not None:
            rows.append(Transfer("sent", self._upload.stream.counts.received))
        if self._body is not None and not self._place.is_shown:
            rows.append(Transfer("received", self._body.counts.received))
        return rows

    @property
    def _upload(self) -> Upload | None:
        return None if self._exchange is None else self._exchange.upload

    async def _follow(self) -> None:
        asked = self._asked
        step: Asked | None = asked
        redirects = 0
        own = True  # whether all URLs so far have the same origin
        while step is not None:
            last, step = step, await self._try(step, own)
            if step is not None and step is not last:
                own = own and step.url.origin == last.url.origin
                redirects += 1
                if redirects > asked.max_redirects:
                    detail = f"the last one to {step.url}"
                    reason = f"more than {asked.max_redirects} redirects"
                    raise Failure(Exit.REDIRECTS, f"fetch {asked.url}", reason, detail=detail)

    async def _try(self, step: Asked, own: bool) -> Asked | None:
        """Do one request, with retries; return the next one, if there is one."""
        while True:
            self._exchange, self._is_answered = None, False
            try:
                outcome = await self._take(step, own)
            except Failure as failure:
                self._how.connections.cut(failure)
                if self._is_stale(failure, step):
                    continue
                if not self._may_help(failure, step):
                    raise
                outcome = _Busy(failure, None)
            if not isinstance(outcome, _Busy):
                return outcome
            await self._tries.again(*outcome)

    def _is_stale(self, failure: Failure, step: Asked) -> bool:
        """Whether the server has probably closed a kept connection just when the request was sent."""
        has_left = self._is_silent and failure.exit in LEFT
        return self._how.connections.was_reused and has_left and step.is_repeatable

    def _may_help(self, failure: Failure, step: Asked) -> bool:
        """Whether the request may be sent again after a failure: it may help, and is safe."""
        if self._exchange is None:
            return failure.exit in UNREACHED
        return self._is_silent and failure.exit in NO_ANSWER and step.is_repeatable

    @property
    def _is_silent(self) -> bool:
        return self._exchange is not None and not self._is_answered

    async def _take(self, step: Asked, own: bool) -> Asked | _Busy | None:
        """Do one request; return the next one, if any: after a redirect, or the same again to get the whole file."""
        how = self._how
        stream = await how.connections.to(step.url, own, self._tries.seconds, may_reuse=step.is_repeatable)
        proxy = how.forwarder(step.url)
        if proxy is not None:
            how.observe(Forwarded(str(proxy), str(step.url)))
        exchange = Exchange(stream, step.request(proxy, self._place.conditions), str(step.url))
        self._exchange = exchange
        before, heard = stream.counts.sent, stream.counts.received
        outcome: Asked | _Busy | None = None

        async def handle(stream: Connection) -> None:
            nonlocal outcome
            async with Group() as group:
                asking = group.start_soon(exchange.ask())
                outcome = await self._answer(exchange, stream, step)
                if outcome is None:
                    await _taken(exchange, stream, asking, before)
                group.cancel()

        try:
            how.timing.begin()
            await with_idle_timeout(handle, self._asked.idle_timeout, ours=self._place.output)(stream)
        except Failure as failure:
            failed = classify(failure, stream, exchange.offered, stream.counts.sent - before)
            if failed.exit in (Exit.SEND, Exit.RECV) and stream.counts.received == heard:
                failed.hint = TLS_HINT if step.url.scheme == "http" and proxy is None else ""
            raise failed from failure
        finally:
            self._is_answered = stream.counts.received > heard
        how.timing.note("body")
        if outcome is None and not exchange.asked:
            detail = f"after {exchange.offered} bytes"
            raise Failure(Exit.SEND, f"send to {stream.name}", "it answered before the end of the body", detail=detail)
        if exchange.may_leave_open:
            await _skip(exchange)
        if not exchange.asked:
            how.connections.cut()
        elif not exchange.leaves_open:
            await how.connections.close()
        return outcome

    async def _answer(self, exchange: Exchange, stream: Connection, step: Asked) -> Asked | _Busy | None:
        """Handle the response; return the next request, if any, as ``_take`` does."""
        asked, place = self._asked, self._place
        head = await self._head(exchange, stream)
        length = head.get("content-length")
        size = None if length is None else int(length)
        self._how.observe(Answered(str(step.url), head.status, head.reason, size, head.get("content-type")))
        proxy = self._how.forwarder(step.url)
        if proxy is not None and head.status == AUTHENTICATION_REQUIRED:
            raise refused(proxy, head, f"fetch {step.url} through proxy {proxy}")
        failure = Failure(Exit.HTTP, f"fetch {step.url}", f"the server answered {head.status_line}")
        if head.status in BUSY and step.is_repeatable and self._tries.allow(after := retry_after(head)):
            return _Busy(failure, after)
        if following := step.redirected(head):
            self._how.observe(Redirected(str(step.url), head.status, str(following.url)))
            return following
        given = names((*step.fields, *place.conditions))
        if head.status == PARTIAL_CONTENT and "range" not in given:
            raise Failure(Exit.PROTOCOL, f"fetch {step.url}", "the server sent a part, and was asked for all")
        if head.status == NOT_MODIFIED and not _CONDITIONS.intersection(given):
            raise Failure(Exit.PROTOCOL, f"fetch {step.url}", "the server says that it is the same, and was not asked")
        if asked.fail and head.status >= 400 and not (head.status == UNSATISFIABLE and place.conditions):
            raise failure
        if place.conditions and not place.fits(head):
            return step
        await self._write(exchange, head)
        rest = place.rest()
        if rest is None:
            return None
        self._place = rest
        return step

    async def _head(self, exchange: Exchange, stream: Connection) -> Head:
        """Receive the head. Raises Failure TIMEOUT when the time for retries is over."""
        async with Group() as group:
            if self._tries.until is not None:
                group.start_soon(_too_late(exchange, stream, self._tries.until))
            head = await exchange.head()
            group.cancel()
        self._how.timing.note("first_byte")
        return head

    async def _write(self, exchange: Exchange, head: Head) -> None:
        """Write the response to its place."""
        sink = self._place.open(head)
        if sink is None:
            return
        self._body = exchange
        body: Connection = exchange
        if self._asked.compressed:
            from netkit.protocols.content_coding import decoded

            body = decoded(exchange, head.combined("content-encoding"))
        if body is exchange:  # not decoded, so its length is that of the file
            self._check_size(sum(filter(None, (self._place.before, exchange.left))))
        if self._asked.include:
            await sink.send(head.raw)
        await self._carry(body, sink)

    async def _carry(self, body: Connection, sink: Stream) -> None:
        """Write the body to ``sink``; after the first MiB the system's kernel moves it if it can."""
        most = None if self._asked.max_size is None else self._asked.max_size - self._place.before
        promoted = False
        while data := await body.recv():
            if most is not None and body.counts.received > most:
                data = data[: len(data) - (body.counts.received - most)]
            await sink.send(data)
            self._check_size(self._place.before + body.counts.received)
            if not promoted and body.counts.received >= PROMOTED_AFTER:
                promoted = True
                await move(body, sink, Flow(), most and most - body.counts.received)

    def _check_size(self, size: int) -> None:
        most = self._asked.max_size
        if most is not None and size > most:
            action = f"receive {self._asked.url}"
            raise Failure(Exit.TOO_BIG, action, f"it has more than {most} bytes", detail="--max-size")


async def fetch_each(
    wanted: Iterable[tuple[Asked, AbstractContextManager[Place]]],
    how: Fetching,
    show: Show | None,
    tell: Tell | None,
    failed: Callable[[Failure], None],
) -> None:
    """Fetch URLs one after the other, each to its place. ``show`` gets the progress, ``tell`` the totals of each.

    ``failed`` is called with a failure of ``Fetch.run`` or of a place, and may raise it.
    """
    current: Fetch | None = None
    left = list(wanted)
    async with Group() as group:
        if show is not None:
            group.start_soon(show(lambda: [] if current is None else current.moving()))
        while left:
            asked, opened = left.pop(0)
            begun = now()
            try:
                with opened as place:
                    current = Fetch(asked, place, how, is_last=not left)
                    await current.run()
                if tell is not None and (moved := current.moved()):
                    current = None
                    tell(moved, now() - begun, True)
            except Failure as failure:
                failed(failure)
        group.cancel()


async def _taken(exchange: Exchange, stream: Connection, asking: Task, before: int) -> None:
    """Wait until the server has acknowledged the request. Raises Failure SEND if it stops doing so after its response.

    ``before`` is how many bytes were sent over the connection before the request.
    """
    last, taken = -1, 0
    while last < taken and (taken < exchange.offered or not exchange.asked):
        last = taken
        with suppress(DeadlineExceeded), deadline(now() + _PATIENCE):
            await asking.finished.wait()
            await acknowledged(stream)
        taken = stream.counts.sent - before - stream.unacknowledged()
    if taken < exchange.offered:
        detail = f"{exchange.offered - taken} of {exchange.offered} bytes not acknowledged"
        raise Failure(Exit.SEND, f"send to {stream.name}", "it answered, and took no more", detail=detail)


async def _too_late(exchange: Exchange, stream: Connection, until: float) -> None:
    """Raise Failure TIMEOUT at ``until`` of the kernel's clock, or once the server takes no more of the upload.

    It is not late while it has taken all of the upload that there is so far.
    """
    heard = stream.counts.received

    def taken() -> int:
        return stream.counts.sent - stream.unacknowledged()

    await sleep(max(until - _PATIENCE - now(), 0))
    before = taken()
    await sleep(max(until - now(), 0))
    while exchange.upload is not None and (
        before < (after := taken()) or (exchange.is_starved and not stream.unacknowledged())
    ):
        before = after
        await sleep(_PATIENCE)
    what = "no answer" if stream.counts.received == heard else "only a part of the head"
    raise Failure(Exit.TIMEOUT, f"fetch {exchange.name}", f"{what} came", detail="--wait")


async def _skip(exchange: Exchange) -> None:
    """Read the rest of an unneeded body, if it is small and comes within ``_PATIENCE``."""
    with suppress(Failure, DeadlineExceeded), deadline(now() + _PATIENCE):
        while exchange.counts.received + (exchange.left or 0) <= _MAX_UNREAD and await exchange.recv():
            pass
