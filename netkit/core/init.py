"""Being process 1, as in a container: it has to reap whatever its children leave, and no signal ends it by default."""

import os
import signal
from typing import NoReturn


def supervise() -> None:
    """Go on in a child process. The one that was, process 1, reaps, hands on signals, and ends as the child does."""
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
        elif caught.si_code <= 0:  # by kill(2); what the kernel sends to the terminal's processes, the child has too
            os.kill(child, caught.si_signo)


def _reap(child: int) -> None:
    """Reap all that have ended; with the child we end, 128+n after signal n."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
