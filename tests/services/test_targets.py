"""The targets of ``portcheck`` as they are given."""

import pytest

from netkit.core.errors import Invalid
from netkit.services.portcheck.targets import STDIN, Target, take_targets


@pytest.mark.fault("malformed range")
@pytest.mark.parametrize(
    ("words", "targets"),
    [
        (["db:1,2"], [Target("db", (1, 2))]),
        (
            ["db", "3-5,1", "::1", "80", "[::1]:81"],
            [Target("db", (3, 4, 5, 1)), Target("::1", (80,)), Target("::1", (81,))],
        ),
        (["db:80,80,79-81"], [Target("db", (80, 79, 81))]),
        ([":8,http", ":8", ":http"], [Target("", (8, 80)), Target("", (8,)), Target("", (80,))]),
        (["db:1", "-", "tls:db:1", "db", "1", "-"], [Target("db", (1,)), STDIN, Target("db", (1,), True)]),
        (["10.0.0.0/24:1,2", "::/112", "3"], [Target("10.0.0.0/24", (1, 2)), Target("::/112", (3,))]),
        (["tls:[fd00::/120]:80"], [Target("fd00::/120", (80,), True)]),
        (["db:65535-65535"], [Target("db", (65535,))]),
        (["fe80::1%lo", "ssh"], [Target("fe80::1%lo", (22,))]),
    ],
)
def test_targets(words: list[str], targets: list[Target]) -> None:
    """Words are read from left to right; each target, and each of its ports, is kept once, in order."""
    assert take_targets(words) == targets


def test_a_name_beyond_ascii_becomes_an_a_label() -> None:
    """A name beyond ASCII is converted to A-labels."""
    assert take_targets(["b\u00fccher.example", "80"]) == [Target("xn--bcher-kva.example", (80,))]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target("db", (22, 80, 8000, 8001, 8002)), "db:22,80,8000-8002"),
        (Target("", (8, 9)), "localhost:8,9"),
        (Target("fd00::/120", (80,), True), "tls:[fd00::/120]:80"),
    ],
)
def test_names_of_targets(target: Target, text: str) -> None:
    """A target is written as the user could type it."""
    assert str(target) == text


@pytest.mark.parametrize(
    ("word", "host", "ports", "shown"),
    [
        ("redis://db", "db", (6379,), "redis://db"),
        ("REDIS://db:7000", "db", (7000,), "redis://db:7000"),
        ("redis://:secret@db/0", "db", (6379,), "redis://db"),
        ("redis://me:p@ss@db:1?x=y#z", "db", (1,), "redis://db:1"),
        ("redis://[::1]:7", "::1", (7,), "redis://[::1]:7"),
        ("grpc://me:secret@db/a.B?x", "db", (50051,), "grpc://db/a.B"),
        ("redis://b\u00fccher.example", "xn--bcher-kva.example", (6379,), "redis://xn--bcher-kva.example:6379"),
        ("postgresql+psycopg2://me:secret@db/app", "db", (5432,), "postgresql://db"),
        ("mysql+pymysql://db:3307/app", "db", (3307,), "mysql://db:3307"),
        ("http://db", "db", (80,), "http://db/"),
        ("https://me:secret@db/health?x", "db", (443,), "https://db/health?x"),
    ],
)
def test_urls(word: str, host: str, ports: tuple[int, ...], shown: str) -> None:
    """Without a port it is the protocol's own; user, password and what follows are not shown."""
    [target] = take_targets([word])
    assert (target.host, target.ports, target.word) == (host, ports, shown)


def test_what_stands_between_urls_and_plain_targets() -> None:
    """URLs and unix paths are single words, repeated ones are dropped, and a URL differs from a plain port."""
    targets = take_targets(["redis://db", "db:6379", "redis://db:6379", "redis://db", "unix:/run/s", "db", "1"])
    assert [(target.word, target.host, target.ports) for target in targets] == [
        ("redis://db", "db", (6379,)),
        ("", "db", (6379,)),
        ("redis://db:6379", "db", (6379,)),
        ("unix:/run/s", "", (0,)),
        ("", "db", (1,)),
    ]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("nosuch://db", "no probe for nosuch://"),
        ("tcp://db:1", "no probe for tcp://: HOST:PORT alone looks whether a port is open"),
        ("udp://db:1", "no probe for udp://: HOST:PORT alone looks whether a port is open, with --udp"),
        ("mongodb+srv://db", "no probe for mongodb+srv://"),
        ("redis://", "the host is empty"),
        ("redis:///0", "the host is empty"),
        ("redis://db:0", "port 0 is not between 1 and 65535"),
        ("redis://me:secret@db:x", "port 'x' is not a number"),
        ("redis://a,b", "has several hosts: write a URL for each"),
        ("redis://::1", "brackets"),
        ("http://", "the host is empty"),
        ("tls:redis://db", "a URL says itself"),
        ("unix:", "the path after unix: is empty"),
        ("10.0.0.0/8:1", "network 10.0.0.0/8 has 16777216 addresses, and 65536 are the most"),
        ("[fd00::/64]:1", "network fd00::/64 has 18446744073709551616 addresses, and 65536 are the most"),
        ("10.0.0.1/24:1", "'10.0.0.1/24' is an address inside a network: write 10.0.0.0/24 if you mean that"),
        ("10.0.0.0/33:1", "'10.0.0.0/33' is neither an IP address nor a network"),
        ("127.1/24:1", "host '127.1' is a legacy spelling"),
        ("db/24:1", "'db/24' is neither an IP address nor a network"),
        ("10.0.0.0/24", "has no port"),
        ("fe80::/120 1", "link-local address fe80:: needs a zone"),
    ],
)
def test_targets_that_are_refused(word: str, why: str) -> None:
    """A bad target is refused in one line that does not show a password."""
    with pytest.raises(Invalid) as refused:
        take_targets(word.split())
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("word", ["redis://db", "http://db", "unix:/run/s"])
def test_udp_is_for_ports_alone(word: str) -> None:
    """--udp applies only to ports, not to URLs and unix paths."""
    with pytest.raises(Invalid, match="--udp does not apply"):
        take_targets([word], "udp")
