"""Other clients of ``netkit proxy``: curl, nc, ncat, ssh and the socksio library."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from socksio import socks4, socks5

from tests.support import PATIENCE, Running, free_port, peer, running
from tests.support.certificates import Pki
from tests.support.data import DATA, OTHER, check_same
from tests.support.partners import run, ssh, sshd
from tests.support.peers import connect, converse
from tests.support.processes import HERE, tool
from tests.support.proxies import head
from tests.support.relays import answering

SCHEMES = ("socks4", "socks4a", "socks5", "socks5h", "http")
PAGE = b"HTTP/1.0 200 OK\r\n\r\n" + DATA


def page(sock: socket.socket) -> bytes:
    """Answer an HTTP request with DATA, and return the request."""
    asked = head(sock)
    sock.sendall(PAGE)
    return asked


@pytest.fixture
def users(tmp_path: Path) -> str:
    """Return the path of a file with one user and password."""
    path = tmp_path / "users"
    path.touch(0o600)
    path.write_text("me:pass:word\n", encoding="utf-8")
    return str(path)


@contextlib.contextmanager
def proxy(*options: str, address: str = HERE) -> Iterator[Running]:
    """Run a proxy, and check that it prints no complaints."""
    with running("proxy", address, *options) as server:
        yield server
        assert server.terminate().complaints == []


def curl(*options: str) -> list[str]:
    """Return a command line of curl that ignores configuration and environment."""
    return [tool("curl"), "-q", "-sS", "--noproxy", "", "-m", str(int(PATIENCE)), *options]


# -- curl


@pytest.mark.parametrize("scheme", SCHEMES)
def test_curl(scheme: str) -> None:
    """curl gets a page of 300,000 bytes through each kind of proxy, whether it or the proxy resolves the name."""
    with peer(page) as there, proxy() as server:
        options = ("--proxytunnel", "-x", f"{scheme}://127.0.0.1:{server.port}")
        done = run(curl(*options, f"http://localhost:{there.port}/"))
        check_same(done.out, DATA)
        assert (done.code, done.err) == (0, "")


def test_curl_over_tls_to_tls(pki: Pki) -> None:
    """curl verifies the certificates of the proxy and of the server behind it."""

    def secured(sock: socket.socket) -> None:
        with pki.server().wrap_socket(sock, server_side=True) as wrapped:
            page(wrapped)
            wrapped.unwrap()

    with peer(secured) as there, proxy(*pki.good.options(), address=f"tls:{HERE}") as server:
        options = ("-x", f"https://localhost:{server.port}", "--proxy-cacert", pki.ca, "--cacert", pki.ca, "-4")
        done = run(curl(*options, f"https://localhost:{there.port}/"))
        check_same(done.out, DATA)
        assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("user", ["me:pass:word", "me:guess", None])
def test_curl_with_a_password(scheme: str, user: str | None, users: str) -> None:
    """Only the right password is accepted, and SOCKS4 is refused, as it has no passwords."""
    with peer(page) as there, proxy("--auth-file", users) as server:
        options = ["--proxytunnel", "-x", f"{scheme}://127.0.0.1:{server.port}", *(["-U", user] if user else [])]
        done = run(curl(*options, f"http://localhost:{there.port}/"))
        if user == "me:pass:word" and scheme not in ("socks4", "socks4a"):
            check_same(done.out, DATA)
            assert done.code == 0
        else:
            assert done.code == (56 if scheme == "http" else 97) and there.results.empty()
            assert "407" in done.err or scheme != "http"


def test_curl_asks_again_with_a_password(users: str) -> None:
    """curl --proxy-anyauth tries without a password first, and then uses the method that the 407 offers."""
    with peer(page) as there, proxy("--auth-file", users) as server:
        options = ("--proxytunnel", "-x", f"http://127.0.0.1:{server.port}", "-U", "me:pass:word", "--proxy-anyauth")
        done = run(curl(*options, f"http://localhost:{there.port}/"))
        check_same(done.out, DATA)
        assert done.code == 0


@pytest.mark.parametrize(
    ("scheme", "code", "said"), [("socks5h", 97, "(5)"), ("socks4a", 97, "(91)"), ("http", 56, "502")]
)
def test_curl_is_told_what_is_wrong(scheme: str, code: int, said: str) -> None:
    """curl receives the error if the target refuses the connection."""
    with proxy() as server:
        options = ("--proxytunnel", "-x", f"{scheme}://127.0.0.1:{server.port}")
        done = run(curl(*options, f"http://localhost:{free_port()}/"))
        assert done.code == code and said in done.err


def test_curl_is_told_over_tls(pki: Pki) -> None:
    """curl receives a complete error reply over TLS."""
    with proxy(*pki.good.options(), address=f"tls:{HERE}") as server:
        options = ("-v", "--proxytunnel", "-x", f"https://localhost:{server.port}", "--proxy-cacert", pki.ca, "-4")
        done = run(curl(*options, f"http://localhost:{free_port()}/"))
        assert done.code == 56 and "502 Bad Gateway" in done.err


def test_curl_without_a_tunnel() -> None:
    """A GET to the proxy gets a 405 that says to use CONNECT."""
    with proxy() as server:
        done = run(curl("-i", "-x", f"http://127.0.0.1:{server.port}", "http://localhost:9/"))
        assert done.code == 0
        assert done.out.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n")
        assert done.out.endswith(b"\r\n\r\nGET is not served, only CONNECT (curl --proxytunnel)\n")


# -- nc and ncat


@pytest.mark.parametrize("protocol", ["4", "5", "connect"])
def test_nc(protocol: str) -> None:
    """nc sends and receives 300,000 bytes through the proxy."""
    with peer(answering) as there, proxy() as server:
        options = ("-N", "-X", protocol, "-x", f"127.0.0.1:{server.port}")
        done = run([tool("nc"), *options, "127.0.0.1", str(there.port)], DATA)
        check_same(done.out, OTHER)
        assert (done.code, done.err) == (0, "")
        check_same(there.result(), DATA)


@pytest.mark.parametrize("kind", ["socks4", "socks5", "http"])
@pytest.mark.parametrize("user", [None, "me:pass:word", "me:guess"])
def test_ncat(kind: str, user: str | None, users: str) -> None:
    """ncat sends and receives 300,000 bytes through the proxy, with the right password or none required."""
    with peer(answering) as there, proxy(*(["--auth-file", users] if user else [])) as server:
        options = ["--proxy", f"127.0.0.1:{server.port}", "--proxy-type", kind]
        options += ["--proxy-auth", user] if user else []
        done = run([tool("ncat"), *options, "127.0.0.1", str(there.port)], DATA)
        if user is None or (user == "me:pass:word" and kind != "socks4"):
            check_same(done.out, OTHER)
            assert (done.code, done.err) == (0, "")
            check_same(there.result(), DATA)
        else:
            assert done.code and there.results.empty()


# -- ssh


@pytest.mark.parametrize(
    "command",
    ["nc -X 5 -x {proxy} %h %p", "nc -X 4 -x {proxy} %h %p", "nc -X connect -x {proxy} %h %p",
     "ncat --proxy {proxy} --proxy-type socks5 %h %p", "ncat --proxy {proxy} --proxy-type http %h %p"],
)  # fmt: skip
def test_ssh(command: str, tmp_path: Path) -> None:
    """ssh with a ProxyCommand sends and receives 300,000 bytes through the proxy."""
    name, _, rest = command.partition(" ")
    with sshd(tmp_path) as (_, port), proxy() as server:
        through = f"{tool(name)} {rest.format(proxy=f'127.0.0.1:{server.port}')}"
        done = run([*ssh(tmp_path, port, f"ProxyCommand={through}"), "127.0.0.1", "cat"], DATA)
        assert (done.code, done.err) == (0, "")
        check_same(done.out, DATA)


# -- socksio


@pytest.mark.parametrize("target", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("password", [False, True])
def test_socksio_with_socks5(target: str, password: bool, users: str) -> None:
    """socksio parses each reply of SOCKS5, and the data follows right after the last."""
    method = socks5.SOCKS5AuthMethod.USERNAME_PASSWORD if password else socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED
    with (
        peer(answering) as there,
        proxy(*(["--auth-file", users] if password else [])) as server,
        connect(server.port) as sock,
    ):
        client = socks5.SOCKS5Connection()

        def ask(request: Any) -> Any:
            client.send(request)
            sock.sendall(client.data_to_send())
            return client.receive_data(sock.recv(4096))

        assert ask(socks5.SOCKS5AuthMethodsRequest([method])).method is method
        if password:
            assert ask(socks5.SOCKS5UsernamePasswordRequest(b"me", b"pass:word")).success
        command = socks5.SOCKS5Command.CONNECT
        reply = ask(socks5.SOCKS5CommandRequest.from_address(command, (target, there.port)))
        assert reply.reply_code is socks5.SOCKS5ReplyCode.SUCCEEDED
        check_same(converse(sock, DATA), OTHER)


@pytest.mark.parametrize("target", ["127.0.0.1", "localhost"])
def test_socksio_with_socks4(target: str) -> None:
    """socksio parses the reply of SOCKS4 to an address, and of SOCKS4a to a name."""
    kind = socks4.SOCKS4Request if target == "127.0.0.1" else socks4.SOCKS4ARequest
    with peer(answering) as there, proxy() as server, connect(server.port) as sock:
        client = socks4.SOCKS4Connection(user_id=b"me")
        client.send(kind.from_address(socks4.SOCKS4Command.CONNECT, (target, there.port), user_id=b"me"))
        sock.sendall(client.data_to_send())
        reply = client.receive_data(sock.recv(4096))
        assert reply.reply_code is socks4.SOCKS4ReplyCode.REQUEST_GRANTED
        check_same(converse(sock, DATA), OTHER)
