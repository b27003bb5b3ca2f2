"""Fetching a URL: who is asked, where redirects lead, and where the answer goes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from netkit import __version__
from netkit.core.connection import acknowledged, serve_connection, with_idle_timeout
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.events import Answered, Forwarded, Observer, Redirected
from netkit.core.flow import Flow, Transfer
from netkit.core.kernel import DeadlineExceeded, Group, Task, deadline, now
from netkit.core.pump import PROMOTED_AFTER
from netkit.core.relay import classify
from netkit.core.splice import move
from netkit.core.stream import Connection, Stream
from netkit.protocols.http import NOT_MODIFIED, PARTIAL_CONTENT, UNSATISFIABLE, Exchange, Head, Request, names
from netkit.protocols.http_connect import AUTHENTICATION_REQUIRED, refused
from netkit.protocols.proxy import Proxy
from netkit.protocols.url import Url, follow
from netkit.services.fetch.download import Download, Place
from netkit.services.join import Terminal
from netkit.services.progress import Show
from netkit.services.transforms import incoming, visible

_PATIENCE = 1.0  # s in which a server that has answered acknowledges some more of what it was sent
_MOVED, _SAME = (301, 302, 303, 307, 308), (307, 308)
# What a redirect to another origin is told of the fields that were given: nothing that could be a secret.
_HARMLESS = (
    *("accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "content-encoding"),
    *("content-language", "content-type", "if-match", "if-modified-since", "if-none-match", "if-range"),
    *("if-unmodified-since", "pragma", "range", "user-agent"),
)
_CONDITIONS = frozenset(("if-none-match", "if-modified-since"))
_OURS = ("content-length", "transfer-encoding", "upgrade", "te", "trailer")


class Asked(NamedTuple):
    """What to ask, and what to make of the answer. ``fields`` are added to ours, or take their place.

    ``include`` writes the head of the answer before its body. Sizes are in bytes, ``idle_timeout`` in seconds.
    """

    url: Url
    method: str = "GET"
    fields: tuple[tuple[str, bytes], ...] = ()
    body: bytes | None = None
    fail: bool = False
    include: bool = False
    max_redirects: int = 10
    max_size: int | None = None
    idle_timeout: float | None = None


Dial = Callable[[Url, bool, Group], Awaitable[Connection]]
"""Connects to the server of a URL, told whether it has the origin of the first; layers run in the group."""

Forwarder = Callable[[Url], Proxy | None]
"""The HTTP proxy that is asked for a URL itself, in place of its server, if any."""


class _Visible(Terminal):
    """Stdout on a terminal, where control bytes are made visible."""

    def __init__(self) -> None:
        super().__init__(reads=False)
        self._change = visible()

    async def send(self, data: bytes) -> None:
        await super().send(self._change(data))


class _Printed(Place):
    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def open(self, head: Head) -> Stream:
        return self._terminal


@asynccontextmanager
async def printed(*, raw: bool) -> AsyncIterator[Place]:
    """Stdout as a place while it is read; a terminal shows control bytes, unless ``raw``. Raises Failure WRITE."""
    terminal = _Visible() if incoming(raw) else Terminal(reads=False)
    try:
        async with Group() as group:
            group.start_soon(terminal.reader_left())
            try:
                yield _Printed(terminal)
            except Failure:
                await terminal.send(b"")  # the beginning of a character may still be held
                raise
            await terminal.send(b"")
            group.cancel()
    finally:
        terminal.close()


@asynccontextmanager
async def saved(path: str, asked: Asked, *, force: bool, resume: bool) -> AsyncIterator[Place]:
    """The file at ``path`` as a place, which is put there once all has come. See Download, whose failures it raises."""
    plain = asked.method == "GET" and not asked.include
    place = Download(path, str(asked.url), force=force, resume=resume, plain=plain)
    try:
        yield place
        if not place.unchanged:
            place.finish()
    except BaseException as error:
        if (kept := place.close()) and isinstance(error, Failure) and not error.hint:
            error.hint = f"--resume goes on with the {kept} bytes that came"
        raise
    place.close()


class Fetch:
    """One URL, fetched once."""

    def __init__(
        self,
        asked: Asked,
        place: Place,
        dial: Dial,
        observe: Observer,
        show: Show | None = None,
        *,
        forwarder: Forwarder = lambda url: None,
    ) -> None:
        self._asked = asked
        self._place = place
        self._dial = dial
        self._forwarder = forwarder
        self._observe = observe
        self._show = show
        self._exchange: Exchange | None = None

    async def run(self) -> None:
        """Ask, follow redirects, and write the answer to its place; show meanwhile how far that is.

        Raises Failure: those of ``Dial``, of ``Exchange`` and of the place; HTTP for a status of 400 or more if that is
        to fail, PROXY for a proxy that wants authentication, REDIRECTS, TOO_BIG, PROTOCOL for an answer to something
        else, SEND if the request was not all taken.
        """
        async with Group() as group:
            if self._show is not None:
                group.start_soon(self._show(self._moving))
            await self._follow()
            group.cancel()

    def _moving(self) -> list[Transfer]:
        if self._exchange is None:
            return []
        before, left = self._place.before, self._exchange.left
        here = before + self._exchange.counts.received
        return [Transfer("received", here, None if left is None else here + left, before)]

    async def _follow(self) -> None:
        asked = self._asked
        step: Asked | None = asked
        redirects = 0
        own = True  # as long as all were of one origin
        while step is not None:
            last, step = step, await self._take(step, own)
            if step is not None and step is not last:
                own = own and step.url.origin == last.url.origin
                redirects += 1
                if redirects > asked.max_redirects:
                    detail = f"the last one to {step.url}"
                    reason = f"more than {asked.max_redirects} redirects"
                    raise Failure(Exit.REDIRECTS, f"fetch {asked.url}", reason, detail=detail)

    async def _take(self, step: Asked, own: bool) -> Asked | None:
        """Do one request; return the next, if there is to be one."""
        following: Asked | None = None

        async def handle(stream: Connection) -> None:
            nonlocal following
            exchange = Exchange(stream, self._request(step), str(step.url))
            try:
                async with Group() as group:
                    asking = group.start_soon(exchange.ask())
                    following = await self._answer(exchange, step)
                    if following is None:
                        await _taken(exchange, stream, asking)
                    group.cancel()
            except Failure as failure:
                raise classify(failure, stream, exchange.offered, stream.counts.sent) from failure

        async with Group() as group:
            stream = await self._dial(step.url, own, group)
            handler = with_idle_timeout(handle, self._asked.idle_timeout)
            await serve_connection(stream, handler, self._observe, group=group)
        return following

    def _request(self, step: Asked) -> Request:
        authorization = step.url.authorization
        proxy = self._forwarder(step.url)
        target = step.url.target
        if proxy is not None:
            self._observe(Forwarded(str(proxy), str(step.url)))
            target = str(step.url)  # RFC 9112, section 3.2.2
        ours = {
            "Host": step.url.authority,
            "User-Agent": f"netkit/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            **({"Authorization": authorization} if authorization else {}),
            **({"Proxy-Authorization": proxy.authorization} if proxy and proxy.authorization else {}),
            **({"Content-Type": "application/x-www-form-urlencoded"} if step.body is not None else {}),
        }
        fields = {name.lower(): [(name, value.encode())] for name, value in ours.items()}
        given: dict[str, list[tuple[str, bytes]]] = {}
        for name, octets in (*step.fields, *self._place.conditions):
            given.setdefault(name.lower(), []).append((name, octets))
        told = [field for each in (fields | given).values() for field in each]
        return Request(step.method, target, told, step.body)

    async def _answer(self, exchange: Exchange, step: Asked) -> Asked | None:
        """Take the answer; return the next request, if there is to be one: the same again to ask for all of it."""
        asked, place = self._asked, self._place
        head = await exchange.head()
        length = head.get("content-length")
        size = None if length is None else int(length)
        self._observe(Answered(str(step.url), head.status, head.reason, size, head.get("content-type")))
        proxy = self._forwarder(step.url)
        if proxy is not None and head.status == AUTHENTICATION_REQUIRED:
            raise refused(proxy, head, f"fetch {step.url} through proxy {proxy}")
        if following := _redirected(step, head):
            self._observe(Redirected(str(step.url), head.status, str(following.url)))
            return following
        given = names(step.fields)
        if head.status == PARTIAL_CONTENT and not place.conditions and "range" not in given:
            raise Failure(Exit.PROTOCOL, f"fetch {step.url}", "the server sent a part, and was asked for all")
        if head.status == NOT_MODIFIED and not _CONDITIONS.intersection(given):
            raise Failure(Exit.PROTOCOL, f"fetch {step.url}", "the server says that it is the same, and was not asked")
        if asked.fail and head.status >= 400 and not (head.status == UNSATISFIABLE and place.conditions):
            raise Failure(Exit.HTTP, f"fetch {step.url}", f"the server answered {head.status_line}")
        if place.conditions and not place.fits(head):
            place.restart()
            return step
        sink = place.open(head)
        self._exchange = exchange
        self._check_size(sum(filter(None, (place.before, exchange.left))))
        if asked.include:
            await sink.send(head.raw)
        await self._carry(exchange, sink)
        return None

    async def _carry(self, exchange: Exchange, sink: Stream) -> None:
        """Write the body, of which the kernel moves what nobody has to look at."""
        most = None if self._asked.max_size is None else self._asked.max_size - self._place.before
        promoted = False
        while data := await exchange.recv():
            if most is not None and exchange.counts.received > most:
                data = data[: len(data) - (exchange.counts.received - most)]
            await sink.send(data)
            self._check_size(self._place.before + exchange.counts.received)
            if not promoted and exchange.counts.received >= PROMOTED_AFTER:
                promoted = True
                await move(exchange, sink, Flow(), most and most - exchange.counts.received)

    def _check_size(self, size: int) -> None:
        most = self._asked.max_size
        if most is not None and size > most:
            action = f"receive {self._asked.url}"
            raise Failure(Exit.TOO_BIG, action, f"it has more than {most} bytes", detail="--max-size")


async def _taken(exchange: Exchange, stream: Connection, asking: Task) -> None:
    """Wait until the server has acknowledged the request; raise Failure SEND if it answered, and takes no more."""
    before, taken = -1, 0
    while before < taken < exchange.offered:
        before = taken
        with suppress(DeadlineExceeded), deadline(now() + _PATIENCE):
            await asking.finished.wait()
            await acknowledged(stream)
        taken = stream.counts.sent - stream.unacknowledged()
    if taken < exchange.offered:
        detail = f"{exchange.offered - taken} of {exchange.offered} bytes not acknowledged"
        raise Failure(Exit.SEND, f"send to {stream.name}", "it answered, and took no more", detail=detail)


def check_fields(fields: Sequence[tuple[str, bytes]]) -> None:
    """Raise Invalid for fields that are not to be given: those that frame the message, and a second Host."""
    given = names(fields)
    for name in given:
        if name in _OURS:
            raise Invalid(f"field {name!r} is not to be given: it says how the message is read")
    if given.count("host") > 1:
        raise Invalid("there is one Host")


def _redirected(step: Asked, head: Head) -> Asked | None:
    """The request that a redirect asks for (RFC 9110, section 15.4); None if it is none."""
    location = head.get("location")
    if head.status not in _MOVED or location is None:
        return None
    try:
        url = follow(step.url, location.encode("latin-1"))
    except Invalid as error:
        raise Failure(Exit.PROTOCOL, f"follow the redirect of {step.url}", str(error)) from error
    if step.body is not None and head.status in _SAME and (step.url.scheme, url.scheme) == ("https", "http"):
        reason = "it would take the body from https to http"
        raise Failure(Exit.PROTOCOL, f"follow the redirect of {step.url}", reason, detail=f"to {url}")
    same = url.origin == step.url.origin
    if same and url.userinfo is None:
        url = url._replace(userinfo=step.url.userinfo)
    method, body, fields = step.method, step.body, step.fields
    if (head.status == 303 and method != "HEAD") or (head.status in (301, 302) and method == "POST"):
        method, body = "GET", None
        fields = tuple(field for field in fields if not field[0].lower().startswith("content-"))
    if not same:
        fields = tuple(field for field in fields if field[0].lower() in _HARMLESS)
    return step._replace(url=url, method=method, fields=fields, body=body)
