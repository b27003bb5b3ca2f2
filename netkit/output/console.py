"""The writers to stdout and stderr (beside the queued one), and what is written on them, in which form.

A message to stderr that cannot be written changes nothing else.
"""

import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit.core.errors import Exit, Failure
from netkit.output.escape import printable
from netkit.output.jsonl import failed, record

if TYPE_CHECKING:
    from netkit.output.stderr import StderrWriter

STDOUT, STDERR = 1, 2
_MAX_LINE = 400  # bytes of a message: one write(2), which a pipe keeps whole

# Three things that are one for the whole process, as its descriptors are: who writes a line need not be handed them.

program = "netkit"
"""How messages begin: ``netkit COMMAND``. Set once, when the words of the command line are read."""

writer: "StderrWriter | None" = None
"""What writes to stderr while a kernel runs, and may not be held up. Set by who runs it."""

before_line: Callable[[], bytes] = bytes
"""What stderr's terminal is to get before a line: what wipes the picture there. Set by who draws one."""


class Verbosity(NamedTuple):
    """How much is said, and in which form."""

    verbose: int = 0
    quiet: bool = False
    json: bool = False


class View(NamedTuple):
    """What is shown beside plain lines: --color, and after how many seconds stderr may move (None: never)."""

    color: str | None = None
    moving_after: float | None = None

    def coloured(self, fd: int) -> bool:
        """Whether what is written there is coloured: --color beats NO_COLOR, which beats FORCE_COLOR."""
        if self.color in ("always", "never"):
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or os.isatty(fd)


DEFAULT_VIEW = View()


def write(text: str) -> None:
    """Write an answer to stdout, all of it, however long that takes; raise Failure WRITE."""
    write_bytes(text.encode("utf-8", "surrogateescape"))


def write_bytes(data: bytes | bytearray) -> None:
    """Write bytes to stdout, as ``write`` does."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(STDOUT, rest) :]
        except BlockingIOError:  # somebody who shares stdout made it so
            poll = select.poll()
            poll.register(STDOUT, select.POLLOUT)
            poll.poll()
        except OSError as error:
            raise Failure(Exit.WRITE, "write to stdout", error) from error


def say(text: str) -> None:
    """Write a message to stderr, cut to one line of printable text."""
    line = printable(text)
    if len(line) >= _MAX_LINE:
        line = line[: _MAX_LINE - 4] + "..."
    _write_line(line)


def draw(text: str) -> None:
    """Write a line of our own to stderr's terminal as it is: nothing in it is foreign."""
    _write_line(text)


def hint(text: str) -> None:
    """Say what to try, on a terminal alone."""
    if os.isatty(STDERR):
        say(f"hint: {text}")


def emit(event: str, **fields: Any) -> None:
    """Write an event to stderr as JSON."""
    _write_line(record(event, program.removeprefix("netkit "), **fields))


def tell_failure(failure: Failure, verbosity: Verbosity | None = None) -> None:
    """Say what failed, and on a terminal what to try, or write it as an object; nothing if that is asked for."""
    if verbosity is not None and verbosity.json:
        emit("error", **failed(failure))
    elif verbosity is None or not verbosity.quiet:
        say(f"{program}: {failure}")
        if failure.hint:
            hint(failure.hint)


def finish(*, patiently: bool) -> None:
    """Write what still waits for stderr, ``patiently`` or at once, and go on without the writer."""
    global writer
    if writer is not None:
        writer.finish(patiently=patiently)
    writer = None


def dropped(number: int, *, json: bool) -> bytes:
    """What is said once stderr takes lines again, after so many were dropped."""
    if json:
        return record("dropped", program.removeprefix("netkit "), messages_dropped=number).encode() + b"\n"
    return f"{program}: {number} message{'s' * (number > 1)} dropped: stderr took no more\n".encode()


def _write_line(line: str) -> None:
    text = before_line() + line.encode() + b"\n"
    if writer is not None:
        writer.write(text)
        return
    try:
        os.write(STDERR, text)
    except OSError:
        pass


def draws(fd: int) -> bool:
    """Whether a descriptor is open on a terminal that knows escape sequences."""
    return os.isatty(fd) and os.environ.get("TERM") not in ("dumb", "unknown")


def terminal_size(fd: int) -> os.terminal_size:
    """How large the terminal ``fd`` is at the moment."""
    try:
        columns, lines = os.get_terminal_size(fd)
    except OSError:
        columns = lines = 0
    return os.terminal_size((columns or 80, lines or 24))  # some terminals do not know


def same_terminal(one: int, other: int) -> bool:
    """Whether two descriptors are open on one terminal."""
    return os.isatty(one) and os.isatty(other) and os.fstat(one).st_rdev == os.fstat(other).st_rdev
