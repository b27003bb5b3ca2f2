"""The hex dump, compared with xxd."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.output.hexdump import dump, width_in
from tests.support.processes import tool


@pytest.mark.parametrize("offset", [0, 1, 0xFFFFFFF8, 1 << 36])
@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hi\n", bytes(range(15)), bytes(range(16)), bytes(range(17)), bytes(range(256)) * 3]
)
def test_dump_is_what_xxd_prints(data: bytes, offset: int) -> None:
    """All byte values, full and short lines, and offsets beyond 32 bits are dumped as by ``xxd -g1``."""
    xxd = subprocess.run([tool("xxd"), "-g1", "-o", str(offset)], input=data, capture_output=True, check=True)
    assert dump(data, offset) == xxd.stdout.decode()


@pytest.mark.parametrize(("columns", "width"), [(200, 16), (75, 16), (74, 12), (43, 8), (40, 4), (20, 4)])
def test_a_dump_on_a_narrow_terminal(columns: int, width: int) -> None:
    """On a narrow terminal a line has fewer bytes, a multiple of four and at least four, so that it fits."""
    lines = dump(bytes(range(32)), 0, width_in(columns)).splitlines()
    assert len(lines) == -(-32 // width) and lines[1].startswith(f"{width:08x}: {width:02x} ")
    assert max(map(len, lines)) <= max(columns, 27)


@given(st.binary(max_size=70), st.integers(0, 4), st.integers(0, 1 << 40))
def test_dump_goes_on_where_it_left_off(data: bytes, rows: int, offset: int) -> None:
    """Dumps of consecutive pieces, cut between lines, are the dump of the whole."""
    cut = 16 * rows
    assert dump(data[:cut], offset) + dump(data[cut:], offset + len(data[:cut])) == dump(data, offset)
