"""Checks of all ports of loopback, compared with nmap, and of five open ports, compared with nc."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from tests.benchmarks.measure import NETKIT, Figures, Scale, Work, available, compare, cost_of

ALL = {"netkit": [*NETKIT, "portcheck", "127.0.0.1:1-65535"], "nmap": ["nmap", "-sT", "-p-", "-n", "-Pn", "127.0.0.1"]}
OPEN = 5


def each(argv: list[str], ports: list[str]) -> Figures:
    """Run a command once for each port."""
    since = time.perf_counter()
    used = sum(cost_of([*argv, port])["CPU s"] for port in ports)
    return {"wall s": time.perf_counter() - since, "CPU s": used}


def measure(scale: Scale) -> Iterator[Work]:
    """Measure closed ports, for which netkit's exit code is 7, and then open ones."""
    runs = {tool: partial(cost_of, ALL[tool], (0, 7)) for tool in available(ALL)}
    yield compare("a check of 65,535 closed ports", scale.rounds, runs)
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128)) for _ in range(OPEN)]
        ports = [str(server.getsockname()[1]) for server in servers]
        runs = {"netkit": partial(cost_of, [*NETKIT, "portcheck", "127.0.0.1", ",".join(ports)])}
        if available(["nc"]):
            runs["nc"] = partial(each, ["nc", "-z", "127.0.0.1"], ports)
        yield compare(f"a check of {OPEN} open ports", scale.rounds * 3, runs)
