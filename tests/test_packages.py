"""The packages in documents are those that netkit and its tests need."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEPENDENCIES = {
    re.match(r"[\w-]+", each)[0]
    for each in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
}
DEBIAN = {f"python3-{name}" for name in DEPENDENCIES}
PARTNERS = "xargs -a .ci/partners.txt apt-get install"


def test_debian_has_each_dependency() -> None:
    """The line for apt in packaging.md has exactly the dependencies, and .ci/run tests netkit with them."""
    [line] = re.findall(r"^    apt-get install --no-install-recommends (.*)", _read("docs/packaging.md"), re.MULTILINE)
    assert {*line.split()} == DEBIAN
    assert {*_read(".ci/run").split()} >= DEBIAN


def test_the_file_has_each_dependency() -> None:
    """.ci/zipapp.txt pins each dependency of netkit; .ci/packages tries the archive, with their own dependencies."""
    assert {*re.findall(r"^([\w-]+)==", _read(".ci/zipapp.txt"), re.MULTILINE)} >= DEPENDENCIES


def test_partners_have_one_list() -> None:
    """README.md, CONTRIBUTING.md and .ci/run install the same list of partners, which has no duplicates."""
    for document in ("README.md", "docs/CONTRIBUTING.md", ".ci/run"):
        assert PARTNERS in _read(document), document
    packages = _read(".ci/partners.txt").split()
    assert len(packages) == len({*packages})
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", package) for package in packages)  # xargs takes each word


def _read(path: str) -> str:
    return (ROOT / path).read_text()
