"""The explanations of addresses and networks are correct."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.errors import Invalid
from netkit.services.address import explain


@given(st.ip_addresses())
def test_every_form_is_the_same_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Octets, binary, hex, integer and packed bytes all give the same address."""
    rows = dict(explain(str(address)))
    number = int(address)
    assert ipaddress.ip_address(rows["address"]) == address
    assert bytes(map(int, rows["octets"].split())) == address.packed
    assert int(rows["binary"].replace(" ", ""), 2) == int(rows["hex"], 16) == int(rows["integer"]) == number
    assert bytes.fromhex(rows["packed"].replace("\\x", "")) == address.packed
    assert rows["reverse"] == address.reverse_pointer


@given(st.ip_addresses(), st.integers(0, 128))
def test_networks(address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> None:
    """Range, mask and size are those of the network that contains the address."""
    length = min(length, address.max_prefixlen)
    rows = dict(explain(f"{address}/{length}"))
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    assert ipaddress.ip_network(rows["network"]) == network
    assert (ipaddress.ip_address(rows["first"]), ipaddress.ip_address(rows["last"])) == (network[0], network[-1])
    assert (rows["mask"], int(rows["size"])) == (str(network.netmask), network.num_addresses)
    assert ("address" in rows) == (address != network[0])


@given(st.ip_addresses(v=4), st.data())
def test_legacy_spellings_mean_what_inet_aton_says(address: ipaddress.IPv4Address, data: st.DataObject) -> None:
    """Legacy spellings are explained, with the address that they mean."""
    number = int(address)
    word = data.draw(st.sampled_from([str(number), hex(number), f"0{number:o}", f"{number >> 24}.{number & 0xFFFFFF}"]))
    rows = dict(explain(word))
    assert rows["address"] == socket.inet_ntoa(socket.inet_aton(word))
    assert rows["spelling"].startswith(f"legacy, for {rows['address']}: ")


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("127.8.8.8", "loopback"),
        ("10.1.2.3", "private"),
        ("100.64.0.1", "shared, behind a carrier's NAT"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fd00::1", "unique local"),
        ("ff02::1%lo", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:1.2.3.4", "IPv4-mapped"),
        ("192.0.2.7", "documentation"),
        ("1.1.1.1", "global"),
        ("2606:4700::1111", "global"),
        ("::/0", "of several kinds"),
        ("10.0.0.0/7", "of several kinds"),
        ("10.0.0.0/9", "private"),
        ("example.org", "host name"),
        ("unix:@x", "abstract unix socket"),
    ],
)
def test_kinds(word: str, kind: str) -> None:
    """The kind is that in IANA's registries."""
    assert dict(explain(word))["kind"] == kind


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("db:5432", [("name", "db"), ("kind", "host name"), ("port", "5432"), ("service", "postgresql")]),
        ("tls:db:1", [("name", "db"), ("kind", "host name"), ("tls", "yes"), ("port", "1"), ("service", "tcpmux")]),
        (":80", [("host", "this machine"), ("port", "80"), ("service", "http")]),
        ("unix:/run/x", [("path", "/run/x"), ("kind", "unix socket")]),
        ("b\u00fccher.example", [("name", "xn--bcher-kva.example"), ("kind", "host name")]),
    ],
)
def test_targets(word: str, wanted: list[tuple[str, str]]) -> None:
    """Addresses in all forms that other commands accept are explained."""
    assert explain(word) == wanted


@given(st.text(max_size=30) | st.text("0123456789abcdefx.:/[]%-", max_size=30))
def test_any_word_is_explained_or_refused(word: str) -> None:
    """Any word gives rows, or is refused in one line."""
    try:
        rows = explain(word)
    except Invalid as error:
        assert str(error).isprintable()
    else:
        assert rows
