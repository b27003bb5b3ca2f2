"""The cost of start-up, compared with the bare interpreter and with an import of click."""

import sys
from collections.abc import Iterator
from functools import partial

from tests.benchmarks.measure import NETKIT, Scale, Work, available, compare, cost_of

REFUSED = ["127.0.0.1", "1"]


def measure(scale: Scale) -> Iterator[Work]:
    """Measure --version and --help, and a connection that is refused."""
    yield compare(
        "start-up",
        scale.starts,
        {
            "netkit --version": partial(cost_of, [*NETKIT, "--version"]),
            "python -c pass": partial(cost_of, [sys.executable, "-c", "pass"]),
            "netkit --help": partial(cost_of, [*NETKIT, "--help"]),
            "import click": partial(cost_of, [sys.executable, "-c", "import click"]),
        },
    )
    runs = {"netkit": partial(cost_of, [*NETKIT, "connect", *REFUSED], (7,))}
    for tool in available(["nc", "ncat"]):
        runs[tool] = partial(cost_of, [tool, *REFUSED], (1,))
    runs["import click"] = partial(cost_of, [sys.executable, "-c", "import click"])
    yield compare("a connection that is refused", scale.starts, runs)
