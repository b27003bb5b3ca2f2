"""How datagrams that were received are written."""

from collections.abc import Callable

from netkit.core.pump import Change
from netkit.core.udp import Burst, Datagram

Formatter = Callable[[Datagram, Burst], bytes]


def with_change(form: Formatter, change: Change | None) -> Formatter:
    """The formatter with a change behind it that sees the end after each burst."""
    return form if change is None else lambda sock, burst: change(form(sock, burst)) + change(b"")
