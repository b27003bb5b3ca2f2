"""Datagrams to and from other tools, as clients and as servers, over UDP and Unix sockets."""

import os
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.support import NETKIT, PATIENCE, free_port, netkit, running
from tests.support.partners import await_listener, bound, dnsmasq
from tests.support.processes import tool

CLIENTS = {
    "nc": lambda port: [tool("nc"), "-u", "127.0.0.1", str(port)],
    "ncat": lambda port: [tool("ncat"), "-u", "127.0.0.1", str(port)],
    "socat": lambda port: [tool("socat"), "-", f"UDP:127.0.0.1:{port}"],
}
SERVERS = {
    "nc": lambda port: [tool("nc"), "-u", "-l", "127.0.0.1", str(port)],
    "ncat": lambda port: [tool("ncat"), "-u", "-l", "127.0.0.1", str(port)],
    "socat": lambda port: [tool("socat"), "-", f"UDP-LISTEN:{port},bind=127.0.0.1"],
}


@pytest.mark.parametrize("name", CLIENTS)
def test_their_clients(name: str) -> None:
    """udp-serve prints the datagrams of two clients at the same time, and answers each."""
    with running("udp-serve", "127.0.0.1:0", "--reply-with", "upper") as server:
        port = server.port
        with running(argv=CLIENTS[name](port)) as one, running(argv=CLIENTS[name](port)) as other:
            for word in (b"first\n", b"second\n"):
                for client in (one, other):
                    client.stdin.write(word)
                    assert client.out.read(len(word)) == word.upper()
                    assert server.out.read(len(word)) == word


@pytest.mark.parametrize("name", SERVERS)
def test_their_servers(name: str) -> None:
    """A server receives the datagram of udp-send, which prints the answer."""
    port = free_port()
    with (
        bound(SERVERS[name](port), port) as server,
        running("udp-send", f"127.0.0.1:{port}", r"question\n", "--replies", "1", "--wait", "10") as client,
    ):
        assert server.out.read(9) == b"question\n"
        server.stdin.write(b"answer\n")
        assert client.finish() == (0, b"answer\n", "")


def rsyslog(folder: Path, inputs: str) -> tuple[list[str], Path]:
    """Return the command line of an rsyslog with these inputs, and the log to which it writes the texts of messages."""
    log, config = folder / "log", folder / "conf"
    config.write_text(
        f"""
        global(workDirectory="{folder}")
        {inputs}
        template(name="bare" type="string" string="%msg%\\n")
        action(type="omfile" file="{log}" template="bare")
        """
    )
    return [tool("rsyslogd"), "-n", "-f", str(config), "-i", str(folder / "pid")], log


def lines_of(log: Path, count: int) -> list[str]:
    """Wait until a log has ``count`` lines, and return them."""
    deadline = time.monotonic() + PATIENCE
    while not log.exists() or log.read_text().count("\n") < count:
        assert time.monotonic() < deadline, log.read_text() if log.exists() else "nothing was logged"
        os.sched_yield()
    return log.read_text().splitlines()


def test_a_syslog_server(tmp_path: Path) -> None:
    """udp-send --lines sends rsyslog one message for each line."""
    port = free_port()
    argv, log = rsyslog(tmp_path, f'module(load="imudp") input(type="imudp" address="127.0.0.1" port="{port}")')
    lines = [f"<14>Nov 20 12:00:00 host netkit: message {number}" for number in range(50)]
    with bound(argv, port):
        assert netkit("udp-send", "--lines", f"127.0.0.1:{port}", input="\n".join(lines).encode()).code == 0
        assert lines_of(log, 50) == [f" message {number}" for number in range(50)]


def test_a_name_server() -> None:
    """dnsmasq answers a query sent with udp-send --hex."""
    name = b"\4host\6netkit\4test\0"
    query = struct.pack("!6H", 0x1234, 0x0100, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1)
    with dnsmasq("--address=/netkit.test/192.0.2.7") as port:
        words = ("udp-send", "--hex", "--replies", "1", "--wait", "20s", f"127.0.0.1:{port}")
        asked = netkit(*words, input=query.hex().encode() + b"\n")
    assert (asked.code, asked.err) == (0, "")
    assert asked.out[:2] == b"\x12\x34" and asked.out.endswith(bytes([192, 0, 2, 7]))


@pytest.mark.parametrize("name", SERVERS)
def test_a_conversation_with_their_servers(name: str) -> None:
    """connect exchanges datagrams with a server both ways, and ends after the end of input and --grace."""
    port = free_port()
    with (
        bound(SERVERS[name](port), port) as server,
        running("connect", f"udp:127.0.0.1:{port}", "--grace", "200ms") as client,
    ):
        for word in (b"one\n", b"two\n"):
            client.stdin.write(word)
            assert server.out.read(4) == word
            for answer in (word.upper(), b"more"):
                server.stdin.write(answer)
                assert client.out.read(4) == answer
        client.stdin.close()
        assert client.finish() == (0, b"", "")


@pytest.mark.parametrize("name", CLIENTS)
def test_a_conversation_with_their_clients(name: str) -> None:
    """listen exchanges datagrams with the first client both ways."""
    with running("listen", "udp:127.0.0.1:0") as server, running(argv=CLIENTS[name](server.port)) as client:
        for word in (b"one\n", b"two\n"):
            client.stdin.write(word)
            assert server.out.read(4) == word
            server.stdin.write(word.upper())
            assert client.out.read(4) == word.upper()


UNIX_CLIENTS = {
    "nc": lambda path, own: [tool("nc"), "-uU", "-s", own, path],
    "ncat": lambda path, own: [tool("ncat"), "-uU", "-s", own, path],
    "socat": lambda path, own: [tool("socat"), "-", f"UNIX-SENDTO:{path},bind={own}"],
}
UNIX_SERVERS = {
    "nc": lambda path: [tool("nc"), "-luU", path],
    "ncat": lambda path: [tool("ncat"), "-luU", path],
    "socat": lambda path: [tool("socat"), "-", f"UNIX-RECVFROM:{path}"],
    "socat, all": lambda path: [tool("socat"), "-u", f"UNIX-RECV:{path}", "-"],
}


@pytest.mark.parametrize("name", UNIX_CLIENTS)
def test_their_clients_over_unix_sockets(name: str, tmp_path: Path) -> None:
    """udp-serve receives datagrams from a client on a Unix socket, and answers to the path it is bound to."""
    path, own = str(tmp_path / "ours"), str(tmp_path / "theirs")
    with running("udp-serve", f"unix:{path}", "--reply-with", "upper") as server:
        server.line("listening on")
        with running(argv=UNIX_CLIENTS[name](path, own)) as client:
            client.stdin.write(b"hello\n")
            assert server.out.read(6) == b"hello\n"
            assert client.out.read(6) == b"HELLO\n"


@pytest.mark.parametrize("name", UNIX_SERVERS)
def test_their_servers_over_unix_sockets(name: str, tmp_path: Path) -> None:
    """A server on a Unix socket receives the datagrams of connect."""
    path = tmp_path / "socket"
    with running(argv=UNIX_SERVERS[name](str(path))) as server:
        await_listener(f"unix:{path}", server)
        with running("connect", f"udp:unix:{path}", "--grace", "0") as client:
            client.stdin.write(b"hello\n")
            assert server.out.read(6) == b"hello\n"
            assert client.finish() == (0, b"", "")


def test_logger() -> None:
    """udp-serve receives a message of util-linux's logger over UDP."""
    with running("udp-serve", "127.0.0.1:0", "--count", "1") as server:
        argv = [tool("logger"), "-d", "-n", "127.0.0.1", "-P", str(server.port), "--", "over UDP"]
        with running(argv=argv) as client:
            assert client.finish().code == 0
        assert server.finish().out.endswith(b"over UDP")


def test_logger_over_a_unix_socket(tmp_path: Path) -> None:
    """udp-serve on a Unix socket receives each message of logger as one datagram."""
    path = str(tmp_path / "log")
    with running("udp-serve", f"unix:{path}", "--count", "2", "--output", "lines") as server:
        server.line("listening on")
        for word in ("one", "two"):
            with running(argv=[tool("logger"), "-d", "-u", path, "--", word]) as client:
                assert client.finish().code == 0
        lines = server.finish().out.splitlines()
    assert [line.rpartition(b" ")[2].rstrip(b"\0") for line in lines] == [b"one", b"two"]


def test_the_socket_of_a_syslog_server(tmp_path: Path) -> None:
    """rsyslog's imuxsock accepts a message of udp-send like one of syslog(3)."""
    path = tmp_path / "socket"
    ours = f'input(type="imuxsock" Socket="{path}" UseSysTimeStamp="off")'
    argv, log = rsyslog(tmp_path, 'module(load="imuxsock" SysSock.Use="off") ' + ours)
    with running(argv=argv) as server:
        await_listener(f"unix:{path}", server)
        assert netkit("udp-send", f"unix:{path}", "<14>Nov 20 12:00:00 netkit: hello") == (0, b"", "")
        assert "hello" in lines_of(log, 1)[0]


def test_a_service_says_that_it_is_ready(tmp_path: Path) -> None:
    """udp-send can notify systemd as sd_notify(3): one datagram of lines, with credentials."""
    for name in (str(tmp_path / "notify"), f"@netkit-notify-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind("\0" + name[1:] if name.startswith("@") else name)
            manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            assert netkit("udp-send", f"unix:{name}", r"READY=1\nSTATUS=up") == (0, b"", "")
            data, told, flags, _ = manager.recvmsg(4096, 256, socket.MSG_CMSG_CLOEXEC)
            assert data == b"READY=1\nSTATUS=up" and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
            [(level, kind, owner)] = told
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
            assert struct.unpack("=iII", owner)[1] == os.geteuid()


def test_a_server_of_tftp(tmp_path: Path) -> None:
    """udp-send --any-source receives the answer of a TFTP server, which is from another port."""
    (tmp_path / "hello").write_bytes(b"hello")
    options = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--user=root",
        "--group=root",
        "--pid-file=",
    ]
    served = ["--enable-tftp", f"--tftp-root={tmp_path}", "--listen-address=127.0.0.1", "--bind-interfaces"]
    if os.geteuid():
        pytest.skip("dnsmasq serves TFTP to root alone")
    words = ("--any-source", "--replies", "1", "--wait", "20s", "127.0.0.1", "69", r"\0\x01hello\0octet\0")
    argv = [*NETKIT, "udp-send", *words]
    script = f"""
        ip link set lo up
        {tool("dnsmasq")} {" ".join([*options, *served])} & server=$!
        while ! grep -q ':0045 ' /proc/net/udp; do :; done
        "$@"
        kill $server
    """
    with running(argv=[tool("unshare"), "-n", "sh", "-ec", script, "sh", *argv]) as client:
        done = client.finish()
    assert done.out == b"\0\3\0\1hello", done
