"""Relays, with bulk data from a file to /dev/null, netkit at both ends, and with many flows of small messages."""

import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO

from tests.benchmarks.bulk import CLIENTS, SERVERS
from tests.benchmarks.data import fitting, in_words, zeros
from tests.benchmarks.echo import exchanged, running
from tests.benchmarks.measure import NETKIT, C, Figures, Scale, Work, available, compare, program, start, timed
from tests.support.partners import await_listener
from tests.support.peers import free_port

Relay = Callable[[str, str], list[str]]
"""What to run for a port to listen on and one to connect to."""

ONE: dict[str, Relay] = {
    "netkit": lambda near, far: [*NETKIT, "relay", "-q", f"127.0.0.1:{near}", f"127.0.0.1:{far}", "--once"],
    C: lambda near, far: [program("minimal") or "", "relay", near, far],
    "socat": lambda near, far: [
        *("socat", "-b", "262144", f"TCP-LISTEN:{near},bind=127.0.0.1,reuseaddr", f"TCP:127.0.0.1:{far}")
    ],
}
MANY: dict[str, Relay] = {
    "netkit": lambda near, far: [*NETKIT, "relay", "-q", f"127.0.0.1:{near}", f"127.0.0.1:{far}"],
    "socat": lambda near, far: [
        *("socat", f"TCP-LISTEN:{near},bind=127.0.0.1,reuseaddr,fork,backlog=1024", f"TCP:127.0.0.1:{far}")
    ],
}
FLOWS = 100


def transfer(relay: Relay, data: IO[bytes]) -> Figures:
    """Send the file once, and return the time until the receiver ended, and the relay's CPU."""
    near, far = str(free_port()), str(free_port())
    data.seek(0)
    receiver = start(SERVERS["netkit"](far), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    await_listener(f"tcp:{far}", receiver)
    middle = start(relay(near, far), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    await_listener(f"tcp:{near}", middle)
    since = time.perf_counter()
    sender = start(CLIENTS["netkit"](near), stdin=data, stdout=subprocess.DEVNULL)
    received, relayed = timed(receiver, since), timed(middle, since)
    timed(sender, since)
    return {"wall s": received.wall, "CPU s of the relay": relayed.cpu}


def small(tool: str, messages: int) -> Figures:
    """Measure flows through the relay to an echo server in C, each with one message under way."""
    near, far = str(free_port()), str(free_port())
    with (
        running([program("minimal") or "", "echo", far], far),
        running(MANY[tool](near, far), near) as middle,
    ):
        return exchanged(middle, near, FLOWS, messages, forks=tool == "socat")


def measure(scale: Scale) -> Iterator[Work]:
    """Measure bulk data, then small messages."""
    size = fitting(scale.bulk)
    with zeros(size) as data:
        runs = {tool: partial(transfer, ONE[tool], data) for tool in available(ONE)}
        yield compare(f"{in_words(size)} through a relay", scale.rounds, runs)
    if program("minimal") and program("load"):
        runs = {tool: partial(small, tool, scale.messages) for tool in available(MANY)}
        yield compare(f"relay of 64-byte messages, {FLOWS} flows", scale.rounds, runs, more=True)
