"""The cost of start-up, counted in imported modules, as times would vary."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from netkit import __main__ as main
from netkit import __version__
from tests.support import NETKIT, PATIENCE, Finished, netkit, peer, read_all
from tests.support.startup import HEAVY, loaded, of_click


@pytest.mark.parametrize("args", [["--help"], [], ["connect", "--help"], ["help", "connect"]])
def test_help_loads_nothing_heavy_and_no_socket(args: list[str]) -> None:
    """Help imports no slow modules, and no socket."""
    code, out, modules = loaded(*args)
    assert code == 0
    assert b"netkit connect" in out
    assert not modules & (HEAVY | {"socket", "selectors"})


ALWAYS = {"gc"}  # built into the interpreter
VALUES = {"_struct", "math", "select", "struct"}
SOCKETS = {"_socket", "array", "math", "select", "selectors", "socket"}  # before Python 3.13 click imports math
LOOP = SOCKETS | VALUES | {"_heapq", "fcntl", "heapq", "signal"}
SERVER = LOOP | {"resource"}  # to raise the limit of descriptors


@pytest.mark.parametrize(
    ("line", "allowed", "most"),
    [
        ("connect 127.0.0.1:1", LOOP, 51),
        ("listen 127.0.0.1:0 --for 1ms", SERVER, 54),
        ("echo 127.0.0.1:0 --for 1ms", SERVER, 54),
        ("relay 127.0.0.1:0 127.0.0.1:1 --for 1ms", SERVER, 54),
        ("udp-send 127.0.0.1:1 x", LOOP, 56),
        ("udp-serve 127.0.0.1:0 --for 1ms", SERVER, 60),
        ("portcheck 127.0.0.1:1", SERVER, 62),
        ("resolve 127.0.0.1", LOOP, 46),
        ("free-port", LOOP, 46),
        ("address 192.0.2.1", SOCKETS | {"ipaddress"}, 27),
        ("pack u8 1", VALUES, 30),
        ("unpack u8 01", VALUES, 30),
        ("services 80", {"select"}, 24),
        ("help", {"select", "textwrap"}, 24),
    ],
)
def test_a_command_loads_what_it_needs_beside_click_and_no_more(line: str, allowed: set[str], most: int) -> None:
    """A command only imports these modules of the standard library, and at most this number of netkit's."""
    _, _, modules = loaded(*line.split())
    added = modules - of_click()
    ours = {name for name in added if name.partition(".")[0] == "netkit"}
    assert added - ours <= allowed | ALWAYS
    assert len(ours) <= most, sorted(ours)


ENDING = """
import atexit, os, sys
from netkit.__main__ import script
atexit.register(os.write, 2, b"at exit")
sys.argv = ["netkit", "address", "192.0.2.1"]
print("printed before", flush=False)
script()
"""


@pytest.mark.parametrize(("environment", "said"), [({}, b""), ({"NETKIT_ATEXIT": "1"}, b"at exit")])
def test_a_program_ends_without_the_interpreters_own_end(environment: dict[str, str], said: bytes) -> None:
    """netkit skips the interpreter's shutdown, unless NETKIT_ATEXIT is set, and all output is flushed."""
    done = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, env={**os.environ, **environment}, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, said)
    assert b"printed before" in done.stdout
    assert b"192.0.2.1" in done.stdout


def test_overview_imports_no_command() -> None:
    """The overview takes the summaries from the first lines of the files, without importing the commands."""
    _, out, modules = loaded("--help")
    assert b"connect     join stdin" in out
    assert not [name for name in modules if name.startswith("netkit.commands.")]


def test_connect_loads_nothing_heavy() -> None:
    """A real conversation, including the look-up of the name, imports none of the slow modules."""
    with peer(read_all) as server:
        code, _, modules = loaded("connect", f"localhost:{server.port}", stdin=b"x")
        assert server.result() == b"x"
    assert code == 0
    assert "netkit.core.dial" in modules
    assert not modules & {*HEAVY, "netkit.cli.pages"}
    assert not [name for name in modules if name.startswith("netkit.protocols.")], "of proxies, for one"


def test_ports_and_names_load_their_libraries_only_when_used() -> None:
    """Without a terminal rich is not imported, dns only for queries of netkit's own, and idna not for ASCII names."""
    code, _, modules = loaded("portcheck", "localhost:1")
    assert code == 7
    assert not [name for name in modules if name.startswith("netkit.protocols.")]
    assert not modules & {"rich", "dns", "idna", "asyncio", "ssl", "logging", "subprocess"}
    code, _, modules = loaded("resolve", "localhost")
    assert code == 0
    assert not modules & {"rich", "dns", "idna", "asyncio", "ssl", "logging", "subprocess"}
    _, _, modules = loaded("resolve", "--type", "A", "--server", "127.0.0.1:1", "localhost")
    assert "dns.message" in modules
    assert not modules & {"asyncio", "ssl", "logging", "subprocess"}


def test_sockets_draws_on_terminals_alone() -> None:
    """To a pipe ``sockets`` prints columns, without importing what draws tables."""
    with socket.create_server(("127.0.0.1", 0)):
        code, out, modules = loaded("sockets", "--tcp")
    assert (code, out[:5]) == (0, b"PROTO")
    assert "netkit.core.sockdiag" in modules
    assert not modules & (HEAVY - {"json"})


def test_version_answers_before_click_is_imported() -> None:
    """--version prints the version of the package, and imports neither click nor socket."""
    code, out, modules = loaded("--version")
    assert (code, out) == (0, f"netkit {__version__}\n".encode())
    assert not modules & (HEAVY | {"click", "socket", "re"})


def test_module_in_the_current_folder_is_not_imported(tmp_path: Path) -> None:
    """netkit does not import socket.py, click.py and others from the working directory."""
    for name in ("socket", "click", "selectors", "errno_"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    assert netkit("--version", cwd=tmp_path, real=True) == Finished(0, f"netkit {__version__}\n".encode(), "")
    assert netkit("connect", "127.0.0.1:1", "-q", cwd=tmp_path, real=True).code == 7


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_descriptors_that_are_closed_at_start(closed: str) -> None:
    """If standard descriptors are closed at the start, no socket takes their place, and a failure keeps its code."""
    line = f'"$0" -m netkit connect 127.0.0.1:1 {closed}'
    assert subprocess.run(["sh", "-c", line, NETKIT[0]], stderr=subprocess.DEVNULL, timeout=20).returncode == 7


def test_it_runs_from_an_archive(tmp_path: Path) -> None:
    """netkit works from a zip archive, such as netkit.pyz, including its overview and suggestions."""
    package = Path(main.__file__).parent
    archive = shutil.make_archive(str(tmp_path / "netkit"), "zip", package.parent, package.name)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from netkit.__main__ import script; script()"
    for words in ((), ("address", "192.0.2.1"), ("conect",), ("completion", "bash")):
        argv = [sys.executable, "-c", code, archive, *words]
        done = subprocess.run(argv, capture_output=True, timeout=PATIENCE, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.decode()) == netkit(*words)
