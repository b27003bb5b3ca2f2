"""address, services and free-port from the command line."""

import json
import socket
import subprocess
from pathlib import Path

import pytest

from netkit.core.port_names import parse, table
from netkit.core.port_table import TABLE
from tests.support import netkit
from tests.support.namespaces import separate
from tests.support.processes import tool
from tests.support.refusals import mistake, refused


def test_name_that_the_system_does_not_know_is_looked_for_in_our_own_table() -> None:
    """A name that is missing in /etc/services is found in netkit's own table."""
    assert netkit("services", "imap4").out.split(b"\t")[1] == b"143/tcp"


def test_address() -> None:
    """For one word there are names and values; for several each line begins with its word, as with --endpoint."""
    one = netkit("address", "127.0.0.1")
    two = netkit("address", "127.0.0.1", "db:80")
    assert netkit("address", "--endpoint", "db:80") == netkit("address", "db:80")
    assert one.out.startswith(b"address\t127.0.0.1\nkind\tloopback\noctets\t127 0 0 1\n")
    assert two.out.endswith(b"\ndb:80\tname\tdb\ndb:80\tkind\thost name\ndb:80\tport\t80\ndb:80\tservice\thttp\n")
    assert (one.code, one.err, two.code, two.err) == (0, "", 0, "")


@pytest.mark.parametrize("word", ["1.2.3.4", "db", "8080", "::1:80", "10.0.0.0/8:80", "unix:/db:5432", "db:"])
def test_what_is_no_host_and_port(capfd: pytest.CaptureFixture[str], word: str) -> None:
    """--endpoint only accepts a host and a port."""
    mistake(capfd, ["address", "--endpoint", "db:5432", word])


def test_address_json() -> None:
    """--json prints one object for each word."""
    result = netkit("address", "[::1]:80", "10.0.0.0/8", "--json")
    first, second = (json.loads(line) for line in result.out.splitlines())
    assert (first["target"], first["address"], first["port"]) == ("[::1]:80", "::1", 80)
    assert (second["event"], second["network"], second["size"]) == ("address", "10.0.0.0/8", "16777216")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a word is missing"),
        ([""], "the host is empty"),
        (["10.0.0.0/33"], "prefix length '33' is not between 0 and 32"),
        (["10.0.0.0/08"], "prefix length '08' is not between 0 and 32"),
        (["10.0.0.0/"], "prefix length '' is not between 0 and 32"),
        (["example.org/8"], "is neither an IP address nor a network"),
        (["127.1:80"], "is a legacy spelling: write 127.0.0.1"),
        (["127.0.0.1", "a..b"], "has an empty label"),
        (["\uff11.1.1.1"], "is no internationalized name"),
    ],
)
def test_address_mistakes(capfd: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    """A malformed word is exit code 2 with one line, and the others are not printed."""
    assert message in mistake(capfd, ["address", *words])


def test_services_are_those_of_the_system() -> None:
    """Names, aliases and ports are those of getent, for both protocols."""
    if not Path("/etc/services").exists():
        pytest.skip("this machine has no /etc/services")
    assert netkit("services", "domain").out == b"domain\t53/tcp\t\ndomain\t53/udp\t\n"
    for word in ("https/tcp", "www/tcp", "514/udp", "25/tcp"):
        wanted = subprocess.run([tool("getent"), "services", word], capture_output=True, text=True).stdout.split()
        assert netkit("services", word).out.decode().split() == wanted


def test_services_without_a_table() -> None:
    """Without /etc/services common names are still known."""
    wrapper = separate("ip link set lo up; mount --bind /dev/null /etc/services")
    found = netkit("services", "postgres", "53/udp", wrapper=wrapper)
    assert (found.code, found.out, found.err) == (0, b"postgresql\t5432/tcp\tpostgres\ndomain\t53/udp\tdns\n", "")
    checked = netkit("portcheck", "127.0.0.1:tcpmux", wrapper=wrapper)
    assert checked.out.startswith(b"127.0.0.1\t1/tcp\t127.0.0.1\tclosed\t")


def test_services_json() -> None:
    """--json prints one object for each port of a name."""
    [found] = map(json.loads, netkit("services", "ssh", "--json").out.splitlines())
    assert (found["name"], found["port"], found["protocol"], found["aliases"]) == ("ssh", 22, "tcp", [])


def test_what_no_service_has_is_3() -> None:
    """Words that are not found are named on one line, and the exit code is 3; the others are printed."""
    result = netkit("services", "http/tcp", "nosuch", "9999")
    assert (result.code, result.out) == (3, b"http\t80/tcp\twww\n")
    assert result.err == "netkit services: cannot find nosuch, 9999: no such service or port\n"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        *((word, f"port {word} is not between 1 and 65535") for word in ("0", "65536", "-1", "99999999999")),
        ("080", "port 080 has a leading zero"),
        ("http/sctp", "protocol 'sctp' is neither tcp nor udp"),
        ("/tcp", "service '/tcp' has no name"),
        ("", "service '' has no name"),
    ],
)
def test_services_mistakes(capfd: pytest.CaptureFixture[str], word: str, message: str) -> None:
    """A word that is neither a name nor a port is exit code 2."""
    assert refused(capfd, "services", word) == message


def test_our_table_is_sound() -> None:
    """netkit's own table is valid, has each name once, and agrees with the system's table."""
    ours = list(parse(TABLE))
    assert len({service.port for service in ours}) > 100
    for protocol in ("tcp", "udp"):
        names = [n for s in ours if s.protocol == protocol for n in (s.name, *s.aliases)]
        assert len(names) == len(set(names))
    theirs = {(name, s.protocol): s.port for s in table() for name in (s.name, *s.aliases)}
    assert [s for s in ours if theirs.get((s.name, s.protocol), s.port) != s.port] == []


@pytest.mark.ipv6
def test_free_port() -> None:
    """The port is free in both families, and several ports are all different."""
    [port] = map(int, netkit("free-port").out.split())
    with socket.create_server(("0.0.0.0", port)), socket.create_server(("::1", port), family=socket.AF_INET6):
        pass
    result = netkit("free-port", "--udp", "-n", "200")
    ports = set(map(int, result.out.split()))
    assert (result.code, result.err, len(ports)) == (0, "", 200)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", ports.pop()))


def test_free_ports_that_are_not_there() -> None:
    """If there are not enough free ports, the exit code is 45."""
    wrapper = separate("ip link set lo up; echo 40000 40015 > /proc/sys/net/ipv4/ip_local_port_range")
    result = netkit("free-port", "-n", "100", wrapper=wrapper)
    assert (result.code, result.out) == (45, b"")
    assert result.err.startswith("netkit free-port: cannot find 100 free ports: the system gave ")


@pytest.mark.parametrize("args", [["80"], ["-n", "0"], ["-n", "-1"], ["-u"]])
def test_free_port_mistakes(capfd: pytest.CaptureFixture[str], args: list[str]) -> None:
    """free-port takes no port, and -n takes a number from 1 on."""
    mistake(capfd, ["free-port", *args])
