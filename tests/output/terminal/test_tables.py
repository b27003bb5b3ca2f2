"""Tables and progress on a terminal, without control characters of a peer."""

import os
import re
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import RenderableType

from netkit.core.events import Timed
from netkit.output import timeline
from netkit.output.terminal import screen
from netkit.output.terminal.tables import WHOLE, drawn, fitted
from tests.support import netkit, peer, read_all
from tests.support.data import HOSTILE
from tests.support.namespaces import FIREWALL, separate
from tests.support.partners import file_of
from tests.support.peers import send
from tests.support.terminals import on_terminal, watched


def seen(*args: str, **how: Any) -> tuple[int, bytes, list[str]]:
    """Run netkit on a terminal; return its exit code, the bytes it wrote, and the lines on the screen at the end."""
    with watched(*args, **how) as netkit:
        lines = netkit.end()
        return netkit.process.wait(), netkit.data, lines


HEADS = ["TARGET", "STATE", "DETAIL"]
PORTS = [
    ["http://db.example:8080/health", "open", "not ready: 503 Service Unavailable"],
    ["db:1", "-", "name not found"],
    ["db:2", "open", ""],
]


def lines_of(cells: list[list[str]], columns: int) -> list[str]:
    """Return the lines of a table on a terminal of this width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screen, "terminal_size", lambda fd: os.terminal_size((columns, 24)))
        made = fitted(HEADS, cells, columns, wrapped="DETAIL")(WHOLE, True)
        return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in screen.rows(made, 1, coloured=False)]


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (
            72,
            """
TARGET                         STATE  DETAIL
http://db.example:8080/health  open   not ready: 503 Service Unavailable
db:1                           -      name not found
db:2                           open
""",
        ),
        (
            64,
            """
TARGET                         STATE  DETAIL
http://db.example:8080/health  open   not ready: 503 Service
                                      Unavailable
db:1                           -      name not found
db:2                           open
""",
        ),
        (
            40,
            """
http://db.example:8080/health  open
  not ready: 503 Service Unavailable
db:1  name not found
db:2  open
""",
        ),
        (
            20,
            """
http://db.example:80
  80/health
  open
  not ready: 503
  Service
  Unavailable
db:1  name not found
db:2  open
""",
        ),
    ],
)
def test_a_table_fits_the_terminal(columns: int, wanted: str) -> None:
    """The last column is folded between words; if the terminal is too narrow for columns, each row is a paragraph."""
    assert lines_of(PORTS, columns) == wanted.strip().splitlines()


@given(st.lists(st.lists(st.text("ab -", max_size=40), min_size=3, max_size=3), min_size=1), st.integers(3, 90))
def test_nothing_of_a_table_is_lost(cells: list[list[str]], columns: int) -> None:
    """At any width no line of a table is too long, and no text is lost."""
    lines = lines_of(cells, columns)
    assert max(map(len, lines)) <= columns
    letters = "".join(lines).translate({ord(each): None for each in " -TARGESDIL"})
    assert sorted(letters) == sorted("".join("".join(row) for row in cells).replace(" ", "").replace("-", ""))


@pytest.mark.parametrize("wrapped", ["STATE", "DETAIL"])
@pytest.mark.parametrize("columns", [80, 50, 20])
def test_a_long_table_is_drawn_in_pieces(columns: int, wrapped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than 100 rows are drawn at once, only when asked for, and together they are the table as a whole."""
    monkeypatch.setattr(screen, "terminal_size", lambda fd: os.terminal_size((columns, 24)))
    cells = [[f"db:{number}", "word " * (number % 90 // 10), "x" * (number // 30)] for number in range(250)]
    picture = fitted(HEADS, cells, columns, wrapped=wrapped)
    parts: list[range] = []

    def noted(part: slice, headed: bool) -> RenderableType:
        parts.append(range(250)[part])
        return picture(part, headed)

    text = ""
    for number, piece in enumerate(drawn(noted, 250, coloured=True), 1):
        assert len(parts) == number
        text += piece
    assert parts == [range(0, 100), range(100, 200), range(200, 250)]
    assert text.splitlines() == screen.rows(picture(WHOLE, True), 1, coloured=True)


def test_times_on_a_narrow_terminal() -> None:
    """On a narrow terminal all times are listed, without bars."""
    event = Timed("http://h/x", 0.012, 0.031, 0.058, 0.204, 1.2)
    assert timeline.drawn(event, 40) == timeline.listed(event)


def test_what_is_not_as_wanted_is_said_once() -> None:
    """Below a table the summary only names ports that are open but still not as wanted; without a table, all."""
    code, _, lines = seen("portcheck", "127.0.0.1:1", "127.0.0.1:2")
    said = "netkit portcheck: 0 of 2 open in "
    assert code == 7 and lines[3].startswith(said) and "not as wanted" not in lines[3]
    with peer(lambda client: client.sendall(b"ready")) as server:
        code, _, lines = seen("portcheck", "127.0.0.1:1", server.address, "--expect", "well")
        assert code == 7 and "".join(lines[3:-1]).endswith(
            f" (1 closed); not as wanted: {server.address} (closed by the peer before a match)"
        )
    with tempfile.TemporaryFile() as out:
        _, data = on_terminal("portcheck", "127.0.0.1:1", "127.0.0.1:2", stdout=out)
    assert b"(2 closed); not as wanted: 127.0.0.1:1 (connection refused)" in data


def test_ports_are_a_table() -> None:
    """portcheck prints a table with target, address, state, time and detail, in the order of the targets."""
    with peer(read_all) as server:
        code, _, lines = seen("portcheck", "nosuch.invalid:7", f"localhost:{server.port},1", "-4", "--all-open")
    assert code == 7
    assert lines[0].split() == ["TARGET", "ADDRESS", "STATE", "TIME", "DETAIL"]
    assert lines[1].split()[:3] == ["nosuch.invalid:7", "-", "unknown"]
    assert lines[2].split()[:3] == ["localhost:1", "127.0.0.1", "closed"]
    assert lines[3].split()[:3] == [f"localhost:{server.port}", "127.0.0.1", "open"]
    assert lines[4].startswith("netkit portcheck: 1 of 3 open in ")
    assert lines[-1] == "hint: not there yet? --wait 30s keeps trying"


def test_a_peer_draws_nothing() -> None:
    """Escape sequences in a banner are shown escaped, and rich's markup is shown as text."""
    with peer(send(b"[/red][bold]" + HOSTILE)) as server:
        code, data, lines = seen("portcheck", server.address, "--banner", "--color", "never")
    assert code == 0
    assert b"\x1b]" not in data and b"\x07" not in data
    assert r"[/red][bold]\x1b]0;PWNED\x07" in lines[1]
    assert not any(line.startswith(("::error", "ok ")) for line in lines)


@pytest.mark.parametrize(
    ("args", "env", "coloured"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour(args: list[str], env: dict[str, str], coloured: bool) -> None:
    """Output on a terminal has colours, and --color has precedence over NO_COLOR and FORCE_COLOR."""
    code, data, _ = seen("portcheck", "127.0.0.1:1", *args, env=env)
    assert code == 7
    assert (b"\x1b[31mclosed" in data) == coloured


@pytest.mark.parametrize("words", [("portcheck", "127.0.0.1:1", "--closed"), ("resolve",), ("sockets", "--udp")])
def test_what_is_not_coloured_is_plain(words: tuple[str, ...]) -> None:
    """Without colours no letter is bold or dim either."""
    with socket.socket(type=socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        for args, env in (([], {"NO_COLOR": "1"}), (["--color", "never"], {})):
            code, data, lines = seen(*words, *args, env=env)
            assert (code, b"\x1b[" in data) == (0, False) and lines
        assert b"\x1b[1m" in seen(*words)[1]


@pytest.mark.parametrize("name", ["localhost", "-"])
def test_names_are_a_table(name: str) -> None:
    """resolve prints a table with name, answer, canonical name and time."""
    with file_of(b"localhost\n") as stdin:
        code, _, lines = seen("resolve", name, "-4", stdin=stdin)
    assert code == 0
    assert lines[0].split() == ["NAME", "ANSWER", "CANONICAL", "NAME", "TIME"]
    assert lines[1].split()[:3] == ["localhost", "127.0.0.1", "localhost"]


def test_names_that_are_typed_are_answered_as_they_come() -> None:
    """resolve - waits for no end of typed names: it prints lines, and no table."""
    with watched("resolve", "-", "-4") as netkit:
        os.write(netkit.ours, b"localhost\n")
        netkit.written(b"localhost\t127.0.0.1\r\n")
        os.write(netkit.ours, b"\x04")
        assert netkit.process.wait() == 0


def test_services_are_columns() -> None:
    """services prints aligned columns, without tabs."""
    code, data, lines = seen("services", "ssh", "http/tcp")
    assert (code, lines) == (0, ["ssh   22/tcp", "http  80/tcp  www"])
    assert b"\t" not in data


def test_progress_moves_on_a_terminal_alone(tmp_path: Path) -> None:
    """With stdout in a file, progress is shown on the terminal of stderr and then erased, and the file is plain."""
    args = ["portcheck", "127.0.0.1:1000-1003,2003", "-w", "500ms", "--progress"]
    with open(tmp_path / "out", "w+b") as out, watched(*args, wrapper=separate(FIREWALL), stdout=out) as netkit:
        [line] = netkit.end()
        assert netkit.process.wait() == 7
        out.seek(0)
        written = out.read()
    assert b"1 of 5 ports, 0 open" in netkit.data
    assert line.startswith("netkit portcheck: 0 of 5 open in ")
    assert written.count(b"\n") == 5 and b"\x1b" not in written


def test_nothing_moves_in_a_pipe() -> None:
    """If stderr is a pipe, there is neither progress nor an escape sequence."""
    result = netkit("portcheck", "127.0.0.1:1", "--wait", "700ms", env={**os.environ, "FORCE_COLOR": "1"})
    assert result.code == 28
    assert "\x1b" not in result.err and b"\x1b" not in result.out
    assert result.err.count("\n") == 3
