"""The only writers to stdout and stderr; they never block the loop."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from netkit.core.errors import Exit, Failure
from netkit.output.escape import printable

_MAX_LINE = 400  # bytes of a message: one write(2), which a pipe keeps whole

_GLANCE_MS = 50  # between two looks for a signal

# As messages begin: ``netkit COMMAND``. Set once, when the words of the command line are read.
program = "netkit"

# Returns what the terminal of stderr is to get before a line: what wipes the picture that is drawn there, if one is.
before_line: Callable[[], bytes] = bytes

_stopped = False


def say(text: str) -> None:
    """Write one line to stderr. A stderr that takes nothing changes nothing else."""
    line = printable(text)
    if len(line) >= _MAX_LINE:
        line = line[: _MAX_LINE - 4] + "..."
    _write_line(line)


def put(text: str) -> None:
    """Write to stdout, all of it; raise Failure WRITE."""
    rest = memoryview(text.encode("utf-8", "surrogateescape"))
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except OSError as error:
        raise Failure(Exit.WRITE, "write to stdout", error) from error


def complain(failure: Failure) -> None:
    """Say what failed, and on a terminal what to try."""
    say(f"{program}: {failure}")
    if failure.hint:
        hint(failure.hint)


def hint(text: str) -> None:
    """Say what to try, on a terminal alone."""
    if os.isatty(2):
        say(f"hint: {text}")


def emit(event: str, **fields: Any) -> None:
    """Write one event to stderr as JSON. A stderr that takes nothing changes nothing else."""
    from netkit.output.jsonl import record

    _write_line(record(event, program.removeprefix("netkit "), **fields))


def draws(fd: int) -> bool:
    """Tell whether a descriptor is open on a terminal that knows escape sequences."""
    return os.isatty(fd) and os.environ.get("TERM") not in ("dumb", "unknown")


def same_terminal(one: int, other: int) -> bool:
    """Tell whether two descriptors are open on one terminal."""
    return os.isatty(one) and os.isatty(other) and os.fstat(one).st_rdev == os.fstat(other).st_rdev


def stop_waiting(*signal: object) -> None:
    """Wait for a full stderr no more: the handler of a signal that ends the process."""
    global _stopped
    _stopped = True


def _write_line(line: str) -> None:
    """Write to stderr. While that is full we wait, but not once a signal has come."""
    import select

    try:
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        while not poll.poll(_GLANCE_MS):
            if _stopped:
                return
        os.write(2, before_line() + line.encode() + b"\n")
    except OSError:
        pass


def coloured(fd: int, color: str | None = None) -> bool:
    """Whether what is written there is coloured: --color beats NO_COLOR, which beats FORCE_COLOR."""
    if color in ("always", "never"):
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or os.isatty(fd)


class Verbosity(NamedTuple):
    """How much is said, and in which form."""

    verbose: int
    quiet: bool
    json: bool


class View(NamedTuple):
    """What is shown beside plain lines: --color, and after how many seconds stderr may move (None: never)."""

    color: str | None
    moving_after: float | None

    def coloured(self, fd: int) -> bool:
        """Whether what is written there is coloured."""
        return coloured(fd, self.color)


def tell_failure(failure: Failure, verbosity: Verbosity | None = None) -> None:
    """Tell of a failure on stderr, as a line or an object, unless nothing is to be said."""
    if verbosity is not None and verbosity.json:
        from netkit.output.jsonl import failed

        emit("error", **failed(failure))
    elif verbosity is None or not verbosity.quiet:
        complain(failure)
