"""The file of a download: what is refused, when it is resumed, and that it appears only when it is complete."""

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core import kernel
from netkit.core.errors import Exit, Failure
from netkit.protocols.http import Head
from netkit.services.fetch.download import Download, part_of
from tests.support.data import files
from tests.support.properties import examples

URL = "http://host/file"
BODY = bytes(range(256)) * 4
DATE = "Fri, 20 Nov 2020 12:00:00 GMT"
LONG_AGO = "Fri, 20 Nov 2020 11:00:00 GMT"
INFO = {"url": URL, "validator": '"v1"', "tag": '"v1"', "length": len(BODY)}


def head(status: int = 200, **fields: str | int) -> Head:
    """Return the head of an answer."""
    pairs = [(name.replace("_", "-").encode(), str(value).encode("latin-1")) for name, value in fields.items()]
    return Head(status, "", pairs, b"")


WHOLE = head(etag='"v1"', content_length=len(BODY))


def rest(start: int, **fields: str | int) -> Head:
    """Return the head of an answer with the bytes from ``start`` on."""
    about: dict[str, str | int] = {"etag": '"v1"', "content_range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"}
    return head(206, **{**about, **fields})


@contextmanager
def downloading(path: Path | str, *, force: bool = False, resume: bool = False, url: str = URL) -> Iterator[Download]:
    """Open a download, and close it at the end."""
    download = Download(str(path), url, force=force, resume=resume)
    try:
        yield download
    finally:
        download.close()


def write(download: Download, answer: Head, data: bytes) -> None:
    """Open the download with the head of an answer, and write part of its body."""

    async def take() -> None:
        assert not download.conditions or download.fits(answer)
        await download.open(answer).send(data)

    kernel.run(take())


def save(path: Path, data: bytes = BODY, *, force: bool = False) -> None:
    """Download the file: all of it comes."""
    with downloading(path, force=force) as download:
        write(download, WHOLE, data)
        download.finish()


def refused(path: Path, *, force: bool = False, resume: bool = False) -> Failure:
    """The failure with which a download does not even begin."""
    with pytest.raises(Failure) as caught:
        Download(str(path), URL, force=force, resume=resume)
    assert caught.value.exit is Exit.WRITE
    return caught.value


def cut(path: Path, count: int = 300, answer: Head = WHOLE) -> None:
    """Leave behind what an interrupted download leaves after ``count`` bytes."""
    with downloading(path) as download:
        write(download, answer, BODY[:count])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file, in a directory of its own."""
    return tmp_path / "file"


# -- the file and its part


def test_the_file_is_there_once_it_is_whole(path: Path) -> None:
    """Before ``finish`` there is only a part, and after it only the file."""
    with downloading(path) as download:
        write(download, WHOLE, BODY)
        assert files(path.parent) == ["file.netkit-info", "file.netkit-part"]
        download.finish()
        assert files(path.parent) == ["file"]
    assert path.read_bytes() == BODY
    assert files(path.parent) == ["file"]


def test_the_old_file_is_whole_until_the_new_one_is(path: Path) -> None:
    """A reader of the old file sees it until the new one is complete, and an open file stays the old one."""
    path.write_bytes(b"old")
    with path.open("rb") as reader, downloading(path, force=True) as download:
        write(download, WHOLE, BODY)
        assert path.read_bytes() == b"old"
        download.finish()
        assert (path.read_bytes(), reader.read()) == (BODY, b"old")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "socket"])
def test_what_is_no_file_stays(path: Path, kind: str, force: bool) -> None:
    """A directory, FIFO, device or socket is refused and kept, and the hint is not --force, which would not help."""
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, 0o600 | stat.S_IFSOCK)
    else:
        path = Path("/dev/null")
    before = os.lstat(path)
    failure = refused(path, force=force)
    assert str(path) in str(failure) and "--force" not in failure.hint
    assert os.path.samestat(before, os.lstat(path))
    assert os.lstat(path).st_mode == before.st_mode
    if kind != "device":
        assert files(path.parent) == ["file"]


@pytest.mark.fault("output file that is a link")
@pytest.mark.parametrize("target", ["precious", "missing"])
def test_a_link_is_replaced_not_followed(path: Path, target: str) -> None:
    """With --force the file replaces a symbolic link, and the target of the link does not change."""
    precious = path.parent / "precious"
    precious.write_bytes(b"precious")
    path.symlink_to(target)
    refused(path)
    assert path.is_symlink()
    save(path, force=True)
    assert not path.is_symlink()
    assert path.read_bytes() == BODY
    assert precious.read_bytes() == b"precious"
    assert files(path.parent) == ["file", "precious"]


@pytest.mark.parametrize("target", ["/dev/null", "/dev"])
def test_a_link_to_what_is_no_file_stays(path: Path, target: str) -> None:
    """A link to a device or directory, such as /dev/stdout, is not replaced even with --force."""
    path.symlink_to(target)
    assert "--force" not in refused(path, force=True).hint
    assert os.readlink(path) == target
    assert files(path.parent) == ["file"]


@pytest.mark.parametrize("suffix", [".netkit-part", ".netkit-info"])
@pytest.mark.parametrize("plant", ["symbolic link", "dangling link", "hard link", "fifo", "folder"])
def test_nothing_planted_beside_it_is_written(path: Path, suffix: str, plant: str) -> None:
    """A link, FIFO or directory in place of the part or of its info is neither written to nor waited for.

    The part is refused; without its info the download starts anew.
    """
    victim = path.parent / "victim"
    victim.write_bytes(json.dumps(INFO).encode())
    planted = Path(f"{path}{suffix}")
    if plant == "hard link":
        planted.hardlink_to(victim)
    elif plant == "fifo":
        os.mkfifo(planted)
    elif plant == "folder":
        planted.mkdir()
    else:
        planted.symlink_to("victim" if plant == "symbolic link" else "nowhere")
    if suffix == ".netkit-part":
        assert f"{path}{suffix}" in str(refused(path, force=True, resume=True))
        assert planted.name in files(path.parent)
    else:
        with downloading(path, resume=True) as download:
            assert download.conditions == []
            write(download, WHOLE, BODY)
            download.finish()
        assert path.read_bytes() == BODY
    assert victim.read_bytes() == json.dumps(INFO).encode()
    assert "nowhere" not in files(path.parent)


def test_somebody_elses_file_is_kept(path: Path) -> None:
    """A file that was made during the download is not overwritten without --force."""
    with downloading(path) as download:
        write(download, WHOLE, BODY)
        path.write_bytes(b"theirs")
        with pytest.raises(Failure) as caught:
            download.finish()
    assert str(caught.value) == f"cannot write {path}: it exists by now ({path}.netkit-part is whole)"
    assert caught.value.exit is Exit.WRITE
    assert path.read_bytes() == b"theirs"
    assert Path(f"{path}.netkit-part").read_bytes() == BODY


@pytest.mark.parametrize(
    ("becomes", "reason", "left"),
    [
        ("nothing", "is gone", []),
        ("another file", "is another file", ["file.netkit-part"]),
        ("a file in place of its folder", "is gone", []),
    ],
)
def test_a_part_that_somebody_takes_away(path: Path, becomes: str, reason: str, left: list[str]) -> None:
    """If the part is removed or replaced during the download, there is no file, and no info without its part."""
    folder = path.parent / "folder"
    folder.mkdir()
    part = folder / "file.netkit-part"
    with downloading(folder / "file") as download:
        write(download, WHOLE, BODY)
        part.unlink()
        if becomes == "another file":
            part.write_bytes(b"theirs")
        elif becomes != "nothing":
            (folder / "file.netkit-info").unlink()
            folder.rmdir()
            folder.write_bytes(b"theirs")
        with pytest.raises(Failure) as caught:
            download.finish()
    assert caught.value.exit is Exit.WRITE
    assert caught.value.reason == f"{part} {reason} by now"
    assert folder.is_file() or files(folder) == left


def test_a_part_that_is_the_file_already(path: Path) -> None:
    """A run that was killed after linking the file, before removing the part, does not affect the next one."""
    cut(path, len(BODY))
    path.hardlink_to(f"{path}.netkit-part")
    with downloading(path, force=True, resume=True) as download:
        write(download, WHOLE, b"new")
        assert path.read_bytes() == BODY
        download.finish()
    assert path.read_bytes() == b"new"
    assert files(path.parent) == ["file"]


def test_two_at_once(path: Path) -> None:
    """A second download of the same file is refused until the first has finished."""
    with downloading(path) as first:
        write(first, WHOLE, BODY[:10])
        assert refused(path, force=True, resume=True).reason == "another netkit is writing it"
        write(first, WHOLE, BODY)
        first.finish()
        save(path, BODY[::-1], force=True)
    assert path.read_bytes() == BODY[::-1]
    assert files(path.parent) == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_mode_of_a_new_file(path: Path, mask: int) -> None:
    """A new file has the mode that the umask gives."""
    before = os.umask(mask)
    try:
        save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize(("mode", "kept"), [(0o600, 0o600), (0o755, 0o755), (0o444, 0o444), (0o6755, 0o755)])
def test_mode_of_a_file_that_is_overwritten(path: Path, mode: int, kept: int) -> None:
    """The new file has the old one's permissions without set-id bits; its part, too, but its owner can read and write.

    The new file may have another owner than the old one.
    """
    path.write_bytes(b"old")
    path.chmod(mode)
    with downloading(path, force=True) as download:
        write(download, WHOLE, BODY)
        part = stat.S_IMODE(os.stat(f"{path}.netkit-part").st_mode)
        assert part == kept | 0o600  # the owner opens it again to resume
        download.finish()
    assert stat.S_IMODE(path.stat().st_mode) == kept


def forbid_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file system without hard links, such as FAT."""

    def link(*_: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


def test_a_folder_without_hard_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hard links the file is renamed, and still does not overwrite another one."""
    forbid_links(monkeypatch)
    save(path)
    assert path.read_bytes() == BODY
    path.unlink()
    with downloading(path) as download:
        write(download, WHOLE, BODY)
        path.write_bytes(b"theirs")
        with pytest.raises(Failure):
            download.finish()
    assert path.read_bytes() == b"theirs"


@pytest.mark.parametrize("name", ["-", "-o", "a\nb", "\udcff\x1b[31m", "é", "n" * 240])
def test_names(tmp_path: Path, name: str) -> None:
    """Any name that a file can have is possible."""
    save(tmp_path / name)
    assert files(tmp_path) == [name]


# -- what an interrupted download leaves


@pytest.mark.parametrize("answer", [WHOLE, head(), head(etag='W/"weak"'), head(404, etag='"v1"')])
def test_what_is_left_after_a_cut(path: Path, answer: Head) -> None:
    """The part is kept with its info if a later run can resume it, and removed otherwise."""
    with downloading(path) as download:
        write(download, answer, BODY[:300])
    wanted = ["file.netkit-info", "file.netkit-part"] if answer is WHOLE else []
    assert files(path.parent) == wanted


def test_nothing_is_left_of_nothing(path: Path) -> None:
    """A download that received no data leaves nothing."""
    for answer in (None, WHOLE):
        with downloading(path) as download:
            if answer is not None:
                write(download, answer, b"")
        assert files(path.parent) == []


def test_an_earlier_part_outlives_a_failure(path: Path) -> None:
    """A run that got no answer keeps the part of an earlier one, with and without --resume."""
    cut(path)
    for resume in (False, True):
        with downloading(path, resume=resume):
            pass
        assert Path(f"{path}.netkit-part").read_bytes() == BODY[:300]
        with downloading(path, resume=True) as download:
            assert download.before == 300


# -- resuming


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_becomes_a_part(path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another tool is resumed, beside the info of an earlier download, and also without hard links."""
    if not links:
        forbid_links(monkeypatch)
    path.write_bytes(BODY[:300])
    Path(f"{path}.netkit-info").write_bytes(b"old")
    download = part_of(str(path), URL, WHOLE, len(BODY))
    assert download.conditions == [("Range", b"bytes=300-"), ("If-Range", b'"v1"')]
    assert files(path.parent) == ["file.netkit-info", "file.netkit-part"]
    write(download, rest(300), BODY[300:])
    download.finish()
    download.close()
    assert path.read_bytes() == BODY
    assert files(path.parent) == ["file"]


def test_a_file_that_becomes_no_part(path: Path) -> None:
    """If another netkit has begun to download the file, it stays, and so does that part."""
    path.write_bytes(BODY[:300])
    Path(f"{path}.netkit-part").write_bytes(b"theirs")
    with pytest.raises(Failure, match="another netkit is writing it"):
        part_of(str(path), URL, WHOLE, len(BODY))
    assert path.read_bytes() == BODY[:300]
    assert files(path.parent) == ["file", "file.netkit-part"]


def test_going_on(path: Path) -> None:
    """The missing bytes are asked for, on condition that the version is the same, and appended."""
    cut(path)
    with downloading(path, resume=True) as download:
        assert download.conditions == [("Range", b"bytes=300-"), ("If-Range", b'"v1"')]
        write(download, rest(300), BODY[300:600])
    with downloading(path, resume=True) as download:
        assert download.before == 600
        write(download, rest(600), BODY[600:])
        download.finish()
    assert path.read_bytes() == BODY
    assert files(path.parent) == ["file"]


def test_another_version_comes_all_anew(path: Path) -> None:
    """A complete answer replaces the part, whose info is then that of the new version."""
    cut(path)
    with downloading(path, resume=True) as download:
        write(download, head(etag='"v2"', content_length=9), b"new")
    with downloading(path, resume=True) as download:
        assert download.conditions == [("Range", b"bytes=3-"), ("If-Range", b'"v2"')]
        write(download, head(), b"newest")
        download.finish()
    assert path.read_bytes() == b"newest"


def test_a_part_that_is_whole(path: Path) -> None:
    """Of a complete part the last byte is asked for again, as it may be of an old version."""
    cut(path, len(BODY))
    with downloading(path, resume=True) as download:
        assert download.conditions == [("Range", b"bytes=1023-"), ("If-Range", b'"v1"')]
        write(download, rest(1023), BODY[1023:])
        download.finish()
    assert path.read_bytes() == BODY


def test_no_such_range(path: Path) -> None:
    """After a 416 everything is asked for, and the old part does not matter."""
    cut(path)
    with downloading(path, resume=True) as download:
        assert not download.fits(head(416))
        assert (download.before, download.conditions) == (0, [])
        write(download, head(), b"all")
        download.finish()
    assert path.read_bytes() == b"all"


@pytest.mark.parametrize(
    ("last", "date", "wanted"),
    [
        (LONG_AGO, DATE, LONG_AGO),
        (DATE, DATE, None),
        ("Fri, 20 Nov 2020 11:59:30 GMT", DATE, None),
        (LONG_AGO, None, None),
        (None, DATE, None),
        ("yesterday", DATE, None),
        (LONG_AGO, "", None),
        ("Fri, 20 Nov 2020 11:00:00", DATE, None),
        (LONG_AGO, "Mon, 1 Jan 2020 00:00:00 +99999999999999999999", None),
        ("Mon, 99999999999999999999999 Jan 2020 00:00:00 GMT", DATE, None),
    ],
)
def test_a_date_tells_versions_apart(path: Path, last: str | None, date: str | None, wanted: str | None) -> None:
    """Without an entity tag, Last-Modified is the validator if it is at least a minute before Date."""
    fields = {name: value for name, value in (("last_modified", last), ("date", date)) if value is not None}
    cut(path, answer=head(**fields))
    with downloading(path, resume=True) as download:
        said = dict(download.conditions).get("If-Range")
        assert said == (None if wanted is None else wanted.encode())


@pytest.mark.parametrize(
    ("fields", "size", "count", "code"),
    [
        ({"content_range": "bytes 300-1023/*"}, 1024, 724, None),
        ({"content_range": "bytes 300-699/1024"}, 1024, 400, Exit.PARTIAL),
        ({"content_range": "bytes 300-1023/1024"}, 1024, 700, Exit.PARTIAL),
        ({"content_range": "bytes 300-1023/1024"}, 1024, 725, Exit.PARTIAL),
        ({"content_range": "bytes 300-1023/1024", "content_length": 723}, 1024, 724, Exit.PROTOCOL),
        ({"content_range": "bytes 300-1023/1024", "content_length": 725}, 1024, 724, Exit.PROTOCOL),
        ({"content_range": "bytes 299-1023/1024"}, 1024, 725, Exit.PROTOCOL),
        ({"content_range": "bytes 0-1023/1024"}, 1024, 1024, Exit.PROTOCOL),
        ({"content_range": "bytes */1024"}, 1024, 0, Exit.PROTOCOL),
        ({"content_range": "300-1023/1024"}, 1024, 724, Exit.PROTOCOL),
        ({"content_range": "bytes 300-1023"}, 1024, 724, Exit.PROTOCOL),
        ({"content_range": "bytes -300-1023/1024"}, 1024, 724, Exit.PROTOCOL),
        ({"content_range": "bytes ٣٠٠-1023/1024".encode().decode("latin-1")}, 1024, 724, Exit.PROTOCOL),
        ({"content_range": "bytes 300-1023/" + "9" * 5000}, 1024, 724, Exit.PROTOCOL),
        ({"content_range": "bytes 300-299/1024"}, 1024, 724, Exit.PROTOCOL),
        ({"content_range": "bytes 300-1024/1024"}, 1024, 724, Exit.PROTOCOL),
        ({"content_type": "multipart/byteranges; boundary=x"}, 1024, 0, Exit.PROTOCOL),
        ({"content_range": "bytes 300-1023/*"}, None, 724, Exit.PROTOCOL),
        ({"content_range": "bytes 300-1023/1024"}, None, 724, None),
    ],
)
def test_ranges(path: Path, fields: dict[str, str | int], size: int | None, count: int, code: Exit | None) -> None:
    """A range is appended only if it starts where the part ends, and fits the size and version of the file.

    If it is refused the part does not change; if the body is too short or too long there is no file.
    """
    length = {} if size is None else {"content_length": size}
    cut(path, answer=head(etag='"v1"', **length))
    with downloading(path, resume=True) as download:
        if code is Exit.PROTOCOL:
            with pytest.raises(Failure) as caught:
                write(download, head(206, **fields), b"")
            assert Path(f"{path}.netkit-part").read_bytes() == BODY[:300]
        else:
            write(download, head(206, **fields), (BODY * 2)[300 : 300 + count])
            if code is None:
                download.finish()
                assert path.read_bytes() == BODY
                return
            with pytest.raises(Failure) as caught:
                download.finish()
        assert caught.value.exit is code
    assert not path.exists()


@pytest.mark.parametrize(
    "fields",
    [{"etag": '"v2"'}, {"etag": '"v1"', "content_range": "bytes 300-1999/2000"}, {"etag": 'W/"v1"'}],
)
def test_the_range_of_another_version(path: Path, fields: dict[str, str | int]) -> None:
    """A range of another version, from a server that ignores If-Range, is not appended."""
    cut(path)
    with downloading(path, resume=True) as download:
        assert not download.fits(rest(300, **fields))
        assert download.conditions == []
        write(download, head(etag='"v2"', content_length=3), b"new")
        download.finish()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(("modified", "same"), [(LONG_AGO, True), (None, True), (DATE, False)])
def test_the_range_of_another_date(path: Path, modified: str | None, same: bool) -> None:
    """If the validator is a date, a range with another date is of another version."""
    cut(path, answer=head(last_modified=LONG_AGO, date=DATE, content_length=len(BODY)))
    said = {} if modified is None else {"last_modified": modified}
    with downloading(path, resume=True) as download:
        assert download.fits(head(206, content_range=f"bytes 300-{len(BODY) - 1}/{len(BODY)}", **said)) is same


@pytest.mark.parametrize("status", [204, 300, 304])
def test_what_is_no_part_of_the_file(path: Path, status: int) -> None:
    """An answer that has neither the file nor a range of it is refused, and the part is kept."""
    cut(path)
    with downloading(path, resume=True) as download, pytest.raises(Failure) as caught:
        download.fits(head(status))
    assert caught.value.exit is Exit.PROTOCOL
    assert files(path.parent) == ["file.netkit-info", "file.netkit-part"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_part_that_was_replaced(path: Path, whole: bool) -> None:
    """A part that was replaced by that of another download is neither renamed nor removed."""
    first = Download(str(path), URL, force=False, resume=False)
    write(first, head(), BODY)
    Path(f"{path}.netkit-part").unlink()
    with downloading(path) as second:
        write(second, WHOLE, BODY[:9])
        if whole:
            with pytest.raises(Failure) as caught:
                first.finish()
            assert caught.value.exit is Exit.WRITE
        first.close()
        assert files(path.parent) == ["file.netkit-info", "file.netkit-part"]


def forged(path: Path, info: bytes, part: bytes = BODY[:300]) -> list[tuple[str, bytes]]:
    """Write a part and its info, download with --resume, and return the conditions of the request."""
    Path(f"{path}.netkit-part").write_bytes(part)
    Path(f"{path}.netkit-info").write_bytes(info)
    with downloading(path, resume=True) as download:
        conditions = download.conditions
        for name, value in conditions:
            assert value == value.strip() and b"\n" not in value, name
        try:
            if conditions and download.fits(rest(download.before)):
                write(download, rest(download.before), BODY[download.before :])
            else:
                write(download, WHOLE, BODY)
            download.finish()
        except Failure as failure:
            assert conditions and failure.exit in (Exit.PROTOCOL, Exit.PARTIAL)
    assert not path.exists() or path.read_bytes() == BODY
    return conditions


@pytest.mark.parametrize(
    "info",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"\0" * 200,
        b"[" * 60_000,
        b"9" * 60_000,
        json.dumps(INFO).encode()[:-2],
        *(
            json.dumps({**INFO, **change}).encode()
            for change in (
                {"url": URL + "2"},
                {"url": None},
                {"validator": None},
                {"validator": ""},
                {"validator": " "},
                {"validator": '"v1" '},
                {"validator": "a\r\nX: y"},
                {"validator": "☕"},
                {"validator": ['"v1"']},
                {"length": 299},
                {"length": -1},
                {"length": 1024.0},
                {"length": True},
                {"length": "1024"},
            )
        ),
        *(json.dumps({key: value for key, value in INFO.items() if key != left}).encode() for left in INFO),
    ],
    ids=lambda info: repr(info[:80])[2:-1],
)
def test_info_that_says_nothing(path: Path, info: bytes) -> None:
    """A part whose info is incomplete, truncated, forged or for another URL is not resumed."""
    assert forged(path, info) == []


@pytest.mark.parametrize("info", ["missing", "a link", "of another user"])
def test_info_that_is_not_ours(path: Path, info: str) -> None:
    """A part without info is not resumed, nor one whose info is a symbolic link or belongs to another user."""
    cut(path)
    place = Path(f"{path}.netkit-info")
    if info == "of another user":
        give_away(place)
    else:
        place.rename(path.parent / "elsewhere")
    if info == "a link":
        place.symlink_to("elsewhere")
    with downloading(path, resume=True) as download:
        assert download.conditions == []


def give_away(path: Path) -> None:
    """Make the file another user's; skip the test if we are not root."""
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(path, 65534, 65534)


def test_part_of_another_user(path: Path) -> None:
    """A part that belongs to another user, who could write to it, is refused."""
    cut(path)
    give_away(Path(f"{path}.netkit-part"))
    refused(path, force=True, resume=True)


@examples(40)
@given(
    st.dictionaries(
        st.sampled_from([*INFO]), st.none() | st.integers() | st.text(max_size=4) | st.sampled_from(['"v1"'])
    )
)
def test_any_info(change: dict[str, Any]) -> None:
    """Whatever the info says, the file is what the server sent or there is none, and only a Failure is raised."""
    with TemporaryDirectory() as folder:
        forged(Path(folder) / "file", json.dumps({**INFO, **change}).encode())
