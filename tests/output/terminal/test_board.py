"""The board of ``portcheck --wait``, on terminals of different sizes."""

import os
import re

import pytest

from netkit.core import events
from netkit.core.errors import Exit
from netkit.core.kernel import sleep
from netkit.output.terminal import board, screen
from netkit.services.portcheck.check import CLOSED, OPEN, Check, ProbeResult, Result, Summary
from netkit.services.portcheck.targets import Target
from netkit.services.portcheck.watch import Watch
from tests.clock import run

REFUSED = ProbeResult(CLOSED, "connection refused", Exit.CONNECT, "10.0.0.7")
READY = ProbeResult(OPEN, "", Exit.OK, "10.0.0.5")

HEAD = "waiting for 4 targets, 21 s left"
LOW = [
    HEAD,
    "  cache:6379    closed  connection refused (10.0.0.7)  try 3  0.5 s ago",
    "  mq:5672-5680  trying",
    "  and 2 more",
]


def sketch(cache: str) -> list[str]:
    """Return the whole board with this state of the second target."""
    rows = [
        "db:5432         ready   after 2.1 s",
        f"cache:6379      closed  {cache}",
        "mq:5672-5680    trying",
        "nosuch.test:80  trying",
    ]
    return [HEAD, *(f"  {row}" for row in rows)]


def drawn(watch: Watch, columns: int, lines: int) -> list[str]:
    """Return the lines of the board on a terminal of this size."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (board, screen):
            patch.setattr(module, "terminal_size", lambda fd: os.terminal_size((columns, lines)))
        return screen.rows(board.board(watch), 2, coloured=False)


@pytest.mark.parametrize(
    ("columns", "lines", "wanted"),
    [
        (80, 24, sketch("connection refused (10.0.0.7)  try 3  0.5 s ago")),
        (52, 24, sketch("connection refused   try 3")),
        (40, 24, sketch("connection re…")),
        (80, 5, LOW),
        (80, 3, [HEAD, "  and 4 more"]),
    ],
)
def test_the_board(columns: int, lines: int, wanted: list[str]) -> None:
    """The board has an aligned row for each target; if not all fit, targets that are not ready come first."""
    ports = {"db": (5432,), "cache": (6379,), "mq": tuple(range(5672, 5681)), "nosuch.test": (80,)}
    targets = [Target(host, ports) for host, ports in ports.items()]

    async def main() -> list[str]:
        watch = Watch(Summary(Check(), targets), 30.0, events.ignore)
        await sleep(2.125)
        watch.tried(Result("db", 5432, "tcp", READY, number=0))
        await sleep(6.375)
        for _ in range(3):
            watch.tried(Result("cache", 6379, "tcp", REFUSED, number=1))
        await sleep(0.5)
        return drawn(watch, columns, lines)

    assert [re.sub("\x1b\\[[0-9]*m", "", row).rstrip() for row in run(main())] == wanted


def test_the_board_before_the_first_result() -> None:
    """If every port of a range is wanted, the board has no rows before the first result."""

    async def main() -> list[str]:
        summary = Summary(Check(), [Target("db", (1, 2))], all_ports=True)
        return drawn(Watch(summary, 30.0, events.ignore), 80, 24)

    assert run(main()) == ["waiting for 2 targets, 30 s left"]
