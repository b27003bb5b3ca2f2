"""The options that add layers to a connection: a row for each, the layer next to the wire first."""

import functools
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit.cli.command import ADDRESSES, DATA, SERVING, TLS, Decorator, chained
from netkit.cli.types import choice, imported

if TYPE_CHECKING:
    from netkit.core.layer import Layer, Setting


class LayerRow(NamedTuple):
    """A layer that an option adds.

    ``make`` is the path of a function that makes it from the option's value and a Setting, imported when it is used.
    ``over_tls`` says whether it is above or below TLS. One that ``secures`` is always followed by TLS. ``for_clients``
    says on which side of a relay it is. The second layer of an option has the same ``name`` and no ``option``.
    """

    name: str
    make: str
    option: Decorator | None
    over_tls: bool = False
    secures: bool = False
    for_clients: bool = False


STARTTLS = (
    *("smtp", "lmtp", "imap", "pop3", "ftp", "nntp"),
    *("sieve", "ldap", "xmpp", "irc", "postgres", "mysql"),
)


ROWS = (
    LayerRow(
        "accept_proxy",
        "netkit.protocols.proxy_header.accepting",
        SERVING.option(
            "--accept-proxy",
            help="Require a PROXY protocol header from each client, and use the client's address in it.",
        ),
        for_clients=True,
    ),
    LayerRow(
        "send_proxy",
        "netkit.protocols.proxy_header.sending",
        ADDRESSES.option(
            "--send-proxy",
            type=choice("v1", "v2", name="v1|v2"),
            help="Send a PROXY protocol header first, v1 or v2, with our address (relay: the client's).",
        ),
    ),
    LayerRow(
        "starttls",
        "netkit.protocols.starttls.layer.beginning",
        TLS.option(
            "--starttls",
            type=choice(*STARTTLS, name="PROTOCOL"),
            help=f"Start TLS with the STARTTLS of PROTOCOL: {', '.join(STARTTLS)}.",
        ),
        secures=True,
    ),
    LayerRow("starttls", "netkit.protocols.starttls.layer.greeting", None, over_tls=True),
    LayerRow(
        "telnet",
        "netkit.protocols.telnet.speaking",
        DATA.option("--telnet", help="Speak telnet: answer its negotiation and remove its commands from the data."),
        over_tls=True,
    ),
)


class LayerOptions:
    """The layers to use: the values of their options."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    @property
    def secures(self) -> bool:
        """Whether TLS follows one of them, even without --tls."""
        return any(row.secures and self._values.get(row.name) for row in ROWS)

    def __contains__(self, name: str) -> bool:
        return bool(self._values.get(name))

    def offers(self, name: str) -> bool:
        """Whether the command has the option of the layer ``name``."""
        return name in self._values

    def sides(self) -> "tuple[LayerOptions, LayerOptions]":
        """The layers for the clients of a relay, and those for its target."""
        near = {row.name for row in ROWS if row.for_clients}
        return self._only(near), self._only(self._values.keys() - near)

    def _only(self, names: Set[str]) -> "LayerOptions":
        return LayerOptions({name: self._values[name] for name in self._values.keys() & names})

    def around(self, tls: "Sequence[Layer]", setting: "Setting") -> "list[Layer]":
        """The layer of TLS, if any, with those below and above it, the one next to the wire first."""
        below: list[Layer] = []
        above: list[Layer] = []
        for row in ROWS:
            if row.name in self:
                (above if row.over_tls else below).append(imported(row.make)(self._values[row.name], setting))
        return [*below, *tls, *above]


NO_LAYERS = LayerOptions({})


def layer_options(*names: str) -> Decorator:
    """Add the options of the layers ``names``; the function gets one LayerOptions, ``between``, of all its layers."""
    options = [row.option for row in ROWS if row.name in names and row.option]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(**values: Any) -> Any:  # the first call of several takes the values of all
            between = {row.name: values.pop(row.name) for row in ROWS if row.name in values}
            return function(**{"between": LayerOptions(between), **values})

        return chained(*options)(call)

    return decorate
