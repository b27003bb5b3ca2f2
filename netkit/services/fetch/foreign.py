"""A file, or a part of one, that another tool has left: whether it is of what a server has, and going on with it.

There is no word of its version. What speaks for it is that the server's has not been modified since the last byte was
written here, or then, is no shorter, and ends, as far as it is here, with the same bytes.
"""

import os

from netkit.core.errors import Exit, Failure, doing
from netkit.core.stream import Stream
from netkit.protocols.http import PARTIAL_CONTENT, UNSATISFIABLE, Head
from netkit.services.fetch.download import Download, part_of, range_of
from netkit.services.fetch.places import Place
from netkit.services.join import Terminal

_COMPARED = 64 * 1024  # bytes at its end
_SURE = 1.0  # s by which the last byte has to be newer: Last-Modified counts seconds


class Foreign(Place):
    """The file at ``path``: it is compared with what ``url`` has and then, if that is longer, taken for a part of it.

    Raises Failure WRITE, that it exists, with the reason why it is not.
    """

    def __init__(self, path: str, url: str, status: os.stat_result) -> None:
        self._path = path
        self._url = url
        self._status = status
        self._start = max(status.st_size - _COMPARED, 0)
        self._head: Head | None = None  # of the answer that it was compared with
        self._whole = 0  # bytes of what the server has
        self._compared: _Compared | None = None
        self._download: Download | None = None

    @property
    def unchanged(self) -> bool:
        """Whether it stays as it is."""
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
        if age < _SURE and age:  # wget gives files the server's date
            raise self._refused("the server's may be newer")
        self._head, self._whole = head, whole
        return True

    def open(self, head: Head) -> Stream:
        if self._download is not None:
            return self._download.open(head)
        self._compared = _Compared(self._path, self._start, self._refused("the server has another version"))
        return self._compared

    def goes_on(self) -> bool:
        """Take it for a part once it was compared, if there is more; whether that is to be asked for."""
        if self._download is not None or self._head is None or self._compared is None:
            return False
        if self._compared.at != self._status.st_size:
            raise self._refused("the server sent less than it says")
        if self._whole == self._status.st_size:
            return False
        self._download = part_of(self._path, self._url, self._head, self._whole)
        return True

    def finish(self) -> None:
        """Put the file in its place."""
        if self._download is not None:
            self._download.finish()

    def close(self) -> int:
        """Let go; return how many bytes are kept for ``resume`` to go on with."""
        return 0 if self._download is None else self._download.close()

    def _refused(self, reason: str) -> Failure:
        hint = "--force replaces it"
        return Failure(Exit.WRITE, f"write {self._path}", "it exists", detail=reason, hint=hint)


class _Compared(Terminal):
    """What is written has to be what a file has from ``at`` on: ``other`` is raised if it is not."""

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
    """The seconds of Last-Modified since 1970; without one it may be any."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(head.get("last-modified") or "").timestamp()
    except (TypeError, ValueError, OverflowError):
        return float("inf")
