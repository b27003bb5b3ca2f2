"""Programs that we start: awaited through the loop, and ended with all that is left of their process groups."""

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

LAST_CHANCE = 0.25  # s from SIGTERM to SIGKILL for what has nothing more to do
_DEATH = 1.0  # s for a program to go by SIGKILL
_LOOK = 0.02  # s between two looks at a process group


def find(argv: Sequence[str]) -> None:
    """Raise Failure NOT_FOUND or NOT_RUNNABLE if there is no such program."""
    if shutil.which(argv[0]) is None:
        missing = os.sep not in argv[0] or not os.path.exists(argv[0])
        code = errno.ENOENT if missing else errno.EACCES
        kind = Exit.NOT_FOUND if missing else Exit.NOT_RUNNABLE
        raise Failure(kind, f"run {argv[0]}", OSError(code, os.strerror(code)))


class Process:
    """A program that runs, in a process group of its own or in ours. Raises Failure NOT_FOUND or NOT_RUNNABLE.

    The rest is for Popen. One whose end nobody waits for has to be ended.
    """

    def __init__(self, argv: Sequence[str], environment: dict[str, str], *, own_group: bool, **popen: Any) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would hide the exit code from us
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
        """Wait for the program's own end, and end what it left; return its exit code, 128+n after signal n."""
        await self._exited()
        return await self._reap()

    async def end(self, patience: float, observe: Observer, hurry: Event | None = None) -> None:
        """Unless it has ended, end it by SIGTERM, and after so many seconds, or once there is ``hurry``, by SIGKILL.

        One that stays all the same is told, and left. Cancelled, it is SIGKILL at once.
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
        """Have it reaped whenever it ends."""
        with suppress(RuntimeError):  # no room for a thread
            _thread.start_new_thread(self.popen.wait, ())

    async def _exited(self) -> None:
        """Wait until it has ended, and leave it to be reaped: until then its number is nobody else's."""
        if self.popen.returncode is not None:
            return
        try:
            fd = os.pidfd_open(self.popen.pid)
        except (AttributeError, OSError):  # no Linux, an old one, or no descriptor left
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
        """Signal the program and its group; return what speaks against it."""
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
        """Signal all in its group; return the error if there is nobody, or nobody whom we may signal."""
        try:
            os.killpg(self.popen.pid, number)
        except OSError as error:
            return error
        return None
