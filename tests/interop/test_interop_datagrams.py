"""Datagrams to and from other people's tools: what they send arrives, what they ask is answered, and the reverse."""

import os
import struct
import time
from pathlib import Path

import pytest

from tests.support import PATIENCE, free_port, netkit, running
from tests.support.partners import bound
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
    """Two of them at the same time are heard, and each gets its own answers."""
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
    """They get what is sent, and what they answer is printed."""
    port = free_port()
    with (
        bound(SERVERS[name](port), port) as server,
        running("udp-send", f"127.0.0.1:{port}", r"question\n", "--replies", "1", "--wait", "10") as client,
    ):
        assert server.out.read(9) == b"question\n"
        server.stdin.write(b"answer\n")
        assert client.finish() == (0, b"answer\n", "")


def test_a_syslog_server(tmp_path: Path) -> None:
    """rsyslog gets one message for each line."""
    port = free_port()
    log, config = tmp_path / "log", tmp_path / "conf"
    config.write_text(
        f"""
        module(load="imudp")
        global(workDirectory="{tmp_path}")
        input(type="imudp" address="127.0.0.1" port="{port}" ruleset="all")
        template(name="bare" type="string" string="%msg%\\n")
        ruleset(name="all") {{ action(type="omfile" file="{log}" template="bare") }}
        """
    )
    argv = [tool("rsyslogd"), "-n", "-f", str(config), "-i", str(tmp_path / "pid")]
    lines = [f"<14>Nov 20 12:00:00 host netkit: message {number}" for number in range(50)]
    with bound(argv, port):
        assert netkit("udp-send", "--lines", f"127.0.0.1:{port}", input="\n".join(lines).encode()).code == 0
        deadline = time.monotonic() + PATIENCE
        while not log.exists() or log.read_text().count("\n") < 50:
            assert time.monotonic() < deadline, log.read_text() if log.exists() else "nothing was logged"
            os.sched_yield()
    assert log.read_text().splitlines() == [f" message {number}" for number in range(50)]


def test_a_name_server() -> None:
    """dnsmasq answers a query that was packed by hand."""
    port = free_port()
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]
    argv = [tool("dnsmasq"), *options, f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces"]
    name = b"\4host\6netkit\4test\0"
    query = struct.pack("!6H", 0x1234, 0x0100, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1)
    with bound([*argv, "--address=/netkit.test/192.0.2.7", "--pid-file="], port):
        asked = netkit("udp-send", "--hex", "--replies", "1", f"127.0.0.1:{port}", input=query.hex().encode() + b"\n")
    assert (asked.code, asked.err) == (0, "")
    assert asked.out[:2] == b"\x12\x34" and asked.out.endswith(bytes([192, 0, 2, 7]))
