"""A file as the place of a response: a new download, a complete file, or one that another tool has left."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from netkit.core.errors import Exit, Failure, doing
from netkit.core.stream import Stream
from netkit.protocols.http import NOT_MODIFIED, OK, PARTIAL_CONTENT, UNSATISFIABLE, Head
from netkit.services.fetch.asked import Asked
from netkit.services.fetch.download import Download, Version, noted_version, part_of, range_of
from netkit.services.fetch.places import Place
from netkit.services.join import Terminal

_COMPARED = 64 * 1024  # bytes at the end of a file of another tool
_SURE = 1.0  # s by which it must be newer than the server's: Last-Modified has whole seconds


@contextmanager
def saved(path: str, asked: Asked, *, force: bool, resume: bool) -> Iterator[Place]:
    """The file at ``path`` as a place for the block; it appears once it is complete. Raises the failures of Download.

    With ``resume``, and without ``force``, a complete file stays, and one of another tool is resumed, if the server has
    the same version; otherwise Failure WRITE is raised.
    """
    url = str(asked.url)
    plain = asked.method == "GET" and not (asked.include or asked.compressed)
    place: Place | None = None
    if resume and not force:
        known = noted_version(path, url)
        place = _foreign(path, url) if known is None else Existing(path, known)
    if place is None:
        place = Download(path, url, force=force, resume=resume, plain=plain)
    try:
        yield place
        place.finish()
    except BaseException as error:
        if (kept := place.close()) and isinstance(error, Failure) and not error.hint:
            error.hint = f"--resume goes on with the {kept} bytes that came"
        raise
    place.close()


def _foreign(path: str, url: str) -> "Foreign | None":
    """The file at ``path``, if it is a regular file of our user, is not empty, and has no part beside it."""
    with suppress(OSError):
        status = os.lstat(path)
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        if ours and status.st_size and not os.path.lexists(path + ".netkit-part"):
            return Foreign(path, url, status)
    return None


class Existing(Place):
    """The complete file at ``path``, which only asks whether the server has another version than ``known``."""

    def __init__(self, path: str, known: Version) -> None:
        self._path = path
        self._known = known

    @property
    def conditions(self) -> list[tuple[str, bytes]]:
        name = "If-Modified-Since" if self._known.tag is None else "If-None-Match"
        return [(name, (self._known.validator or "").encode("latin-1"))]

    def fits(self, head: Head) -> bool:
        """True if the version is still the same. Raises Failure WRITE if the server has another one.

        A server that does not know the condition sends all of it, whose version and length are then compared.
        """
        told = head.get("last-modified" if self._known.tag is None else "etag")
        if head.status == NOT_MODIFIED:
            same = told in (None, self._known.validator)
        else:
            length = head.get("content-length")
            same = head.status == OK and told == self._known.validator and length in (None, str(self._known.size))
        if not same:
            reason = "it exists, and the server has another version"
            raise Failure(Exit.WRITE, f"write {self._path}", reason, hint="--force replaces it")
        return True

    def open(self, head: Head) -> None:
        return None


class Foreign(Place):
    """The file at ``path``, of another tool: its end is compared with that of ``url``, whose rest is then fetched.

    Its version is not known. It is taken for the beginning of the server's file if that was not modified after our last
    byte was written (or has the same time), is not shorter, and has the same bytes as the end of ours. Raises Failure
    WRITE, "it exists", with the reason, if not.
    """

    def __init__(self, path: str, url: str, status: os.stat_result) -> None:
        self._path = path
        self._url = url
        self._status = status
        self._start = max(status.st_size - _COMPARED, 0)
        self._whole = 0  # bytes of the server's file
        self._compared: _Compared | None = None
        self._rest: Download | None = None

    @property
    def conditions(self) -> list[tuple[str, bytes]]:
        return [("Range", b"bytes=%d-%d" % (self._start, self._status.st_size - 1))]

    def fits(self, head: Head) -> bool:
        """True if the response can be compared. Raises Failure WRITE if not."""
        first, last, whole = range_of(head) or (0, 0, None)
        if head.status == UNSATISFIABLE:
            raise self._refused("the server has less")
        if head.status != PARTIAL_CONTENT or (first, last) != (self._start, self._status.st_size - 1):
            raise self._refused("the server sends no parts to compare it with")
        if whole is None or whole < self._status.st_size:
            raise self._refused("the server does not say how much there is")
        modified = head.date("last-modified")
        if modified is None or 0 != self._status.st_mtime - modified < _SURE:  # 0: wget sets the mtime to the server's
            raise self._refused("the server's may be newer")
        self._whole = whole
        return True

    def open(self, head: Head) -> Stream:
        self._compared = _Compared(self._path, self._start, head, self._refused("the server has another version"))
        return self._compared

    def rest(self) -> Download | None:
        """After the comparison, if the server's file is longer: turn ours into the part of a Download."""
        if self._compared is None:
            return None
        if self._compared.at != self._status.st_size:
            raise self._refused("the server sent less than it says")
        if self._whole > self._status.st_size:
            self._rest = part_of(self._path, self._url, self._compared.head, self._whole)
        return self._rest

    def finish(self) -> None:
        if self._rest is not None:
            self._rest.finish()

    def close(self) -> int:
        return 0 if self._rest is None else self._rest.close()

    def _refused(self, reason: str) -> Failure:
        hint = "--force replaces it"
        return Failure(Exit.WRITE, f"write {self._path}", "it exists", detail=reason, hint=hint)


class _Compared(Terminal):
    """A sink that compares what is written with a file from offset ``at`` on, and raises ``other`` if it differs.

    ``head`` is that of the response.
    """

    def __init__(self, path: str, at: int, head: Head, other: Failure) -> None:
        super().__init__(reads=False, writes=False)
        self._path = path
        self.at = at
        self.head = head
        self._other = other

    async def send(self, data: bytes) -> None:
        with doing(Exit.READ, f"read {self._path}"), open(self._path, "rb", buffering=0) as file:
            same = os.pread(file.fileno(), len(data), self.at) == data
        if not same:
            raise self._other
        self.at += len(data)
