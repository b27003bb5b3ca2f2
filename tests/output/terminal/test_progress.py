"""The progress of transfers and port checks on a terminal."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from netkit.cli import options
from netkit.core.errors import Exit
from netkit.core.flow import Transfer
from netkit.core.kernel import Group, sleep
from netkit.output.console import View
from netkit.output.rate import RateMeter
from netkit.output.terminal import portcheck, progress, screen
from netkit.services.portcheck.check import CLOSED, Check, ProbeResult, Result, Summary
from netkit.services.portcheck.targets import Target
from tests.clock import run
from tests.support.terminals import Shown, resize, taken, terminal

SIZES = st.integers(0, 1 << 70)
KNOWN, OPEN = Transfer("sent", 430 << 20, 1 << 30), Transfer("received", 430 << 20)


def rows_of(transfers: list[Transfer], columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the rows that show transfers after half a second."""
    with terminal() as (ours, theirs):
        resize(theirs, columns)
        monkeypatch.setattr(progress, "STDERR", theirs)
        shown = Shown(columns)

        async def main() -> None:
            async with Group() as group:
                group.start_soon(options.showing(0.5)(lambda: transfers))
                await sleep(0.4)
                assert taken(ours) == b""
                await sleep(0.15)
                rows.extend(shown.lines(taken(ours)))
                group.cancel()

        rows: list[str] = []
        run(main())
        assert shown.lines(taken(ours)) == []
        return rows


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (120, ["sent     ━━━━━━━━━━━━━━━━╸                         41%  430 MiB/1.0 GiB  860 MiB/s  0:00"]),
        (80, ["sent     ━━━━━━━━━━━━━                     41%  430 MiB/1.0 GiB  860 MiB/s  0:00"]),
        (60, ["sent     ━━━━━         41%  430 MiB/1.0 GiB  860 MiB/s  0:00"]),
        (47, ["sent      41%  430 MiB/1.0 GiB  860 MiB/s  0:00"]),
        (30, ["sent      41%  860 MiB/s  0:00"]),
        (14, ["sent      41%"]),
    ],
)
def test_a_row_fits_the_terminal(columns: int, wanted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each transfer is one row, with as much of bar, percentage, bytes, rate and time left as fits."""
    rows = rows_of([KNOWN, OPEN], columns, monkeypatch)
    assert rows[:1] == wanted
    assert len(rows) == 2 and rows[1].startswith("rec") and "430 MiB" in rows[1]


def test_one_row_is_not_indented(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer of unknown size has a row with bytes, rate and elapsed time, without indentation."""
    assert rows_of([OPEN._replace(name="sent")], 80, monkeypatch) == ["sent 430 MiB  860 MiB/s  0:00"]


@given(st.builds(Transfer, st.just("sent"), SIZES, st.none() | SIZES, SIZES), st.floats(0, 1e9), st.integers(2, 300))
def test_nothing_breaks_a_row(transfer: Transfer, at: float, columns: int) -> None:
    """For any numbers and width of the terminal, a transfer is one row that fits, with at most 100 %."""
    said = RateMeter(0.0).sample(transfer, at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screen, "terminal_size", lambda fd: os.terminal_size((columns, 24)))
        rows = screen.rows(progress.transfer_row("sent", said, columns), 2, coloured=False)
    assert len(rows) == 1 and cell_len(rows[0]) <= columns
    assert said.share is None or 0 <= said.share <= 1


def test_a_bar_has_colours_of_the_terminal() -> None:
    """The bar uses colours of the terminal's theme, as fixed ones may be invisible on a light background."""
    said = RateMeter(0.0).sample(KNOWN, 1.0)
    [row] = screen.rows(progress.transfer_row("sent", said, 80), 2, coloured=True)
    assert set(re.findall(r"\x1b\[([0-9;]*)m", row)) == {"32", "2", "0"}


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (80, "━━━━━━━━━━━━━╸                  30,213 of 65,535 ports, 12 open  1:15"),
        (60, "━━━━━━━━━╸             30,213 of 65,535 ports, 12 open  1:15"),
        (40, "━━━━╸       30,213/65,535, 12 open  1:15"),
        (30, "30,213/65,535, 12 open  1:15"),
        (20, "30,213"),
    ],
)
def test_a_check_is_one_row(columns: int, wanted: str) -> None:
    """The progress of a port check is one row, without bar, time and words if they do not fit."""
    summary = Summary(Check(), [Target("h", tuple(range(1, 65536)))])
    summary.states.update(closed=30201, open=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screen, "terminal_size", lambda fd: os.terminal_size((columns, 24)))
        [row] = screen.rows(progress.check_bar(summary, 75.3, columns), 2, coloured=False)
    assert row.rstrip() == wanted


def table_of(ports: int) -> portcheck.PortTable:
    """Return a table with so many ports, which came in the reverse order."""
    summary = Summary(Check(), [Target("127.0.0.1", tuple(range(1, ports + 1)))])
    table = portcheck.PortTable(summary, each_port=True, chains=False, view=View())
    for port in range(ports, 0, -1):
        probe = ProbeResult(CLOSED, "connection refused", Exit.CONNECT, "127.0.0.1", 0.001)
        table.write(Result("127.0.0.1", port, "tcp", probe, number=0))
    return table


def test_a_long_table_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table at the end comes some rows at a time, so that a signal is heard meanwhile, with one head."""
    for module in (portcheck, screen):
        monkeypatch.setattr(module, "terminal_size", lambda fd: os.terminal_size((80, 24)))
    pieces = [piece.splitlines() for piece in table_of(250).end(None)]
    assert [len(piece) for piece in pieces] == [101, 100, 50]
    head, *rows = (line.split()[0] for piece in pieces for line in piece)
    assert "TARGET" in head and rows == [f"127.0.0.1:{port}" for port in range(1, 251)]


@pytest.mark.parametrize(("columns", "lines", "shown"), [(80, 12, 9), (40, 12, 5), (40, 3, 1)])
def test_a_table_that_grows_fits_the_screen(
    columns: int, lines: int, shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A growing table shows as many ports as fit the screen, even if each takes several lines."""
    for module in (portcheck, screen):
        monkeypatch.setattr(module, "terminal_size", lambda fd: os.terminal_size((columns, lines)))
    table = table_of(30)
    first = table._first(lines - 2)
    assert [row.result.port for row in first] == [*range(1, shown + 1)]
    assert shown == 1 or len(screen.rows(table._table(first), 1, coloured=False)) <= lines - 2
