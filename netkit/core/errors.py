"""Exit codes, and the exceptions Failure and Invalid, which have a sentence for a person and an exit code for a script.

A code is curl's where curl has one for the case. This is the only table: help and man pages are made from it. A code is
added together with the command that can return it.
"""

import enum
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class Exit(enum.IntEnum):
    """Exit codes; the ``meaning`` of each is what it promises to a script."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "Exit":
        self = int.__new__(cls, code)
        self._value_ = code
        self.meaning = meaning
        return self

    OK = (
        0,
        "The peer acknowledged all of our input, no reset was seen, "
        "and everything received was written; or the answer was printed.",
    )
    BUG = 1, "Reserved: a bug in netkit."
    USAGE = 2, "A bad option, address, format or combination; nothing was sent."
    NOTHING = 3, "Nothing matched."
    PROXY_NAME = 5, "The name of a proxy was not found, or the resolver failed."
    RESOLVE = 6, "The name was not found, or the resolver failed."
    CONNECT = (
        7,
        "The connection was refused, or the peer is unreachable, or a proxy says so; "
        "or a port answered, but not as expected.",
    )
    PROTOCOL = (
        8,
        "The peer ended before --until, --expect or --max-bytes was met, "
        "or sent something malformed; or the input was malformed.",
    )
    PARTIAL = (
        18,
        "The peer's stream ended early: TLS without close_notify, or a short body; or the input ended within a record.",
    )
    HTTP = 22, "An HTTP server answered with a status of 400 or more, and --fail or --resume was given."
    WRITE = 23, "Standard output or an output file failed."
    READ = (
        26,
        "Standard input or an input file failed, or has something that cannot be sent; "
        "or the kernel does not show its sockets.",
    )
    TIMEOUT = 28, "A time limit was reached; the message says which."
    TLS = 35, "The TLS handshake failed for a reason other than the certificate."
    BIND = 45, "Cannot bind or listen."
    REDIRECTS = 47, "More redirects than --max-redirects allows."
    SEND = 55, "Some of our input was not acknowledged; the message says how many bytes."
    RECV = 56, "The connection was reset while receiving; all of our input was acknowledged."
    CERT = 60, "The certificate is not acceptable, or is for another host name; nothing was sent."
    TOO_BIG = 63, "A size limit was exceeded, or the system has no more memory for netkit."
    PROXY = 97, "A proxy refused or failed; the message has its reason."
    NOT_RUNNABLE = 126, "COMMAND, or the program of --exec, could not be run."
    NOT_FOUND = 127, "COMMAND, or the program of --exec, was not found."
    SIGNAL = 128, "Ended by signal n (129 HUP, 130 INT, 141 PIPE: the reader of standard output left, 143 TERM)."


# Which of several failures decides the exit code: the first in these lists; a code that is not in the list goes first.
STREAM_PRECEDENCE = (
    *(Exit.WRITE, Exit.READ, Exit.CERT, Exit.TLS, Exit.PROTOCOL),
    *(Exit.TOO_BIG, Exit.TIMEOUT, Exit.SEND, Exit.RECV, Exit.PARTIAL),
)
PORT_PRECEDENCE = (
    *(Exit.CONNECT, Exit.PROXY_NAME, Exit.RESOLVE, Exit.PROXY),
    *(Exit.CERT, Exit.TLS, Exit.PROTOCOL, Exit.TIMEOUT),
)
NAME_PRECEDENCE = (Exit.READ, Exit.CERT, Exit.TLS, Exit.RESOLVE, Exit.PROTOCOL, Exit.TIMEOUT, Exit.PARTIAL)


class Invalid(ValueError):
    """Invalid input: exit code 2, and nothing was sent. Its text is the whole message; ``hint`` is what to try."""

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class Failure(OSError):
    """An action that failed: ``cannot ACTION: REASON (DETAIL)``, with its exit code; ``hint`` is what to try."""

    def __init__(self, exit: Exit, action: str, reason: str | OSError, *, detail: str = "", hint: str = "") -> None:
        self.exit = exit
        self.action = action
        self.reason = describe(reason) if isinstance(reason, OSError) else reason
        self.detail = detail
        self.hint = hint
        if isinstance(reason, OSError):
            super().__init__(reason.errno, self.reason)
        else:
            super().__init__(self.reason)

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"cannot {self.action}: {self.reason}{detail}"


def describe(error: OSError) -> str:
    """The system's message for an error, with a lower-case first letter."""
    text = os.strerror(error.errno) if error.errno and error.errno > 0 else (error.strerror or str(error))
    return text[:1].lower() + text[1:]


@contextmanager
def doing(exit: Exit, action: str, *, hint: str = "") -> Iterator[None]:
    """Turn an OSError of the block into a Failure of ``action``. A Failure passes unchanged."""
    try:
        yield
    except Failure:
        raise
    except OSError as error:
        raise Failure(exit, action, error, hint=hint) from error


def out_of_memory() -> Failure:
    """The failure that a MemoryError is."""
    return Failure(Exit.TOO_BIG, "go on", OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))


def ran_out(error: BaseException) -> bool:
    """Whether an error, or one from which it came, is a MemoryError."""
    return any(isinstance(each, MemoryError) for each in _with_causes(error))


def most_severe(failures: Iterable[Failure], order: Sequence[Exit] = STREAM_PRECEDENCE) -> Failure:
    """The failure that decides the exit code, by one of the lists above."""
    return min(failures, key=lambda failure: order.index(failure.exit) if failure.exit in order else -1)


def without_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error that was handled, and of its causes.

    Their frames keep data alive, such as what was read, and the error itself: a cycle until the garbage collector runs.
    """
    for each in _with_causes(error):
        each.__traceback__ = each.__context__ = None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes, and those of a group, each once."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if id(each) not in seen:  # one may be its own cause
            seen.add(id(each))
            left += filter(None, (each.__cause__, each.__context__))
            left += getattr(each, "exceptions", ())  # of a group
            yield each
