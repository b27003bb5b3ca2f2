"""The type of functions that format received datagrams for stdout."""

from collections.abc import Callable

from netkit.core.pump import Change
from netkit.core.udp import Burst, Datagram

Formatter = Callable[[Datagram, Burst], bytes]


def with_change(form: Formatter, change: Change | None) -> Formatter:
    """A formatter that passes its output through a change, which is flushed after each burst."""
    return form if change is None else lambda sock, burst: change(form(sock, burst)) + change(b"")
