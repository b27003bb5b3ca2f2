"""A complete file from an earlier download: whether the server still has the same version.

Its version is in an extended attribute of the file (xattr(7)), if the file system supports these.
"""

import json
import os
import re
import stat
from contextlib import suppress
from typing import NamedTuple

from netkit.core.errors import Exit, Failure
from netkit.core.stream import Stream
from netkit.protocols.http import NOT_MODIFIED, Head
from netkit.services.fetch.places import Place
from netkit.services.join import Terminal

# A valid value of ETag or Last-Modified.
VALIDATOR = re.compile(r"[!-~\xa0-\xff]([ -~\xa0-\xff]*[!-~\xa0-\xff])?")
_ATTRIBUTE = "user.netkit.version"


class Version(NamedTuple):
    """The version of a complete file: its ETag, or else its Last-Modified, with the file's size and mtime then.

    ``source`` is a digest of the URL, which may have secrets; ``written`` is in nanoseconds, ``size`` in bytes.
    """

    source: str
    tag: str | None
    modified: str | None
    size: int
    written: int

    def note(self, fd: int) -> None:
        """Store it with the file, if the file system can."""
        if hasattr(os, "setxattr"):
            with suppress(OSError):
                os.setxattr(fd, _ATTRIBUTE, json.dumps(self._asdict()).encode())


def version_of(url: str, tag: str | None, modified: str | None, status: os.stat_result) -> Version:
    """The Version of a file with this status that has just come from ``url``."""
    from hashlib import sha256

    return Version(sha256(url.encode()).hexdigest(), tag, modified, status.st_size, status.st_mtime_ns)


class Existing(Place):
    """The complete file at ``path`` as a place, which only asks whether the server has another version."""

    unchanged = True

    def __init__(self, path: str, known: Version) -> None:
        self._path = path
        self._known = known

    @property
    def conditions(self) -> list[tuple[str, bytes]]:
        if self._known.tag is not None:
            return [("If-None-Match", self._known.tag.encode("latin-1"))]
        return [("If-Modified-Since", (self._known.modified or "").encode("latin-1"))]

    def fits(self, head: Head) -> bool:
        """True if the version is still the same. Raises Failure WRITE if the server has another one."""
        tag, modified = self._known.tag, self._known.modified
        told = head.get("etag") if tag is not None else head.get("last-modified")
        if head.status != NOT_MODIFIED or told not in (None, tag or modified):
            reason = "it exists, and the server has another version"
            raise Failure(Exit.WRITE, f"write {self._path}", reason, hint="--force replaces it")
        return True

    def open(self, head: Head) -> Stream:
        return Terminal(reads=False, writes=False)

    def finish(self) -> None:
        """Do nothing: the file is complete."""

    def close(self) -> int:
        """Return 0: there is no part."""
        return 0


def existing(path: str, url: str) -> Existing | None:
    """The file at ``path``, if by its attribute it came from ``url``, is complete, and was not changed since."""
    try:
        status = os.lstat(path)
        known = Version(**json.loads(os.getxattr(path, _ATTRIBUTE, follow_symlinks=False)))
    except (OSError, AttributeError, ValueError, TypeError, RecursionError):
        return None
    if not stat.S_ISREG(status.st_mode) or known != version_of(url, known.tag, known.modified, status):
        return None
    validator = known.modified if known.tag is None else known.tag
    return Existing(path, known) if isinstance(validator, str) and VALIDATOR.fullmatch(validator) else None
