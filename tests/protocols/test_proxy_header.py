"""The header of the PROXY protocol: the bytes of the specification, and what peers get of ``--send-proxy``."""

import socket

import pytest

from netkit.core.address import Endpoint
from netkit.protocols.proxy_header import header
from tests.support import Finished, netkit, peer, read_all, running
from tests.support.certificates import Pki

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


@pytest.mark.parametrize(
    ("source", "destination", "line", "rest"),
    [
        (
            Endpoint("192.0.2.1", 56324),
            Endpoint("198.51.100.7", 443),
            b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
            "2111 000c c0000201 c6336407 dc04 01bb",
        ),
        (
            Endpoint("fe80::1%lo", 1),
            Endpoint("::1", 65535),
            b"PROXY TCP6 fe80::1 ::1 1 65535\r\n",
            f"2121 0024 fe80{'00' * 13}01 {'00' * 15}01 0001 ffff",
        ),
        (
            Endpoint(path=""),
            Endpoint(path="/run/a"),
            b"PROXY UNKNOWN\r\n",
            f"2131 00d8 {'00' * 108} {b'/run/a'.hex()}{'00' * 102}",
        ),
    ],
)
def test_the_bytes_are_those_of_the_specification(
    source: Endpoint, destination: Endpoint, line: bytes, rest: str
) -> None:
    """HAProxy's proxy-protocol.txt, sections 2.1 and 2.2."""
    assert header("v1", source, destination) == line
    assert header("v2", source, destination) == SIGNATURE + bytes.fromhex(rest)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connect_tells_of_itself(host: str) -> None:
    """The header is first, and what follows is what was typed."""
    with peer(lambda sock: (sock.getpeername()[1], read_all(sock)), host) as server:
        assert netkit("connect", server.address, "--send-proxy", "v1", input=b"hi") == Finished(0, b"", "")
        port, data = server.result()
    family = "TCP6" if ":" in host else "TCP4"
    assert data == f"PROXY {family} {host} {host} {port} {server.port}\r\nhi".encode()


def test_a_relay_tells_of_its_client() -> None:
    """Each client by its own address, and the port at which it reached the relay."""
    with peer(read_all) as server, running("relay", "127.0.0.1:0", server.address, "--send-proxy", "v1") as relay:
        port = relay.port
        for word in (b"one", b"two"):
            with socket.create_connection(("127.0.0.1", port)) as client:
                own = client.getsockname()[1]
                client.sendall(word)
                client.shutdown(socket.SHUT_WR)
                line = f"PROXY TCP4 127.0.0.1 127.0.0.1 {own} {port}\r\n"
                assert server.result() == line.encode() + word
                assert read_all(client) == b""


def test_it_goes_before_tls(pki: Pki) -> None:
    """A proxy that does not end TLS reads it without a key."""

    context = pki.server()

    def serve(sock: socket.socket) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += sock.recv(1)
        with context.wrap_socket(sock, server_side=True) as secured:
            data = read_all(secured)
            secured.unwrap()
            return line + data

    with peer(serve) as server:
        words = ("--send-proxy", "v1", "--cafile", pki.ca)
        done = netkit("connect", f"tls:{server.address}", *words, "--shutdown-after", "0", input=b"secret")
        assert done.code == 0, done
        line, _, rest = server.result().partition(b"\r\n")
    assert line.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ") and rest == b"secret"
