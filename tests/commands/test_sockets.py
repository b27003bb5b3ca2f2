"""sockets, compared with ss, in pipes, on terminals, and while sockets come and go."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from netkit.services.sockets import parse_state
from tests.support import NETKIT, PATIENCE, Finished, free_port, netkit, running
from tests.support.menagerie import FORGED
from tests.support.namespaces import separate
from tests.support.processes import strace, tool
from tests.support.refusals import mistake
from tests.support.terminals import read_until_hung_up, terminal, watched

SOCKETS = [*NETKIT, "sockets"]
NAME = r"evil\x1b[31m\x0aname"
HEADS = ["PROTO", "RECV", "SEND", "LOCAL", "PEER", "STATE", "USER", "PROCESS"]
NO_SOCK_DIAG = ("trace=socket", "inject=socket:error=EPROTONOSUPPORT")
Row = tuple[str, str, str, str, str, str, tuple[int, ...]]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# Another user may not be allowed to read our modules, so they are imported before.
AS_NOBODY = """
import os, sys
from netkit.cli.app import run
run(["sockets", "--json"])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print("AS NOBODY", flush=True)
sys.exit(run(["sockets", "--json"]))
"""
MANY_TIMES = """
from netkit.cli.app import run
codes = {run(["sockets"]) for _ in range(8)}
assert codes == {0}, codes
"""


class Zoo:
    """The output of commands that ran while the sockets of the menagerie were open."""

    def __init__(self, folder: Path, commands: Sequence[Sequence[str]], *how: str, wrapper: Sequence[str]) -> None:
        argv = [*wrapper, sys.executable, "-m", "tests.support.menagerie", str(folder), *how]
        done = subprocess.run(argv, input=json.dumps(commands).encode(), capture_output=True, timeout=PATIENCE * 2)
        assert done.returncode == 0, done.stderr.decode()
        told = json.loads(done.stdout)
        self.pids: list[int] = told["pids"]
        self.opened: int = told["opened"]
        self.outputs: list[str] = []
        for code, out, err in told["outputs"]:
            assert (code, err) == (0, ""), err
            self.outputs.append(out)


def isolated() -> list[str]:
    """Return a wrapper that runs a command in its own network, without other sockets."""
    return separate("ip link set lo up")


def of_ss(text: str) -> list[Row]:
    """Parse the output of ss, where a name with a newline spans two lines."""
    rows = []
    for row in re.split(r"^(?=(?:tcp|udp) )", text, flags=re.MULTILINE)[1:]:
        protocol, state, received, sent, local, peer = row.split()[:6]
        ends = [re.sub(r"\](%\w+):", r"\1]:", re.sub(r"^\*:", "[::]:", end)) for end in (local, peer)]
        far = "-" if ends[1].endswith(":*") else ends[1]
        state = parse_state(state, (protocol,))
        rows.append((protocol, received, sent, ends[0], far, state, pids_of_ss(row)))
    return sorted(rows)


def pids_of_ss(row: str) -> tuple[int, ...]:
    """Return the process ids in a row of ss."""
    return tuple(sorted(map(int, re.findall(r"pid=(\d+),", row))))


def of_json(text: str) -> list[Row]:
    """Parse the TCP and UDP sockets of --json."""
    return sorted(
        (
            one["protocol"],
            str(one.get("receive_queue_bytes", one.get("accept_queue"))),
            str(one.get("send_queue_bytes", one.get("accept_queue_max"))),
            end(one, "local"),
            end(one, "peer"),
            one["state"],
            tuple(process["pid"] for process in one.get("processes", ())),
        )
        for one in map(json.loads, text.splitlines())
        if one["protocol"] != "unix"
    )


def end(one: dict[str, Any], side: str) -> str:
    """Return an address with its port, as ss writes them."""
    address = one.get(f"{side}_address")
    if address is None:
        return "-"
    return f"[{address}]:{one[f'{side}_port']}" if ":" in address else f"{address}:{one[f'{side}_port']}"


def unix_of_ss(text: str) -> set[tuple[str, int, int, tuple[int, ...]]]:
    """Return type, inode, peer's inode and processes of the unix sockets in the output of ss."""
    found = set()
    for row in re.split(r"^(?=u_\w+ )", text, flags=re.MULTILINE)[1:]:
        inodes = re.search(r" (\d+) \* (\d+)\s", row)
        assert inodes
        found.add((row[:5], int(inodes[1]), int(inodes[2]), pids_of_ss(row)))
    return found


def unix_of_json(text: str) -> set[tuple[str, int, int, tuple[int, ...]]]:
    """Return the same from --json."""
    kinds = {"stream": "u_str", "dgram": "u_dgr", "seqpacket": "u_seq"}
    return {
        (
            kinds[one["type"]],
            one["inode"],
            one.get("peer_inode", 0),
            tuple(process["pid"] for process in one.get("processes", ())),
        )
        for one in map(json.loads, text.splitlines())
        if one["protocol"] == "unix"
    }


# -- the same as ss


def test_the_same_sockets_as_ss(tmp_path: Path) -> None:
    """All sockets are listed once each, as ss lists them, and foreign text is escaped."""
    ss = tool("ss")
    commands = [
        [ss, "-tuanpH"],
        [ss, "-xanpH"],
        [*SOCKETS, "--json"],
        SOCKETS,
        [*strace(*NO_SOCK_DIAG), *SOCKETS, "--tcp", "--udp"],
    ]
    zoo = Zoo(tmp_path, commands, wrapper=isolated())
    inet, unix, told, text, fallback = zoo.outputs
    assert of_json(told) == of_ss(inet)
    assert unix_of_json(told) == unix_of_ss(unix)
    assert len(told.splitlines()) == zoo.opened + 1  # one more was not accepted yet

    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == HEADS
    assert len(rows) == zoo.opened + 2
    assert all(len(row) == len(HEADS) for row in rows)
    protocols = [row[0].partition("_")[0] for row in rows[1:]]
    assert protocols == sorted(protocols, key=["tcp", "udp", "u"].index)
    assert {row[7] for row in rows[1:]} == {f"{zoo.pids[0]}+1/{NAME}", "-"}
    assert "\x1b" not in text and "\x1b" not in told

    # Without sock_diag the rows come from /proc/net, which does not have the accept queue of a listener.
    plain = [row[:2] + row[3:] for row in rows if row[0] in ("PROTO", "tcp", "udp")]
    assert [line.split()[:2] + line.split()[3:] for line in fallback.splitlines()] == plain


def test_names_of_unix_sockets_forge_nothing(tmp_path: Path) -> None:
    """A newline in a socket's name forges a line in /proc/net/unix, but not in our output."""
    zoo = Zoo(tmp_path, [["cat", "/proc/net/unix"], [*SOCKETS, "--unix"], [*SOCKETS, "--json"]], wrapper=isolated())
    kernel, text, told = zoo.outputs
    forged = FORGED.decode().replace("/", ":")
    assert f"\n{forged}\n" in kernel
    names = [line.split()[3] for line in text.splitlines()]
    assert "x\\x0a" + forged.replace(" ", "\\x20") in names
    assert r"@abstract\x00\x1b[31m" in names
    assert names.count(f"{tmp_path}/a\\x20b") == 2
    found = [json.loads(line) for line in told.splitlines()]
    assert f"unix:x\n{forged}" in [one.get("local_address") for one in found]
    [client] = [one for one in found if one.get("peer_address") == f"unix:{tmp_path}/a b"]
    assert client["pid"] == zoo.pids[0] and client["process"] == "evil\x1b[31m\nname"


@pytest.mark.fault("sockets that come and go")
def test_while_a_thousand_sockets_churn(tmp_path: Path) -> None:
    """While sockets come and go no row is torn or repeated, and afterwards the list is that of ss."""
    ss = [tool("ss"), "-tuanpH"]
    commands = [[sys.executable, "-c", MANY_TIMES], [], ss, [*SOCKETS, "--json"], ss]
    zoo = Zoo(tmp_path, commands, "churn", wrapper=isolated())
    meanwhile, before, told, after = zoo.outputs
    assert zoo.opened >= 1000
    listings = meanwhile.split("PROTO")[1:]
    assert len(listings) == 8
    for text in listings:
        rows = [tuple(line.split()) for line in text.splitlines()[1:]]
        assert {len(row) for row in rows} == {len(HEADS)}
        ends = [(row[0], row[3], row[4]) for row in rows if row[0] in ("tcp", "udp") or row[3].startswith("inode:")]
        assert len(set(ends)) == len(ends)
    # Sockets in time-wait end by themselves, so they may be in only one of the listings.
    first, ours, last = set(of_ss(before)), of_json(told), set(of_ss(after))
    assert len(set(ours)) == len(ours)
    assert first & last <= set(ours) <= first | last
    assert sum(row[5] != "time-wait" for row in ours) > 500


@as_root
@pytest.mark.fault("sockets that come and go")
def test_other_users_processes_are_unknown(tmp_path: Path) -> None:
    """An ordinary user sees the sockets of other users without their processes, as with ss."""
    wrapper = [tool("unshare"), "-n", "sh", "-ec", 'PATH=$PATH:/sbin ip link set lo up; exec "$@"', "sh"]
    nobody = [tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    zoo = Zoo(tmp_path, [[sys.executable, "-c", AS_NOBODY], [*nobody, tool("ss"), "-tuanpH"]], wrapper=wrapper)
    whole, _, seen = zoo.outputs[0].partition("AS NOBODY\n")
    assert of_json(seen) == of_ss(zoo.outputs[1])
    assert [row[:-1] for row in of_json(seen)] == [row[:-1] for row in of_json(whole)]
    found = [json.loads(line) for line in seen.splitlines()]
    assert not [one for one in found if "pid" in one or "process" in one or "processes" in one]
    assert {one.get("user") for one in found} == {"root", None}


@as_root
def test_a_process_of_another_user_is_not_ours_to_see() -> None:
    """--pid of another user's process is exit code 26 (permission denied), and not 3 (no sockets)."""
    script = AS_NOBODY.replace('"--json"', f'"--pid", "{os.getpid()}"')
    with socket.create_server(("127.0.0.1", 0)):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 26
    reason = b"permission denied"
    assert done.stderr == b"netkit sockets: cannot read the sockets of process %d: %b\n" % (os.getpid(), reason)


@as_root
def test_a_port_of_another_user_has_a_hint() -> None:
    """With --port a hint on the terminal says why the process of another user is not shown."""
    with socket.create_server(("127.0.0.1", 0)) as server, terminal() as (ours, theirs):
        words = f'"--port", "{server.getsockname()[1]}"'
        script = AS_NOBODY.replace('"--json"', words, 1).replace('"--json"', words, 1)
        subprocess.run([sys.executable, "-c", script], stdout=theirs, stderr=theirs, timeout=PATIENCE)
        os.close(theirs)
        as_root, _, as_nobody = read_until_hung_up(ours).partition(b"AS NOBODY")
    assert f"{os.getpid()}/".encode() in as_root and b"hint" not in as_root
    assert as_nobody.endswith(b"\r\nhint: only root sees the processes of other users\r\n")


def test_addresses_of_a_link_have_its_name() -> None:
    """A link-local address is shown with its interface."""
    wrapper = separate("ip link set lo up; ip addr add fe80::5/64 dev lo nodad")
    tool("ss")
    look = '"$0" -m netkit sockets --tcp --json; ss -tuanpH'
    done = netkit("echo", "fe80::5%lo", "0", "--", "sh", "-c", look, sys.executable, wrapper=wrapper)
    assert done.code == 0, done.err
    [one] = of_json(done.out.decode().partition("\n")[0])
    assert one[3].startswith("[fe80::5%lo]:") and one[4] == "-"
    assert [row[:6] for row in of_ss(done.out.decode())] == [one[:6]]


# -- filters


def test_who_has_a_port() -> None:
    """--port, --pid and --state select sockets, and with -q only the exit code tells."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        port, mine = str(server.getsockname()[1]), str(os.getpid())
        [one] = map(json.loads, netkit("sockets", "--listening", "--port", port, "--json").out.splitlines())
        assert (one["command"], one["event"], one["protocol"], one["family"]) == ("sockets", "socket", "tcp", "ipv4")
        assert (one["local_address"], one["local_port"], one["state"]) == ("127.0.0.1", int(port), "listen")
        assert (one["accept_queue"], one["pid"], one["uid"]) == (1, os.getpid(), os.getuid())
        assert "peer_address" not in one and "receive_queue_bytes" not in one
        text = netkit("sockets", "--tcp", "--pid", mine, "--port", port, "--state", "ESTAB").out.decode()
        local = client.getsockname()[1]
        assert [line.split()[3:6] for line in text.splitlines()[1:]] == [
            [f"127.0.0.1:{local}", f"127.0.0.1:{port}", "established"]
        ]
        assert netkit("sockets", "--udp", "--port", port, "-q") == Finished(3, b"", "")
        assert netkit("sockets", "--tcp", "--port", port, "-q") == Finished(0, b"", "")


def test_colour_in_a_pipe() -> None:
    """A pipe gets colour only with --color always, and the columns stay aligned."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        args = ("sockets", "--listening", "--port", str(server.getsockname()[1]))
        plain = netkit(*args, env={**os.environ, "FORCE_COLOR": "1"}).out
        coloured = netkit(*args, "--color", "always").out
    assert b"\x1b" not in plain
    assert b"\x1b[32mlisten\x1b[m" in coloured
    assert coloured.replace(b"\x1b[32m", b"").replace(b"\x1b[m", b"") == plain


def test_nothing_matches() -> None:
    """If no socket matches, the exit code is 3 and stdout is empty, without a header."""
    args = ("sockets", "--listening", "--port", str(free_port()))
    assert netkit(*args) == Finished(3, b"", "netkit sockets: cannot find a socket: none matches\n")
    told = netkit(*args, "--json")
    assert (told.code, told.out) == (3, b"")
    assert json.loads(told.err)["error"]["kind"] == "nothing"
    assert netkit("sockets", "--pid", str(2**22 + 1), "-q") == Finished(3, b"", "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["8080"], "unexpected word '8080': --port N shows who has a port"),
        (["--port", "99999"], "port 99999 is not between 1 and 65535"),
        (["--unix", "--state", "SYN_SENT"], "--state syn-sent does not apply: unix sockets are"),
        (["--pid", "0"], "'0' is not a whole number from 1 on"),
        (["--watch", "0"], "'0' would leave no time at all"),
        (["-tulpn"], "--tcp shows only TCP, --tcp --udp both"),
        (["-an"], "sockets in every state are shown anyway"),
        (["--listen"], "no such option '--listen', did you mean '--listening'?"),
    ],
)
def test_mistakes(capfd: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    """A usage error is one line, and options of ss and netstat are explained."""
    assert message in mistake(capfd, ["sockets", *args])


def test_unix_sockets_need_sock_diag() -> None:
    """Without unix_diag unix sockets cannot be listed, which is an error, and not an empty list."""
    wrapper = strace(*NO_SOCK_DIAG)
    reason = "protocol not supported (the kernel's unix_diag)"
    assert netkit("sockets", wrapper=wrapper) == Finished(
        26, b"", f"netkit sockets: cannot list unix sockets: {reason}\n"
    )


# -- --watch


def test_watch_in_a_pipe() -> None:
    """--watch prints the whole list again and again, separated by blank lines, until a signal ends it."""
    port = free_port()
    with running("sockets", "--watch", "20ms", "--listening", "--port", str(port)) as process:
        assert process.out.readline().split() == [head.encode() for head in HEADS]
        assert process.out.readline() == b"\n"
        with socket.create_server(("127.0.0.1", port)):
            while f"127.0.0.1:{port}".encode() not in process.out.readline():
                pass
            assert process.out.readline() == b"\n"
        process.signal(signal.SIGTERM)
        assert process.finish()[::2] == (-signal.SIGTERM, "")


def test_watch_ends_when_its_reader_leaves() -> None:
    """--watch dies by SIGPIPE when its reader leaves, also while it waits; each JSON object has a time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with running("sockets", "--watch", "50ms", "--json", "--listening", "--port", port) as process:
            first, second = (json.loads(process.out.readline()) for _ in range(2))
            assert first["inode"] == second["inode"] and first["time"] < second["time"]
            process.out.close()
            assert process.wait() == -signal.SIGPIPE
            assert process.said == []


# -- on a terminal


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Set the name of this process, of 15 bytes at most, for the time of the context."""
    file = Path("/proc/self/comm")
    before = file.read_text().removesuffix("\n")
    file.write_text(name)
    try:
        yield
    finally:
        file.write_text(before)


@pytest.mark.parametrize("name", ["python", "as-long-as-none"])
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_table_fits_the_terminal(columns: int, name: str, tmp_path: Path) -> None:
    """The table fits a terminal of 40, 80 or 120 columns, and no address is cut."""
    path = str(tmp_path / ("long" * 20))[:100]
    with (
        named(name),
        socket.socket(socket.AF_UNIX) as unix,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        unix.bind(path)
        unix.listen()
        ends = [f"127.0.0.1:{one.getsockname()[1]}" for one in (server, client)]
        with watched("sockets", "--pid", str(os.getpid()), columns=columns) as netkit:
            lines = netkit.end()
            assert netkit.process.wait() == 0
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", netkit.data).decode()
    assert max(map(len, plain.splitlines())) <= columns
    if columns == 40:
        assert ["tcp", *reversed(ends)] in [line.split() for line in lines]
        assert path in "".join(line.strip() for line in lines)
    else:
        head = next(line for line in lines if "LOCA" in line)
        column = "".join(line[head.index("LOCA") :].partition(" ")[0] for line in lines)
        assert all(end in column for end in (*ends, path))
        assert lines[0].split() == HEADS
        [connected] = [line.split() for line in lines if ends[1] in line.split()[3:4]]
        assert connected[:6] == ["tcp", "0", "0", ends[1], ends[0], "established"]


def test_watch_on_a_terminal() -> None:
    """--watch redraws the table in place, as far as it fits; Ctrl-C leaves the last one and the cursor visible."""
    args = ("sockets", "--tcp", "--listening", "--pid", str(os.getpid()), "--watch", "30ms")
    with contextlib.ExitStack() as stack, watched(*args, columns=80, rows=10) as netkit:
        for _ in range(12):
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        netkit.until("^and 5 more")  # 12 rows, 7 fit below the header
        netkit.written(b"PROTO", 3)
        stack.close()
        with socket.create_server(("127.0.0.1", 0)) as last:
            wanted = f"127.0.0.1:{last.getsockname()[1]}"
            while [line.split()[3:4] for line in netkit.lines] != [["LOCAL"], [wanted]]:
                netkit.read()
            netkit.process.signal(signal.SIGINT)
            lines = netkit.end()
            assert netkit.process.wait() == -signal.SIGINT
    assert lines[0].split() == HEADS
    assert [line.split()[3] for line in lines] == ["LOCAL", wanted]


def test_watch_on_a_terminal_without_escapes() -> None:
    """On a terminal without escape sequences --watch prints the list again and again, as in a pipe."""
    args = ("sockets", "--tcp", "--listening", "--watch", "20ms")
    with socket.create_server(("127.0.0.1", 0)), watched(*args, env={"TERM": "dumb"}) as netkit:
        netkit.written(b"PROTO", 3)
        netkit.process.signal(signal.SIGINT)
        netkit.end()
        assert netkit.process.wait() == -signal.SIGINT
    assert b"\x1b" not in netkit.data


def test_watch_ends_with_its_terminal() -> None:
    """If the terminal goes away, writing to stdout fails (23), even if SIGHUP is not received."""
    args = ("sockets", "--tcp", "--listening", "--watch", "20ms")
    with socket.create_server(("127.0.0.1", 0)), watched(*args, stderr=subprocess.PIPE) as netkit:
        netkit.written(b"PROTO")
        os.close(netkit.theirs)
        os.close(netkit.ours)
        netkit.process.line("cannot write to stdout: input/output error")
        assert netkit.process.wait() == 23


def test_watch_counts_what_is_left_out_of_long_names(tmp_path: Path) -> None:
    """--watch counts the rows that do not fit correctly, also when long names are wrapped."""
    names = 29
    args = ("sockets", "--unix", "--listening", "--pid", str(os.getpid()), "--watch", "30ms")
    with contextlib.ExitStack() as stack, contextlib.chdir(tmp_path):
        for number in range(names):
            unix = stack.enter_context(socket.socket(socket.AF_UNIX))
            unix.bind(f"My Long Application Name of many words, some socket that is here {number:02}")
            unix.listen()
        netkit = stack.enter_context(watched(*args, columns=80, rows=12))
        more = netkit.until(r"^and \d+ more")
        shown = "".join("".join(netkit.lines).split())
    assert names - int(more.split()[1]) == sum(f"here{number:02}" in shown for number in range(names)) > 2


def test_watch_from_the_background() -> None:
    """--watch also draws when it is not in the foreground process group, as below timeout(1)."""
    wrapper = ["setsid", "--ctty", "timeout", "60"]
    args = ("sockets", "--tcp", "--listening", "--watch", "20ms")
    with socket.create_server(("127.0.0.1", 0)), watched(*args, wrapper=wrapper) as netkit:
        netkit.written(b"PROTO", 3)
        netkit.process.signal(signal.SIGTERM)
        netkit.process.wait()


def test_the_hint_of_a_taken_port_shows_who_has_it() -> None:
    """The hint for an address in use is a command that shows the process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with watched("listen", f"127.0.0.1:{port}", columns=120) as refused:
            lines = refused.end()
            assert refused.process.wait() == 45
        command = f"netkit sockets --listening --port {port}"
        assert f"hint: {command} shows who has it; port 0 takes a free one" in lines
        assert netkit(*command.split()[1:]).out.split()[-1].startswith(f"{os.getpid()}/".encode())
