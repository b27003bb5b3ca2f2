"""What starting costs, beside bare Python, click and nc."""

import subprocess
import sys
import time

from tests.benchmarks.measure import NETKIT, Cost, available, medians, show, start, timed

ROUNDS = 15


def once(argv: list[str]) -> dict[str, Cost]:
    """Run a command to its end."""
    since = time.perf_counter()
    return {"": timed(start(argv, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL), since, codes=(0, 1, 7))}


def main() -> None:
    """Measure and print."""
    refused = ["127.0.0.1", "1"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import click": [sys.executable, "-c", "import click"],
        "netkit --version": [*NETKIT, "--version"],
        "netkit --help": [*NETKIT, "--help"],
        "netkit connect, refused": [*NETKIT, "connect", *refused],
        **{f"{tool}, refused": [tool, *refused] for tool in available(["nc", "ncat"])},
    }
    runs = {name: (lambda argv=argv: once(argv)) for name, argv in commands.items()}  # type: ignore[misc]
    rows = [
        (name, f"{roles[''].wall * 1000:.0f}", f"{roles[''].cpu * 1000:.0f}")
        for name, roles in medians(ROUNDS, runs).items()
    ]
    show(f"Start-up, medians of {ROUNDS}", ("", "wall ms", "CPU ms"), rows)
