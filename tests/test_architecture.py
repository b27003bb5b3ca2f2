"""The code in docs/ARCHITECTURE.md works: added to netkit file by file, it passes its tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.examples import files

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
SHOWN = files("ARCHITECTURE.md")
# The existing files that change: a part of each, and what replaces it.
ROWS = {
    "netkit/cli/layers.py": (
        "\nROWS = (\n",
        "\nROWS = (\n" + "".join(re.findall(r" +LayerRow\(.*\n", SHOWN["netkit/cli/layers.py"])),
    ),
    "netkit/commands/connect.py": ('@layer_options("send_proxy", ', '@layer_options("send_proxy", "shout", '),
    "netkit/protocols/probes/table.py": (
        "\nPROBES = {\n",
        "\nPROBES = {\n    " + re.findall(r'`("[a-z]+": Probe[^`]*)`', TEXT)[0] + ",\n",
    ),
    "tests/support/probes.py": (
        "\nREADY = {\n",
        '\nREADY = {\n    "ident": (b"1, 1 : ERROR : NO-USER\\r\\n", rb"1, 1\\r\\n"),\n',
    ),
    "tests/protocols/test_probes.py": ('("line", "json", "memcached")', '("line", "json", "memcached", "ident")'),
    "netkit/commands/portcheck.py": ("_REPORTS = (", '_REPORTS = ("csv", '),
    "netkit/output/portcheck/report.py": (
        "\n_FORMATS: dict[str, type[Writer]] = {",
        '\nfrom netkit.output.portcheck.csv import Csv\n\n_FORMATS: dict[str, type[Writer]] = {"csv": Csv, ',
    ),
}


@pytest.mark.process
def test_what_is_added_works(tmp_path: Path) -> None:
    """A copy of netkit with the code added passes the new tests, and those of all probes."""
    for name in ("netkit", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, text in SHOWN.items():
        if name not in ROWS:
            assert not (tmp_path / name).exists()
            (tmp_path / name).write_text(text)
    for name, (part, changed) in ROWS.items():
        text = (tmp_path / name).read_text()
        assert text.count(part) == 1
        (tmp_path / name).write_text(text.replace(part, changed))
    own = [name for name in SHOWN if name.startswith("tests/")]
    chosen = " or ".join(["ident", *(Path(name).stem for name in own)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-k", chosen, *own, "tests/protocols/test_probes.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONOPTIMIZE": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert len(own) == 3
