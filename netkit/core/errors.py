"""Every failure is one sentence for a person and one code for a script.

The codes are curl's where the meaning is curl's. This table is the only one: commands, help and man pages
read it. A row joins with the command that can produce it.
"""

import enum
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Exit(enum.IntEnum):
    """Exit codes; ``MEANING`` says what each promises to a script."""

    OK = 0
    BUG = 1
    USAGE = 2
    NOTHING = 3
    RESOLVE = 6
    CONNECT = 7
    PROTOCOL = 8
    PARTIAL = 18
    HTTP = 22
    WRITE = 23
    READ = 26
    TIMEOUT = 28
    TLS = 35
    BIND = 45
    REDIRECTS = 47
    SEND = 55
    RECV = 56
    CERT = 60
    TOO_BIG = 63
    NOT_RUNNABLE = 126
    NOT_FOUND = 127
    SIGNAL = 128


MEANING = {
    Exit.OK: "The peer acknowledged every byte read from our input, no reset was seen, "
    "and everything received was written; or the answer was printed.",
    Exit.BUG: "Reserved: a bug in netkit.",
    Exit.USAGE: "A bad option, address, format or combination; nothing was sent.",
    Exit.NOTHING: "Nothing matched.",
    Exit.RESOLVE: "The name was not found, or the resolver failed.",
    Exit.CONNECT: "The connection was refused, or the peer is unreachable; a port answered, but not as wanted.",
    Exit.PROTOCOL: "The peer ended before what --until or --expect wanted, or said something malformed; "
    "or input was malformed.",
    Exit.PARTIAL: "The peer's stream ended early: TLS without close_notify, a body that is short; "
    "or input ended within a record.",
    Exit.HTTP: "An HTTP server answered with a status of 400 or more, and --fail or --resume was given.",
    Exit.WRITE: "Standard output or an output file failed.",
    Exit.READ: "Standard input or an input file failed, or held what cannot be sent; "
    "or the kernel does not tell of its sockets.",
    Exit.TIMEOUT: "A clock of ours ran out; the message says which.",
    Exit.TLS: "The TLS handshake failed for another reason than the certificate.",
    Exit.BIND: "Cannot bind or listen.",
    Exit.REDIRECTS: "More redirects than --max-redirects allows.",
    Exit.SEND: "Bytes that we read were not acknowledged; the message says how many.",
    Exit.RECV: "The connection was reset while receiving; all of ours was acknowledged.",
    Exit.CERT: "The certificate or its host name is not acceptable; nothing was sent.",
    Exit.TOO_BIG: "A size limit was hit.",
    Exit.NOT_RUNNABLE: "COMMAND, or the program of --exec, could not be run.",
    Exit.NOT_FOUND: "COMMAND, or the program of --exec, was not found.",
    Exit.SIGNAL: "Ended by signal n (129 HUP, 130 INT, 141 PIPE: the reader of standard output left, 143 TERM).",
}

# Which failure a script is told of when several happen at once.
_PRECEDENCE = (
    Exit.WRITE,
    Exit.READ,
    Exit.CERT,
    Exit.TLS,
    Exit.PROTOCOL,
    Exit.TOO_BIG,
    Exit.TIMEOUT,
    Exit.SEND,
    Exit.RECV,
    Exit.PARTIAL,
)


class Invalid(ValueError):
    """Input that means nothing: exit 2, and nothing was sent. Its text is the whole message; ``hint`` what to try."""

    def __init__(self, text: str, *, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class Failure(OSError):
    """Something that could not be done: ``cannot ACTION: REASON (DETAIL)``, and the exit code it stands for."""

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
    """Return the reason in lower case, as the system words it."""
    text = os.strerror(error.errno) if error.errno and error.errno > 0 else (error.strerror or str(error))
    return text[:1].lower() + text[1:]


@contextmanager
def doing(exit: Exit, action: str, *, hint: str = "") -> Iterator[None]:
    """Turn an OSError of the block into the Failure of ``action``; a Failure passes as it is."""
    try:
        yield
    except Failure:
        raise
    except OSError as error:
        raise Failure(exit, action, error, hint=hint) from error


def most_severe(failures: Iterable[Failure]) -> Failure:
    """Return the failure whose code a script should see."""
    return min(failures, key=lambda f: _PRECEDENCE.index(f.exit) if f.exit in _PRECEDENCE else -1)
