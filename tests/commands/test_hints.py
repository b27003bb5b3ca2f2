"""What a person at a terminal is told to try after the mistakes that are made most."""

import socket
import subprocess
from pathlib import Path

import pytest

from netkit.cli.layers import STARTTLS
from netkit.core import tls
from tests.support import netkit, peer
from tests.support.processes import resolver
from tests.support.terminals import on_terminal

PLAIN_PORT = 4190  # of sieve, which anybody may bind


def hint(*args: str) -> str:
    """Run netkit to its failure, with stderr alone on a terminal, and return its hint."""
    code, data = on_terminal(*args, columns=200, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert code != 0
    said = data.decode().replace("\r\n", "\n").splitlines()
    assert len(said) == 2, said
    return said[1].removeprefix("hint: ")


def test_a_name_that_is_not_found() -> None:
    """The command that shows more of it."""
    resolver()
    assert hint("connect", "nosuch.invalid", "80") == "netkit resolve nosuch.invalid shows what the resolver says"


@pytest.mark.parametrize(
    ("made", "wanted"), [(False, "no server has made it yet? "), (True, "the server that made it has gone; ")]
)
def test_a_unix_socket_that_nobody_serves(made: bool, wanted: str, tmp_path: Path) -> None:
    """One that is not there, and one that was left behind."""
    path = str(tmp_path / "socket")
    if made:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    told = hint("connect", f"unix:{path}")
    assert told == f"{wanted}netkit sockets --unix --listening shows those there are"
    assert netkit("sockets", "--unix", "--listening").code in (0, 3)  # 3 where there are none


def test_an_address_that_the_machine_does_not_have() -> None:
    """All that it has are one word."""
    assert hint("listen", "192.0.2.1:9000") == "this machine has no such address; :9000 takes all that it has"


def say_hello(client: socket.socket) -> None:
    """Begin as a server without TLS, and stay until the client leaves."""
    client.sendall(b"220 hello\r\n")
    while client.recv(4096):
        pass


def test_a_port_that_begins_without_tls() -> None:
    """A port that is known for it has its protocol named, any other the way to do without."""
    with peer(say_hello) as server:
        assert hint("connect", f"tls:{server.address}").startswith("the service may not use TLS: leave out tls:")
    with peer(say_hello, "127.77.0.1", PLAIN_PORT):
        told = hint("connect", f"tls:127.77.0.1:{PLAIN_PORT}")
    assert told == "this port begins without TLS: --starttls sieve in place of tls: secures it"


def test_the_protocols_that_hints_name() -> None:
    """Each is a word of --starttls, and none is forgotten."""
    assert {*tls._PLAIN_PORTS.values()} == {*STARTTLS}
