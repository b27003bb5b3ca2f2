"""``netkit relay --proxy``: a target behind proxies."""

import re
import socket
from typing import Any

import pytest

from tests.support import exchange, netkit, peer, running
from tests.support.certificates import Pki
from tests.support.data import DATA, check_same
from tests.support.peers import free_port, read_all, until_reset
from tests.support.processes import HERE
from tests.support.proxies import OK, SOCKS4A, SOCKS5, TARGET, head, http, reply, scripted


@pytest.mark.parametrize(
    ("scheme", "steps", "banner"),
    [
        ("socks5h", SOCKS5, b""),
        ("socks4a", SOCKS4A, b""),
        ("http", http(b"HTTP/1.1 200 OK\r\n\r\n220 hi\r\n"), b"220 hi\r\n"),
    ],
)
def test_each_client_gets_a_connection_of_its_own(scheme: str, steps: Any, banner: bytes) -> None:
    """Each client has its own connection through the proxy; data right after the proxy's reply is passed on."""
    with (
        peer(scripted(steps, lambda sock: sock.sendall(read_all(sock)))) as proxy,
        running("relay", HERE, TARGET, "--proxy", f"{scheme}://{proxy.address}", "--shutdown-after", "0") as relay,
    ):
        port = relay.port
        for _ in range(2):
            check_same(exchange(port, DATA), banner + DATA)
        assert relay.terminate().complaints == []


def test_what_a_proxy_refuses_is_a_reset_for_the_client() -> None:
    """If the proxy refuses, the client is reset, and one line names the target and the proxy."""
    with peer(scripted(reply(b"\5\2"), read_all)) as proxy:
        url = f"socks5h://{proxy.address}"
        with running("relay", HERE, TARGET, "--proxy", url) as relay:
            with socket.create_connection(("127.0.0.1", relay.port)) as client:
                assert until_reset(client) == b""
            relay.line(rf"reset: cannot connect to {re.escape(TARGET)} through proxy {url}: its rules forbid it$")


def test_a_proxy_that_is_the_relay_itself() -> None:
    """A proxy that is the relay itself is detected before the handshake."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running("relay", f"127.0.0.1:{port}", TARGET, "--proxy", url) as relay:
        with socket.create_connection(("127.0.0.1", relay.port)) as client:
            assert until_reset(client) == b""
        relay.line(rf"cannot connect to proxy {url} for {re.escape(TARGET)}: that is this relay itself$")


def test_a_plain_client_of_a_proxy_over_tls(pki: Pki) -> None:
    """--cafile is for the proxy, so clients need no certificate, even over TLS."""
    context = pki.server()

    def serve(sock: socket.socket) -> Any:
        with context.wrap_socket(sock, server_side=True) as secured:
            asked = head(secured)
            secured.sendall(OK)
            secured.sendall(read_all(secured).upper())
            secured.unwrap()
            return asked

    options = ("--cafile", pki.ca, *pki.good.options(), "--shutdown-after", "0")
    with peer(serve) as proxy:
        with running("relay", f"tls:{HERE}", TARGET, "--proxy", f"https://localhost:{proxy.port}", *options) as relay:
            at = f"tls:localhost:{relay.port}"
            done = netkit("connect", at, "--cafile", pki.ca, "--shutdown-after", "0", input=b"hello")
            assert (done.code, done.out) == (0, b"HELLO"), done.err
        assert proxy.result().startswith(b"CONNECT target.test:9 ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0", "unix:/x"], "--proxy does not apply: a proxy connects to hosts and ports"),
        (["0", ":80"], "address ':80' is this machine: write the host"),
        (["0", "h:80", "--udp"], "--proxy does not apply: datagrams make no connections"),
        (["0", "h:80", "--cafile", "f"], "--cafile does not apply: without tls: or --starttls nothing is secured"),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    """A usage error is exit code 2."""
    done = netkit("relay", *words, "--proxy", "http://p")
    assert (done.code, done.out) == (2, b"")
    assert message in done.err
