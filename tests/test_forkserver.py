"""A forked netkit is as a real one to the system, to itself and to us; and the server goes when nobody needs it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import died_by, exchange, netkit, running

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "netkit" / "commands").glob("[!_]*.py"))
COMMANDS = [file.stem.replace("_", "-") for file in FILES]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="netkit is forked on Linux alone")
# What the system tells of a process that nothing but its start decides.
SAME = r"^(?:Name|Umask|PPid|Uid|Groups|Threads|Sig[PBIC]\w+|ShdPnd|Cap\w+|NoNewPrivs|Seccomp|Cpus_allowed):.*$"


def status(pid: int) -> list[str]:
    """Return the lines of SAME."""
    return re.findall(SAME, Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)


def is_forked(pid: int) -> bool:
    """Tell whether a process is one of the server's."""
    return b"forkserver.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


@LINUX
def test_the_system_sees_no_difference(tmp_path: Path) -> None:
    """Signals, umask, parent, limits, session, folder and descriptors are those of a real process."""
    told = []
    for real in (False, True):
        with running("echo", "127.0.0.1:0", cwd=tmp_path, umask=0o027, real=real) as server:
            assert server.port
            pid = server.pid
            assert is_forked(pid) == (not real)
            told.append(
                (
                    status(pid),
                    Path(f"/proc/{pid}/limits").read_text(),
                    (os.getsid(pid), os.getpgid(pid), os.readlink(f"/proc/{pid}/cwd")),
                    sorted(os.listdir(f"/proc/{pid}/fd")),
                )
            )
    assert told[0] == told[1]


@LINUX
def test_a_program_sees_no_difference(tmp_path: Path) -> None:
    """What netkit starts has the environment that was passed and nothing else, and signals and descriptors alike."""
    script = "env | grep -v ^NETKIT_ | sort; pwd; umask; ls /proc/self/fd; grep ^Sig[BIC] /proc/self/status"
    told = []
    for real in (False, True):
        environment = {**os.environ, "WORD": "a b", "EMPTY": ""}
        with running("listen", "0", "--sh-exec", script, env=environment, cwd=tmp_path, real=real) as server:
            port = server.port
            assert is_forked(server.pid) == (not real)
            told.append(exchange(port, b"").decode())
    assert told[0] == told[1]
    assert "\nWORD=a b\n" in told[0]


@LINUX
def test_descriptors_are_passed(tmp_path: Path) -> None:
    """One that is passed has its own number, and is the same open file."""
    with open(tmp_path / "file", "w") as file:
        os.dup2(file.fileno(), 200)
        try:
            with running("echo", "127.0.0.1:0", pass_fds=[200]) as server:
                assert server.port
                assert is_forked(server.pid)
                assert os.readlink(f"/proc/{server.pid}/fd/200") == file.name
        finally:
            os.close(200)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_starts_for_real(name: str) -> None:
    """Whatever the other tests fork, each command is also imported by an interpreter of its own, and says the same."""
    for args in ([name, "--help"], [name, "--no-such-option"]):
        assert netkit(*args, real=True) == netkit(*args)


def test_ends_are_seen() -> None:
    """Exit codes, signals and what comes after a time-out are as Popen tells them."""
    assert netkit("no-such-command").code == 2
    with running("listen", "127.0.0.1:0") as server:
        assert server.port
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(0)
        assert server.process.poll() is None
        server.signal(signal.SIGKILL)
        assert died_by(server.wait()) is signal.SIGKILL
        assert server.process.poll() == server.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "how",
    [
        {"env": {**os.environ, "PYTHONHASHSEED": "0"}},
        {"env": {**os.environ, "LD_BIND_NOW": "1"}},
        {"start_new_session": True},
        {"process_group": 0},
        {"close_fds": False},
        {"preexec_fn": lambda: None},
        {"wrapper": ["env"]},
    ],
    ids=lambda how: next(iter(how)),
)
@LINUX
def test_what_cannot_be_forked_is_real(how: dict[str, object]) -> None:
    """Whatever the server cannot do alike is done by a process that is started."""
    with running("listen", "127.0.0.1:0", **how) as server:  # type: ignore[arg-type]
        assert server.port
        assert not is_forked(server.pid)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """An error of the start is raised here."""
    with pytest.raises(FileNotFoundError):
        netkit("--version", cwd=tmp_path / "nowhere")


USER = """
import sys
from tests.support import netkit
print(netkit("--version").code, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_its_user(number: signal.Signals | None) -> None:
    """However pytest ends, nothing stays: its stderr, which is the server's too, comes to its end."""
    with running(argv=[sys.executable, "-c", USER], cwd=ROOT) as user:
        assert user.out.readline() == b"0\n"
        if number is not None:
            user.signal(number)
        done = user.finish()
    assert (died_by(done.code), done.err) == (number, "")
