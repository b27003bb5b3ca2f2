"""Starting programs, waiting for their exit without blocking the loop, and ending them with their process groups."""

import _thread
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from netkit.core.descriptors import give_back, given_back
from netkit.core.errors import Exit, Failure, describe
from netkit.core.events import Observer, ProgramLeft
from netkit.core.kernel import Cancelled, Group, notify_closing, now, readable, sleep, to_thread
from netkit.core.sync import Event

LAST_CHANCE = 0.25  # s from SIGTERM to SIGKILL for a program, or the rest of its group, that has nothing more to do
_DEATH = 1.0  # s for a program to exit after SIGKILL
_LOOK = 0.02  # s between two checks whether a process group is empty


def find(argv: Sequence[str]) -> None:
    """Raise Failure NOT_FOUND or NOT_RUNNABLE if there is no such program."""
    if shutil.which(argv[0]) is None:
        missing = os.sep not in argv[0] or not os.path.exists(argv[0])
        code = errno.ENOENT if missing else errno.EACCES
        kind = Exit.NOT_FOUND if missing else Exit.NOT_RUNNABLE
        raise Failure(kind, f"run {argv[0]}", OSError(code, os.strerror(code)))


class Process:
    """A running program, in its own process group or in ours. Raises Failure NOT_FOUND or NOT_RUNNABLE.

    ``popen`` are arguments of subprocess.Popen. The owner must call ``ended`` or ``end``.
    """

    def __init__(self, argv: Sequence[str], environment: dict[str, str], *, own_group: bool, **popen: Any) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it were ignored, the exit code would be lost
        self.name = os.path.basename(argv[0])
        self._own_group = own_group
        try:
            with given_back():
                self.popen = subprocess.Popen(argv, env=environment, process_group=0 if own_group else None, **popen)
        except FileNotFoundError as error:
            raise Failure(Exit.NOT_FOUND, f"run {argv[0]}", error) from error
        except OSError as error:
            raise Failure(Exit.NOT_RUNNABLE, f"run {argv[0]}", error) from error
        give_back(self.popen.pid)

    async def ended(self) -> int:
        """Wait until it exits, and end the rest of its group; return its exit code, 128+n after signal n."""
        await self._exited()
        return await self._reap()

    async def end(self, patience: float, observe: Observer, hurry: Event | None = None) -> None:
        """Unless it has exited, send SIGTERM, and after ``patience`` seconds, or once ``hurry`` is set, SIGKILL.

        If it still does not exit, ProgramLeft is reported. If this is cancelled, SIGKILL is sent at once.
        """
        if self.popen.returncode is not None:
            return
        try:
            reason = self._signal(signal.SIGTERM)
            if not await self._exits_within(patience, hurry):
                reason = self._signal(signal.SIGKILL) or reason
                if not await self._exits_within(_DEATH):
                    observe(ProgramLeft(self.name, self.popen.pid, reason or "it stays"))
                    self._leave()
                    return
        except Cancelled:
            self._signal(signal.SIGKILL)
            self._leave()
            raise
        await self._reap()

    def _leave(self) -> None:
        """Have a thread reap it when it exits."""
        with suppress(RuntimeError):  # no thread can be started
            _thread.start_new_thread(self.popen.wait, ())

    async def _exited(self) -> None:
        """Wait until it has exited, without reaping it, so that its pid is not used again before ``_reap``."""
        if self.popen.returncode is not None:
            return
        try:
            fd = os.pidfd_open(self.popen.pid)
        except (AttributeError, OSError):  # not Linux, or before 5.3, or no descriptor is free
            await to_thread(self.popen.wait)  # which reaps it
            return
        try:
            await readable(fd)
        finally:
            notify_closing(fd)
            os.close(fd)

    async def _exits_within(self, seconds: float, hurry: Event | None = None) -> bool:
        exited = False

        async def watch() -> None:
            nonlocal exited
            await self._exited()
            exited = True
            group.cancel()

        async def cut(hurry: Event) -> None:
            await hurry.wait()
            group.cancel()

        async with Group() as group:
            group.start_soon(watch())
            if hurry is not None:
                group.start_soon(cut(hurry))
            await sleep(seconds)
            group.cancel()
        return exited

    async def _reap(self) -> int:
        if self._own_group:
            self._signal_group(signal.SIGTERM)
        code = self.popen.wait()
        if self._own_group:
            due = now() + LAST_CHANCE
            try:
                while now() < due and self._signal_group(0) is None:
                    await sleep(_LOOK)
            finally:
                self._signal_group(signal.SIGKILL)
        return code if code >= 0 else 128 - code

    def _signal(self, number: int) -> str:
        """Signal the program and its group; return why that is not permitted, "" if it is."""
        error = self._signal_group(number) if self._own_group else None
        with suppress(ProcessLookupError):
            try:
                if not self._own_group or os.getpgid(self.popen.pid) != self.popen.pid:  # it has left its group
                    os.kill(self.popen.pid, number)
                    error = None
            except PermissionError as refused:
                error = refused
        return describe(error) if isinstance(error, PermissionError) else ""

    def _signal_group(self, number: int) -> OSError | None:
        """Signal its process group; return the error if the group is empty, or we may not signal any of it."""
        try:
            os.killpg(self.popen.pid, number)
        except OSError as error:
            return error
        return None
