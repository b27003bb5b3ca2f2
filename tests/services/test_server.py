"""A server ends in order from the moment it is ready."""

import os
import signal
from typing import Any

import pytest

from netkit.core import kernel
from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure
from netkit.core.events import ignore
from netkit.core.policy import Policy
from netkit.core.sync import Event
from netkit.core.tcp_server import PRIVATE
from netkit.services.echo import echo
from netkit.services.server import Service, keep_serving, open_sockets


async def serve(service: Service, *command: str, **how: Any) -> int:
    """Run ``keep_serving`` with a socket of its own."""
    sockets = await open_sockets(
        Endpoint("127.0.0.1", 0), service, family=0, numeric=True, mode=PRIVATE, observe=ignore
    )
    how = {"ready": nothing, "stop": Event(), "duration": None, **how}
    return await keep_serving(sockets, service, Policy(), command, one_shot=False, observe=ignore, **how)


async def nothing() -> None:
    """Return at once."""


@pytest.mark.loopback
def test_a_signal_at_the_ready_line_ends_in_order() -> None:
    """A signal as soon as the server is ready ends it in order, as later."""
    ended_in_order = False

    async def stop_by_signal() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def main() -> None:
        nonlocal ended_in_order
        await serve(Service(echo()), ready=stop_by_signal)
        ended_in_order = True

    with pytest.raises(kernel.Interrupted):
        kernel.run(main(), signals=(signal.SIGTERM,))
    assert ended_in_order


@pytest.mark.process
@pytest.mark.parametrize(("command", "code"), [([], Exit.WRITE), (["true"], Exit.WRITE), (["false"], 1)])
def test_what_cannot_be_flushed_at_the_end_is_a_failure(command: list[str], code: int) -> None:
    """``flush`` is called after the last client, and its failure is raised; but COMMAND's exit code comes first."""

    async def flush(stop: Event) -> None:
        assert stop.is_set()
        raise Failure(Exit.WRITE, "write to stdout", "its reader is asleep")

    async def main() -> int:
        try:
            return await serve(Service(echo(), flush=flush), *command, duration=None if command else 0.0)
        except Failure as failure:
            return failure.exit

    assert kernel.run(main()) == code
