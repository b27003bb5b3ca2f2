"""``fetch -o`` and ``--resume``, from a server in memory: which file is continued, kept or refused."""

import os
import random
from pathlib import Path
from typing import NamedTuple

import pytest

from netkit.core.errors import Exit
from netkit.protocols.url import parse
from netkit.services.fetch.asked import Asked
from netkit.services.fetch.saved import saved
from tests.support.data import OTHER, check_same, files
from tests.support.fetching import Web, fetch_from
from tests.support.sites import answer, redirect

BODY = random.Random(8).randbytes(200_000)
HALF = len(BODY) // 2
OLD = "Fri, 20 Nov 2020 11:00:00 GMT"


def cut(count: int) -> bytes:
    """An answer with the body that ends after ``count`` bytes."""
    return answer(BODY[:count], length=len(BODY), ETag='"v1"', Connection="close")


def rest(start: int, count: int | None = None, tag: str = '"v1"') -> bytes:
    """A 206 answer for the body from ``start`` on, cut after ``count`` bytes."""
    where = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    part = BODY[start:]
    about = {"ETag": tag, "Content_Range": where, "Connection": "close"}
    return answer(part[:count], "206 Partial Content", len(part), **about)


def tail(size: int, whole: int = len(BODY), **fields: str) -> bytes:
    """A 206 answer with the last 64 KiB of the first ``size`` bytes of the body."""
    start = max(size - 65536, 0)
    about = {"Content_Range": f"bytes {start}-{size - 1}/{whole}", "Last_Modified": OLD, "ETag": '"v1"', **fields}
    return answer(BODY[start:size], "206 Partial Content", None, **about)


WHOLE, CUT = answer(BODY, ETag='"v1"'), cut(HALF)
STAMPED = answer(BODY, Last_Modified=OLD, Date="Fri, 20 Nov 2020 12:00:00 GMT")
SAME = b"HTTP/1.1 304 Not Modified\r\n\r\n"
UNSATISFIABLE = answer(b"", "416 Range Not Satisfiable")


class Saved(NamedTuple):
    """How a fetch ended, its message, and the conditions of its requests: Range and If-Range, or the others."""

    exit: Exit
    said: str
    conditions: list[bytes]


def fetch(
    path: Path, *answers: bytes, resume: bool = True, force: bool = False, url: str = "http://h/file", **asked: object
) -> Saved:
    """Fetch to a file."""
    web = Web(answers)
    one = Asked(url=parse(url), fail=resume, **asked)  # type: ignore[arg-type]
    failures = fetch_from(web, [(one, saved(str(path), one, force=force, resume=resume))])
    names = (b"range", b"if-range", b"if-none-match", b"if-modified-since")
    conditions = [b" ".join(fields[name] for name in names if name in fields) for fields in web.fields]
    return Saved(failures[0].exit if failures else Exit.OK, str(failures[0]) if failures else "", conditions)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the file, in a directory of its own."""
    return tmp_path / "file"


# -- a part of our own


def test_going_on_again_and_again(path: Path) -> None:
    """After a timeout, a 503 and a cut the part is kept, and in the end the file is complete."""
    silent = CUT.replace(b"Connection: close\r\n", b"")
    assert fetch(path, silent, resume=False, idle_timeout=1.0).exit is Exit.TIMEOUT
    assert fetch(path, answer(b"", "503 Busy")).exit is Exit.HTTP
    third = fetch(path, rest(HALF, 1000))
    assert (third.exit, third.conditions) == (Exit.PARTIAL, [b'bytes=%d- "v1"' % HALF])
    assert f"(1000 of {len(BODY) - HALF} bytes)" in third.said
    assert files(path.parent) == ["file.netkit-info", "file.netkit-part"]
    assert fetch(path, rest(HALF + 1000)) == (Exit.OK, "", [b'bytes=%d- "v1"' % (HALF + 1000)])
    check_same(path.read_bytes(), BODY)
    assert files(path.parent) == ["file"]


def test_going_on_where_a_redirect_leads(path: Path) -> None:
    """A part belongs to the URL as given; --resume follows the redirect again and asks that server for the rest."""
    assert fetch(path, redirect("http://mirror/"), CUT, resume=False).exit is Exit.PARTIAL
    wanted = b'bytes=%d- "v1"' % HALF
    assert fetch(path, redirect("http://mirror/"), rest(HALF)) == (Exit.OK, "", [wanted, wanted])
    check_same(path.read_bytes(), BODY)


@pytest.mark.parametrize("second", [rest(HALF, tag='"v2"'), UNSATISFIABLE], ids=["another", "none"])
def test_another_version(path: Path, second: bytes) -> None:
    """If the rest is of another version, or there is none, the part is dropped and the whole new version is fetched."""
    fetch(path, CUT, resume=False)
    done = fetch(path, second, answer(b"new", ETag='"v2"'))
    assert done == (Exit.OK, "", [b'bytes=%d- "v1"' % HALF, b""])
    assert path.read_bytes() == b"new"
    assert files(path.parent) == ["file"]


@pytest.mark.parametrize("asked", [{"include": True}, {"method": "POST", "body": b"x"}, {"compressed": True}], ids=str)
def test_what_is_no_part_is_not_gone_on_with(path: Path, asked: dict[str, object]) -> None:
    """Output with --include, a body that was decompressed, or the answer to a POST, is not resumed."""
    assert fetch(path, CUT, resume=False, **asked).exit is Exit.PARTIAL
    assert fetch(path, WHOLE) == (Exit.OK, "", [b""])
    check_same(path.read_bytes(), BODY)


# -- a complete file


def test_no_content_is_no_file(path: Path) -> None:
    """A 304 to a condition of the user keeps the file as it is; a 304 without one is malformed."""
    path.write_bytes(b"old")
    fields = (("If-None-Match", b'"v1"'),)
    assert fetch(path, SAME, resume=False, force=True, fields=fields) == (Exit.OK, "", [b'"v1"'])
    done = fetch(path, SAME, resume=False, force=True)
    assert done.exit is Exit.PROTOCOL and "was not asked" in done.said
    assert path.read_bytes() == b"old"
    assert files(path.parent) == ["file"]


def needs_attributes(folder: Path) -> None:
    """Skip the test if files cannot have extended attributes."""
    try:
        os.setxattr(folder, "user.netkit.test", b"")
    except OSError:
        pytest.skip("the file system of the tests has no extended attributes")


@pytest.mark.parametrize(
    ("first", "condition"), [([WHOLE], b'"v1"'), ([CUT, rest(HALF)], b'"v1"'), ([STAMPED], OLD.encode())], ids=range(3)
)
def test_a_file_that_is_whole(path: Path, first: list[bytes], condition: bytes) -> None:
    """--resume of a complete file asks whether it has changed: if not it is kept, otherwise it is refused.

    A server that does not know the condition sends all of it again.
    """
    needs_attributes(path.parent)
    for sent in first:
        fetch(path, sent)
    before = path.stat()
    again = STAMPED if first == [STAMPED] else WHOLE
    for same in (SAME, again):
        assert fetch(path, same) == (Exit.OK, "", [condition])
        assert path.stat() == before
    changed = SAME[:-2] + b'ETag: "v2"\r\nLast-Modified: now\r\n\r\n'
    for other in (answer(b"new"), again.replace(b" 200000", b" 200001"), changed):
        refused = fetch(path, other)
        assert (refused.exit, refused.conditions) == (Exit.WRITE, [condition])
        assert "the server has another version" in refused.said
        assert path.stat() == before
    assert fetch(path, answer(b"new", ETag='"v2"'), force=True).exit is Exit.OK
    assert path.read_bytes() == b"new"
    assert files(path.parent) == ["file"]


@pytest.mark.parametrize("change", ["other URL", "other bytes", "no validator", "forged"])
def test_a_file_of_which_nobody_knows(path: Path, change: str) -> None:
    """--resume keeps a complete file, and refuses, if netkit does not know its version for certain."""
    needs_attributes(path.parent)
    fetch(path, answer(BODY) if change == "no validator" else WHOLE)
    if change == "other bytes":
        path.write_bytes(OTHER[: len(BODY)])
    if change == "forged":
        known = os.getxattr(path, "user.netkit.version")
        os.setxattr(path, "user.netkit.version", known.replace(b"v1", rb"v1\r\nX: y"))
    before = path.stat()
    done = fetch(path, WHOLE, url="http://h/other" if change == "other URL" else "http://h/file")
    assert (done.exit, done.conditions) == (Exit.WRITE, [b"bytes=%d-%d" % (len(BODY) - 65536, len(BODY) - 1)])
    assert "it exists (the server sends no parts" in done.said
    assert path.stat() == before


# -- a file of another tool


@pytest.mark.parametrize("size", [1000, HALF, len(BODY)])
def test_what_another_tool_has_left(path: Path, size: int) -> None:
    """A part of another tool is completed if its last bytes match the server's; a complete file is kept."""
    path.write_bytes(BODY[:size])
    if size < len(BODY):
        first = fetch(path, tail(size), rest(size, 10))
        assert (first.exit, first.conditions[1:]) == (Exit.PARTIAL, [b'bytes=%d- "v1"' % size])
        assert files(path.parent) == ["file.netkit-info", "file.netkit-part"]
        assert fetch(path, rest(size + 10)) == (Exit.OK, "", [b'bytes=%d- "v1"' % (size + 10)])
    else:
        assert fetch(path, tail(size)).exit is Exit.OK
    check_same(path.read_bytes(), BODY)
    assert files(path.parent) == ["file"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (tail(HALF - 1), "no parts"),
        (tail(HALF, HALF - 1), "how much"),
        (UNSATISFIABLE, "has less"),
        (tail(HALF, Last_Modified="Fri, 20 Nov 2099 11:00:00 GMT"), "may be newer"),
        (tail(HALF, Last_Modified="once"), "may be newer"),
        (tail(HALF, Last_Modified=""), "may be newer"),
        (tail(HALF, Last_Modified="Fri, 20 Nov 2020 11:00:00"), "may be newer"),  # without a zone
        (tail(HALF).replace(BODY[HALF - 9 : HALF], b"different"), "another version"),
        (tail(HALF, ETag="W/v1"), "no version"),
        (tail(HALF).replace(b": 65536\r\n", b": 65527\r\n"), "less than it says"),
    ],
    ids=range(10),
)
def test_what_another_tool_has_left_may_be_something_else(path: Path, sent: bytes, reason: str) -> None:
    """If a file of another tool may be of another version, it is refused with the reason, and the file is kept."""
    path.write_bytes(BODY[:HALF])
    done = fetch(path, sent)
    assert done.exit is Exit.WRITE and reason in done.said
    check_same(path.read_bytes(), BODY[:HALF])
    assert files(path.parent) == ["file"]
