"""Access lists apply to all spellings of an address."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.access import Access, parse_network
from netkit.core.errors import Invalid


@pytest.mark.fault("spellings past an access list")
@pytest.mark.parametrize(
    ("allow", "deny", "host", "admitted"),
    [
        ([], [], "192.0.2.1", True),
        (["127.0.0.0/8"], [], "127.0.0.1", True),
        (["127.0.0.0/8"], [], "::ffff:127.0.0.1", True),
        (["127.0.0.0/8"], [], "::ffff:7f00:1", True),
        (["::ffff:127.0.0.0/104"], [], "127.9.9.9", True),
        (["127.0.0.0/8"], [], "128.0.0.1", False),
        (["127.0.0.0/8"], [], "::1", False),
        (["10.0.0.1", "10.0.0.2"], [], "10.0.0.2", True),
        (["fe80::/10"], [], "fe80::1%eth0", True),
        (["0.0.0.0/0"], [], "::1", False),
        (["::/0"], [], "127.0.0.1", False),
        ([], ["10.0.0.0/8"], "10.1.2.3", False),
        ([], ["10.0.0.0/8"], "::ffff:10.1.2.3", False),
        ([], ["10.0.0.0/8"], "11.1.2.3", True),
        (["10.0.0.0/8"], ["10.0.0.1"], "10.0.0.1", False),
    ],
)
def test_who_is_admitted(allow: list[str], deny: list[str], host: str, admitted: bool) -> None:
    """``deny`` wins over ``allow``; IPv4-mapped addresses and zones make no difference."""
    access = Access(tuple(map(parse_network, allow)), tuple(map(parse_network, deny)))
    assert access.admits(host) is admitted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "127.1",
        "010.0.0.1",
        "\uff11\uff10.0.0.1",
        "::1%lo",
        "localhost",
        "10.0.0.0/8/8",
        "/8",
    ],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    """Names, legacy spellings and invalid masks are refused."""
    with pytest.raises(Invalid):
        parse_network(text)


def test_address_inside_a_network_is_refused_with_the_network_meant() -> None:
    """10.0.0.1/8 is refused, as it could mean an address or a network."""
    with pytest.raises(Invalid, match=r"write 10\.0\.0\.0/8 if you mean that"):
        parse_network("10.0.0.1/8")


@pytest.mark.fault("IPv4 within IPv6", "spellings past an access list")
@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_mapped_spelling_means_the_same(address: ipaddress.IPv4Address, length: int) -> None:
    """An IPv4-mapped network is the same as the IPv4 network."""
    plain = ipaddress.ip_network(f"{address}/{length}", strict=False)
    mapped = f"::ffff:{plain.network_address}/{length + 96}"
    assert parse_network(mapped) == plain
