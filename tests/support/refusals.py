"""Usage errors and failures: netkit is run in this process, and must refuse in one line."""

from pathlib import Path

import pytest

import netkit.commands
from netkit.cli.app import run

COMMANDS = {file.stem.replace("_", "-") for file in Path(netkit.commands.__path__[0]).glob("[!_]*.py")}


def the_line(err: str) -> str:
    """Return the one line of a message, after checking its form: printable ASCII, not too long."""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert len(err) <= 400
    line = err[:-1]
    assert line.isascii()
    assert line.isprintable()
    assert line.startswith("netkit")
    return line


def mistake(capfd: pytest.CaptureFixture[str], args: list[str], code: int = 2) -> str:
    """Run netkit in this process, and return the line of its usage error, or of a failure with another code."""
    assert run(list(args)) == code
    out, err = capfd.readouterr()
    assert out == ""
    line = the_line(err)
    name = f"netkit {args[0]}" if args[0] in COMMANDS else "netkit"
    assert line.startswith(f"{name}: ")
    return line


def refused(capfd: pytest.CaptureFixture[str], *args: str, code: int = 2) -> str:
    """The same without the prefix of the line."""
    return mistake(capfd, list(args), code).removeprefix(f"netkit {args[0]}: ")
