"""portcheck with real servers and firewalls: states, formats of reports, and waiting."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import PATIENCE, Finished, free_port, netkit, peer, read_all, running
from tests.support.certificates import Pki
from tests.support.namespaces import FIREWALL, network, separate
from tests.support.partners import nginx, s_server
from tests.support.peers import address, send, udp
from tests.support.processes import resolver, tool
from tests.support.refusals import mistake


def behind_firewall(*args: str, limits: str = "") -> Finished:
    """Run netkit in a network with the firewall."""
    tool("nft")
    return netkit(*args, wrapper=separate(limits + FIREWALL))


def rows(result: Finished) -> list[list[str]]:
    """Return the fields of each line on stdout."""
    return [line.split("\t") for line in result.out.decode().splitlines()]


def states(result: Finished) -> dict[str, str]:
    """Return the state of each port."""
    return {f"{row[0]}:{row[1]}": row[3] for row in rows(result)}


@contextmanager
def redis() -> Iterator[int]:
    """Run a redis server; yield its port."""
    port = free_port()
    with running(argv=[tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]):
        yield port


# -- verdicts


def test_real_services_are_open(pki: Pki, tmp_path: Path) -> None:
    """A web server, redis and a TLS server are found open, and their connections are closed without a reset."""
    with (
        nginx(tmp_path, "return 404;", f"{tmp_path}/errors info") as address,
        redis() as cache,
        s_server(pki) as (_, tls),
    ):
        web, closed = address.rpartition(":")[2], free_port()
        ports = f"{web},{cache},{tls}"
        assert netkit("portcheck", "127.0.0.1", ports, "--all-open", "--wait", "10s", "-q") == (0, b"", "")
        found = netkit("portcheck", "127.0.0.1", f"{ports},{closed}", "--all-open")
        assert list(states(found).values()) == ["open", "open", "open", "closed"]
        answer = netkit("portcheck", f"localhost:{cache}", "--send", r"PING\r\n", "--expect", r"^\+PONG\r$")
        asked = netkit("portcheck", f"localhost:{web}", "--send", r"GET / HTTP/1.0\r\n\r\n", "--banner")
    assert found.code == 7
    assert found.err.startswith("netkit portcheck: 3 of 4 open in ")
    assert found.err.endswith(f" (1 closed); not as wanted: 127.0.0.1:{closed} (connection refused)\n")
    assert (answer.code, answer.err) == (0, "")
    assert rows(answer)[0][5] == "+PONG"
    assert rows(asked)[0][5].startswith(r"HTTP/1.1 404 Not Found\x0d\x0aServer: nginx")
    assert "reset" not in (tmp_path / "errors").read_text()


@pytest.mark.fault("no answer to connecting")
def test_firewalls() -> None:
    """Dropped packets are filtered, refused ones closed, rejected ones unreachable, each with reason and time."""
    found = behind_firewall("portcheck", "127.0.0.1:1000,2001,2002,2003", "-w", "300ms")
    assert [[*row[:4], row[5]] for row in sorted(rows(found), key=lambda row: row[1])] == [
        ["127.0.0.1", "1000/tcp", "127.0.0.1", "filtered", "no answer"],
        ["127.0.0.1", "2001/tcp", "127.0.0.1", "unreachable", "no route to host"],
        ["127.0.0.1", "2002/tcp", "127.0.0.1", "closed", "connection refused"],
        ["127.0.0.1", "2003/tcp", "127.0.0.1", "closed", "connection refused"],
    ]
    assert {row[1]: float(row[4]) for row in rows(found)}["1000/tcp"] >= 300
    assert found.code == 7


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["127.0.0.1:1000"], 28, "cannot find 127.0.0.1:1000 open: no answer (127.0.0.1, after "),
        (["127.0.0.1:1000", "::1", "2003"], 7, "0 of 2 open in "),
        (["localhost:2001"], 7, "cannot find localhost:2001 open: "),
        (["127.0.0.1:1000", "--closed"], 28, "cannot find 127.0.0.1:1000 closed: no answer ("),
        (["127.0.0.1:2002", "--closed"], 0, ""),
        (["127.0.0.1:1000", "--udp"], 28, "cannot find 127.0.0.1:1000 open: no answer (127.0.0.1, after "),
        (["127.0.0.1:2003", "--udp"], 7, "cannot find 127.0.0.1:2003 open: connection refused ("),
        (["127.0.0.1:1000-1001", "--any"], 28, "0 of 2 open in "),
    ],
)
def test_what_a_script_is_told_behind_a_firewall(args: list[str], code: int, message: str) -> None:
    """Each failure has its exit code and one line."""
    found = behind_firewall("portcheck", *args, "-w", "60ms" if code == 28 else "500ms")
    assert found.code == code
    assert found.err.startswith(f"netkit portcheck: {message}" if message else "")
    assert found.err.count("\n") == (1 if code else 0)


def test_a_name_without_an_address_is_unknown() -> None:
    """A name that cannot be resolved has the state unknown, and the exit code is 6."""
    resolver()
    with peer(read_all) as server:
        found = netkit("portcheck", "nosuch.invalid:7", server.address)
    assert sorted(rows(found))[-1] == ["nosuch.invalid", "7/tcp", "-", "unknown", "-", "name not found"]
    assert found.code == 6
    assert found.err.count("\n") == 1
    assert "1 of 2 open in " in found.err and "not as wanted: nosuch.invalid:7 (name not found)" in found.err


def test_a_machine_without_ipv6() -> None:
    """Its ::1, which localhost may have all the same, changes no verdict about 127.0.0.1."""
    without = separate("ip link set lo up", "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6")
    for options in ([], ["--udp"]):
        found = netkit("portcheck", ":9", "--closed", *options, wrapper=without)
        assert (found.code, rows(found)[0][2:4]) == (0, ["127.0.0.1", "closed"])
    alone = netkit("portcheck", "::1", "9", "--closed", wrapper=without)
    assert (alone.code, rows(alone)[0][3]) == (7, "unreachable")


def test_few_descriptors_change_no_verdict() -> None:
    """With few descriptors the check takes longer, with the same results."""
    with (
        network() as here,
        running("echo", "0", wrapper=here.inside) as one,
        running("echo", "0", wrapper=here.inside) as other,
    ):
        ports = f"{one.port},{other.port},1-300"
        args = ["portcheck", "localhost", ports, "--all", "--all-open", "--concurrency", "500"]
        few, many = (netkit(*args, wrapper=(*here.inside, *limit)) for limit in (["prlimit", "--nofile=20"], []))
    assert states(few) == states(many)
    assert sorted(states(few).values())[-3:] == ["closed", "open", "open"]
    assert (few.code, many.code) == (7, 7)
    dropped = behind_firewall("portcheck", "127.0.0.1:1000-1039", "-w", "100ms", "--all", limits="ulimit -n 16\n")
    assert (dropped.code, list(states(dropped).values())) == (28, ["filtered"] * 40)


def test_no_descriptor_at_all_is_no_verdict() -> None:
    """If no socket can be opened at all, the error says so, and no state is printed."""
    found = netkit("portcheck", "127.0.0.1:1", wrapper=("prlimit", "--nofile=6"))
    assert (found.code, found.out) == (7, b"")
    assert "too many open files" in found.err


def test_a_connection_with_ourselves_is_not_open() -> None:
    """A TCP connection to its own port (simultaneous open) counts as closed."""
    ports = "echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range\n"
    args = ["portcheck", "127.0.0.1:40000-40003", "--wait", "400ms", "--interval", "0"]
    found = behind_firewall(*args, limits=ports)
    assert (found.code, list(states(found).values())) == (28, ["closed"] * 4)


def test_connections_end_well() -> None:
    """A server with much to say sees our end, and no reset."""
    with peer(send(b"220 hello\r\n" + bytes(100_000))) as server:
        found = netkit("portcheck", server.address)
        assert server.result() == b""
    assert found.code == 0


def test_banner() -> None:
    """--banner shows what the server says first, with control characters escaped."""
    with peer(send(b"SSH-2.0-x\x1b[31m\r\n")) as server:
        found = netkit("portcheck", server.address, "--banner")
        said = netkit("portcheck", server.address, "--banner", "--json")
    assert rows(found)[0][5] == r"SSH-2.0-x\x1b[31m"
    assert json.loads(said.out)["text"] == "SSH-2.0-x\x1b[31m\r\n"


def test_settle() -> None:
    """--settle reports a port as closed if the peer closes at once, as a proxy without its server does."""
    with peer(lambda client: None) as server:
        left = netkit("portcheck", server.address, "--settle", "5s")
    with peer(read_all) as server:
        stayed = netkit("portcheck", server.address, "--settle", "50ms")
    assert left.code == 7
    assert rows(left)[0][3] == "closed"
    assert rows(left)[0][5].startswith("accepted, then closed by the peer after ")
    assert (stayed.code, rows(stayed)[0][3]) == (0, "open")


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [(b"no\n", 8, "closed by the peer before a match: no"), (b"", 8, "closed by the peer before a match")],
)
def test_expect_before_the_end(said: bytes, code: int, reason: str) -> None:
    """If the server ends before --expect matches, the port is open and the exit code is 8."""
    with peer(lambda client: client.sendall(said)) as server:
        found = netkit("portcheck", server.address, "--expect", "yes")
    assert (found.code, rows(found)[0][3], rows(found)[0][5]) == (code, "open", reason)


def test_expect_in_time() -> None:
    """If nothing matches --expect in time, the exit code is 28."""
    with peer(read_all) as server:
        found = netkit("portcheck", server.address, "--expect", "yes", "-w", "100ms")
    assert (found.code, rows(found)[0][5]) == (28, "no match within 100 ms")


def test_any_does_not_wait_for_the_rest() -> None:
    """--any exits with the first port that is as wanted, without waiting for the others."""
    tool("nft")
    with network(FIREWALL) as here, running("echo", "127.0.0.1:2500", wrapper=here.inside) as server:
        assert server.port == 2500
        found = netkit("portcheck", "127.0.0.1:1000,2500", "--any", "-w", "1h", wrapper=here.inside)
    assert (found.code, found.err) == (0, "")
    assert [row[1] for row in rows(found)] == ["2500/tcp"]


@pytest.mark.fault("filtered port for datagrams")
def test_udp() -> None:
    """Over UDP a port is open if it answers and closed after an ICMP error; --payload is sent in it."""

    def answer(server: socket.socket) -> bytes:
        data, client = server.recvfrom(100)
        server.sendto(b"pong\x07", client)
        return data

    with udp() as server, ThreadPoolExecutor() as pool:
        asked = pool.submit(answer, server)
        ports = f"{address(server)},1"
        found = netkit("portcheck", "--udp", ports, "--payload", "00ff 70", "--banner", "--all-open")
        assert asked.result() == b"\x00\xffp"
        silent = netkit("portcheck", "--udp", address(server), "-w", "60ms")
    assert {(row[3], row[5]) for row in rows(found)} == {("open", r"pong\x07"), ("closed", "connection refused")}
    assert found.code == 7
    assert (silent.code, rows(silent)[0][3]) == (28, "open|filtered")


@pytest.mark.fault("zones")
def test_the_zone_of_an_address_is_kept() -> None:
    """A link-local address is checked, and shown, with its zone, also over UDP."""
    linked = separate("ip link set lo up", "ip address add fe80::1/64 dev lo")
    for options in ([], ["--udp"]):
        found = netkit("portcheck", "fe80::1%lo", "9", *options, wrapper=linked)
        assert [row[2:4] for row in rows(found)] == [["fe80::1%lo", "closed"]]
    asked = netkit("resolve", "x.test", "--server", "fe80::1%lo", wrapper=linked)
    assert asked == (6, b"", "netkit resolve: cannot resolve x.test: connection refused ([fe80::1%lo]:53)\n")


# -- reports


def test_many_of_a_kind_are_summed_up() -> None:
    """More than 25 ports of a host in one state are one line on stderr, unless --all is given."""
    with peer(read_all) as server:
        found = netkit("portcheck", "127.0.0.1", f"1-26,{server.port}", "::1", "2-3")
        whole = netkit("portcheck", "127.0.0.1", f"1-26,{server.port}", "--all")
        few = netkit("portcheck", "127.0.0.1", f"1-25,{server.port}")
    assert [row[0] for row in rows(found) if row[3] != "open"] == ["::1", "::1"]
    assert found.err.splitlines()[0] == "netkit portcheck: 127.0.0.1: 26 ports closed"
    assert len(rows(whole)) == 27
    assert len(rows(few)) == 26
    assert whole.err.count("\n") == few.err.count("\n") == 1


def test_json() -> None:
    """--json prints one object for each port."""
    with peer(read_all) as server:
        found = netkit("portcheck", f"localhost:{server.port},1", "--json", "-4", "--all-open")
    port, closed = (json.loads(line) for line in found.out.splitlines())
    assert port.pop("time") and port.pop("time_ms") > 0
    assert port == {
        "command": "portcheck",
        "event": "port",
        "target": f"localhost:{server.port}",
        "host": "localhost",
        "port": server.port,
        "protocol": "tcp",
        "address": "127.0.0.1",
        "family": "ipv4",
        "state": "open",
        "exit_code": 0,
    }
    assert (closed["state"], closed["reason"], closed["exit_code"]) == ("closed", "connection refused", 7)
    assert [json.loads(line)["event"] for line in found.err.splitlines()][-1] == "error"


@pytest.mark.parametrize(
    ("form", "begin"),
    [("tap", "TAP version 13\n1..1\nnot ok 1 - "), ("junit", "<?xml "), ("github", "::error title=127.0.0.1%3A1/tcp ")],
)
def test_format(form: str, begin: str) -> None:
    """--format prints a report for a program, and does not change the exit code."""
    found = netkit("portcheck", "127.0.0.1:1", "--format", form)
    assert (found.code, found.out.decode()[: len(begin)]) == (7, begin)


def test_colour_in_a_pipe_is_only_asked_for() -> None:
    """A pipe gets colour only with --color always, and then only for the state."""
    plain = netkit("portcheck", "127.0.0.1:1", env={**os.environ, "FORCE_COLOR": "1"})
    coloured = netkit("portcheck", "127.0.0.1:1", "--color", "always", env={**os.environ, "NO_COLOR": "1"})
    assert b"\x1b" not in plain.out
    assert coloured.out.split(b"\t")[3] == b"\x1b[31mclosed\x1b[m"


def test_a_reader_that_leaves_ends_it() -> None:
    """While it waits for a port, it dies by SIGPIPE when the reader of stdout leaves."""
    read, write = os.pipe()
    with running("portcheck", "127.0.0.1:1", "--wait", "1h", "-vv", stdout=write) as check:
        os.close(write)
        check.line("again in")
        os.close(read)
        assert check.wait() == -signal.SIGPIPE


# -- waiting


def test_wait_then_command() -> None:
    """--wait tries again until the port is open; then COMMAND replaces netkit, with its pid, stdin and exit code."""
    port = free_port()
    command = ["sh", "-c", 'echo $$; cat; trap "" PIPE; exit 5']
    args = ["portcheck", f"localhost:{port}", "--wait", "20s", "-vv", "--", *command]
    with running(*args) as check:
        check.line(rf"localhost:{port} is closed: .*; again in")
        with socket.create_server(("127.0.0.1", port)):
            check.stdin.write(b"input")
            result = check.finish()
    assert result.code == 5
    assert result.out.splitlines()[1:] == [str(check.pid).encode(), b"input"]


def test_command_gets_the_signals_as_they_were() -> None:
    """COMMAND has the default action for SIGPIPE, though Python ignores it."""
    script = "kill -PIPE $$; echo survived"
    with peer(read_all) as server:
        result = netkit("portcheck", "-q", server.address, "--", "sh", "-c", script)
    assert (result.code, result.out) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize(("command", "code"), [("/nosuch/command", 127), ("/etc/passwd", 126)])
def test_command_that_cannot_run(command: str, code: int) -> None:
    """A COMMAND that cannot run is exit code 127 or 126."""
    with peer(read_all) as server:
        result = netkit("portcheck", "-q", server.address, "--", command)
        loud = netkit("portcheck", server.address, "--", command)
    assert result == (code, b"", "")
    assert loud.err.startswith(f"netkit portcheck: cannot run {command}: ")


def test_command_does_not_run_if_a_port_is_missing() -> None:
    """COMMAND does not run if --wait expires; the exit code is 28, and the message names the missing port."""
    with peer(read_all) as server:
        args = ["portcheck", "127.0.0.1:1", server.address, "--wait", "150ms", "--", "echo", "run"]
        result = netkit(*args)
    assert result.code == 28
    assert b"run" not in result.out
    last = result.err.splitlines()[-1]
    assert last.startswith("netkit portcheck: 1 of 2 ready after ")
    assert "; not ready: 127.0.0.1:1 (connection refused, " in last


def test_wait_looks_names_up_again(tmp_path: Path) -> None:
    """--wait looks the name up again in each round; here it is added to /etc/hosts meanwhile."""
    resolver()
    hosts = tmp_path / "hosts"
    hosts.write_bytes(Path("/etc/hosts").read_bytes())
    namespace = separate(f"mount --bind {hosts} /etc/hosts", network=False)
    with peer(read_all) as server:
        args = ["portcheck", f"late.invalid:{server.port}", "--wait", "20s", "-vv"]
        with running(*args, wrapper=namespace) as check:
            check.line("late.invalid.* is unknown: name not found; again in")
            with hosts.open("a") as file:
                file.write("127.0.0.1 late.invalid\n")
            result = check.finish()
    assert (result.code, result.out.split(b"\t")[3]) == (0, b"open")


def test_wait_until_closed() -> None:
    """--closed --wait waits until the port is closed, and looks every --interval."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "{}:{}".format(*server.getsockname())
        with running("portcheck", address, "--closed", "--wait", "20s", "--interval", "30ms", "-vv") as check:
            check.line(f"{address} is open; again in 30 ms$")
            server.close()
            result = check.finish()
    assert (result.code, result.out.split(b"\t")[3]) == (0, b"closed")


def test_conversations_go_on_side_by_side() -> None:
    """Ports are checked concurrently: servers that only answer once all are connected are all heard."""
    asked = threading.Barrier(3)

    def behave(client: socket.socket) -> bytes:
        asked.wait(PATIENCE)
        client.sendall(b"ready\n")
        return read_all(client)

    with peer(behave) as a, peer(behave) as b, peer(behave) as c:
        ports = f"{a.port},{b.port},{c.port}"
        assert netkit("portcheck", "127.0.0.1", ports, "--expect", "ready", "-q").code == 0


# -- mistakes


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "a target is missing: HOST PORTS or HOST:PORTS"),
        (["127.0.0.1", "3-1"], "port range 3-1 is reversed: write 1-3"),
        (["--udp", "unix:/run/x"], "is a unix socket: --udp does not apply"),
        (["tls:tls:db:1"], "says tls: twice"),
        (["10.0.0.0/30"], "target '10.0.0.0/30' has no port"),
        (["[fd00::/120]"], "target '[fd00::/120]' has no port"),
        (["udp:127.0.0.1:53"], "udp: is for connect and listen, and --udp checks UDP ports"),
        (["--udp", "db:1", "--payload", "00" * 65508], "65508 bytes are more than 65507, the most a datagram holds"),
        (["mongodb://me:x@a:1,b:2/db"], "target 'mongodb://...@a:1,b:2/db' has several hosts: write a URL for each"),
        (["tls:unix:/run/x"], "is a unix socket: TLS does not apply"),
        (["localhost:1", "-n"], "host 'localhost' is a name, and --numeric"),
        (["h:1", "--format", "xml"], "--format: 'xml' is none of text, json, tap, junit, github"),
        (["h:1", "--color", "red"], "--color: 'red' is none of auto, always, never"),
        (["h:1", "--"], "COMMAND is missing after '--'"),
        (["-z", "h", "1"], "no such option '-z': netkit portcheck only looks anyway"),
        (["-u", "h", "1"], "no such option '-u': --udp checks UDP ports"),
    ],
)
def test_mistakes(capfd: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    """A usage error is one line and exit code 2, without any look-up or connection."""
    line = mistake(capfd, ["portcheck", *args])
    assert line.startswith("netkit portcheck: ")
    assert message in line


def test_machine_without_proc() -> None:
    """Without /proc the number of open descriptors is not known, and ports are checked nevertheless."""
    with peer(read_all) as server:
        done = netkit("portcheck", server.address, wrapper=separate("mount -t tmpfs none /proc", network=False))
    assert (done.code, done.err) == (0, "")
    assert b"open" in done.out
