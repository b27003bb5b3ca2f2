"""What all servers share: where they listen, what they print, COMMAND, and when they stop."""

import os
import re
import signal
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest

from tests.support import Finished, exchange, free_port, netkit, reset, running
from tests.support.data import files
from tests.support.forkserver import NETKIT
from tests.support.logs import octets, read_log
from tests.support.peers import connect
from tests.support.processes import HERE, ends

SERVERS = ["listen", "echo", "upper"]


def listening(port: int) -> set[str]:
    """Return the local addresses that listen on a port, from the kernel's tables."""
    found = set()
    for table, wildcard, loopback in (("tcp", "0" * 8, "0100007F"), ("tcp6", "0" * 32, "0" * 24 + "01000000")):
        for row in Path("/proc/net", table).read_text().splitlines()[1:]:
            local, state = row.split()[1], row.split()[3]
            host, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add({wildcard: f"{table} any", loopback: f"{table} loopback"}.get(host, host))
    return found


# -- where they listen


@pytest.mark.ipv6
@pytest.mark.fault("default of binding")
@pytest.mark.parametrize("name", SERVERS)
def test_bare_port_is_loopback_alone(name: str) -> None:
    """A PORT without a host is on loopback only, in both families with the same number; 0 takes a free one."""
    with running(name, "0") as server:
        first = int(server.line(rf"^netkit {name}: listening on 127\.0\.0\.1:(\d+)$")[1])
        second = int(server.line(rf"^netkit {name}: listening on \[::1\]:(\d+)$")[1])
        assert first == second != 0
        assert listening(first) == {"tcp loopback", "tcp6 loopback"}


@pytest.mark.ipv6
@pytest.mark.fault("default of binding")
def test_colon_port_is_every_interface() -> None:
    """:PORT is on all interfaces, with one socket for IPv4 and one for IPv6 on the same number."""
    with running("echo", ":0") as server:
        first = int(server.line(r"listening on 0\.0\.0\.0:(\d+)$")[1])
        assert int(server.line(r"listening on \[::\]:(\d+)$")[1]) == first
        assert listening(first) == {"tcp any", "tcp6 any"}
        assert exchange(first, b"four") == b"four"
        assert exchange(first, b"six", host="::1") == b"six"


@pytest.mark.ipv6
@pytest.mark.parametrize(
    ("address", "bound"),
    [
        (["-4", "0"], {"tcp loopback"}),
        (["-6", ":0"], {"tcp6 any"}),
        ([HERE], {"tcp loopback"}),
        (["[::1]", "0"], {"tcp6 loopback"}),
    ],
)
def test_one_family_or_one_host(address: list[str], bound: set[str]) -> None:
    """-4, -6 and a host limit the addresses to listen on."""
    with running("echo", *address) as server:
        assert listening(server.port) == bound


# -- what they print


@pytest.mark.parametrize("name", SERVERS)
def test_port_file_appears_whole_and_goes(name: str, tmp_path: Path) -> None:
    """--port-file is complete when the server is ready, and removed at its end."""
    path = tmp_path / "port"
    with running(name, "0", "--port-file", str(path), "--", sys.executable, "-c", WAIT_FOR_END) as server:
        port = server.port
        server.line("started")
        assert path.read_text() == f"{port}\n"
        server.stdin.close()
        assert server.wait() == 0
    assert files(tmp_path) == []


WAIT_FOR_END = "import sys; print('started', file=sys.stderr, flush=True); sys.stdin.read()"


def test_port_file_of_another_server_stays(tmp_path: Path) -> None:
    """--port-file is not removed if another server has replaced it."""
    path = tmp_path / "port"
    with running("echo", "0", "--port-file", str(path)) as server:
        assert server.port
        (tmp_path / "other").write_text("1\n")
        os.replace(tmp_path / "other", path)
        server.signal(signal.SIGTERM)
        server.wait()
    assert path.read_text() == "1\n"


def test_port_file_that_cannot_be_written_is_23(tmp_path: Path) -> None:
    """A port file that cannot be written is exit code 23."""
    done = netkit("echo", "0", "-q", "--port-file", str(tmp_path / "no" / "port"))
    assert done.code == 23
    done = netkit("echo", "0", "--port-file", str(tmp_path))
    assert done.code == 23
    assert done.err.splitlines()[-1] == f"netkit echo: cannot write port file {tmp_path}: is a directory"
    assert files(tmp_path) == []


@pytest.mark.parametrize("kind", ["fifo", "socket", "link to a device"])
def test_port_file_replaces_nothing_but_files(kind: str, tmp_path: Path) -> None:
    """--port-file refuses a device, a FIFO or a socket, and leaves it as it is."""
    path = tmp_path / "port"
    with socket.socket(socket.AF_UNIX) as sock:
        make = {"fifo": os.mkfifo, "socket": lambda path: sock.bind(str(path))}
        make.get(kind, lambda path: path.symlink_to(os.devnull))(path)
        before = path.lstat()
        done = netkit("echo", "0", "--port-file", str(path), "--for", "1ms")
    assert done.code == 23
    assert done.complaints == [f"netkit echo: cannot write port file {path}: it is not a regular file"]
    assert os.path.samestat(path.lstat(), before)


def test_print_port_is_the_first_line_of_stdout() -> None:
    """--print-port prints the port as the first line of stdout, before the payload; -q hides the lines on stderr."""
    with running("listen", "0", "-q", "--print-port") as server:
        port = int(server.out.readline())
        exchange(port, b"payload")
        assert server.finish() == Finished(0, b"payload", "")


def test_verbose_server_names_its_clients() -> None:
    """-v prints each client's address and its byte counts."""
    with running("upper", "0", "--once", "-v") as server:
        exchange(server.port, b"abc")
        name = server.line(r"connection from (127\.0\.0\.1:\d+)$")[1]
        server.line(rf"upper: {name} closed after .*: 3 B received, 3 B sent$")
        assert server.wait() == 0


# -- serving


def test_once_and_max_clients_end_with_0() -> None:
    """With --max-clients N a server serves N clients, refuses the next and exits with 0, even if one resets."""
    with running("echo", "0", "--max-clients", "2") as server:
        port = server.port
        with connect(port) as first:
            assert exchange(port, b"second") == b"second"
            with pytest.raises(ConnectionRefusedError):
                connect(port)
            reset(first)
        assert server.wait() == 0


def test_idle_timeout_ends_that_client_alone() -> None:
    """--idle-timeout resets the idle client, and the server goes on."""
    with running("echo", "0", "--idle-timeout", "1s", "-v") as server:
        port = server.port
        with connect(port) as idle, pytest.raises(ConnectionResetError):
            idle.recv(1)
        server.line(r"closed after .*nothing moved for 1 s \(--idle-timeout\)")
        assert exchange(port, b"next") == b"next"


@pytest.mark.parametrize("name", SERVERS)
def test_nobody_came_is_28(name: str) -> None:
    """--accept-timeout without a client is exit code 28."""
    done = netkit(name, HERE, "--accept-timeout", "100ms")
    assert (done.code, done.out) == (28, b"")
    assert done.err.splitlines()[-1].endswith(": nobody came within 100 ms (--accept-timeout)")


@pytest.mark.parametrize("name", SERVERS)
def test_for_ends_with_0(name: str) -> None:
    """--for ends a server with 0."""
    assert netkit(name, "0", "-q", "--for", "100ms") == Finished(0, b"", "")


def test_for_resets_what_does_not_end_in_the_drain() -> None:
    """A client that stays connected after --for is reset."""
    with running("echo", "0", "--for", "1s") as server:
        with connect(server.port) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert server.wait() == 0


def test_timeout_of_a_server_is_28() -> None:
    """--timeout ends a server with 28."""
    done = netkit("echo", "0", "--timeout", "100ms")
    assert done.code == 28
    assert done.err.splitlines()[-1] == "netkit echo: cannot finish: time ran out after 100 ms (--timeout)"


# -- one-shot listen


def test_listen_receives_and_sends() -> None:
    """listen carries data both ways for one client, and exits with 0."""
    data = os.urandom(300_000)
    with running("listen", "0") as server:
        received = []
        port = server.port
        client = threading.Thread(target=lambda: received.append(exchange(port, data)))
        client.start()
        server.stdin.write(data[::-1])
        server.stdin.close()
        assert server.read_all() == data
        client.join()
        assert server.wait() == 0
    assert received == [data[::-1]]


@pytest.mark.ipv6
def test_second_client_of_listen_is_refused() -> None:
    """Once listen has its client, others are refused."""
    with running("listen", "0", "-v") as server:
        port = server.port
        with connect(port) as client:
            client.sendall(b"first")
            assert server.out.read(5) == b"first"
            for host in ("127.0.0.1", "::1"):
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((host, port))
        server.stdin.close()
        assert server.wait() == 0


# -- COMMAND


@pytest.mark.parametrize("address", ["0", "unix:@netkit-test-{port}"])
def test_command_runs_against_the_server(address: str) -> None:
    """The server runs as long as COMMAND, which finds its address in NETKIT_ADDRESS."""
    dial = ["sh", "-c", 'echo hi | "$0" -m netkit connect $NETKIT_ADDRESS', sys.executable]
    assert netkit("echo", address.format(port=free_port()), "-q", "--", *dial) == Finished(0, b"hi\n", "")


def test_exit_code_of_command_is_ours() -> None:
    """The exit code of COMMAND is returned, or 128+n for a signal."""
    assert netkit("echo", "0", "-q", "--", "sh", "-c", "exit 7") == Finished(7, b"", "")
    assert netkit("upper", "0", "-q", "--", "sh", "-c", "kill -9 $$") == Finished(137, b"", "")


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("0", "127.0.0.1"),
        (":0", "127.0.0.1"),
        ("[::]:0", "::1"),
        ("127.0.0.2:0", "127.0.0.2"),
        ("[::ffff:127.0.0.2]:0", "127.0.0.2"),
        ("[::ffff:7f00:2]:0", "127.0.0.2"),
    ],
)
def test_command_gets_an_address_that_can_be_dialled(address: str, host: str) -> None:
    """NETKIT_HOST, NETKIT_PORT and NETKIT_ADDRESS agree, and a wildcard address becomes loopback.

    An IPv4-mapped address is that of IPv4.
    """
    done = netkit("echo", address, "-q", "--", "sh", "-c", "echo $NETKIT_HOST $NETKIT_PORT $NETKIT_ADDRESS")
    found_host, port, whole = done.out.decode().split()
    assert (done.code, found_host) == (0, host)
    assert int(port) > 0
    assert whole == (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def test_command_of_a_unix_socket_gets_no_port_of_another_server(tmp_path: Path) -> None:
    """A server in the COMMAND of another one does not pass on the host and the port of that."""
    inner = ("sh", "-c", "echo $NETKIT_HOST $NETKIT_PORT $NETKIT_ADDRESS")
    nested = (*NETKIT, "echo", f"unix:{tmp_path}/s", "-q", "--", *inner)
    assert netkit("echo", "0", "-q", "--", *nested) == Finished(0, f"unix:{tmp_path}/s\n".encode(), "")


@pytest.mark.parametrize(("word", "code", "reason"), [("/nonexistent", 127, "no such file"), ("/", 126, "denied")])
def test_command_that_cannot_run(word: str, code: int, reason: str) -> None:
    """A COMMAND that is missing is exit code 127, and one that cannot run 126, as in a shell."""
    done = netkit("echo", HERE, "--", word)
    assert done.code == code
    assert reason in done.err.splitlines()[-1]


def test_command_options_are_its_own() -> None:
    """Words after the first ``--`` belong to COMMAND, also another ``--``."""
    done = netkit("echo", "0", "-q", "--", "printf", "%s ", "--", "-v", "--once", "-1")
    assert done == Finished(0, b"-- -v --once -1 ", "")


# -- unix sockets


@pytest.mark.fault("mode of a socket file")
def test_unix_socket_is_private_and_goes(tmp_path: Path) -> None:
    """A socket file has mode 0600 from the start, and is removed at the end."""
    path = tmp_path / "s"
    with running("echo", f"unix:{path}", umask=0) as server:
        server.line(f"listening on unix:{path}$")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert netkit("connect", f"unix:{path}", input=b"hi") == Finished(0, b"hi", "")
        ends(server, signal.SIGTERM)
    assert not path.exists()


@pytest.mark.fault("socket file left behind")
def test_unix_socket_left_by_a_killed_server_is_replaced(tmp_path: Path) -> None:
    """A socket file of a killed server is replaced; one in use and other files are not."""
    path = tmp_path / "s"
    with running("echo", f"unix:{path}") as server:
        server.line("listening")
        taken = netkit("echo", f"unix:{path}")
        assert taken == Finished(45, b"", f"netkit echo: cannot listen on unix:{path}: address already in use\n")
        server.signal(signal.SIGKILL)
        server.wait()
    assert path.exists()
    with running("echo", f"unix:{path}") as server:
        server.line("listening")
    path.unlink()
    path.write_text("precious")
    assert netkit("echo", f"unix:{path}").code == 45
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name, answer", [("echo", b"I got it"), ("upper", b"I GOT IT")])
def test_a_server_shows_what_it_got(name: str, answer: bytes, tmp_path: Path) -> None:
    """--hexdump and --log of echo and upper show both directions."""
    log = tmp_path / "log"
    with running(name, HERE, "--once", "--hexdump", "--log", str(log)) as server:
        assert exchange(server.port, b"I got it") == answer
        done = server.finish()
    assert done.code == 0
    for text in (b"I got it", answer):
        assert re.search(rf"^00000000: [0-9a-f ]+  {text.decode()}$", done.err, re.MULTILINE)
    shown = [(record["direction"], octets(record)) for record in read_log(log)]
    assert shown == [("received", b"I got it"), ("sent", answer)]


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("option", [["--servername", "h"], ["--insecure"]])
def test_what_a_server_of_tls_has_no_use_for_is_not_offered(name: str, option: list[str]) -> None:
    """--servername and --insecure are for clients: servers do not have these options."""
    assert option[0] not in netkit(name, "--help").out.decode()
    done = netkit(name, "tls:127.0.0.1:0", *option)
    assert (done.code, done.err.startswith(f"netkit {name}: no such option {option[0]!r}")) == (2, True)
