"""Running as process 1 of a container, which must reap orphans and has no default action for signals."""

import os
import signal
from typing import NoReturn


def supervise() -> None:
    """Fork, and return in the child. Process 1 reaps, forwards signals, and exits with the status of the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child:
        _be_init(child)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_init(child: int) -> NoReturn:
    while True:
        caught = signal.sigwaitinfo(signal.valid_signals())
        if caught.si_signo == signal.SIGCHLD:
            _reap(child)
        elif caught.si_code <= 0:  # by kill(2); a signal from the terminal, such as ^C, reaches the child anyway
            os.kill(child, caught.si_signo)


def _reap(child: int) -> None:
    """Reap all processes that have ended. Exit once the child has: with its code, or 128+n after signal n."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
