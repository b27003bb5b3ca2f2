"""Long texts on a terminal, shown by the user's pager."""

import os

from netkit.cli.run import answer
from netkit.core.errors import Exit
from netkit.output import console

_NOT_RUN = (126, 127)  # a shell's exit codes for a program that it cannot run, or find


def show(text: str) -> int:
    """Write a text to stdout, on a terminal through a pager. Return the exit code, which is not the pager's."""
    pager = _pager() if console.draws(console.STDOUT) else ""
    if pager and _shown(text, pager):
        return Exit.OK
    return answer(text)


def _pager() -> str:
    """The pager as a command line for sh; empty if there is none, or none is wanted."""
    for name in ("NETKIT_PAGER", "MANPAGER", "PAGER"):
        if name in os.environ:
            command = os.environ[name].strip()
            return "" if command == "cat" else command
    from shutil import which

    return which("less") or ""


def _shown(text: str, pager: str) -> bool:
    """Run the pager until it ends; return whether it could be run."""
    import signal
    import subprocess

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would hide the exit code from us
    environment = {"LESS": "FRX", **os.environ}
    try:
        process = subprocess.Popen(["/bin/sh", "-c", pager], stdin=subprocess.PIPE, env=environment)
    except OSError:  # there is no shell, or no descriptor or process is free
        return False
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pager's
    try:
        process.communicate(text.encode() + b"\n")
    finally:
        signal.signal(signal.SIGINT, before)
    return process.returncode not in _NOT_RUN
