"""A netkit from the fork server behaves like a real one, and the server ends with its user."""

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
# Lines of /proc/PID/status that only depend on how a process was started.
SAME = r"^(?:Name|Umask|PPid|Uid|Groups|Threads|Sig[PBIC]\w+|ShdPnd|Cap\w+|NoNewPrivs|Seccomp|Cpus_allowed):.*$"


def status(pid: int) -> list[str]:
    """Return the lines of a process's status that match SAME."""
    return re.findall(SAME, Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)


def is_forked(pid: int) -> bool:
    """Whether the fork server has started a process."""
    return b"forkserver.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


@LINUX
def test_the_system_sees_no_difference(tmp_path: Path) -> None:
    """Signals, umask, parent, limits, session, working directory and descriptors are as in a real process."""
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
    """A program that netkit starts has the same environment, umask, signals and descriptors as with a real netkit."""
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
    """A passed descriptor has the same number, and is the same open file."""
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
    """Each command starts in an interpreter of its own, and prints the same there as when forked."""
    for args in ([name, "--help"], [name, "--no-such-option"]):
        assert netkit(*args, real=True) == netkit(*args)


def test_ends_are_seen() -> None:
    """Exit codes, signals and a wait after a timeout are as with Popen."""
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
    """If the fork server cannot do what Popen was told, a real process is started."""
    with running("listen", "127.0.0.1:0", **how) as server:  # type: ignore[arg-type]
        assert server.port
        assert not is_forked(server.pid)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """An error at the start is raised in the caller, as with Popen."""
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
    """The fork server ends with its user, however that ends: stderr, which they share, is closed."""
    with running(argv=[sys.executable, "-c", USER], cwd=ROOT) as user:
        assert user.out.readline() == b"0\n"
        if number is not None:
            user.signal(number)
        done = user.finish()
    assert (died_by(done.code), done.err) == (number, "")
