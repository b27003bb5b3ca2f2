"""``netkit fetch`` through proxies of --proxy and of the environment."""

import json
import os
import socket
from typing import Any

import pytest

from tests.support import Finished, free_port, netkit, peer
from tests.support.certificates import Pki
from tests.support.peers import read_all
from tests.support.proxies import GRANTED, GREETING, NO_AUTHENTICATION, Step, head, scripted
from tests.support.sites import answer, redirect, site

PAGE = answer(b"hello")
BASIC = "Basic bWU6aHVudGVyMg=="


def fetch(url: str, *words: str, **environ: str) -> Finished:
    """Run fetch with these variables in its environment."""
    return netkit("fetch", url, *words, env={**os.environ, **environ})


def page(sock: socket.socket) -> bytes:
    """Answer a request with a page, and return its head."""
    asked = head(sock)
    sock.sendall(PAGE)
    return asked


def tunnel(sock: socket.socket) -> tuple[bytes, bytes]:
    """Accept CONNECT and answer as the server; return the heads of both requests."""
    asked = head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    return asked, page(sock)


def test_an_http_proxy_is_asked_for_http_urls() -> None:
    """An HTTP proxy gets the absolute URL; the URL's user is for the server, and the proxy's for the proxy."""
    with site(PAGE) as proxy:
        done = fetch("http://you:secret@a.test:81/x?y", "--proxy", f"http://me:hunter2@{proxy.address}", "-v")
    assert (done.code, done.out) == (0, b"hello")
    [got] = proxy.got
    assert (got.line, got.fields["host"]) == ("GET http://a.test:81/x?y HTTP/1.1", "a.test:81")
    assert got.fields["authorization"] == "Basic eW91OnNlY3JldA=="
    assert got.fields["proxy-authorization"] == BASIC
    assert f"netkit fetch: asking proxy http://{proxy.address} for http://a.test:81/x?y\n" in done.err
    assert "hunter2" not in done.err and "secret" not in done.err


@pytest.mark.parametrize(("scheme", "port"), [("socks5h", b"\0\x50"), ("socks4a", b"\0\x50")])
def test_a_socks_proxy_is_asked_for_servers(scheme: str, port: bytes) -> None:
    """Through a SOCKS proxy the server gets the usual request."""
    steps: list[Step] = [(GREETING, NO_AUTHENTICATION), (b"\5\1\0\3\x06a.test" + port, GRANTED)]
    if scheme == "socks4a":
        steps = [(b"\4\1" + port + b"\0\0\0\xff\0a.test\0", b"\0\x5a" + bytes(6))]
    seen: list[bytes] = []
    with peer(scripted(steps, lambda sock: seen.append(page(sock)))) as proxy:
        assert fetch("http://a.test/", "--proxy", f"{scheme}://{proxy.address}") == (0, b"hello", "")
        assert proxy.result() == [request for request, _ in steps]
    assert seen[0].startswith(b"GET / HTTP/1.1\r\nHost: a.test\r\n")
    assert b"Proxy-Authorization" not in seen[0]


def test_a_tunnel_leads_to_https_urls(pki: Pki) -> None:
    """For https a tunnel is asked for, and the server's certificate is verified."""
    context = pki.server()

    def serve(sock: socket.socket) -> Any:
        asked = head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with context.wrap_socket(sock, server_side=True) as server:
            request = page(server)
            server.unwrap()
        return asked, request

    with peer(serve) as proxy:
        url, words = "https://localhost/", ("--cafile", pki.ca)
        assert fetch(url, "--proxy", f"http://me:hunter2@{proxy.address}", *words) == (0, b"hello", "")
        asked, request = proxy.result()
    assert asked.startswith(b"CONNECT localhost:443 HTTP/1.1\r\n")
    assert f"Proxy-Authorization: {BASIC}\r\n".encode() in asked
    assert request.startswith(b"GET / HTTP/1.1\r\nHost: localhost\r\n") and b"Proxy-Authorization" not in request


def test_a_proxy_over_tls(pki: Pki) -> None:
    """A proxy of an https:// URL is asked over TLS."""
    with site(PAGE, context=pki.server()) as proxy:
        words = ("--proxy", f"https://localhost:{proxy.port}", "--cafile", pki.ca)
        assert fetch("http://a.test/", *words) == (0, b"hello", "")
    assert [got.line for got in proxy.got] == ["GET http://a.test/ HTTP/1.1"]


def test_a_chain() -> None:
    """In a chain the last proxy is asked for the URL, through the first one."""
    with peer(tunnel) as proxy:
        words = ("--proxy", f"http://{proxy.address}", "--proxy", "http://second.test:3128")
        assert fetch("http://a.test/", *words) == (0, b"hello", "")
        asked, request = proxy.result()
    assert asked.startswith(b"CONNECT second.test:3128 HTTP/1.1\r\n")
    assert request.startswith(b"GET http://a.test/ HTTP/1.1\r\n")


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy", "ALL_PROXY"])
def test_the_environment_names_one(variable: str) -> None:
    """A proxy in the environment may have user and password, and no scheme."""
    with site(PAGE) as proxy:
        assert fetch("http://a.test/", **{variable: f"me:hunter2@{proxy.address}"}) == (0, b"hello", "")
    [got] = proxy.got
    assert (got.line, got.fields["proxy-authorization"]) == ("GET http://a.test/ HTTP/1.1", BASIC)


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (("--proxy", ""), {"http_proxy": "http://127.0.0.1:1"}),
        ((), {"http_proxy": "http://127.0.0.1:1", "no_proxy": "10.0.0.0/8,127.0.0.1"}),
        ((), {"HTTP_PROXY": "http://127.0.0.1:1"}),
        ((), {"https_proxy": "http://127.0.0.1:1"}),
    ],
)
def test_no_proxy(words: tuple[str, ...], environ: dict[str, str]) -> None:
    """--proxy '' and no_proxy bypass proxies of the environment; HTTP_PROXY and https_proxy are not for http URLs."""
    with site(PAGE) as server:
        assert fetch(server.url, *words, **environ) == (0, b"hello", "")
    assert [got.line for got in server.got] == ["GET / HTTP/1.1"]


def test_a_proxy_that_is_typed_counts_everywhere() -> None:
    """no_proxy does not apply to --proxy."""
    with site(PAGE) as proxy:
        environ = {"no_proxy": "*", "http_proxy": "http://127.0.0.1:1"}
        assert fetch("http://a.test/", "--proxy", proxy.url, **environ) == (0, b"hello", "")


def test_each_redirect_has_its_own_way() -> None:
    """The proxy is chosen again for each redirect, and its credentials are not sent to the server."""
    with site(PAGE) as direct, site(redirect(f"{direct.url}/there")) as proxy:
        done = fetch("http://a.test/", http_proxy=f"http://me:hunter2@{proxy.address}", no_proxy="127.0.0.1")
    assert done == (0, b"hello", "")
    assert proxy.got[0].fields["proxy-authorization"] == BASIC
    assert direct.got[0].line == "GET /there HTTP/1.1"
    assert "proxy-authorization" not in direct.got[0].fields


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (b"HTTP/1.1 407 No\r\n\r\n", 97, "cannot fetch http://a.test/ through proxy {proxy}: it answered 407 No"),
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n",
            97,
            "cannot fetch http://a.test/ through proxy {proxy}: it answered 407 No (by Negotiate)",
        ),
        (b"", 8, "cannot understand the answer for http://a.test/: it ended without an answer"),
    ],
)
def test_a_proxy_that_does_not(answer: bytes, code: int, message: str) -> None:
    """A 407 is a failure of the proxy (97); an empty answer is a bad answer as from any server."""
    with site(answer) as proxy:
        done = fetch("http://a.test/", "--proxy", proxy.url)
    assert done == (code, b"", f"netkit fetch: {message.format(proxy=proxy.url)}\n")


def test_a_redirect_that_a_proxy_cannot_be_told() -> None:
    """A redirect to IPv6 through SOCKS4 fails with the reason."""
    answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://[2001:db8::1]/\r\n\r\n"
    steps = [(b"\4\1\0\x50\x7f\0\0\1\0", b"\0\x5a" + bytes(6) + answer)]
    with peer(scripted(steps, read_all)) as proxy:
        done = fetch("http://127.0.0.1/", "--proxy", f"socks4://{proxy.address}")
    assert done.code == 97
    assert "is IPv6, which SOCKS4 does not know" in done.err


def test_what_is_told_of_it() -> None:
    """Events have the proxy without its user, and messages name a proxy that cannot be reached."""
    with site(PAGE) as proxy:
        done = fetch("http://a.test/", "--json", "--proxy", f"http://me:hunter2@{proxy.address}")
    told = {event["event"]: event for event in map(json.loads, done.err.splitlines())}
    assert (told["forwarded"]["proxy"], told["forwarded"]["target"]) == (proxy.url, "http://a.test/")
    assert "hunter2" not in done.err
    url = f"http://127.0.0.1:{free_port()}"
    done = fetch("http://a.test/", http_proxy=url)
    assert done.code == 7
    assert done.err.startswith(f"netkit fetch: cannot connect to proxy {url} for a.test:80: connection refused (")
    assert fetch("http://a.test/", http_proxy="http://nosuch.invalid").code == 5


def test_a_post_goes_through() -> None:
    """A POST goes through a proxy with its body."""
    with site(PAGE) as proxy:
        assert fetch("http://a.test/", "--data", "x=1", "--proxy", proxy.url) == (0, b"hello", "")
    assert [got.body for got in proxy.got] == [b"x=1"]


@pytest.mark.parametrize(
    ("words", "environ", "message"),
    [
        ((), {"http_proxy": "ftp://me:hunter2@p"}, "http_proxy in the environment: proxy 'ftp://...@p' is of scheme"),
        (("-n",), {"http_proxy": "http://p"}, "host 'p' is a name, and --numeric allows addresses alone"),
        (("--noproxy", "*"), {}, "no such option '--noproxy': --proxy '' uses no proxy"),
        (("-x", "p:80"), {}, "no such option '-x': --proxy URL"),
    ],
)
def test_mistakes(words: tuple[str, ...], environ: dict[str, str], message: str) -> None:
    """A usage error is exit code 2, and nothing is sent."""
    done = fetch("http://127.0.0.1/", *words, **environ)
    assert (done.code, done.out) == (2, b"")
    assert message in done.err and "hunter2" not in done.err
