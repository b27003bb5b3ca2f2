"""``python -m tests.session FILE`` runs netkit in a terminal and writes the session as an SVG."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.support.certificates import Pki
from tests.support.services import services
from tests.support.terminals import read_until_hung_up, resize, terminal

_COLUMNS = 96
_TYPED = (
    "netkit portcheck postgres://db redis://cache http://app:8080/health db:5433",
    "echo PING | netkit connect cache 6379",
    "netkit fetch http://app:8080/health",
    "netkit connect db 5433",
    "netkit portcheck redis://cache --wait 30s -q -- echo the tests run",
)
_COLOURS = {"brown": "yellow", "default": None}  # names of pyte, and those of rich


def shown(data: bytes) -> Text:
    """Return what a terminal shows for these bytes, in colour."""
    screen = pyte.Screen(_COLUMNS, 40)
    pyte.ByteStream(screen).feed(data)
    text = Text()
    for number in range(screen.cursor.y + 1):
        row = screen.buffer[number]
        line = Text()
        for column in range(_COLUMNS):
            char = row[column]
            line.append(char.data, Style(color=_COLOURS.get(char.fg, char.fg), bold=char.bold))
        line.rstrip()
        text.append_text(line).append("\n")
    text.rstrip()
    return text


def typed(inside: list[str], line: str) -> Text:
    """Run a command line, and return it after a prompt, with its output."""
    with terminal() as (ours, theirs):
        resize(theirs, _COLUMNS)
        environment = {**os.environ, "TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        with subprocess.Popen([*inside, "sh", "-c", line], stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
            os.close(theirs)
            data = read_until_hung_up(ours)
    return Text.assemble(("$ ", "bold green"), (line, "bold"), "\n", shown(data), "\n")


def main(path: str) -> None:
    """Draw all lines that are typed, one after the other."""
    with tempfile.TemporaryDirectory() as name, open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        folder = Path(name)
        machines = stack.enter_context(services(folder, Pki(folder)))
        stack.enter_context(machines.serving("postgres", "redis", "web"))
        inside = machines.inside(folder)
        console = Console(width=_COLUMNS, record=True, file=nowhere, force_terminal=True, color_system="standard")
        for line in _TYPED:
            console.print(typed(inside, line))
        Path(path).write_text(console.export_svg(title="netkit", clear=False))


if __name__ == "__main__":
    main(sys.argv[1])
