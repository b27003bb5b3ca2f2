"""Downloading to a file: written as a part beside it, and renamed when it is complete; resuming a download.

Until FILE is complete there are ``FILE.netkit-part``, with the bytes so far, and ``FILE.netkit-info``, with the URL and
the version they are of. Both are removed when FILE is complete, and after a failure that leaves nothing to resume. Then
the version is in an extended attribute of FILE (xattr(7)), if the file system supports these.
"""

import fcntl
import json
import os
import re
import stat
from contextlib import suppress
from typing import NamedTuple

from netkit.core.errors import Exit, Failure, doing
from netkit.core.stdio import FileStream
from netkit.core.stream import Stream
from netkit.protocols.http import NOT_MODIFIED, OK, PARTIAL_CONTENT, UNSATISFIABLE, Head
from netkit.services.fetch.places import Place

# A valid value of ETag or Last-Modified.
_VALIDATOR = re.compile(r"[!-~\xa0-\xff]([ -~\xa0-\xff]*[!-~\xa0-\xff])?")
_ATTRIBUTE = "user.netkit.version"
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_MAX_INFO = 64 * 1024  # bytes; ours are a few hundred
_SURE = 60.0  # s that Last-Modified must be older than Date to be a strong validator (RFC 9110, section 8.8.2.2)


class _Info(NamedTuple):
    """The URL and version of a part: the value for If-Range, the ETag, and the length of the whole, if known."""

    url: str
    validator: str
    tag: str | None
    length: int | None


class Version(NamedTuple):
    """The version of a complete file: its ETag, or else its Last-Modified, with the file's size and mtime then.

    ``source`` is a digest of the URL, which may have secrets; ``written`` is in nanoseconds, ``size`` in bytes.
    """

    source: str
    tag: str | None
    modified: str | None
    size: int
    written: int

    @property
    def validator(self) -> str | None:
        return self.modified if self.tag is None else self.tag

    def note(self, fd: int) -> None:
        """Store it with the file, if the file system can."""
        if hasattr(os, "setxattr"):
            with suppress(OSError):
                os.setxattr(fd, _ATTRIBUTE, json.dumps(self._asdict()).encode())


def version_of(url: str, tag: str | None, modified: str | None, status: os.stat_result) -> Version:
    """The Version of a file with this status that has just come from ``url``."""
    from hashlib import sha256

    return Version(sha256(url.encode()).hexdigest(), tag, modified, status.st_size, status.st_mtime_ns)


def noted_version(path: str, url: str) -> Version | None:
    """The Version of the file at ``path``, if it came from ``url``, is complete, and was not changed since."""
    try:
        status = os.lstat(path)
        known = Version(**json.loads(os.getxattr(path, _ATTRIBUTE, follow_symlinks=False)))
    except (OSError, AttributeError, ValueError, TypeError, RecursionError):
        return None
    unchanged = stat.S_ISREG(status.st_mode) and known == version_of(url, known.tag, known.modified, status)
    sound = isinstance(known.validator, str) and _VALIDATOR.fullmatch(known.validator)
    return known if unchanged and sound else None


class Download(Place):
    """The file at ``path`` as the place for one URL. It is opened before the request; the owner calls ``close``.

    ``resume`` continues the part of an earlier download of this URL. ``plain`` is whether the file is just the body of
    a GET, so that it can be resumed later. Raises Failure WRITE, also if the file exists and ``force`` is not given.
    """

    def __init__(self, path: str, url: str, *, force: bool, resume: bool, plain: bool = True) -> None:
        self._path = path
        self._url = url
        self._force = force
        self._plain = plain
        self._part, self._info = path + ".netkit-part", path + ".netkit-info"
        self._action = f"write {path}"
        self._known: _Info | None = None
        self._info_status: os.stat_result | None = None
        self._whole: int | None = None  # bytes the file will have, by Content-Range
        self._begun = False
        self._is_whole = False
        self._unchanged = False  # whether the server answered 304
        old = self._check_place(resume)
        self._mode = None if old is None else old.st_mode & 0o777
        self._fd = self._open()
        try:
            if self._mode is not None:
                os.fchmod(self._fd, self._mode | stat.S_IRUSR | stat.S_IWUSR)
            if resume:
                self._recall()
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def conditions(self) -> list[tuple[str, bytes]]:
        if not self.before or self._known is None:
            return []
        return [("Range", b"bytes=%d-" % self.before), ("If-Range", self._known.validator.encode("latin-1"))]

    def fits(self, head: Head) -> bool:
        if self._known is None or head.status == OK:
            return True
        if head.status not in (PARTIAL_CONTENT, UNSATISFIABLE):
            raise self._unresumed(f"the server answered {head.status_line}")
        if head.status == PARTIAL_CONTENT and self._is_rest(head, self._known):
            return True
        self.before = 0
        return False

    def open(self, head: Head) -> Stream | None:
        self._unchanged = head.status == NOT_MODIFIED
        if self._unchanged:
            return None
        if head.status != PARTIAL_CONTENT:
            self.before = 0
        self._begun = True
        with doing(Exit.WRITE, self._action):
            if os.fstat(self._fd).st_size != self.before:  # ext4 flushes at close(2) a file that was truncated to 0
                os.ftruncate(self._fd, self.before)
            os.lseek(self._fd, self.before, os.SEEK_SET)
        if not self.before:
            self._note(head)
        return FileStream(self._fd, self._fd, sink_name=self._path)

    def finish(self) -> None:
        """Rename the part to the file, unless the answer was 304. Raises Failure PARTIAL if it is not complete."""
        if self._unchanged:
            return
        size = os.fstat(self._fd).st_size
        if self._whole is not None and size != self._whole:
            detail = f"{size} of {self._whole} bytes"
            raise Failure(Exit.PARTIAL, f"receive {self._url}", "the server sent a part alone", detail=detail)
        with doing(Exit.WRITE, self._action):
            os.close(os.dup(self._fd))  # some file systems report an exceeded quota only here: close(2)
            if self._mode is not None:
                os.fchmod(self._fd, self._mode)
            if (known := self._known) is not None:
                modified = known.validator if known.tag is None else None
                version_of(self._url, known.tag, modified, os.fstat(self._fd)).note(self._fd)
            self._is_whole = True
            self._rename()
        self._forget()

    def close(self) -> int:
        """Close the file; return how many bytes are kept for ``resume``. A part that cannot be resumed is removed."""
        status = os.fstat(self._fd)
        is_there = _is_at(status, self._part)  # neither renamed by now, nor replaced
        useless = not status.st_size or (self._begun and self._known is None)
        if is_there and useless and not self._is_whole:
            _remove(self._part)
            self._forget()
        elif not is_there:
            self._forget()
        os.close(self._fd)
        return status.st_size if is_there and self._known is not None else 0

    def _check_place(self, resume: bool) -> os.stat_result | None:
        """The status of a regular file that may be replaced; None if there is none."""
        with doing(Exit.WRITE, self._action):
            try:
                old = os.lstat(self._path)
                led = os.stat(self._path) if stat.S_ISLNK(old.st_mode) and os.path.exists(self._path) else old
            except FileNotFoundError:
                return None
        if stat.S_ISDIR(led.st_mode):
            raise Failure(Exit.WRITE, self._action, "it is a folder")
        if not (stat.S_ISREG(led.st_mode) or stat.S_ISLNK(led.st_mode)):
            hint = f"without -o, > {self._path} writes to it"
            raise Failure(Exit.WRITE, self._action, "it is not a regular file", hint=hint)
        if not self._force:
            part = f"what was cut is {self._part}, and " if resume else ""
            raise Failure(Exit.WRITE, self._action, "it exists", hint=f"{part}--force replaces it")
        return old if stat.S_ISREG(old.st_mode) else None  # a link itself is replaced, not its target

    def _open(self) -> int:
        """Open the part and lock it: it must be a regular file of our own, without other links."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        action = f"write {self._part}"
        while True:
            with doing(Exit.WRITE, action):
                fd = os.open(self._part, flags, 0o666)
            try:
                status = os.fstat(fd)
                if status.st_nlink == 2 and self._force and _is_at(status, self._path):
                    _remove(self._part)  # a netkit was killed between link(2) and unlink(2): the file is complete
                elif not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid != os.geteuid():
                    raise Failure(Exit.WRITE, action, "it is there, and not a file of ours alone")
                _lock(fd, action)
                if _is_at(status, self._part):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # another netkit has just renamed it

    def _recall(self) -> None:
        """Find out from the info where the last download of this URL ended, and of which version it was."""
        size = os.fstat(self._fd).st_size
        try:
            with open(self._info, "rb", opener=_no_link) as file:
                status = os.fstat(file.fileno())
                known = _Info(**json.loads(file.read(_MAX_INFO)))
        except (OSError, ValueError, TypeError, RecursionError):
            return
        if status.st_uid != os.geteuid() or not _is_sound(known) or known.url != self._url or not size:
            return
        if known.length is not None and size > known.length:
            return
        self._known, self._info_status = known, status
        # If the part is complete, ask for its last byte again, to know whether the server still has this version.
        self.before = size - 1 if size == known.length else size

    def _is_rest(self, head: Head, known: _Info) -> bool:
        """Whether a range is of the known version: some servers ignore If-Range, and send one of another version."""
        first, last, whole = range_of(head) or (-1, -1, None)
        if first != self.before or last < self.before:
            raise self._unresumed("the server sent another range than the one asked for")
        dated = known.tag is None and head.get("last-modified") not in (None, known.validator)
        whole = known.length if whole is None else whole
        if dated or head.get("etag") not in (None, known.tag) or known.length not in (None, whole):
            return False
        if whole is None:
            raise self._unresumed("the server does not say how much there is")
        size = last + 1 - self.before
        if last >= whole or head.get("content-length") not in (None, str(size)):
            raise self._unresumed("the server sent more than the range it names")
        self._whole = whole
        return True

    def _unresumed(self, reason: str) -> Failure:
        return Failure(Exit.PROTOCOL, f"resume {self._url}", reason, hint="without --resume it comes all anew")

    def _note(self, head: Head) -> None:
        """Write the info for this version, if it has a strong validator."""
        self._known = None
        _remove(self._info)
        validator = _validator(head)
        if head.status != OK or validator is None or not self._plain:
            return
        length = head.get("content-length")
        known = _Info(self._url, validator, head.get("etag"), None if length is None else int(length))
        with suppress(OSError):  # then it cannot be resumed
            self._info_status = _write(self._info, known)
            self._known = known

    def _forget(self) -> None:
        """Remove the info, if it is ours: another netkit may have written one by now."""
        if self._info_status is not None and _is_at(self._info_status, self._info):
            _remove(self._info)
        self._info_status = None  # its inode may be used again

    def _rename(self) -> None:
        if not _is_at(os.fstat(self._fd), self._part):
            what = "is another file" if os.path.lexists(self._part) else "is gone"
            raise Failure(Exit.WRITE, self._action, f"{self._part} {what} by now")
        if self._force:
            os.replace(self._part, self._path)
        elif not _rename(self._part, self._path):
            raise Failure(Exit.WRITE, self._action, "it exists by now", detail=f"{self._part} is whole")


def part_of(path: str, url: str, head: Head, length: int) -> Download:
    """Turn the file at ``path`` into the part of a Download that resumes it. ``head`` is of the version it is of.

    ``length`` is that of the whole, in bytes. Raises Failure WRITE, also if ``head`` has no strong validator.
    """
    action = f"write {path}"
    validator = _validator(head)
    if validator is None:
        raise Failure(
            Exit.WRITE, action, "it exists", detail="the server names no version of its", hint="--force replaces it"
        )
    info = path + ".netkit-info"
    _remove(info)  # of an earlier download, whose part is gone
    with doing(Exit.WRITE, action):
        _write(info, _Info(url, validator, head.get("etag"), length))
        if not _rename(path, path + ".netkit-part"):
            _remove(info)
            raise Failure(Exit.WRITE, action, "another netkit is writing it")
    return Download(path, url, force=False, resume=True)


def range_of(head: Head) -> tuple[int, int, int | None] | None:
    """Parse Content-Range: first and last byte, and the length of the whole, if known. None if it is missing."""
    match = _RANGE.fullmatch(head.get("content-range") or "")
    return match and (int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3]))


def _write(path: str, known: _Info) -> os.stat_result:
    """Write an info file with mode 600. Raises OSError if it exists."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "w") as file:
        json.dump(known._asdict(), file)
        return os.fstat(fd)


def _validator(head: Head) -> str | None:
    """The value for If-Range (RFC 9110, section 13.1.5): a strong ETag, or a Last-Modified that is strong; or None."""
    tag = head.get("etag")
    if tag is not None:
        return tag if tag.startswith('"') and _VALIDATOR.fullmatch(tag) else None
    text, modified, sent = head.get("last-modified"), head.date("last-modified"), head.date("date")
    if text is None or modified is None or sent is None or sent - modified < _SURE:
        return None
    return text if _VALIDATOR.fullmatch(text) else None


def _is_sound(known: _Info) -> bool:
    """Whether the info has the right types: the file may have been damaged or changed."""
    return (
        isinstance(known.validator, str)
        and _VALIDATOR.fullmatch(known.validator) is not None
        and isinstance(known.tag, str | None)
        and (known.length is None or type(known.length) is int)
    )


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
    except OSError:  # there is none, or its folder is no folder any more, or closed to us
        return False


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _rename(path: str, new: str) -> bool:
    """Rename a file, and return True, unless another one has the new name."""
    try:
        os.link(path, new)  # fails if there is one
    except OSError:  # that, or a file system without hard links
        if os.path.lexists(new):
            return False
        os.rename(path, new)
    else:
        os.unlink(path)
    return True


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
