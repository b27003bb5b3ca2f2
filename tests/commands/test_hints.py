"""Hints on a terminal after common mistakes."""

import errno
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netkit.cli.layers import STARTTLS
from netkit.core import tls
from netkit.core.address import Endpoint
from netkit.core.bind import bind_all
from netkit.core.errors import Failure
from netkit.core.lookup import Address
from tests.support import netkit, peer, reset, running
from tests.support.certificates import Pki
from tests.support.peers import connect
from tests.support.processes import HERE, resolver
from tests.support.secured import serving
from tests.support.terminals import Shown, on_terminal

PLAIN_PORT = 4190  # of sieve, and not privileged
WIDE = 500  # columns, so that no line is wrapped


def seen(*args: str, **how: Any) -> tuple[int, list[str]]:
    """Run netkit with stderr on a terminal; return its exit code and what stays there, as progress does not."""
    code, data = on_terminal(*args, columns=WIDE, stdout=subprocess.DEVNULL, **how)
    return code, Shown(WIDE).lines(data)


def hint(*args: str) -> str:
    """Run netkit until it fails, with stderr on a terminal, and return its hint."""
    code, said = seen(*args, stdin=subprocess.DEVNULL)
    assert code != 0
    assert len(said) == 2, said
    return said[1].removeprefix("hint: ")


def test_a_name_that_is_not_found() -> None:
    """For a name that is not found the hint is netkit resolve."""
    resolver()
    assert hint("connect", "nosuch.invalid", "80") == "netkit resolve nosuch.invalid shows what the resolver says"


@pytest.mark.parametrize(
    ("made", "wanted"), [(False, "no server has made it yet? "), (True, "the server that made it has gone; ")]
)
def test_a_unix_socket_that_nobody_serves(made: bool, wanted: str, tmp_path: Path) -> None:
    """For a unix socket the hint tells a missing file from one left behind by a server."""
    path = str(tmp_path / "socket")
    if made:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    told = hint("connect", f"unix:{path}")
    assert told == f"{wanted}netkit sockets --unix --listening shows those there are"
    assert netkit("sockets", "--unix", "--listening").code in (0, 3)  # 3 where there are none


def test_an_address_that_the_machine_does_not_have() -> None:
    """For an address of another machine the hint is to listen on all addresses."""
    assert hint("listen", "192.0.2.1:9000") == "this machine has no such address; :9000 takes all that it has"


@pytest.mark.parametrize(
    ("port", "told"), [(80, "ports below 1024 need privileges; try 8080"), (8080, "")], ids=["privileged", "another"]
)
def test_a_port_that_is_not_allowed(port: int, told: str) -> None:
    """There is a hint for privileged ports, and none for others."""

    def refuse(family: int, address: object) -> socket.socket:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    here = Address(socket.AF_INET, ("127.0.0.1", port))
    with pytest.raises(Failure, match="permission denied") as failed:
        bind_all([(here, refuse)], Endpoint("127.0.0.1", port))
    assert failed.value.hint == told


def say_hello(client: socket.socket) -> None:
    """Send a greeting in plain text, and wait until the client leaves."""
    client.sendall(b"220 hello\r\n")
    while client.recv(4096):
        pass


def test_a_port_that_begins_without_tls() -> None:
    """For the port of a protocol with STARTTLS the hint is --starttls if it can be used, else to leave out tls:."""
    with peer(say_hello) as server:
        assert hint("connect", f"tls:{server.address}").startswith("the service may not use TLS: leave out tls:")
    with peer(say_hello, "127.77.0.1", PLAIN_PORT):
        told = hint("connect", f"tls:127.77.0.1:{PLAIN_PORT}")
        assert told == "this port begins without TLS: --starttls sieve in place of tls: secures it"
        elsewhere = (
            hint("fetch", f"https://127.77.0.1:{PLAIN_PORT}"),
            hint("connect", "--proxy", f"https://127.77.0.1:{PLAIN_PORT}", "h.test:80"),
        )
        assert all(told.startswith("the service may not use TLS: ") for told in elsewhere)


def speak_an_old_version(client: socket.socket) -> None:
    """Answer a ClientHello by the alert protocol_version."""
    client.recv(4096)
    client.sendall(b"\x15\x03\x01\0\2\2\x46")


def test_a_server_of_an_old_version() -> None:
    """The hint is --tls-min, except for a proxy, which it is not for."""
    for words, told in (["tls:{}"], True), (["--proxy", "https://{}", "h.test:80"], False):
        with peer(speak_an_old_version) as server:
            code, data = on_terminal("connect", *(word.format(server.address) for word in words), columns=200)
        assert (code, b"hint: --tls-min 1.0 speaks old versions, too" in data) == (35, told)


@pytest.mark.parametrize(("kind", "option"), [("self-signed", "--fingerprint"), ("wrong name", "--servername")])
def test_a_certificate_of_a_proxy(pki: Pki, kind: str, option: str) -> None:
    """The hint for a server's certificate names options that are not for proxies."""
    for words, told in (["tls:{}"], True), (["--proxy", "https://{}", "h.test:80"], False):
        with peer(serving(pki.server(pki.bad(kind)), lambda client: client.recv())) as server:
            words = [word.format(server.address) for word in words]
            code, data = on_terminal("connect", *words, "--cafile", pki.ca, columns=200, stdin=subprocess.DEVNULL)
        assert (code, b"hint: " in data, option.encode() in data) == (60, told, told)


def test_the_protocols_that_hints_name() -> None:
    """The ports in hints cover all protocols of --starttls."""
    assert {*tls._PLAIN_PORTS.values()} == {*STARTTLS}


@pytest.mark.parametrize("patience", [(), ("--wait", "20ms")])
def test_who_has_waited_is_not_told_to_wait(patience: tuple[str, ...]) -> None:
    """The hint to wait for a refused port is not given after --wait."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    code, data = on_terminal("connect", f"127.0.0.1:{port}", *patience, columns=200, stdin=subprocess.DEVNULL)
    assert (code, b"hint: nothing listens there yet? " in data) == ((28, False) if patience else (7, True))


def hang_up(client: socket.socket) -> None:
    """Read once and end, as a TLS server may do after plain text."""
    client.recv(4096)


def hang_up_with_an_alert(client: socket.socket) -> None:
    """Send the TLS alert record_overflow."""
    client.recv(4096)
    client.sendall(b"\x15\x03\x03\x00\x02\x02\x16")


def reset_once_it_has_sent(client: socket.socket) -> None:
    """Read once, then reset."""
    client.recv(4096)
    reset(client)


@pytest.mark.parametrize(
    ("serve", "address", "told"),
    [
        (hang_up, ("127.0.0.1", 0), "nothing came back; the server may want TLS (tls: before the address), or "),
        (hang_up, ("127.77.0.2", 8443), "port 8443 is one of TLS: write tls: before the address"),
        (hang_up_with_an_alert, ("127.0.0.1", 0), "the peer speaks TLS: write tls: before the address"),
        (reset_once_it_has_sent, ("127.0.0.1", 0), "the server may want TLS (tls: before the address), or be a proxy "),
        (reset_once_it_has_sent, ("127.77.0.3", 8443), "port 8443 is one of TLS: write tls: before the address"),
    ],
)
def test_plain_text_for_a_server_of_tls(
    serve: Callable[[socket.socket], None], address: tuple[str, int], told: str
) -> None:
    """If the server answers in TLS, has a port of TLS or does not answer, the hint is to use tls:."""
    with peer(serve, *address) as server:
        code, (*failures, last) = seen("connect", server.address, "--send", "ruok", "--no-progress")
    assert (code, len(failures)) == ((56, 1) if "reset" in serve.__name__ else (0, 0))
    assert last.startswith(f"hint: {told}")


@pytest.mark.parametrize("serve", [hang_up, reset_once_it_has_sent, hang_up_with_an_alert])
def test_a_url_without_tls_for_a_server_of_tls(serve: Callable[[socket.socket], None]) -> None:
    """For an http URL of a TLS server the hint is https."""
    with peer(serve) as server:
        for command in ("fetch", "portcheck"):
            assert hint(command, f"http://{server.address}/").endswith("write https:")


def test_a_port_of_datagrams_that_nobody_has() -> None:
    """For UDP the hints are udp-serve if the port is closed, and --wait if no reply comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        told = hint("udp-send", address, "hello", "--replies", "1", "--wait", "20ms")
        assert told == "it may be lost, unwanted, or dropped by a firewall; --wait waits longer than 20 ms"
    assert hint("udp-send", address, "hello", "--replies", "1") == "nothing receives there yet? netkit udp-serve does"


def test_a_type_of_record_beside_a_name() -> None:
    """For a type after the name, as dig takes it, the hint is --type."""
    resolver()
    assert hint("resolve", "localhost", "MX") == "--type MX asks DNS for that type of record"


def test_a_client_that_says_nothing_is_no_reason_for_a_hint() -> None:
    """If a client of listen sends nothing, there is no hint."""
    with running("listen", HERE, stdin=subprocess.PIPE) as server:
        server.stdin.write(b"hello")
        server.stdin.close()
        with connect(server.port) as client:
            while client.recv(100):
                pass
        assert server.finish().complaints == []


@pytest.mark.parametrize("host", ["::1", "fe80::1%nosuch"])
def test_an_address_is_nothing_that_a_resolver_knows(host: str) -> None:
    """For an address that cannot be used there is no hint to resolve it."""
    code, data = on_terminal("connect", "-4", host, "80", stdin=subprocess.DEVNULL)
    assert code == 6 and b"hint" not in data


def test_a_socket_for_fetch() -> None:
    """For a unix socket as the URL of fetch the hint is --unix-socket."""
    assert hint("fetch", "unix:/run/app.sock") == "--unix-socket PATH http://localhost/ asks a socket"
