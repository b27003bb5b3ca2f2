"""Runs each example of the documents, help and man pages, and checks that it does what scenes.py says."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit import __version__
from tests.interop.scenes import CTRL_C, FILES, SCENES, Scene
from tests.support import PATIENCE
from tests.support.certificates import Pki
from tests.support.examples import DOCUMENTS, examples, files
from tests.support.processes import Running, feed, running, tool
from tests.support.services import Services, services

ROOT = Path(__file__).parents[2]
EXAMPLES = list(dict.fromkeys(example for _, example in examples()))


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Services]:
    """Provide the machines in the examples."""
    with services(tmp_path_factory.mktemp("machines"), pki) as both:
        yield both


@pytest.fixture
def folder(tmp_path: Path, machines: Services) -> Path:
    """Provide a folder with the files in the examples."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "users").chmod(0o600)
    for name in ("cert.pem", "c.pem"):
        (tmp_path / name).symlink_to(machines.pair.cert)
    for name in ("key.pem", "k.pem"):
        (tmp_path / name).symlink_to(machines.pair.key)
    return tmp_path


def test_each_scene_is_of_an_example() -> None:
    """Each scene belongs to an example."""
    assert sorted(set(SCENES) - set(EXAMPLES)) == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example(example: str, machines: Services, folder: Path) -> None:
    """The example has the output, the exit code and the effect on services that its scene says."""
    assert example in SCENES, "tests/interop/scenes.py needs a row that says what this example needs and does"
    scene = SCENES[example]
    if scene.beyond:
        pytest.skip(f"needs {scene.beyond}")
    for program in ("curl", "dig", "less", "make", "socat", "ssh"):
        if f"{program} " in f"{example} {scene.client}":
            tool(program)
    names = [name for name in scene.needs.split(",") if name]
    with machines.serving(*names) as serving, typed(machines, folder, example, scene) as shell:
        if scene.stdin is not None:
            feed(shell, scene.stdin.encode())
        if scene.client:
            shell.line("listening on")
            client = subprocess.run(
                [*machines.inside(folder), "bash", "-c", scene.client],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert re.fullmatch(scene.got, client.stdout, re.DOTALL), client
        if scene.asked:
            serving[-1].line(scene.asked)
        out = read(shell, scene)
        if scene.code == CTRL_C:
            os.killpg(shell.pid, signal.SIGINT)
        done = shell.finish()
        assert done.code == scene.code, done
        assert re.fullmatch(scene.out, out + done.out.decode(), re.DOTALL), (out, done)
        if scene.err:
            assert re.search(scene.err, done.err), done
        else:
            assert done.complaints == []


def test_each_file_that_is_shown_is_tried() -> None:
    """Files in documents are tested: in two documents by other tests; the Dockerfile is not, it needs the Internet."""
    others = [path for path in DOCUMENTS if path.name not in ("ARCHITECTURE.md", "recipes.md")]
    assert [title for path in others for title in files(path.name)] == ["netkit", "Dockerfile"]
    assert [path for path in DOCUMENTS if re.search(r"^```\w+$", path.read_text(), re.MULTILINE)] == []


def test_the_script_for_a_machine_without_pip(tmp_path: Path) -> None:
    """The script in packaging.md runs netkit."""
    script = tmp_path / "netkit"
    script.write_text(files("packaging.md")["netkit"].replace("/path/to/the/clone", str(ROOT)))
    argv = [sys.executable, "-E", str(script), "--version"]
    assert subprocess.run(argv, capture_output=True, text=True).stdout == f"netkit {__version__}\n"


@contextlib.contextmanager
def typed(machines: Services, folder: Path, example: str, scene: Scene) -> Iterator[Running]:
    """Run an example in a shell."""
    code = {"bash": "code=$?", "fish": "set code $status"}[scene.shell]
    lines = ["trap : INT", scene.before, example, code, scene.after, "exit $code"]  # Ctrl-C only ends the example
    argv = [*machines.inside(folder), tool(scene.shell), "-c", "\n".join(lines)]
    with running(argv=argv, start_new_session=True) as shell:
        try:
            yield shell
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)


def read(shell: Running, scene: Scene) -> str:
    """Read the output until it is as expected, or to its end."""
    out = ""
    while not re.fullmatch(scene.out, out, re.DOTALL):
        data = os.read(shell.out.fileno(), 65536)
        if not data:
            break
        out += data.decode()
    return out
