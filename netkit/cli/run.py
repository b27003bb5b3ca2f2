"""Running a command: results, the kernel, signals and exit codes."""

import os
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from netkit.core.errors import Exit, Failure, out_of_memory
from netkit.output import console
from netkit.output.console import Verbosity, emit, tell_failure

if TYPE_CHECKING:
    from netkit.services.pack.filter import Filter


def answer(text: str) -> int:
    """Write ``text`` and a newline to stdout, and return the exit code."""
    try:
        console.write(text + "\n")
    except Failure as failure:
        return conclude(failure)
    return Exit.OK


def answer_rows(rows: Sequence[Sequence[str]]) -> int:
    """Write rows to stdout, if there are any; return the exit code."""
    from netkit.output.columns import table

    return answer(table(rows)) if rows else Exit.OK


def filtered(change: "Filter", verbosity: Verbosity, given: bytes | None = None) -> int:
    """Filter stdin, or ``given`` in its place, through ``change`` to stdout, and return the exit code."""
    from netkit.services.pack.filter import run

    try:
        run(change, given, console.write_bytes)
        return Exit.OK
    except Failure as error:
        failure = error
    except MemoryError:
        failure = out_of_memory()
    return conclude(failure, verbosity)  # here a MemoryError no longer holds the memory that its frames had


class Run:
    """A run of a command, whose events go to ``observe``. ``timeout`` limits all of it, in seconds.

    With ``stats`` it writes its totals at the end; ``protocol`` is what they count, if known in advance.
    """

    def __init__(
        self, verbosity: Verbosity, timeout: float | None = None, *, stats: bool = False, protocol: str | None = None
    ) -> None:
        from netkit.output.events import observer

        self._verbosity = verbosity
        self._timeout = timeout
        self._files: list[str] = []
        self._totals = None
        if stats:
            from netkit.output.totals import Totals

            self._totals = Totals(protocol)
        self.observe = observer(verbosity, self._totals.watching if self._totals else None)

    def read_first(self, *paths: str | None) -> None:
        """Add files that are copied before ``main`` starts if they are pipes. None is skipped."""
        self._files += filter(None, paths)

    def __call__(self, main: Coroutine[Any, Any, int | None], refused: Exit = Exit.CONNECT) -> int:
        """Run ``main``, the command's work, and return the exit code. A signal ends the process here.

        ``refused`` is the code for a system error such as too many open files.
        """
        import signal

        from netkit.core import kernel

        try:
            ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            return self._ended(kernel.run(self._within(main), signals=ending) or 0)
        except kernel.Interrupted as interrupted:
            self._ended(Exit.SIGNAL + interrupted.signum)
            die(interrupted.signum)
        except Failure as failure:
            if _is_reader_gone(failure):
                self._ended(Exit.SIGNAL + signal.SIGPIPE)
            return self._ended(conclude(failure, self._verbosity))
        except OSError as error:
            return self._ended(conclude(Failure(refused, "go on", error), self._verbosity))
        except MemoryError:
            return self._ended(conclude(out_of_memory(), self._verbosity))
        finally:
            main.close()
            console.finish(patiently=True)

    async def _within(self, main: Coroutine[Any, Any, int | None]) -> int | None:
        from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
        from netkit.core.units import duration
        from netkit.output.stderr import StderrWriter

        timeout, json = self._timeout, self._verbosity.json
        console.writer = writer = StderrWriter(lambda number: console.dropped(number, json=json))
        code = None
        try:
            async with Group() as group:
                group.start_soon(writer.drain())
                with deadline(None if timeout is None else now() + timeout):
                    if self._files:
                        from netkit.core.files import copy_pipes

                        await copy_pipes(self._files)
                    code = await main
                group.cancel()
            return code
        except DeadlineExceeded:
            reason = f"time ran out after {duration(timeout or 0)}"
            raise Failure(Exit.TIMEOUT, "finish", reason, detail="--timeout") from None

    def _ended(self, code: int) -> int:
        """Write the totals, if they are wanted; return ``code``."""
        if self._totals is not None:
            emit("stats", **self._totals.fields(code))
        return code


def conclude(failure: Failure, verbosity: Verbosity | None = None) -> int:
    """Write a failure and return its exit code. If stdout's reader has gone, die of SIGPIPE, as other filters do."""
    import signal

    if _is_reader_gone(failure):
        die(signal.SIGPIPE)
    if os.environ.get("NETKIT_DEBUG"):
        import traceback

        traceback.print_exception(failure)
    tell_failure(failure, verbosity)
    return failure.exit


def _is_reader_gone(failure: Failure) -> bool:
    import errno

    return failure.exit is Exit.WRITE and failure.errno == errno.EPIPE


def die(signum: int) -> NoReturn:
    """End by the signal, so that our parent sees it, or with its exit code if we survive it."""
    import signal

    console.finish(patiently=False)
    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(Exit.SIGNAL + signum)


def become(command: tuple[str, ...], verbosity: Verbosity) -> int:
    """Replace the process by COMMAND, with SIGPIPE and SIGXFSZ reset. Return the exit code if it cannot be run."""
    import signal

    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        return conclude(Failure(Exit.NOT_FOUND, f"run {command[0]}", error), verbosity)
    except OSError as error:
        return conclude(Failure(Exit.NOT_RUNNABLE, f"run {command[0]}", error), verbosity)
