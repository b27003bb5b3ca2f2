"""Running commands side by side: interleaved rounds, medians, wall and CPU seconds of whole processes."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

NETKIT = [sys.executable, "-m", "netkit"]


class Cost(NamedTuple):
    """Seconds: on the wall, and of CPU in user and system mode, of a process and its children."""

    wall: float
    cpu: float


def available(tools: Iterable[str]) -> list[str]:
    """Return those of the tools that this machine has."""
    return [tool for tool in tools if tool == "netkit" or shutil.which(tool)]


def timed(process: "subprocess.Popen[bytes]", since: float, codes: Sequence[int] = (0,)) -> Cost:
    """Wait for a process that was started at ``since`` and return what it cost; it must end with one of ``codes``."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    return Cost(time.perf_counter() - since, usage.ru_utime + usage.ru_stime)


def start(argv: Sequence[str], **popen: object) -> "subprocess.Popen[bytes]":
    """Start a process whose talk is dropped unless asked for."""
    popen.setdefault("stderr", subprocess.DEVNULL)
    return subprocess.Popen(argv, **popen)  # type: ignore[call-overload,no-any-return]


def medians(rounds: int, runs: dict[str, Callable[[], dict[str, Cost]]]) -> dict[str, dict[str, Cost]]:
    """Run everything in turn, ``rounds`` times, and return the medians by name and role."""
    seen: dict[str, dict[str, list[Cost]]] = {name: {} for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            for role, cost in run().items():
                seen[name].setdefault(role, []).append(cost)
    return {
        name: {
            role: Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))
            for role, costs in roles.items()
        }
        for name, roles in seen.items()
    }


def show(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    table = [list(heads), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    print(f"\n{title}")
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  " + "  ".join(cells))
