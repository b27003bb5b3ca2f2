"""``unpack`` of records of three numbers, compared with a loop in Python and with od."""

import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import IO

from tests.benchmarks.measure import NETKIT, Figures, Scale, Work, available, compare, cost_of

FORMAT = "!IHH"
LOOP = f"""
import struct, sys
for record in struct.iter_unpack("{FORMAT}", sys.stdin.buffer.read()):
    print(*record, sep="\\t")
"""
TOOLS = {
    "netkit": [*NETKIT, "unpack", "--repeat", FORMAT],
    "netkit --json": [*NETKIT, "unpack", "--repeat", "--json", FORMAT],
    "struct.iter_unpack": [sys.executable, "-c", LOOP],
    "od": ["od", "-An", "-v", "-w8", "-t", "u2"],
}


def read(argv: list[str], data: IO[bytes]) -> Figures:
    """Run a command that reads all of ``data``."""
    data.seek(0)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return cost_of(argv, stdin=data, env=buffered)


def measure(scale: Scale) -> Iterator[Work]:
    """Measure random records."""
    tools = [tool for tool in TOOLS if tool != "od" or available(["od"])]
    with tempfile.TemporaryFile() as data:
        data.write(os.urandom(8 * scale.records))
        data.flush()
        runs = {tool: partial(read, TOOLS[tool], data) for tool in tools}
        yield compare(f"unpack of {scale.records:,} records of '{FORMAT}'", scale.rounds, runs)
