"""Options before the command."""

import json
from pathlib import Path

import pytest

from tests.support import netkit


@pytest.mark.parametrize("options", [("-v",), ("-vv",), ("-q",), ("--json",), ("-v", "--json")], ids=" ".join)
def test_some_options_may_stand_in_front(options: tuple[str, ...], tmp_path: Path) -> None:
    """-v, -q and --json before the command work as after it."""
    words = ("--recv-only", f"unix:{tmp_path}/none")
    front, behind = netkit(*options, "connect", *words), netkit("connect", *options, *words)
    assert front.code == behind.code == 7
    if "--json" in options:
        [told, as_ever] = (json.loads(done.err)["error"] for done in (front, behind))
        assert told == as_ever and told["kind"] == "connect"
    else:
        assert front.err == behind.err
        assert bool(front.err) == (options != ("-q",))


def test_a_command_that_has_no_such_option_refuses_it() -> None:
    """An option before a command that does not have it is refused, with the command's name."""
    done = netkit("-v", "address", "192.0.2.1")
    assert (done.code, done.out, done.err) == (2, b"", "netkit address: no such option '-v'\n")
