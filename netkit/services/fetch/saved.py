"""Choosing the place for a file: a new download, a complete file, or a file that another tool has left."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from netkit.core.errors import Failure
from netkit.services.fetch.asked import Asked
from netkit.services.fetch.download import Download
from netkit.services.fetch.existing import Existing, existing
from netkit.services.fetch.foreign import Foreign
from netkit.services.fetch.places import Place


@contextmanager
def saved(path: str, asked: Asked, *, force: bool, resume: bool) -> Iterator[Place]:
    """The file at ``path`` as a place for the block; it appears once it is complete. Raises the failures of Download.

    With ``resume``, and without ``force``, a complete file stays, and one of another tool is resumed, if the server has
    the same version; otherwise Failure WRITE is raised.
    """
    url = str(asked.url)
    plain = asked.method == "GET" and not (asked.include or asked.compressed)
    place: Existing | Foreign | Download | None = None
    if resume and not force:
        place = existing(path, url) or _foreign(path, url)
    if place is None:
        place = Download(path, url, force=force, resume=resume, plain=plain)
    try:
        yield place
        if not place.unchanged:
            place.finish()
    except BaseException as error:
        if (kept := place.close()) and isinstance(error, Failure) and not error.hint:
            error.hint = f"--resume goes on with the {kept} bytes that came"
        raise
    place.close()


def _foreign(path: str, url: str) -> Foreign | None:
    """The file at ``path``, if it is a regular file of our user, is not empty, and has no part beside it."""
    with suppress(OSError):
        status = os.lstat(path)
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        if ours and status.st_size and not os.path.lexists(path + ".netkit-part"):
            return Foreign(path, url, status)
    return None
