"""Completion in bash, zsh and fish: the scripts are current, and work in real shells."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from netkit.cli import completion
from tests.support import PATIENCE, netkit
from tests.support.processes import tool
from tests.support.refusals import refused
from tests.support.shells import shell

KNOWN_HOSTS = """\
|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-ed25519 AAAA
box.example,192.0.2.7 ssh-ed25519 AAAA
[den.example]:2222 ssh-ed25519 AAAA
# a comment
@cert-authority *.example ssh-ed25519 AAAA
"""

LINES = [
    ("conn", "connect "),
    ("-v --json conn", "-v --json connect "),
    ("help exit", "help exit-codes "),
    ("help udp-sen", "help udp-send "),
    ("completion z", "completion zsh "),
    ("connect --starttls post", "connect --starttls postgres "),
    ("connect --cafile auth", "connect --cafile authorities.pem "),
    ("connect --wait 3s box", "connect --wait 3s box.example:"),
    ("connect den.example:postg", "connect den.example:postgresql "),
    ("connect box.example postg", "connect box.example postgresql "),
    ("connect tls:box", "connect tls:box.example:"),
    ("connect unix:the", "connect unix:the-socket "),
    ("connect localhost:80 --recv", "connect localhost:80 --recv-only "),
    ("relay 8080 box.example:postg", "relay 8080 box.example:postgresql "),
    ("resolve den", "resolve den.example "),
    ("services postg", "services postgresql "),
    ("echo 0 -- mktem", "echo 0 -- mktemp "),
    ("echo 0 -- cat auth", "echo 0 -- cat authorities.pem "),
]


def test_the_scripts_are_current() -> None:
    """Each committed script is what ``python -m netkit.cli.man`` writes."""
    stale = [
        shell for shell in completion.SHELLS if Path(completion.path(shell)).read_text() != completion.script(shell)
    ]
    assert stale == [], "run python -m netkit.cli.man"


@pytest.mark.parametrize("name", completion.SHELLS)
def test_completion_prints_the_script(name: str) -> None:
    """``netkit completion SHELL`` prints the script."""
    assert netkit("completion", name) == (0, Path(completion.path(name)).read_bytes(), "")


@pytest.mark.parametrize("words", [(), ("csh",), ("bash", "zsh")], ids=str)
def test_completion_for_no_shell_that_we_know(words: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    """The message about an unknown shell names the known ones."""
    assert refused(capfd, "completion", *words) == "SHELL is one of bash, zsh, fish"


@pytest.mark.parametrize("name", completion.SHELLS)
def test_a_shell_completes(name: str, tmp_path: Path) -> None:
    """A shell completes commands, options, values, files, known hosts, ports after HOST:, topics, and COMMAND."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(KNOWN_HOSTS)
    (tmp_path / "authorities.pem").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "the-socket"))
    with shell(name, completion.path(name), tmp_path, {"XDG_CONFIG_HOME": str(tmp_path)}) as typed:
        for before, after in LINES:
            if "postgresql" in after and not Path("/etc/services").exists():
                continue  # which has the names of ports
            typed.completed(f"netkit {before}", f"netkit {after}")


def test_names_of_hosts_are_not_run(tmp_path: Path) -> None:
    """bash only completes valid host names of known_hosts, and does not run others, as compgen -W would."""
    (tmp_path / ".ssh").mkdir()
    names = ("$(touch${IFS}one)", "`touch${IFS}two`", "a;touch${IFS}three", "-x", "\x1b[2J", "$HOME", "db.example")
    (tmp_path / ".ssh" / "known_hosts").write_text(
        "".join(f"{name} ssh-rsa x\n{name},b.example y z\n" for name in names)
    )
    script = """
        source "$1"
        COMP_LINE="netkit connect " COMP_POINT=15
        _netkit netkit
        printf "%s\n" "${COMPREPLY[@]}"
    """
    argv = [tool("bash"), "--norc", "-c", script, "bash", completion.path("bash")]
    done = subprocess.run(argv, cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, timeout=PATIENCE)
    assert done.stderr == b""
    found = set(done.stdout.decode().split("\n"))
    assert {"db.example:", "b.example:"} < found and not any(char in "$`;\x1b/" for name in found for char in name)
    assert not any(name.startswith("-") for name in found)
    assert os.listdir(tmp_path) == [".ssh"]
