"""Bundles of options, and what they become for the core."""

from typing import Any

import pytest

from netkit.cli.client import ClientOptions
from netkit.cli.command import gathered
from netkit.cli.options import AddressOptions, EndingOptions, TlsOptions
from netkit.cli.proxies import ProxyOptions
from netkit.cli.server import ServerOptions, ServingOptions
from netkit.cli.types import REGEX
from netkit.core.address import Endpoint
from netkit.core.pump import Done, fresh
from netkit.core.relay import AFTER_THE_ANSWER, AT_ONCE, NEVER, Ending, Input, Shutdown
from netkit.output.console import Verbosity
from netkit.protocols.proxy import parse

NONE = EndingOptions(None, False, False, None, False)

ALL = TlsOptions(
    **{"tls": False, "cafile": "ca", "cert": "cert", "key": "key", "servername": "name", "alpn": ("h2",)},
    **{"insecure": True, "key_password_file": "file", "tls_min": "1.0", "tls_max": "1.1", "fingerprint": ("sha256:0",)},
    self_signed="me",
)
VERSIONS = {"tls_min", "tls_max"}
PAIR = {"cert", "key", "key_password_file"}
PEER = {"servername", "insecure", "fingerprint"}


@pytest.mark.parametrize(
    ("near", "far", "for_clients", "for_target"),
    [
        (False, False, {"cafile"}, {*PAIR, *PEER, "alpn"}),
        (True, False, {*PAIR, "cafile", "alpn"}, PEER),
        (False, True, set(), {*PAIR, *PEER, "cafile", "alpn"}),
        (True, True, {*PAIR, "alpn"}, {*PEER, "cafile", "alpn"}),
    ],
)
def test_a_relay_shares_out_what_it_was_told(
    near: bool, far: bool, for_clients: set[str], for_target: set[str]
) -> None:
    """If both sides of a relay use TLS, the certificate is for its clients, and --cafile for the target."""
    sides = ALL.sides(near, far)
    assert [side.cafile for side in ALL.sides(near, far, proxy=True)] == [None, "ca"]
    assert [side.tls for side in sides] == [near, far]
    given = [{name for name, value in side.values().items() if value and name != "tls"} for side in sides]
    assert given == [{*for_clients, *VERSIONS, "self_signed"}, {*for_target, *VERSIONS}]


def test_who_may_drop_an_answer_at_our_end() -> None:
    """TLS servers and proxies may drop unsent data at a half-close."""
    proxies = ProxyOptions((parse("socks5h://p"),))
    assert not ClientOptions(Verbosity()).may_drop
    assert ClientOptions(Verbosity(), tls=TlsOptions(True)).may_drop
    assert ClientOptions(Verbosity(), proxies=proxies).may_drop


def test_who_we_are_is_for_one_origin_alone() -> None:
    """Servers of another origin are verified by the same CAs, but do not get the client certificate."""
    own = ALL._replace(tls=True, alpn=("http/1.1",), self_signed=None)
    assert ALL.for_url(True) == own
    assert ALL.for_url(False) == own._replace(cert=None, key=None, key_password_file=None, servername=None)


@pytest.mark.parametrize(
    ("options", "shutdown", "ending"),
    [
        (NONE, AT_ONCE, Ending()),
        (NONE, AFTER_THE_ANSWER, Ending(shutdown=AFTER_THE_ANSWER)),
        (NONE._replace(no_shutdown=True), AFTER_THE_ANSWER, Ending(shutdown=NEVER)),
        (NONE._replace(shutdown_after=0.0), AFTER_THE_ANSWER, Ending(shutdown=AT_ONCE)),
        (NONE._replace(shutdown_after=3.0), AT_ONCE, Ending(shutdown=Shutdown(3, 3))),
        (NONE._replace(send_only=True), AFTER_THE_ANSWER, Ending(shutdown=AT_ONCE, send_only=True)),
        (NONE._replace(grace=2.0), AT_ONCE, Ending(grace=2.0)),
        (NONE._replace(hold=True), AT_ONCE, Ending(hold=True)),
    ],
)
def test_when_a_conversation_ends(options: EndingOptions, shutdown: Shutdown, ending: Ending) -> None:
    """Options override the command's default for the end of a conversation."""
    assert options.ending(Input.PIPE, shutdown) == ending


def test_a_bundle_takes_what_is_its_own() -> None:
    """A bundle gets its own options and defaults, and the function gets the other options."""

    @gathered("addresses", AddressOptions)
    def function(**values: Any) -> dict[str, Any]:
        return values

    assert function(ipv6=True, other=1) == {"addresses": AddressOptions(False, True, False), "other": 1}


@pytest.mark.parametrize("one_shot", [False, True])
def test_what_a_match_of_until_ends(one_shot: bool) -> None:
    """It ends the conversation, and stops a server of many, which then cuts clients short that take too long."""
    serving = ServingOptions(
        **{"port_file": None, "print_port": False, "accept_timeout": None, "duration": None},
        **{"until": REGEX.convert("END", None, None), "allow": (), "deny": (), "stats": False},
    )
    server = ServerOptions(Verbosity(), Endpoint("127.0.0.1", 0), (), AddressOptions(), serving)
    change = fresh(server.changes(one_shot=one_shot))
    assert change is not None and change(b"no") == b"no"
    with pytest.raises(Done):
        change(b"END")
    assert server.stop.is_set() is not one_shot
