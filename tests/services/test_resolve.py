"""The names that ``resolve`` tries for one with a search list, and the order of its answers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from netkit.core.address import Endpoint
from netkit.services import resolve
from tests.clock import PatientClock, run
from tests.support.peers import udp


@pytest.mark.parametrize(
    ("name", "configured", "tried"),
    [
        ("a", "search x.test y.test", ["a.x.test", "a.y.test", "a"]),
        ("a", "search x.test\ndomain y.test.", ["a.y.test", "a"]),
        ("a", "search .", ["a"]),
        ("a", "", ["a"]),
        ("a.b", "search x.test", ["a.b", "a.b.x.test"]),
        ("a.b", "search x.test\noptions timeout:1 ndots:2", ["a.b.x.test", "a.b"]),
        ("a.", "search x.test", ["a."]),
        ("192.0.2.1", "search x.test\noptions ndots:9", ["192.0.2.1"]),
    ],
)
def test_search_list(
    name: str, configured: str, tried: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last search list counts, first for names with fewer dots than ndots; not for those that end with a dot."""
    (tmp_path / "resolv.conf").write_text(f"nameserver 192.0.2.53\n{configured}\n")
    monkeypatch.setattr(resolve, "_CONFIGURATION", str(tmp_path / "resolv.conf"))
    assert resolve._candidates(name) == tried
    assert resolve._configured() == ["192.0.2.53"]


@pytest.mark.loopback
def test_names_behind_a_slow_one_are_not_all_read() -> None:
    """Answers come in the order of the names, and a slow name limits how many names are read ahead."""
    read = 0
    told: list[str] = []

    async def names() -> AsyncIterator[str]:
        nonlocal read
        for name in ("slow.test", *["a..b"] * 3000):
            read += 1
            yield name

    def note(outcome: resolve.Outcome) -> None:
        told.append(outcome.name)
        if outcome.name == "slow.test":
            assert 1 < read < 2000

    with udp() as silent:
        how = resolve.Query(kinds=("A",), server=Endpoint(*silent.getsockname()))
        run(resolve.answers(names(), how, note), PatientClock())
    assert told == ["slow.test", *["a..b"] * 3000]
