"""Resuming a file that another tool has left, complete or not.

Its version is not known. It is taken for the beginning of the server's file if that was not modified after our last
byte was written (or has the same time), is not shorter, and has the same bytes as the end of ours.
"""

import os

from netkit.core.errors import Exit, Failure, doing
from netkit.core.stream import Stream
from netkit.protocols.http import PARTIAL_CONTENT, UNSATISFIABLE, Head
from netkit.services.fetch.download import Download, part_of, range_of
from netkit.services.fetch.places import Place
from netkit.services.join import Terminal

_COMPARED = 64 * 1024  # bytes at the end of our file
_SURE = 1.0  # s by which our file must be newer than the server's: Last-Modified has whole seconds


class Foreign(Place):
    """The file at ``path`` as a place: its end is compared with ``url``'s; if that is longer, the rest is fetched.

    Raises Failure WRITE, "it exists", with the reason, if it cannot be resumed.
    """

    def __init__(self, path: str, url: str, status: os.stat_result) -> None:
        self._path = path
        self._url = url
        self._status = status
        self._start = max(status.st_size - _COMPARED, 0)
        self._head: Head | None = None  # of the response that it is compared with
        self._whole = 0  # bytes of the server's file
        self._compared: _Compared | None = None
        self._download: Download | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the file stays as it is."""
        return self._download is None or self._download.unchanged

    @property
    def before(self) -> int:  # type: ignore[override]
        return 0 if self._download is None else self._download.before

    @property
    def conditions(self) -> list[tuple[str, bytes]]:
        if self._download is not None:
            return self._download.conditions
        return [("Range", b"bytes=%d-%d" % (self._start, self._status.st_size - 1))]

    def restart(self) -> None:
        if self._download is not None:
            self._download.restart()

    def fits(self, head: Head) -> bool:
        if self._download is not None:
            return self._download.fits(head)
        first, last, whole = range_of(head) or (0, 0, None)
        if head.status == UNSATISFIABLE:
            raise self._refused("the server has less")
        if head.status != PARTIAL_CONTENT or (first, last) != (self._start, self._status.st_size - 1):
            raise self._refused("the server sends no parts to compare it with")
        if whole is None or whole < self._status.st_size:
            raise self._refused("the server does not say how much there is")
        age = self._status.st_mtime - _modified(head)
        if age < _SURE and age:  # 0 is good: wget sets the mtime to the server's
            raise self._refused("the server's may be newer")
        self._head, self._whole = head, whole
        return True

    def open(self, head: Head) -> Stream:
        if self._download is not None:
            return self._download.open(head)
        self._compared = _Compared(self._path, self._start, self._refused("the server has another version"))
        return self._compared

    def goes_on(self) -> bool:
        """After the comparison, if the server's file is longer: turn ours into a part, and return True."""
        if self._download is not None or self._head is None or self._compared is None:
            return False
        if self._compared.at != self._status.st_size:
            raise self._refused("the server sent less than it says")
        if self._whole == self._status.st_size:
            return False
        self._download = part_of(self._path, self._url, self._head, self._whole)
        return True

    def finish(self) -> None:
        """Rename the part to the file, if there is one."""
        if self._download is not None:
            self._download.finish()

    def close(self) -> int:
        """Close the part, if there is one; return how many bytes are kept for ``resume``."""
        return 0 if self._download is None else self._download.close()

    def _refused(self, reason: str) -> Failure:
        hint = "--force replaces it"
        return Failure(Exit.WRITE, f"write {self._path}", "it exists", detail=reason, hint=hint)


class _Compared(Terminal):
    """A sink that compares what is written with a file from offset ``at`` on, and raises ``other`` if it differs."""

    def __init__(self, path: str, at: int, other: Failure) -> None:
        super().__init__(reads=False, writes=False)
        self._path = path
        self.at = at
        self._other = other

    async def send(self, data: bytes) -> None:
        with doing(Exit.READ, f"read {self._path}"), open(self._path, "rb", buffering=0) as file:
            same = os.pread(file.fileno(), len(data), self.at) == data
        if not same:
            raise self._other
        self.at += len(data)


def _modified(head: Head) -> float:
    """Last-Modified in seconds since 1970; infinity if it is missing or malformed."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(head.get("last-modified") or "").timestamp()
    except (TypeError, ValueError, OverflowError):
        return float("inf")
