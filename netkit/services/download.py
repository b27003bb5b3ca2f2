"""A file that is downloaded: written beside its place and renamed once it is whole, so that no part looks finished.

While FILE is not whole there are ``FILE.netkit-part``, with what came, and ``FILE.netkit-info``, which says of which
version of which URL it is. Both are gone when FILE is there, and also after a failure if nothing could go on from them.
"""

import errno
import fcntl
import json
import os
import re
import stat
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

from netkit.core.errors import Exit, Failure, doing
from netkit.core.stream import FileStream, Stream
from netkit.protocols.http import Head

_OK, _PARTIAL_CONTENT = 200, 206
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
_INFO_MOST = 64 * 1024  # bytes; ours are a few hundred
_SURE = 60.0  # s by which a Last-Modified has to be older than the answer to tell versions apart (RFC 9110, 8.8.2.2)


class Download:
    """The file at ``path``, for the answer to one URL. Opened before anything is asked; ``close`` ends it.

    ``resume`` goes on with what an earlier download of this URL has left. Raises Failure WRITE, also if there is a file
    at ``path`` already and not ``force``.
    """

    def __init__(self, path: str, url: str, *, force: bool, resume: bool) -> None:
        self._path = path
        self._url = url
        self._force = force
        self._part, self._info = path + ".netkit-part", path + ".netkit-info"
        self._action = f"write {path}"
        self.before = 0
        self._known: dict[str, Any] = {}
        self._whole: int | None = None  # bytes the file will have, as far as a range tells
        self._resumable = False
        self._begun = False
        self._finished = False
        old = self._check_place()
        self._fd = self._open()
        try:
            if old is not None:
                os.fchmod(self._fd, stat.S_IMODE(old.st_mode))
            if resume:
                self._recall()
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def conditions(self) -> list[tuple[str, bytes]]:
        """The fields that ask for what is missing, if it is still of the same version; none to ask for all."""
        if not self.before:
            return []
        return [("Range", b"bytes=%d-" % self.before), ("If-Range", self._known["validator"].encode("latin-1"))]

    def restart(self) -> None:
        """Ask for all of it: there is no such range."""
        self.before = 0

    def open(self, head: Head) -> Stream:
        """Return where the body of this answer goes. Raises Failure PROTOCOL for a range that was not asked for."""
        if head.status == _PARTIAL_CONTENT and self.before:
            self._check_range(head)
        else:
            self.before = 0
        self._begun = True
        with doing(Exit.WRITE, self._action):
            os.ftruncate(self._fd, self.before)
            os.lseek(self._fd, self.before, os.SEEK_SET)
        if not self.before:
            self._note(head)
        return FileStream(self._fd, self._fd, sink_name=self._path)

    def finish(self) -> None:
        """Put the file in its place. Raises Failure PARTIAL if it is not whole."""
        size = os.fstat(self._fd).st_size
        if self._whole is not None and size != self._whole:
            detail = f"{size} of {self._whole} bytes"
            raise Failure(Exit.PARTIAL, f"receive {self._url}", "the server sent a part alone", detail=detail)
        with doing(Exit.WRITE, self._action):
            os.close(os.dup(self._fd))  # some file systems tell only now that a quota is full: close(2)
            self._rename()
        self._finished = True
        _remove(self._info)

    def close(self) -> int:
        """Let go; return how many bytes are kept for ``resume`` to go on with."""
        size = os.fstat(self._fd).st_size
        if not self._finished and ((self._begun and not self._resumable) or not size):
            _remove(self._part)
            _remove(self._info)
        os.close(self._fd)
        return size if self._resumable and not self._finished else 0

    def _check_place(self) -> os.stat_result | None:
        """Return the status of a file that may be replaced; None if there is none."""
        with doing(Exit.WRITE, self._action):
            try:
                old = os.lstat(self._path)
            except FileNotFoundError:
                return None
        if not self._force:
            raise Failure(Exit.WRITE, self._action, "it exists", hint="--force overwrites it")
        if stat.S_ISLNK(old.st_mode):
            return None  # the link is replaced, not what it leads to
        if not stat.S_ISREG(old.st_mode):
            reason = "it is a folder" if stat.S_ISDIR(old.st_mode) else "it is not a regular file"
            raise Failure(Exit.WRITE, self._action, reason)
        return old

    def _open(self) -> int:
        """Open the part for us alone: a regular file of our own that no other netkit writes."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        action = f"write {self._part}"
        while True:
            with doing(Exit.WRITE, action):
                fd = os.open(self._part, flags, 0o666)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid != os.geteuid():
                    raise Failure(Exit.WRITE, action, "it is there, and not a file of ours alone")
                _lock(fd, action)
                if _is_at(status, self._part):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # another has just put it in its place

    def _recall(self) -> None:
        """Go on where the last download of this URL ended, if its version is known."""
        try:
            with open(self._info, "rb", opener=_no_link) as file:
                ours = os.fstat(file.fileno()).st_uid == os.geteuid()
                known = json.loads(file.read(_INFO_MOST))
            size = os.fstat(self._fd).st_size
            length = known["length"]
            if not ours or known["url"] != self._url or not _is_validator(known["validator"]) or not size:
                return
            if length is not None and (type(length) is not int or size > length):
                return
        except (OSError, ValueError, KeyError, TypeError):
            return
        self._known = known
        # Of a part that is whole the last byte is asked for again: whether it is of this version is still to be known.
        self.before = size - 1 if size == length else size
        self._resumable = True

    def _check_range(self, head: Head) -> None:
        action = f"resume {self._url}"
        match = _RANGE.fullmatch(head.get("content-range") or "")
        if not match or int(match[1]) != self.before:
            raise Failure(Exit.PROTOCOL, action, "the server sent another range than the one asked for")
        tag, length = head.get("etag"), self._known["length"]
        self._whole = length if match[2] == "*" else int(match[2])
        if self._whole is None:
            raise Failure(Exit.PROTOCOL, action, "the server does not say how much there is")
        if tag not in (None, self._known["tag"]) or length not in (None, self._whole):
            raise Failure(Exit.PROTOCOL, action, "the server sent a range of another version")

    def _note(self, head: Head) -> None:
        """Write down which version this is, if that can be known again."""
        self._resumable = False
        _remove(self._info)
        validator = _validator(head)
        if head.status != _OK or validator is None:
            return
        length = head.get("content-length")
        self._known = {
            "url": self._url,
            "validator": validator,
            "tag": head.get("etag"),
            "length": None if length is None else int(length),
        }
        with suppress(OSError):  # then it cannot be resumed
            fd = os.open(self._info, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "w") as file:
                json.dump(self._known, file)
            self._resumable = True

    def _rename(self) -> None:
        if self._force:
            os.replace(self._part, self._path)
            return
        try:
            os.link(self._part, self._path)  # fails if somebody made it meanwhile
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(self._path):
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            os.rename(self._part, self._path)
        else:
            os.unlink(self._part)


def _validator(head: Head) -> str | None:
    """Return what If-Range may say (RFC 9110, section 13.1.5): a strong entity tag, or a date that is surely strong."""
    tag = head.get("etag")
    if tag is not None:
        return tag if _is_validator(tag) and tag.startswith('"') else None
    modified, date = head.get("last-modified"), head.get("date")
    try:
        age = parsedate_to_datetime(date or "") - parsedate_to_datetime(modified or "")
    except (TypeError, ValueError):
        return None
    return modified if age.total_seconds() >= _SURE and _is_validator(modified) else None


def _is_validator(text: Any) -> bool:
    return isinstance(text, str) and bool(re.fullmatch(r"[\x20-\x7e\xa0-\xff]+", text))


def _lock(fd: int, action: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failure(Exit.WRITE, action, "another netkit is writing it") from None
    except OSError:
        pass  # a file system without locks


def _is_at(status: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(status, os.lstat(path))
    except FileNotFoundError:
        return False


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
