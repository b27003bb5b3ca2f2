"""The options of layers: a row for each, in the order of the wire."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit.cli.command import ADDRESSES, TLS, Decorator, chained
from netkit.cli.types import choice, imported

if TYPE_CHECKING:
    from netkit.core.layer import Layer, Setting


class LayerRow(NamedTuple):
    """A layer that an option asks for.

    ``make`` is the path of a function that makes it of the option's value and a Setting, imported when it is used.
    ``over_tls`` is on which side of TLS it has its place; one that ``secures`` is followed by TLS, asked for or not.
    The second layer of an option has the same ``name`` and no ``option``.
    """

    name: str
    make: str
    option: Decorator | None
    over_tls: bool = False
    secures: bool = False


STARTTLS = (
    *("smtp", "lmtp", "imap", "pop3", "ftp", "nntp"),
    *("sieve", "ldap", "xmpp", "irc", "postgres", "mysql"),
)


ROWS = (
    LayerRow(
        "send_proxy",
        "netkit.protocols.proxy_header.sending",
        ADDRESSES.option(
            "--send-proxy",
            type=choice("v1", "v2", name="v1|v2"),
            help="Send a header of the PROXY protocol first, v1 or v2, with our address (a relay: the client's).",
        ),
    ),
    LayerRow(
        "starttls",
        "netkit.protocols.starttls.layer.beginning",
        TLS.option(
            "--starttls",
            type=choice(*STARTTLS, name="PROTOCOL"),
            help=f"Begin TLS after the plain dialogue of PROTOCOL: {', '.join(STARTTLS)}.",
        ),
        secures=True,
    ),
    LayerRow("starttls", "netkit.protocols.starttls.layer.greeting", None, over_tls=True),
)


class LayerOptions:
    """Which layers there are, by the values of their options."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    @property
    def secures(self) -> bool:
        """Whether one of them is followed by TLS, whatever else is said of that."""
        return any(row.secures and self._values.get(row.name) for row in ROWS)

    def make(self, setting: "Setting", *, over_tls: bool) -> "list[Layer]":
        """The layers beneath TLS or over it, the one next to the wire first."""
        wanted = [row for row in ROWS if row.over_tls is over_tls and self._values.get(row.name)]
        return [imported(row.make)(self._values[row.name], setting) for row in wanted]


NO_LAYERS = LayerOptions({})


def layer_options(*names: str) -> Decorator:
    """Add the options of these layers, and hand the function a LayerOptions named ``between``."""
    rows = [row for row in ROWS if row.name in names]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(**values: Any) -> Any:
            between = LayerOptions({name: values.pop(name) for name in names})
            return function(**values, between=between)

        return chained(*(row.option for row in rows if row.option))(call)

    return decorate
