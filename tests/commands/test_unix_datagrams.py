"""Datagrams over unix sockets with a path or an abstract name: sent, served, echoed and relayed."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import PATIENCE, Finished, died_by, netkit, running
from tests.support.processes import settle

LONG = 200 << 10  # bytes; any system accepts that much in one datagram


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An unused address."""
    return f"unix:{tmp_path}/socket" if request.param == "path" else f"unix:@netkit-test-{tmp_path.name}-{os.getpid()}"


def name_of(address: str) -> str:
    """Return the address as the system takes it."""
    name = address.removeprefix("unix:")
    return "\0" + name[1:] if name.startswith("@") else name


@contextlib.contextmanager
def bare(address: str) -> Iterator[socket.socket]:
    """A plain datagram socket, bound to the address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name_of(address))
        sock.settimeout(PATIENCE)
        yield sock


@pytest.mark.parametrize("data", [b"", b"hi", bytes(LONG)], ids=["empty", "short", "long"])
def test_whole_messages_both_ways(address: str, data: bytes) -> None:
    """Datagrams are echoed whole, and no socket file is left."""
    with running("echo", "--udp", address) as server:
        server.line("listening on unix:")
        done = netkit("udp-send", "--replies", "1", "--wait", "20s", address, "--output", "hex", input=data)
        assert done == Finished(0, data.hex().encode() + b"\n", "")
        server.signal(signal.SIGTERM)
        assert died_by(server.wait()) is signal.SIGTERM
    assert not os.path.exists(name_of(address)) if "@" not in address else True


def test_what_is_served_tells_from_whom(address: str) -> None:
    """JSON has the sender's address; a sender without one gets no reply."""
    with running("udp-serve", address, "--output", "json", "--reply", "ok", "-v") as server:
        server.line("listening on unix:")
        assert netkit("udp-send", address, "named", "--replies", "1", "--wait", "20s").out == b"ok"
        told = json.loads(server.out.readline())
        assert (told["text"], told["protocol"]) == ("named", "unix")
        assert told["peer_address"].startswith("unix:@") and told["local_address"] == address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
            nameless.sendto(b"nameless", name_of(address))
        assert json.loads(server.out.readline())["peer_address"] == "unix:"
        server.line("ignored: its sender has no address")


@pytest.mark.parametrize(("mode", "found"), [((), 0o600), (("--mode", "666"), 0o666)])
def test_the_mode_of_the_file(mode: tuple[str, ...], found: int, tmp_path: Path) -> None:
    """The socket file has mode 0600 or that of --mode, and is removed at the end."""
    path = tmp_path / "socket"
    with running("udp-serve", f"unix:{path}", *mode) as server:
        server.line("listening on")
        assert stat.S_IMODE(path.stat().st_mode) == found
        server.terminate()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user, and only root can become one")
@pytest.mark.parametrize(("mode", "heard"), [((), b"ours"), (("--mode", "666"), b"theirs")])
def test_an_abstract_socket_denies_other_users(mode: tuple[str, ...], heard: bytes, tmp_path: Path) -> None:
    """A datagram of another user is dropped, as there is no file mode to deny it, unless --mode allows it."""
    name = f"netkit-test-{tmp_path.name}-{os.getpid()}"
    script = (
        "import os, socket, sys\nos.setuid(65534)\n"
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'theirs', '\\0' + sys.argv[1])"
    )
    with running("udp-serve", f"unix:@{name}", "--count", "1", *mode) as server:
        server.line("listening on")
        subprocess.run([sys.executable, "-c", script, name], check=True, timeout=PATIENCE)
        netkit("udp-send", f"unix:@{name}", "ours")
        assert server.finish()[:2] == (0, heard)


def test_a_dead_socket_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    """A socket file without a server is replaced; one in use, or another file, is exit code 45 and stays."""
    path = tmp_path / "socket"
    with bare(f"unix:{path}"):
        assert netkit("udp-serve", f"unix:{path}").code == 45
    with running("udp-serve", f"unix:{path}") as server:
        server.line("listening on")
        server.terminate()
    path.write_text("precious")
    assert netkit("udp-serve", f"unix:{path}").code == 45
    assert path.read_text() == "precious"


def test_a_full_queue_loses_nothing(address: str) -> None:
    """A sender waits while the receiver's queue is full, and nothing is lost."""
    with bare(address) as server, running("udp-send", address, "--lines") as client:
        count = 3000
        client.stdin.write(b"".join(b"%d\n" % number for number in range(count)))
        client.stdin.close()
        settle(client)
        assert [int(server.recv(99)) for _ in range(count)] == list(range(count))
        assert client.finish() == (0, b"", "")


def test_a_peer_that_does_not_read_its_answers_costs_nobody_else_any(address: str) -> None:
    """Replies for a full queue are dropped, which -v reports; other peers get theirs."""
    with running("echo", "--udp", address, "-v") as server:
        server.line("listening on")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
            deaf.bind("")
            deaf.settimeout(PATIENCE)
            for _ in range(2 * int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text()) + 2):
                deaf.sendto(b"x", name_of(address))
            server.line("ignored: its queue is full")
            assert netkit("udp-send", "--replies", "1", "--wait", "20s", address, "hi").out == b"hi"


@pytest.mark.parametrize("way", ["to unix", "from unix"])
def test_a_relay_joins_both_kinds(way: str, address: str) -> None:
    """A relay connects UDP with unix datagrams, in both directions."""
    behind = address if way == "to unix" else "127.0.0.1:0"
    with running("echo", "--udp", behind) as server:
        target = address if way == "to unix" else f"127.0.0.1:{server.port}"
        if way == "to unix":
            server.line("listening on")
        with running("relay", "--udp", "127.0.0.1:0" if way == "to unix" else address, target) as relay:
            near = f"127.0.0.1:{relay.port}" if way == "to unix" else address
            if way == "from unix":
                relay.line("listening on")
            assert netkit("udp-send", "--replies", "1", "--wait", "20s", near, "hi") == Finished(0, b"hi", "")


def test_nobody_there(tmp_path: Path) -> None:
    """A missing path, and a socket file without a server, are 7 with one line."""
    path = tmp_path / "socket"
    for reason in ("no such file or directory", "connection refused"):
        done = netkit("udp-send", f"unix:{path}", "x")
        assert done == Finished(7, b"", f"netkit udp-send: cannot send to unix:{path}: {reason}\n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            if not path.exists():
                sock.bind(str(path))


def test_descriptors_that_somebody_passes_on_are_not_taken(address: str) -> None:
    """Descriptors that a client passes are not kept open."""
    with running("udp-serve", address) as server:
        server.line("listening on")
        before = len(os.listdir(f"/proc/{server.pid}/fd"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(name_of(address))
            for _ in range(20):
                socket.send_fds(client, [b"x"], [0, 1, 2])
        assert b"".join(server.out.read(1) for _ in range(20)) == b"x" * 20
        assert len(os.listdir(f"/proc/{server.pid}/fd")) == before
