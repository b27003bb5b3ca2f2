"""Targets of portcheck: lists, ranges, networks and stdin."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.support import died_by, free_port, netkit, peer, read_all, running
from tests.support.processes import settle

# -- several ports


def test_a_range_is_looked_at() -> None:
    """One open port of a range is enough (0), with counts on stderr; single ports have to be open as well."""
    with peer(read_all) as server:
        looked = netkit("portcheck", f"127.0.0.1:1-30,{server.port}")
        told = netkit("portcheck", f"127.0.0.1:1,2,{server.port}", "--json")
        beside = netkit("portcheck", f"127.0.0.1:1,{server.port}", "127.0.0.1:2")
        alone = netkit("portcheck", f"127.0.0.1:{server.port}", "127.0.0.1:2")
        every = netkit("portcheck", f"127.0.0.1:1,2,{server.port}", "--all-open")
    assert (looked.code, looked.out.count(b"\n")) == (0, 1)
    assert re.fullmatch(r"netkit portcheck: 1 of 31 open in [\d.]+ m?s \(30 closed\)\n", looked.err)
    [checked] = map(json.loads, told.err.splitlines())
    assert (told.code, checked["event"], checked["ports"], checked["states"]) == (
        0,
        "checked",
        3,
        {"closed": 2, "open": 1},
    )
    assert (checked["targets"], checked["targets_ready"]) == (1, 1)
    assert beside.code == alone.code == every.code == 7
    assert beside.err.endswith(" (2 closed); not as wanted: 127.0.0.1:2 (connection refused)\n")
    assert alone.err.endswith(" (1 closed); not as wanted: 127.0.0.1:2 (connection refused)\n")
    assert "127.0.0.1:1 (connection refused), 127.0.0.1:2 (connection refused)" in every.err
    assert {result.err.count("\n") for result in (beside, alone, every)} == {1}


# -- networks


@pytest.mark.ipv6
def test_networks() -> None:
    """All addresses of a network are checked, and one that is open is enough."""
    port = free_port()  # no port that the system may have given to a server at another address of the network
    with peer(read_all, "127.0.0.77", port) as server, peer(read_all, "::1") as six:
        found = netkit("portcheck", f"127.0.0.0/24:{server.port}")
        both = netkit("portcheck", f"[::1/128]:{six.port}", f"127.0.0.77/32:{server.port}", "--json")
        every = netkit("portcheck", f"127.0.0.76/31:{server.port}", "--all-open")
    assert found.code == 0
    assert [line.split(b"\t")[:4] for line in found.out.splitlines()] == [
        [b"127.0.0.77", b"%d/tcp" % server.port, b"127.0.0.77", b"open"]
    ]
    assert re.fullmatch(r"netkit portcheck: 1 of 256 open in [\d.]+ m?s \(255 closed\)\n", found.err)
    assert [json.loads(line)["host"] for line in both.out.splitlines()] == ["::1", "127.0.0.77"]
    assert (both.code, every.code) == (0, 7)
    assert f"not as wanted: 127.0.0.76:{server.port} (connection refused)" in every.err


def test_a_network_is_waited_for() -> None:
    """--wait repeats the check of a network until one address is open."""
    port = free_port()
    with running("portcheck", f"127.0.0.0/28:{port}", "--wait", "1m", "--interval", "10ms") as check:
        check.line(rf"127\.0\.0\.0/28:{port} is closed: connection refused")
        with socket.create_server(("127.0.0.9", port)):
            done = check.finish()
    assert done.code == 0
    assert sorted(line.split(b"\t")[3] for line in done.out.splitlines()) == [b"closed"] * 15 + [b"open"]


def test_what_is_kept_has_a_limit() -> None:
    """Options that keep all results limit the number of ports (2)."""
    for words, name in ((("--wait", "1s"), "--wait"), (("--format", "junit"), "--format junit")):
        done = netkit("portcheck", "192.0.2.0/24:1-1024", "192.0.2.0:1", *words)
        assert done == (2, b"", f"netkit portcheck: {name} is for at most 262144 ports, not 262145\n")


# -- standard input


def test_targets_of_stdin() -> None:
    """Lines of stdin may have several targets and comments; duplicates are checked once."""
    with peer(read_all) as one, peer(read_all) as other:
        text = f"# ours\n127.0.0.1 {one.port}  {other.address} # two\n\n  tls:127.0.0.1:1\n{one.address}"
        found = netkit("portcheck", "127.0.0.1:2", "-", one.address, "--json", input=text.encode())
    told = [json.loads(line) for line in found.out.splitlines()]
    assert sorted((each["port"], each["state"]) for each in told) == sorted(
        [(1, "closed"), (2, "closed"), (one.port, "open"), (other.port, "open")]
    )
    assert found.code == 7


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        (b"# none\n", "", "a target is missing: there is none on stdin"),
        (b"\n%s\ndb:0\n", "", "line 3 of stdin: port 0 is not between 1 and 65535"),
        (b"%s\n\xff\xfe:1\n", "", "line 2 of stdin: host "),
        (b"%s db", "", "line 1 of stdin: target 'db' has no port"),
        (b"%s\n-\n", "", "line 2 of stdin: '-' is no target within standard input"),
        (b"%s\ntls:db:1", "--closed", "--tls does not apply: a closed port says nothing"),
        (b"%s\ndb:1", "-n", "host 'db' is a name, and --numeric"),
        (b"%s\n10.0.0.0/8:1", "", "line 2 of stdin: network 10.0.0.0/8 has"),
    ],
)
def test_a_bad_line_is_2_and_nobody_is_asked(text: bytes, args: str, message: str) -> None:
    """A bad line is exit code 2 with one message, and nothing is checked."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = "127.0.0.1:{1}".format(*server.getsockname()).encode()
        done = netkit("portcheck", "-", *args.split(), input=text.replace(b"%s", address))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert done.err.startswith(f"netkit portcheck: {message}"), done.err


def test_stdin_that_does_not_end() -> None:
    """Nothing is checked before the end of stdin; --timeout and signals end the wait."""
    with running("portcheck", "-") as check:
        check.stdin.write(b"127.0.0.1:1\n")
        check.stdin.flush()
        settle(check)
        check.signal(signal.SIGTERM)
        assert died_by(check.wait()) is signal.SIGTERM
        assert check.finish().out == b""
    with running("portcheck", "-", "--timeout", "50ms") as check:
        assert check.wait() == 28
        assert "--timeout" in check.finish().err


@pytest.mark.parametrize("before", [b"", b"127.0.0.1:1\n" * 20_000])
def test_stdin_that_cannot_be_read(before: bytes, tmp_path: Path) -> None:
    """A line of stdin that is too long is exit code 26, also if it comes whole in one large read after others."""
    with open(tmp_path / "long", "wb+") as file:
        file.write(before + b"#" * 100_000 + b"\n")
        file.seek(0)
        done = netkit("portcheck", "-", stdin=file)
    assert (done.code, done.out) == (26, b"")
    assert done.err == "netkit portcheck: cannot read a target from stdin: a line is longer than 65536 bytes\n"
