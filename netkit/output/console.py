"""Functions that write to stdout and stderr, the options that control what is written, and checks of terminals.

A message that cannot be written to stderr is lost without an error.
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
_MAX_LINE = 400  # bytes of a message, so that a pipe keeps it whole

# Global, as the process's descriptors are, so that they need not be passed to all code that writes a line.

program = "netkit"
"""How messages begin: ``netkit COMMAND``. Set once, when the command line is parsed."""

writer: "StderrWriter | None" = None
"""The queued writer to stderr, so that a running kernel is not blocked. Set by the code that runs the kernel."""

before_line: Callable[[], bytes] = bytes
"""Returns what to write before a line: the bytes that erase a picture on the terminal. Set by terminal/screen.py."""


class Verbosity(NamedTuple):
    """How much is written to stderr (-v, -q), and whether as JSON."""

    verbose: int = 0
    quiet: bool = False
    json: bool = False


class View(NamedTuple):
    """Options for terminals: --color, and after how many seconds progress may be drawn (None: never)."""

    color: str | None = None
    moving_after: float | None = None

    def coloured(self, fd: int) -> bool:
        """Whether to colour output to ``fd``, if it is a terminal: --color overrides NO_COLOR."""
        if self.color in ("always", "never"):
            return self.color == "always"
        return os.isatty(fd) and not os.environ.get("NO_COLOR")


DEFAULT_VIEW = View()


def write(text: str) -> None:
    """Write all of ``text`` to stdout, blocking if need be. Raises Failure WRITE."""
    write_bytes(text.encode("utf-8", "surrogateescape"))


def write_bytes(data: bytes | bytearray) -> None:
    """Write bytes to stdout, as ``write`` does."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(STDOUT, rest) :]
        except BlockingIOError:  # another process that shares stdout made it non-blocking
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
    """Write a line to stderr's terminal as it is. It must contain no foreign text."""
    _write_line(text)


def hint(text: str) -> None:
    """Write what to try to stderr, if it is a terminal."""
    if os.isatty(STDERR):
        say(f"hint: {text}")


def emit(event: str, **fields: Any) -> None:
    """Write an event to stderr as JSON."""
    _write_line(record(event, program.removeprefix("netkit "), **fields))


def tell_failure(failure: Failure, verbosity: Verbosity | None = None, **about: object) -> None:
    """Write a failure to stderr as JSON, with fields ``about`` it, or unless ``quiet`` as a line.

    On a terminal its hint follows.
    """
    if verbosity is not None and verbosity.json:
        emit("error", **about, **failed(failure))
    elif verbosity is None or not verbosity.quiet:
        say(f"{program}: {failure}")
        if failure.hint:
            hint(failure.hint)


def finish(*, patiently: bool) -> None:
    """Flush and remove the queued writer to stderr. If ``patiently``, wait for a slow reader."""
    global writer
    if writer is not None:
        writer.finish(patiently=patiently)
    writer = None


def dropped(number: int, *, json: bool) -> bytes:
    """The message that ``number`` lines were dropped, for when stderr takes lines again."""
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
    """Whether ``fd`` is a terminal that understands escape sequences."""
    return os.isatty(fd) and os.environ.get("TERM") not in ("dumb", "unknown")


def terminal_size(fd: int) -> os.terminal_size:
    """The current size of the terminal ``fd``, or 80x24."""
    try:
        columns, lines = os.get_terminal_size(fd)
    except OSError:
        columns = lines = 0
    return os.terminal_size((columns or 80, lines or 24))  # some terminals report 0


def same_terminal(one: int, other: int) -> bool:
    """Whether two descriptors are open on the same terminal."""
    return os.isatty(one) and os.isatty(other) and os.fstat(one).st_rdev == os.fstat(other).st_rdev
