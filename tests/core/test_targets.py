"""Which targets the clients of a proxy may reach, by rules and for the proxy's own addresses, in any spelling."""

import pytest

from netkit.core.access import canonical
from netkit.core.address import Endpoint
from netkit.core.errors import Invalid
from netkit.core.local_address import is_local
from netkit.core.lookup import Address
from netkit.core.targets import NotAllowed, Rule, Targets, is_outside, parse_rule

OUTSIDE = "192.0.2.7"


def targets(allow: str = "", deny: str = "") -> Targets:
    """Return targets with these rules, which are separated by blanks."""
    return Targets(tuple(map(parse_rule, allow.split())), tuple(map(parse_rule, deny.split())))


def addresses(*hosts: str) -> list[Address]:
    """Return the addresses as if from a look-up."""
    return [Address(0, (host, 0)) for host in hosts]


def reached(rules: Targets, asked: str, *found: str, outside: bool = False) -> list[str]:
    """Return the addresses that a client may reach if it asks for a target; none if it is not allowed."""
    host, _, port = asked.rpartition(":")
    target = Endpoint(host, int(port))
    try:
        rules.check_name(target)
        chosen = rules.choosing(target, outside=outside)(addresses(*found or [host]))
    except NotAllowed as failure:
        assert str(failure).startswith(f"cannot connect to {target}: ")
        return []
    assert chosen
    return [address.host for address in chosen]


@pytest.mark.parametrize(
    ("allow", "deny", "asked", "found", "let"),
    [
        ("", "", "db:1", "192.0.2.7", "192.0.2.7"),
        ("192.0.2.0/24", "", "192.0.2.9:1", "", "192.0.2.9"),
        ("192.0.2.0/24", "", "198.51.100.1:1", "", ""),
        ("192.0.2.0/24", "", "db:1", "198.51.100.1", ""),
        ("192.0.2.0/24", "", "db:1", "198.51.100.1 192.0.2.7", "192.0.2.7"),
        ("192.0.2.0/24", "", "db:1", "::ffff:192.0.2.7", "::ffff:192.0.2.7"),
        ("192.0.2.0/24:443", "", "192.0.2.9:443", "", "192.0.2.9"),
        ("192.0.2.0/24:443", "", "192.0.2.9:80", "", ""),
        ("192.0.2.7:https", "", "192.0.2.7:443", "", "192.0.2.7"),
        ("[2001:db8::/32]:443", "", "db:443", "2001:db8::7", "2001:db8::7"),
        ("2001:db8::/32", "", "db:1", "2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "", "db:1", "2001:db8::8", ""),
        ("", "10.0.0.0/8", "10.1.2.3:1", "", ""),
        ("", "10.0.0.0/8", "db:1", "10.1.2.3", ""),
        ("", "10.0.0.0/8", "db:1", "::ffff:10.1.2.3", ""),
        ("", "10.0.0.0/8", "db:1", "::ffff:a01:203", ""),
        ("", "::ffff:10.0.0.0/104", "db:1", "10.1.2.3", ""),
        ("", "10.0.0.0/8", "db:1", "10.1.2.3 192.0.2.7", "192.0.2.7"),
        ("", "10.0.0.0/8:22", "10.1.2.3:80", "", "10.1.2.3"),
        ("", "fe80::/10", "db:1", "fe80::1%lo", ""),
        ("192.0.2.0/24", "192.0.2.7", "192.0.2.7:1", "", ""),
        ("db", "", "db:1", "192.0.2.7", "192.0.2.7"),
        ("DB.example.", "", "db.EXAMPLE:1", "192.0.2.7", "192.0.2.7"),
        ("db", "", "mq:1", "192.0.2.7", ""),
        ("db", "", "192.0.2.7:1", "", ""),
        ("db:5432", "", "db:5432", "192.0.2.7", "192.0.2.7"),
        ("db:5432", "", "db:22", "192.0.2.7", ""),
        ("db", "10.0.0.0/8", "db:1", "10.0.0.1", ""),
        ("db 198.51.100.0/24", "", "mq:1", "198.51.100.1", "198.51.100.1"),
        ("", "db", "db.:1", "192.0.2.7", ""),
        ("", "db:22", "db:80", "192.0.2.7", "192.0.2.7"),
        ("b\u00fccher.example", "", "xn--bcher-kva.example:1", "192.0.2.7", "192.0.2.7"),
    ],
)
def test_rules(allow: str, deny: str, asked: str, found: str, let: str) -> None:
    """``deny`` wins; networks are compared with the address that is dialled, names with the name asked for."""
    assert reached(targets(allow, deny), asked, *found.split()) == let.split()


@pytest.mark.parametrize(("allow", "deny"), [("db", ""), ("", "mq"), ("192.0.2.0/24:443", "")])
def test_what_no_address_could_allow_is_not_looked_up(allow: str, deny: str) -> None:
    """A name that no address could make allowed is refused before it is looked up."""
    with pytest.raises(NotAllowed):
        targets(allow, deny).check_name(Endpoint("mq", 80))


OWN = ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"]
LINK_LOCAL = ["169.254.169.254", "fe80::1%lo", "::ffff:169.254.0.1"]


@pytest.mark.loopback  # without a route to an address, binding to it shows whether it is our own
@pytest.mark.parametrize("host", [*OWN, *LINK_LOCAL])
@pytest.mark.parametrize(
    "allow", ["", "0.0.0.0/0 ::/0", "db", "::/0 126.0.0.0/7 169.254.0.0/15", "127.0.0.2 ::2 169.254.1.1 fe80::2"]
)
def test_what_is_of_this_machine_is_not_for_others(host: str, allow: str) -> None:
    """Only local clients reach this machine or link-local addresses by a wide rule or by a name."""
    assert reached(targets(allow), "db:80", host, outside=True) == []
    assert reached(targets(allow), "db:80", OUTSIDE, host, outside=True) in ([], [OUTSIDE])
    assert reached(targets(), "db:80", host) == [host]


@pytest.mark.parametrize(
    ("allow", "host"),
    [
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("::1", "::1"),
        ("0.0.0.0", "0.0.0.0"),
        ("169.254.0.0/16", "169.254.169.254"),
        ("fe80::/10", "fe80::1%lo"),
    ],
)
def test_unless_a_rule_names_just_that(allow: str, host: str) -> None:
    """A rule with just that address, or with a network of such addresses, allows it."""
    assert reached(targets(allow), "db:80", host, outside=True) == [host]
    assert reached(targets(allow), "db:80", OUTSIDE, outside=True) == []


@pytest.mark.parametrize(
    ("peer", "local", "outside"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("127.0.0.2", "127.0.0.1", False),
        ("::1", "::1", False),
        ("192.0.2.7", "192.0.2.7", False),
        ("fe80::1%lo", "fe80::1%lo", False),
        ("192.0.2.8", "192.0.2.7", True),
        ("169.254.1.1", "169.254.1.2", True),
        (None, None, False),
    ],
)
def test_who_is_outside(peer: str | None, local: str | None, outside: bool) -> None:
    """Loopback addresses, the address that was dialled, and unix sockets count as local."""
    ends = [Endpoint(host, 1) if host else Endpoint(path="/run/s") for host in (peer, local)]
    assert is_outside(*ends) is outside


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("10.0.0.1", ("10.0.0.1/32", "", None)),
        ("10.0.0.0/8:443", ("10.0.0.0/8", "", 443)),
        ("::1", ("::1/128", "", None)),
        ("[::1]:22", ("::1/128", "", 22)),
        ("::ffff:10.0.0.0/104", ("10.0.0.0/8", "", None)),
        ("Db.Example.:ssh", (None, "db.example", 22)),
    ],
)
def test_rules_that_are_typed(text: str, rule: tuple[str | None, str, int | None]) -> None:
    """A rule is an address, a network or a name, perhaps with a port."""
    found = parse_rule(text)
    assert (found.network and str(found.network), found.name, found.port) == rule
    assert isinstance(found, Rule)


@pytest.mark.parametrize(
    "text",
    ["", ":80", "db:", "db:0", "db:x:y", "10.0.0.1/8", "127.1", "10.0.0.0/33", "[::1", "[::1]80", "a b", "db:70000",
     "fe80::1%lo", "*.example.org", "[db/8]"],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    """An invalid rule is refused, instead of never matching."""
    with pytest.raises(Invalid):
        parse_rule(text)


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("127.255.255.254", True), ("::1", True), ("192.0.2.77", False)]
)
@pytest.mark.parametrize("netlink", [True, False], ids=["by its route", "by bind"])
def test_own_addresses(host: str, own: bool, netlink: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's routes show which addresses are local; without netlink, binding does."""
    if not netlink:
        monkeypatch.delattr("socket.AF_NETLINK")
    assert is_local(canonical(host)) is own
