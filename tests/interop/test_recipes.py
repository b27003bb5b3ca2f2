"""Runs the recipes of docs/recipes.md in a network with the services ``db``, ``cache`` and ``app``."""

import configparser
import shlex
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import PATIENCE
from tests.support.certificates import Pki
from tests.support.examples import files
from tests.support.processes import tool
from tests.support.services import services

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"
TEXTS = files(RECIPES.name)
Inside = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a folder with each recipe in a file named by its title."""
    folder = tmp_path_factory.mktemp("recipes")
    for title, text in TEXTS.items():
        path = folder / title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def inside(folder: Path, tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Inside]:
    """Provide a function that runs a command in the network of the services."""
    with services(tmp_path_factory.mktemp("machines"), pki) as machines, machines.serving("postgres", "redis", "web"):

        def run(*argv: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*machines.inside(folder), *argv], capture_output=True, text=True, timeout=PATIENCE)

        yield run


def ran(inside: Inside, line: str | Sequence[str], *words: str) -> str:
    """Run a line of shell or a list of words, check that it succeeds and prints ``words``, and return its output."""
    done = inside("sh", "-ec", line) if isinstance(line, str) else inside(*line)
    assert done.returncode == 0, done.stderr
    for word in words:
        assert word in done.stdout
    return done.stdout


def test_each_recipe_is_tested_here() -> None:
    """Each recipe has a title, and a test below."""
    tests = Path(__file__).read_text().partition("\n# --")[2]
    assert [title for title in TEXTS if f'"{title}"' not in tests] == []
    assert len(TEXTS) == RECIPES.read_text().count("\n```") // 2


# -- the recipes


def parsed(title: str) -> Any:
    """Return the content of a recipe in YAML."""
    return yaml.safe_load(TEXTS[title])


def test_compose(inside: Inside) -> None:
    """The entry point waits and then runs the command, and the health check succeeds."""
    app = parsed("compose.yaml")["services"]["app"]
    ran(inside, [*app["entrypoint"], *app["command"]], "the application starts\n")
    assert app["healthcheck"]["test"][0] == "CMD"
    ran(inside, app["healthcheck"]["test"][1:])


def test_kubernetes(inside: Inside) -> None:
    """The init container ends once all services are ready, and the readiness probe succeeds."""
    spec = parsed("pod.yaml")["spec"]
    ran(inside, spec["initContainers"][0]["command"], "ready")
    ran(inside, spec["containers"][0]["readinessProbe"]["exec"]["command"])


def test_github(inside: Inside) -> None:
    """The step succeeds without an annotation."""
    steps = parsed(".github/workflows/test.yml")["jobs"]["test"]["steps"]
    assert "::error" not in ran(inside, steps[1]["run"], "ready")


def test_gitlab(inside: Inside, folder: Path) -> None:
    """The report is in the file that the job's artifacts name."""
    job = parsed(".gitlab-ci.yml")["test"]
    ran(inside, job["before_script"][0])
    suite = xml.etree.ElementTree.parse(folder / job["artifacts"]["reports"]["junit"]).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")


def test_systemd(inside: Inside) -> None:
    """The command of ExecStartPre succeeds."""
    unit = configparser.ConfigParser()
    unit.read_string(TEXTS["app.service"])
    ran(inside, shlex.split(unit["Service"]["ExecStartPre"]), "ready")


def test_make(inside: Inside) -> None:
    """The target runs once its services are ready."""
    ran(inside, [tool("make"), "-f", "Makefile", "test"], "\nthe tests run\n")


def test_tox(inside: Inside) -> None:
    """The command before the tests succeeds."""
    config = configparser.ConfigParser()
    config.read_string(TEXTS["tox.ini"])
    ran(inside, shlex.split(config["testenv"]["commands_pre"]), "ready")


def test_pytest(inside: Inside) -> None:
    """The test with both fixtures passes."""
    ran(inside, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py"], "1 passed")


def test_shell(inside: Inside) -> None:
    """The script continues once both services are ready."""
    ran(inside, ["sh", "deploy.sh"], "deployed\n")
