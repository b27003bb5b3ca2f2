"""What ``fetch`` requests, and over which connection: redirects, retries and several URLs, in memory."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from gzip import compress
from pathlib import Path
from typing import Any

import pytest

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group, sleep
from netkit.core.stream import Connection, Counts
from netkit.core.sync import Event
from netkit.protocols.http import Head, Upload
from netkit.protocols.url import Url, parse
from netkit.services.fetch.asked import Asked
from netkit.services.fetch.data_file import DataFile
from netkit.services.fetch.places import Place, printed
from tests.clock import run
from tests.memory import CAPACITY, MemoryStream, acknowledging_pair
from tests.support.fetching import HANG_UP, SILENT, Web, fetch_from
from tests.support.sites import answer, redirect

BUSY = answer(b"busy", "503 Service Unavailable", Retry_After="0")
DONE = answer(b"done")
PART = answer(b"done", "206 Partial Content", Content_Range="bytes 0-3/9")
TWICE = answer(compress(compress(b"done")), Content_Encoding="gzip\r\nContent-Encoding: gzip")
LENGTH, TO_THE_END = b"Content-Length: 4\r\n\r\ndone", b"Connection: close\r\n\r\ndone"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n"
FORM = {"body": b"body", "fields": (("Content-Type", b"text/plain"),)}
POSTED, PUT = "POST / text/plain body", "PUT / text/plain body"


class Written(Place):
    """A place in memory; it is its own stream."""

    def __init__(self) -> None:
        self.data = b""

    def open(self, head: Head) -> Any:
        return self

    async def send(self, data: bytes) -> None:
        self.data += data


class Slowly(Written):
    """A place that takes a byte every 1.9 s, and nothing more after ``most`` of them."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.output: Any = self
        self._most = most

    @cached_property
    def counts(self) -> Counts:
        return Counts()

    async def send(self, data: bytes) -> None:
        for byte in data:
            await sleep(1.9 if self.counts.sent < self._most else 3600)
            self.data += bytes([byte])
            self.counts.add_sent(1)


def fetched(answers: list[bytes | None], asked: dict[str, Any]) -> tuple[list[str], bytes, Exit]:
    """Fetch ``urls`` of ``asked``, with ``retry`` and ``wait``; return the requests, what was written, and the end."""
    about = dict(asked)
    how = about.pop("retry", None), about.pop("wait", None)
    urls = about.pop("urls", "http://h/").split()
    web, place = Web(answers), Written()
    failures = fetch_from(web, [(Asked(url=parse(url), **about), nullcontext(place)) for url in urls], *how)
    return web.got, place.data, failures[0].exit if failures else Exit.OK


@pytest.mark.parametrize(
    ("answers", "asked", "got", "out", "code"),
    [
        # redirects
        ([redirect("/x")] * 10 + [DONE], {}, ["1 GET /"] + ["1 GET /x"] * 10, b"done", Exit.OK),
        ([redirect("/x")] * 11, {}, ["1 GET /"] + ["1 GET /x"] * 10, b"", Exit.REDIRECTS),
        ([DONE], {"max_redirects": 0}, ["1 GET /"], b"done", Exit.OK),
        ([redirect("/x")], {"max_redirects": 0}, ["1 GET /"], b"", Exit.REDIRECTS),
        ([redirect("/#x")] * 3, {"max_redirects": 2}, ["1 GET /"] * 3, b"", Exit.REDIRECTS),
        ([answer(b"done", "302 Found")], {}, ["1 GET /"], b"done", Exit.OK),
        # 301 and 302 turn POST into GET, 303 every method but HEAD; 307 repeats the request with its body
        ([redirect("/x", 301), DONE], {"method": "POST", **FORM}, [f"1 {POSTED}", "1 GET /x"], b"done", Exit.OK),
        ([redirect("/x", 302), DONE], {"method": "POST", **FORM}, [f"1 {POSTED}", "1 GET /x"], b"done", Exit.OK),
        ([redirect("/", 302), DONE], {"method": "PUT", **FORM}, [f"1 {PUT}", f"1 {PUT}"], b"done", Exit.OK),
        ([redirect("/x", 303), DONE], {"method": "PUT", **FORM}, [f"1 {PUT}", "1 GET /x"], b"done", Exit.OK),
        ([redirect("/", 307), DONE], {"method": "POST", **FORM}, [f"1 {POSTED}", f"2 {POSTED}"], b"done", Exit.OK),
        ([answer(b"", "303 No", Location="/"), answer()], {"method": "HEAD"}, ["1 HEAD /"] * 2, b"", Exit.OK),
        # a part is an answer only to Range
        ([PART], {}, ["1 GET /"], b"", Exit.PROTOCOL),
        ([PART], {"fields": (("Range", b"bytes=0-3"),)}, ["1 GET /"], b"done", Exit.OK),
        # two fields are one list
        ([TWICE], {"compressed": True}, ["1 GET /"], b"done", Exit.OK),
        # what is busy is asked again; after the last try the answer counts
        ([BUSY, answer(b"", "429 Too Many"), DONE], {"retry": 2}, ["1 GET /"] * 3, b"done", Exit.OK),
        ([BUSY, BUSY], {"retry": 1}, ["1 GET /"] * 2, b"busy", Exit.OK),
        ([BUSY, BUSY], {"retry": 1, "fail": True}, ["1 GET /"] * 2, b"", Exit.HTTP),
        ([BUSY], {"retry": 1, "method": "POST"}, ["1 POST /"], b"busy", Exit.OK),
        ([answer(b"busy", "503 No", Retry_After="7200")], {"retry": 1}, ["1 GET /"], b"busy", Exit.OK),
        ([answer(b"busy", "503 No", Retry_After="60")], {"wait": 30.0}, ["1 GET /"], b"", Exit.TIMEOUT),
        # so is what leaves without a word, unless it may not be repeated
        ([HANG_UP, DONE], {"wait": 10.0}, ["1 GET /", "2 GET /"], b"done", Exit.OK),
        ([HANG_UP, DONE], {"retry": 1, "method": "PUT"}, ["1 PUT /", "2 PUT /"], b"done", Exit.OK),
        ([HANG_UP], {"retry": 1, "method": "POST"}, ["1 POST /"], b"", Exit.PROTOCOL),
        ([HANG_UP], {}, ["1 GET /"], b"", Exit.PROTOCOL),
        # URLs of one server share a connection, also after redirects, until the server closes it
        (
            [answer(b"a"), answer(b"b", Connection="close"), redirect("/d"), answer(b"d"), answer(b"e")],
            {"urls": "http://h/a http://h/b http://h/c http://h/e"},
            ["1 GET /a", "1 GET /b", "2 GET /c", "2 GET /d", "2 GET /e"],
            b"abde",
            Exit.OK,
        ),
        ([DONE] * 2, {"urls": "http://h/a http://g/b"}, ["1 GET /a", "2 GET /b"], b"donedone", Exit.OK),
        # if it ends as it is used again, the request is repeated; a POST could not be
        ([DONE, HANG_UP, DONE], {"urls": "http://h/ http://h/"}, ["1 GET /"] * 2 + ["2 GET /"], b"donedone", Exit.OK),
        ([DONE] * 2, {"urls": "http://h/ " * 2, "method": "POST"}, ["1 POST /", "2 POST /"], b"donedone", Exit.OK),
        # silence, of which a pause before the request is no part, and which is no end
        ([answer(b"", "503 No"), DONE], {"retry": 1, "idle_timeout": 0.5}, ["1 GET /"] * 2, b"done", Exit.OK),
        ([DONE, SILENT], {"urls": "http://h/ " * 2, "idle_timeout": 5.0}, ["1 GET /"] * 2, b"done", Exit.TIMEOUT),
        ([DONE, SILENT], {"urls": "http://h/ " * 2, "wait": 5.0}, ["1 GET /"] * 2, b"done", Exit.TIMEOUT),
        ([SILENT], {"idle_timeout": 5.0}, ["1 GET /"], b"", Exit.TIMEOUT),
        ([SILENT], {"wait": 5.0}, ["1 GET /"], b"", Exit.TIMEOUT),
        ([answer(b"some", length=5)], {"idle_timeout": 5.0}, ["1 GET /"], b"some", Exit.TIMEOUT),
    ],
)
def test_requests(answers: list[bytes | None], asked: dict[str, Any], got: list[str], out: bytes, code: Exit) -> None:
    """These are the requests, each with the number of its connection, and this is written."""
    assert fetched(answers, asked) == (got, out, code)


@pytest.mark.parametrize("size", [4, 3])
@pytest.mark.parametrize("framing", [LENGTH, CHUNKED, TO_THE_END])
def test_max_size(framing: bytes, size: int) -> None:
    """A body of that size is allowed; of a longer one that much is written, or nothing if its length is known."""
    written = b"" if framing is LENGTH else b"don"
    end = (b"done", Exit.OK) if size == 4 else (written, Exit.TOO_BIG)
    assert fetched([b"HTTP/1.1 200 OK\r\n" + framing], {"max_size": size})[1:] == end


@pytest.mark.parametrize("most", [4, 2])
def test_an_output_that_takes_slowly_is_not_idle(most: int) -> None:
    """The idle timeout counts what moves to stdout, and ends the transfer once that stops, too."""
    place = Slowly(most)
    failures = fetch_from(Web([DONE]), [(Asked(url=parse("http://h/"), idle_timeout=2.0), nullcontext(place))])
    assert [failure.exit for failure in failures] == ([] if most == 4 else [Exit.TIMEOUT])
    assert place.data == b"done"[:most]


def test_stdout_is_an_output() -> None:
    """Stdout is there before the answer."""

    async def main() -> None:
        async with printed(bytes, raw=True) as place:
            assert place.output is place.open(Head(200, "OK", [], b"")) is not None

    run(main())


class Hasty(Web):
    """A server that answers on its first connection at once, and reads only after another one was made."""

    def __init__(self, answers: list[bytes | None]) -> None:
        super().__init__(answers)
        self._again = Event()
        self.was_reset = False

    async def _serve(self, stream: MemoryStream, number: int) -> None:
        if number > 1:
            self._again.set()
            await super()._serve(stream, number)
            return
        await stream.send(next(self._answers) or b"")
        await self._again.wait()
        try:
            while await stream.recv():
                pass
        except Failure:
            self.was_reset = True


def test_a_request_that_was_not_sent_whole_ends_its_connection() -> None:
    """If the answer to a long request leads elsewhere, the next request does not come amid the rest of its body.

    The connection is reset, as nothing that is sent amid a record of TLS could be read.
    """
    asked = Asked("POST", url=parse("http://h/"), body=bytes(2 * CAPACITY), idle_timeout=5.0)
    web, place = Hasty([redirect("/x", 303), DONE]), Written()
    assert fetch_from(web, [(asked, nullcontext(place))]) == []
    assert (web.got, place.data, web.was_reset) == (["2 GET /x"], b"done", True)


class Slow(Web):
    """A server that reads 16 KiB of a request every 0.5 s, answers after ``size`` bytes, and stops after ``most``."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__([])
        self._size, self._most = size, most

    async def dial(self, url: Url, own: bool, group: Group, patience: float | None) -> Connection:
        """Connect to the server."""
        ours, theirs = acknowledging_pair()
        group.start_soon(self._serve(theirs, 1))
        return ours  # type: ignore[return-value]

    async def _serve(self, stream: MemoryStream, number: int) -> None:
        with suppress(Failure):
            while stream.counts.received < min(self._size, self._most):
                await stream.recv()
                await sleep(0.5)
            if self._size < self._most:
                await stream.send(DONE)


@pytest.mark.parametrize("stops", [False, True])
def test_a_server_that_takes_a_body_is_not_silent(tmp_path: Path, stops: bool) -> None:
    """--wait lets a server take a body for longer than that, but not if it stops to."""
    size = 8 * CAPACITY
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    web, place = Slow(size, size // 2 if stops else size * 2), Written()

    def wanted() -> Iterator[tuple[Asked, AbstractContextManager[Place]]]:
        yield Asked("PUT", url=parse("http://h/"), body=DataFile(file.fileno(), "file")), nullcontext(place)

    with path.open("rb") as file:
        failures = fetch_from(web, wanted(), wait=2.0)
    assert [failure.exit for failure in failures] == ([Exit.TIMEOUT] if stops else [])
    assert place.data == (b"" if stops else b"done")


class Trickle(DataFile):
    """A body that comes slowly, and its own stream: two bytes, one every 5 s."""

    def __init__(self) -> None:
        self._rest = [b"b", b"a"]

    name = "stdin"
    is_repeatable = True

    def begin(self) -> Upload:
        return Upload(self, None)  # type: ignore[arg-type]

    async def recv(self) -> bytes:
        """A byte, or the end."""
        await sleep(5)
        return self._rest.pop() if self._rest else b""


@pytest.mark.parametrize("takes", [True, False])
def test_a_server_that_has_taken_all_so_far_is_not_silent(takes: bool) -> None:
    """--wait does not end while our input is slow, unless the server does not take what there is of it."""
    web = Web([DONE]) if takes else Slow(1, 0)
    failures = fetch_from(web, [(Asked("PUT", url=parse("http://h/"), body=Trickle()), nullcontext(Written()))], wait=2)
    assert ([failure.exit for failure in failures], web.got) == (
        ([], ["1 PUT / a b"]) if takes else ([Exit.TIMEOUT], [])
    )
