"""The formats of ``portcheck``: what their readers count, and what a peer's data cannot forge."""

import subprocess
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from netkit.core.errors import Exit
from netkit.output.console import Verbosity, View
from netkit.output.portcheck.report import make_writer
from netkit.services.portcheck.check import CLOSED, OPEN, Check, ProbeResult, Result, Summary
from netkit.services.portcheck.targets import take_targets
from tests.support import PATIENCE
from tests.support.data import HOSTILE
from tests.support.processes import tool

READY = ProbeResult(OPEN, "", Exit.OK, "192.0.2.7", 0.0012)
HOSTILE_BANNER = READY._replace(data=HOSTILE)
WRONG = HOSTILE_BANNER._replace(reason="closed by the peer before a match", exit=Exit.PROTOCOL)
REFUSED = ProbeResult(CLOSED, "connection refused", Exit.CONNECT, "192.0.2.7", 0.0001)


class Scene(NamedTuple):
    """Targets, and the result of each of their ports; how many are cases of a report, fail, and are left out."""

    targets: str
    probes: tuple[ProbeResult, ...]
    cases: int
    failures: int
    skipped: int = 0
    any_port: bool = False
    all_ports: bool = False

    def report(self, form: str) -> str:
        """The whole text in a format."""
        targets = take_targets(self.targets.split(" "))
        summary = Summary(Check(), targets, any_port=self.any_port, all_ports=self.all_ports)
        writer = make_writer(form, summary, View(), Verbosity(), each_port=False, chains=False)
        text = writer.begin()
        ports = [(number, target, port) for number, target in enumerate(targets) for port in target.ports]
        for (number, target, port), probe in zip(ports, self.probes, strict=True):
            result = Result(target.place, port or None, target.protocol, probe, target.tls, target.word, number)
            summary.note(result)
            text += writer.write(result)
        return text + "".join(writer.end(summary.failure(1.0)))


SCENES = {
    "banner": Scene("db:1", (HOSTILE_BANNER,), 1, 0),
    "all": Scene("db:1-3", (WRONG, REFUSED, REFUSED), 3, 3, all_ports=True),
    "any": Scene("db:1,2", (REFUSED, READY), 2, 0, 1, any_port=True),
    "none": Scene("db:1,2", (REFUSED, REFUSED), 3, 1, 2, any_port=True),
    "names": Scene("unix:/run/a\n\x1b[31m\udcff grpc://db/a\n::error::forged", (REFUSED, REFUSED), 2, 2),
    "directive": Scene(r"unix:/run/#todo\#todo", (REFUSED,), 1, 1),
    "secured": Scene("::1 443 tls:[::1]:443", (READY, REFUSED), 2, 1),
    "groups": Scene("db:1,2 db:3,4 db:5", (REFUSED, READY, REFUSED, REFUSED, READY), 6, 1, 3),
}


@pytest.mark.parametrize(
    ("named", "first", "more"), [(True, "db0:1 (connection refused)", 15), (False, "db13:1 (closed by the peer", 2)]
)
def test_what_a_failure_names(named: bool, first: str, more: int) -> None:
    """It names ten ports and the number of the others; below a table, of those alone that are open and fail."""
    summary = Summary(Check(), take_targets([f"db{number}:1" for number in range(25)]))
    for number in range(25):
        summary.note(Result(f"db{number}", 1, "tcp", REFUSED if number < 13 else WRONG, number=number))
    failure = summary.failure(1.0, named=named)
    names = str(failure).partition("; not as wanted: ")[2].split("), ")
    assert (len(names), names[0].startswith(first.rstrip(")")), names[-1]) == (11, True, f"and {more} more")


@pytest.mark.fault("forged lines of a log")
@pytest.mark.parametrize("form", ["text", "json", "tap", "junit", "github"])
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_reports_are_printable(scene: Scene, form: str) -> None:
    """Control characters of peers and in names are escaped, and such text is never at the beginning of a line."""
    text = scene.report(form)
    assert text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()
    assert not [line for line in text.splitlines() if line.startswith(("\x1b", "::error::forged", "ok 9"))]
    assert form != "text" or [line.count("\t") for line in text.splitlines()] == [5] * len(scene.probes)


@pytest.mark.parametrize(
    ("name", "tests"),
    [("banner", 1), ("all", 3), ("any", 1), ("none", 1), ("names", 2), ("directive", 1), ("secured", 2), ("groups", 3)],
)
def test_tap(name: str, tests: int, tmp_path: Path) -> None:
    """prove counts the tests and failures correctly: one test for each port, or for a target of several."""
    scene, report = SCENES[name], SCENES[name].report("tap")
    (tmp_path / "report").write_text(report)
    argv = [tool("prove"), "-e", "cat", str(tmp_path / "report")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, f"Files=1, Tests={tests}," in done.stdout) == (bool(scene.failures), True)
    assert "Parse errors" not in done.stdout
    if name == "groups":
        assert report.endswith("ok 2 - db:1,2: a port is as wanted\nnot ok 3 - db:3,4: a port is as wanted\n")


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_junit(scene: Scene) -> None:
    """The report is XML in which the counts are right, and each case has what readers of JUnit expect."""
    suite = ElementTree.fromstring(scene.report("junit").encode())
    cases, failures = suite.findall("testcase"), suite.findall("testcase/failure")
    found = len(cases), len(failures), len(suite.findall("testcase/skipped"))
    assert found == (scene.cases, scene.failures, scene.skipped)
    counts = {"tests": scene.cases, "failures": scene.failures, "errors": 0, "skipped": scene.skipped}
    assert suite.attrib == {"name": "netkit portcheck", **{name: str(count) for name, count in counts.items()}}
    assert len({case.attrib["name"] for case in cases}) == len(cases)
    for case in cases:
        assert case.attrib.keys() == {"classname", "name", "time"} and float(case.attrib["time"]) >= 0
    assert all(failure.attrib.keys() == {"type", "message"} for failure in failures)


def test_github() -> None:
    """Each failed port, or target, is one annotation, and a peer can forge no old-style command."""
    lines = SCENES["all"].report("github").splitlines()
    assert lines[1:] == [f"::error title=db%3A{port}/tcp closed::connection refused" for port in (2, 3)]
    assert lines[0].startswith("::error title=db%3A1/tcp open::closed by the peer before a match: ")
    assert "##[" not in lines[0] and "%250A" in lines[0]
    assert (
        SCENES["secured"]
        .report("github")
        .endswith("::error title=tls%3A[%3A%3A1]%3A443/tcp closed::connection refused\n")
    )
    *ports, last = SCENES["groups"].report("github").splitlines()
    assert last == "::error title=db%3A3%2C4::no port is as wanted"
    assert [line.partition("\t")[0] for line in ports] == ["db"] * 5 and "##[" not in "".join(ports)
