"""Interactive shells on a terminal, and typing into them."""

import contextlib
import os
import select
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyte

from tests.support.processes import PATIENCE, tool
from tests.support.terminals import COLUMNS, ROWS, terminal

PROMPT = "> "
_ERASE, _TAB = b"\x15", b"\t"  # Ctrl-U erases the line
_START = {
    "bash": ("--norc", "--noprofile", "-i"),
    "zsh": ("-f", "-i"),
    "fish": ("--no-config", "-i"),
}
_SET_UP = {
    "bash": "PS1='{prompt}'; source {script}",
    "zsh": "autoload -U compinit; compinit -D -u; PROMPT='{prompt}'; source {script}",
    "fish": "function fish_prompt; printf '{prompt}'; end; set -g fish_autosuggestion_enabled 0; source {script}",
}


class Shell:
    """A shell on an emulated terminal."""

    def __init__(self, ours: int) -> None:
        self._ours = ours
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def line(self) -> str:
        """The line up to the cursor."""
        cursor = self._screen.cursor
        return str(self._screen.display[cursor.y][: cursor.x])

    def await_line(self, line: str) -> None:
        """Read until the line after the prompt is ``line``."""
        while self.line != PROMPT + line:
            if not select.select([self._ours], [], [], PATIENCE)[0]:
                shown = "\n".join(self._screen.display).rstrip()
                raise AssertionError(f"{line!r} did not come, but\n{shown}")
            self._stream.feed(os.read(self._ours, 65536))

    def run(self, line: str) -> None:
        """Type a line without output, and wait for the next prompt."""
        os.write(self._ours, line.encode() + b"; clear\r")
        self.await_line("")

    def completed(self, typed: str, line: str) -> None:
        """Type ``typed``, press Tab, wait until the line is ``line``, and erase it."""
        os.write(self._ours, typed.encode() + _TAB)
        self.await_line(line)
        os.write(self._ours, _ERASE)
        self.await_line("")


@contextlib.contextmanager
def shell(name: str, script: Path | str, home: Path, env: Mapping[str, str]) -> Iterator[Shell]:
    """Run a shell in the folder ``home`` that has read the ``script``; skip if it is not installed."""
    argv = [tool("setsid"), "--ctty", tool(name), *_START[name]]
    environment = {**os.environ, "TERM": "xterm", "HOME": str(home), "PS1": "", "LC_ALL": "C.UTF-8", **env}
    with terminal() as (ours, theirs):
        process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=home, env=environment)
        os.close(theirs)
        try:
            shown = Shell(ours)
            shown.run(_SET_UP[name].format(prompt=PROMPT, script=script))
            yield shown
        finally:
            process.kill()
            process.wait(PATIENCE)
