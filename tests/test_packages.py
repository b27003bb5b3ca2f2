"""The packages that documents name are those that netkit and its tests demand."""

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
    """The line for apt has them all and no more, and .ci/run tries netkit with them."""
    [line] = re.findall(r"^    apt-get install --no-install-recommends (.*)", _read("docs/packaging.md"), re.MULTILINE)
    assert {*line.split()} == DEBIAN
    assert {*_read(".ci/run").split()} >= DEBIAN


def test_the_file_has_each_dependency() -> None:
    """Those of netkit, in one version each; theirs are found by .ci/packages."""
    assert {*re.findall(r"^([\w-]+)==", _read(".ci/zipapp.txt"), re.MULTILINE)} >= DEPENDENCIES


def test_partners_have_one_list() -> None:
    """What people are told to type brings what .ci/run installs."""
    for document in ("README.md", "docs/CONTRIBUTING.md", ".ci/run"):
        assert PARTNERS in _read(document), document
    packages = _read(".ci/partners.txt").split()
    assert len(packages) == len({*packages})
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", package) for package in packages)  # xargs takes each word


def _read(path: str) -> str:
    return (ROOT / path).read_text()
