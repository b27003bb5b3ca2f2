"""Recordings of a connection's data: a log in JSON Lines, and a hex dump on stderr."""

import errno
import os
import stat

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure
from netkit.core.sync import Lock
from netkit.output import console
from netkit.output.console import STDERR, terminal_size
from netkit.output.escape import printable
from netkit.output.hexdump import WIDTH, dump, width_in
from netkit.output.jsonl import line, moment, octets

_AT_ONCE = 48 * 16  # bytes whose dump is below PIPE_BUF, so that a pipe keeps its lines whole: pipe(7)
_ARROWS = {"sent": ">", "received": "<"}


class Log:
    """JSON Lines appended to a file: ``time``, ``direction``, the peer and the bytes, in the order of the wire.

    The file is made with mode 0600; a symbolic link or anything but a regular file is refused. Raises Failure WRITE.
    """

    def __init__(self, path: str) -> None:
        self._action = f"write log {path}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            reason = "it is a symbolic link" if error.errno == errno.ELOOP and os.path.islink(path) else error
            raise Failure(Exit.WRITE, self._action, reason) from error
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise Failure(Exit.WRITE, self._action, "it is not a regular file")

    def note(self, direction: str, peer: Endpoint, data: bytes) -> None:
        """Append one record."""
        where = {"peer_address": peer.host or str(peer), "peer_port": peer.port or None}
        text = line(time=moment(), direction=direction, **where, **octets(data))
        rest = memoryview(text.encode() + b"\n")
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise Failure(Exit.WRITE, self._action, error) from error


class HexDump:
    """A hex dump on stderr: a line with direction, time and peer, then the bytes with their offsets in the stream."""

    def __init__(self) -> None:
        self._turn = Lock()

    async def show(self, direction: str, name: str, data: bytes, offset: int) -> None:
        """Write the dump as fast as stderr is read; drop it if the reader takes nothing."""
        width = width_in(terminal_size(STDERR).columns) if os.isatty(STDERR) else WIDTH
        head = f"{_ARROWS[direction]} {moment()} {printable(name)} {len(data)} B\n"
        async with self._turn:
            for start in range(0, len(data), _AT_ONCE):
                text = head if start == 0 else ""
                text += dump(data[start : start + _AT_ONCE], offset + start, width)
                assert console.writer is not None
                await console.writer.write_when_read(text.encode())
