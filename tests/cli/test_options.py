"""What bundles of options mean to the core."""

from typing import Any

import pytest

from netkit.cli.command import gathered
from netkit.cli.options import EndingOptions, FamilyOptions, TlsOptions
from netkit.core.relay import Ending

ALL = TlsOptions(False, "ca", "cert", "key", "name", ("h2",), True)


@pytest.mark.parametrize(
    ("near", "far", "for_clients", "for_target"),
    [
        (False, False, {"cafile"}, {"cert", "key", "servername", "alpn", "insecure"}),
        (True, False, {"cafile", "cert", "key", "alpn"}, {"servername", "insecure"}),
        (False, True, set(), {"cafile", "cert", "key", "servername", "alpn", "insecure"}),
        (True, True, {"cert", "key", "alpn"}, {"cafile", "servername", "alpn", "insecure"}),
    ],
)
def test_a_relay_shares_out_what_it_was_told(
    near: bool, far: bool, for_clients: set[str], for_target: set[str]
) -> None:
    """The target gets what both sides could have meant, but a certificate is that of the server, if we are one."""
    sides = ALL.sides(near, far)
    assert [side.tls for side in sides] == [near, far]
    given = [{name for name, value in side._asdict().items() if value and name != "tls"} for side in sides]
    assert given == [for_clients, for_target]


def test_who_we_are_is_for_one_origin_alone() -> None:
    """Servers of another origin are verified by the same authorities, and see no certificate of ours."""
    assert ALL.for_url(True) == ALL._replace(tls=True, alpn=("http/1.1",))
    assert ALL.for_url(False) == TlsOptions(True, "ca", alpn=("http/1.1",), insecure=True)


@pytest.mark.parametrize(
    ("options", "how", "ending"),
    [
        (EndingOptions(None, False, False), {}, Ending()),
        (EndingOptions(None, False, True), {}, Ending(half_close=False)),
        (EndingOptions(2.0, False, False), {"waits": True}, Ending(2.0)),
        (EndingOptions(None, True, False), {}, Ending(None)),
        (EndingOptions(None, False, False), {"at_once": True}, Ending(0.0)),
        (EndingOptions(None, False, False), {"at_once": True, "waits": True}, Ending(None)),
        (EndingOptions(None, False, False), {"send_only": True}, Ending(send_only=True)),
    ],
)
def test_when_a_conversation_ends(options: EndingOptions, how: dict[str, bool], ending: Ending) -> None:
    """--grace and --hold come first, then a program that is waited for, then what leaves with the peer."""
    assert options.ending(**how) == ending


def test_a_bundle_takes_what_is_its_own() -> None:
    """What no option gives keeps its default, and what is not the bundle's goes on to the function."""

    @gathered("family", FamilyOptions)
    def function(**values: Any) -> dict[str, Any]:
        return values

    assert function(ipv6=True, other=1) == {"family": FamilyOptions(False, True, False), "other": 1}
