"""A server ends in order from the moment it is ready."""

import os
import signal

import pytest

from netkit.core import kernel
from netkit.core.address import Endpoint
from netkit.core.events import ignore
from netkit.core.policy import Policy
from netkit.core.sync import Event
from netkit.core.tcp_server import PRIVATE
from netkit.services.echo import echo
from netkit.services.server import Service, keep_serving, open_sockets


@pytest.mark.loopback
def test_a_signal_at_the_ready_line_ends_in_order() -> None:
    """A signal as soon as the server is ready ends it in order, as later."""
    ended_in_order = False

    async def stop_by_signal() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def main() -> None:
        nonlocal ended_in_order
        service = Service(echo())
        sockets = await open_sockets(
            Endpoint("127.0.0.1", 0), service, family=0, numeric=True, mode=PRIVATE, observe=ignore
        )
        await keep_serving(
            sockets,
            service,
            Policy(),
            ready=stop_by_signal,
            stop=Event(),
            duration=None,
            one_shot=False,
            observe=ignore,
        )
        ended_in_order = True

    with pytest.raises(kernel.Interrupted):
        kernel.run(main(), signals=(signal.SIGTERM,))
    assert ended_in_order
