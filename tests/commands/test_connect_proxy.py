"""``netkit connect --proxy``: what proxies are asked, and what happens if they fail."""

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import Finished, free_port, netkit, peer, running
from tests.support.certificates import Pki
from tests.support.namespaces import separate
from tests.support.peers import outlast, read_until, receive
from tests.support.processes import strace
from tests.support.proxies import (
    CREDENTIALS,
    GRANTED,
    GRANTED_4,
    GREETING,
    GREETING_WITH_PASSWORD,
    NO_AUTHENTICATION,
    OK,
    REQUEST,
    REQUEST_4A,
    SECURED,
    SOCKS4A,
    SOCKS5,
    TARGET,
    Step,
    head,
    http,
    reply,
    scripted,
    shout,
)
from tests.support.secured import Secured, serving


def through(url: str, *words: str, target: str = TARGET, input: bytes = b"hello", **popen: Any) -> Finished:
    """Send hello to the target through a proxy."""
    return netkit("connect", target, "--proxy", url, *words, input=input, **popen)


# -- working proxies


@pytest.mark.ipv6
@pytest.mark.parametrize("scheme", ["socks5h", "http"])
def test_a_proxy_over_ipv6(scheme: str) -> None:
    """The URL of a proxy may have an IPv6 address in brackets."""
    with peer(scripted(SOCKS5 if scheme == "socks5h" else http(OK)), "::1") as proxy:
        assert through(f"{scheme}://{proxy.address}") == Finished(0, b"HELLO", "")


def test_a_header_for_the_target_comes_behind_the_proxy() -> None:
    """With --send-proxy the PROXY header goes to the target, not to the proxy."""

    def target(sock: socket.socket) -> None:
        sock.sendall(read_until(sock, b"\n") + receive(sock, 5))

    with peer(scripted(SOCKS5, target)) as proxy:
        done = through(f"socks5h://{proxy.address}", "--send-proxy", "v1")
    assert done.code == 0
    assert done.out.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ") and done.out.endswith(b"\r\nhello")


@pytest.mark.parametrize("way", ["file", "environment"])
def test_a_password_that_is_not_on_the_command_line(way: str, tmp_path: Path) -> None:
    """The password may come from a file, or from the environment if the URL only has the user."""
    (tmp_path / "user").write_text("me:hunter2\n")
    with peer(scripted(SECURED)) as proxy:
        url = f"socks5h://{'' if way == 'file' else 'me@'}{proxy.address}"
        words = ("--proxy-user-file", str(tmp_path / "user")) if way == "file" else ()
        environment = {**os.environ, **({} if way == "file" else {"NETKIT_PROXY_PASSWORD": "hunter2"})}
        assert through(url, *words, env=environment) == Finished(0, b"HELLO", "")
        assert proxy.result() == [GREETING_WITH_PASSWORD, CREDENTIALS, REQUEST]


def test_a_user_of_socks4() -> None:
    """SOCKS4 has a user but no password, so the password in the environment is not used."""
    request = REQUEST_4A.replace(b"\xff\0", b"\xffme\0")
    with peer(scripted([(request, GRANTED_4)])) as proxy:
        done = through(f"socks4a://me@{proxy.address}", env={**os.environ, "NETKIT_PROXY_PASSWORD": "hunter2"})
        assert done == Finished(0, b"HELLO", "")
        assert proxy.result() == [request]


def test_a_chain() -> None:
    """Each proxy of a chain is asked for the next one, and the last for the target."""
    second = scripted(SOCKS4A)

    def first(sock: socket.socket) -> Any:
        asked = head(sock)
        sock.sendall(OK)
        return asked, second(sock)

    with peer(first) as proxy:
        chain = ("--proxy", f"http://{proxy.address}", "--proxy", "socks4a://second.test")
        done = netkit("connect", TARGET, *chain, "-v", input=b"hello")
        assert (done.code, done.out) == (0, b"HELLO")
        asked, rest = proxy.result()
    assert asked.startswith(b"CONNECT second.test:1080 HTTP/1.1\r\n")
    assert rest == [REQUEST_4A]
    said = [re.sub(r"( from \S+)? after .*", "", line) for line in done.err.splitlines()]
    assert said == [
        f"netkit connect: connected to {proxy.address}",
        f"netkit connect: proxy http://{proxy.address} connected to second.test:1080",
        f"netkit connect: proxy socks4a://second.test:1080 connected to {TARGET}",
        f"netkit connect: {TARGET} closed",
    ]


def test_a_proxy_over_tls_and_a_target_over_tls(pki: Pki) -> None:
    """TLS to the proxy and TLS to the target are separate; --servername is for the target."""

    def behave(outer: Secured) -> Any:
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += outer.recv()
        outer.send(OK)
        inner = Secured(Tunnel(outer), pki.server(pki.names)).do_handshake()  # type: ignore[arg-type]
        got = inner.read_all()
        inner.send(got.upper())
        inner.end()
        outer.end()
        return asked, got

    with peer(serving(pki.server(), behave)) as proxy:
        words = ("--cafile", pki.ca, "--servername", "www.example.org", "--shutdown-after", "0", "-v")
        done = through(f"https://localhost:{proxy.port}", *words, target=f"tls:{TARGET}")
        assert (done.code, done.out) == (0, b"HELLO"), done.err
        asked, got = proxy.result()
    assert asked.startswith(b"CONNECT target.test:9 HTTP/1.1\r\n") and got == b"hello"
    assert done.err.count("secured by") == 2


class Tunnel:
    """A TLS connection with the methods of a socket, to run another TLS connection through it."""

    family = socket.AF_UNIX  # has no TCP options

    def __init__(self, outer: Secured) -> None:
        self._outer = outer
        self.sendall = outer.send

    def settimeout(self, timeout: float) -> None:
        """Do nothing: the outer socket has its own timeout."""

    def recv(self, size: int) -> bytes:
        return self._outer.recv()


def test_the_proxys_certificate_is_verified(pki: Pki) -> None:
    """The certificate of a proxy is verified even with --insecure, which is for the target."""
    with peer(serving(pki.server(pki.bad("wrong name")), lambda secured: secured.recv())) as proxy:
        url = f"https://localhost:{proxy.port}"
        done = through(url, "--cafile", pki.ca)
        assert done.code == 60
        assert f"cannot trust proxy {url} for {TARGET}: hostname mismatch" in done.err
        done = through(url, "--tls", "--insecure")
        assert done.code == 60
        assert f"cannot trust proxy {url} for {TARGET}: issuer " in done.err


def test_what_is_told_of_it() -> None:
    """Events have the proxy without its user, and the target; the password is in no output."""
    with peer(scripted(SECURED)) as proxy:
        done = through(f"socks5h://me:hunter2@{proxy.address}", "--json", "--stats")
    connected, tunnelled, closed, stats = map(json.loads, done.err.splitlines())
    assert connected["target"] == proxy.address and connected["peer_port"] == proxy.port
    assert tunnelled.pop("time_ms") > 0
    assert {name: tunnelled[name] for name in ("event", "proxy", "target")} == {
        "event": "tunnelled",
        "proxy": f"socks5h://{proxy.address}",
        "target": TARGET,
    }
    for each in (closed, stats):
        assert (each["bytes_sent"], each["bytes_acknowledged"], each["bytes_received"]) == (5, 5, 5)
    assert "hunter2" not in done.err


@pytest.mark.parametrize(
    ("scheme", "steps"),
    [("socks5h", SOCKS5), ("socks4a", SOCKS4A), ("http", http(OK))],
    ids=lambda value: str(value)[:7],
)
def test_no_name_is_looked_up_here(scheme: str, steps: Sequence[Step], tmp_path: Path) -> None:
    """If the proxy looks names up, the only connection is to the proxy, and no file with hosts is read."""
    log = tmp_path / "log"
    wrapper = strace("trace=socket,connect,sendto,sendmsg,sendmmsg,openat", log=log)
    with peer(scripted(steps)) as proxy:
        assert through(f"{scheme}://{proxy.address}", wrapper=wrapper) == Finished(0, b"HELLO", "")
    calls = log.read_text()
    assert re.findall(r"connect\(.*htons\((\d+)\)", calls) == [str(proxy.port)]
    assert len(re.findall(r"socket\(AF_INET", calls)) == 1
    assert not re.search(r"/etc/(hosts|resolv\.conf|nsswitch\.conf)", calls)


ISOLATED = """
import socket, subprocess, sys, threading
resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
resolver.bind(("127.0.0.1", 53))
listener = socket.create_server(("127.0.0.1", 1080))

def serve():
    sock, _ = listener.accept()
    for answer in (b"\\5\\0", b"\\5\\0\\0\\1\\x7f\\0\\0\\1\\0\\x50"):
        sock.recv(300)
        sock.sendall(answer)
    sock.sendall(sock.recv(5).upper())

threading.Thread(target=serve, daemon=True).start()
words = ["connect", "--proxy", sys.argv[1] + "://127.0.0.1:1080", "target.test:9", "--send", "hello"]
done = subprocess.run([sys.executable, "-m", "netkit", *words, "--max-bytes", "5"], capture_output=True, text=True)
resolver.setblocking(False)
queries = 0
try:
    while resolver.recv(512):
        queries += 1
except BlockingIOError:
    pass
print(done.returncode, done.stdout, "asked" if queries else "silent")
"""


@pytest.mark.parametrize(("scheme", "said"), [("socks5h", "0 HELLO silent\n"), ("socks5", "6  asked\n")])
def test_no_query_leaves_for_a_name_server(scheme: str, said: str, tmp_path: Path) -> None:
    """The local name server only gets a query if the scheme says that netkit looks names up."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    switch = tmp_path / "nsswitch.conf"
    switch.write_text("hosts: files dns\n")
    mounts = [
        f"mount --bind {conf} /etc/resolv.conf",
        f"test ! -e /etc/nsswitch.conf || mount --bind {switch} /etc/nsswitch.conf",
    ]
    with running(argv=[*separate("ip link set lo up", *mounts), sys.executable, "-c", ISOLATED, scheme]) as process:
        assert process.finish().out.decode() == said


# -- failing proxies


def close(sock: socket.socket) -> None:
    """End at once."""


@pytest.mark.parametrize(
    ("steps", "then", "code", "reason"),
    [
        (http(b""), close, 97, "it ended without an answer"),
        (http(b"HTTP/1.1 200 OK\r\n"), outlast, 28, "no answer within 1 s"),
        (http(b"HTTP/1.1 403 \x1b[31mred\r\n\r\n"), close, 97, r"it answered 403 \x1b[31mred"),
        (http(b"HTTP/1.1 502 Sorry\r\n\r\n"), close, 7, "the proxy answered 502 Sorry"),
    ],
)
def test_a_proxy_that_does_not(
    steps: Sequence[Step], then: Callable[[socket.socket], Any], code: int, reason: str
) -> None:
    """A failure of the proxy is one line with the reason, the proxy and the target; no payload is printed."""
    with peer(scripted(steps, then)) as proxy:
        done = through(f"http://me:hunter2@{proxy.address}", "-w", "1s" if code == 28 else "10s")
    line = f"netkit connect: cannot connect to {TARGET} through proxy http://{proxy.address}: {reason}"
    assert (done.code, done.out) == (code, b"")
    assert done.err.startswith(line) and done.err.count("\n") == 1


def test_a_proxy_that_floods_is_left() -> None:
    """A proxy that sends an endless head is left once a limit is reached."""

    def flood(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            sock.sendall(b"X: " + b"y" * 4000 + b"\r\n")

    with peer(flood) as proxy:
        done = through(f"http://{proxy.address}")
        assert isinstance(proxy.result(), OSError)
    assert done.code == 97
    assert "its head has more than 262144 bytes" in done.err


# -- the connection to the proxy


def test_a_proxy_that_is_not_there() -> None:
    """A proxy that refuses is exit code 7, one that cannot be resolved 5; the message names proxy and target."""
    port = free_port()
    done = through(f"socks5h://me:hunter2@127.0.0.1:{port}")
    assert done.code == 7
    assert done.err.startswith(f"netkit connect: cannot connect to proxy socks5h://127.0.0.1:{port} for {TARGET}: ")
    assert "connection refused" in done.err and "hunter2" not in done.err
    done = through("http://nosuch.invalid")
    assert done.code == 5
    assert done.err.startswith(f"netkit connect: cannot resolve proxy http://nosuch.invalid:8080 for {TARGET}: ")


def test_a_chain_that_breaks() -> None:
    """If a proxy cannot reach the next one, the message names both."""
    with peer(scripted([(GREETING, NO_AUTHENTICATION), (b"\5\1\0\3\x0bsecond.test\4\x38", b"\5\5")])) as first:
        chain = ("--proxy", f"socks5h://{first.address}", "--proxy", "http://second.test:1080")
        done = netkit("connect", TARGET, *chain)
    assert done.code == 7
    second = f"proxy http://second.test:1080 for {TARGET}"
    assert f"cannot connect to {second} through proxy socks5h://{first.address}: connection refused" in done.err


def test_waiting_for_a_target_behind_a_proxy() -> None:
    """--wait tries again if the target cannot be reached, but not if the proxy itself fails."""
    replies = [b"\5\5", b"\5\4", GRANTED]

    def behave(sock: socket.socket) -> Any:
        return scripted(reply(replies.pop(0)), close if replies else shout)(sock)

    with peer(behave) as proxy:
        assert through(f"socks5h://{proxy.address}", "--wait", "15s") == Finished(0, b"HELLO", "")
    with peer(scripted([(GREETING, b"\5\xff")], close)) as proxy:
        assert through(f"socks5h://{proxy.address}", "--wait", "15s").code == 97


def test_source_and_family_are_for_the_way_to_the_proxy() -> None:
    """--source and -4 apply to the connection to the proxy, not to the target."""

    def behave(sock: socket.socket) -> Any:
        source = sock.getpeername()[0]
        receive(sock, 3)
        sock.sendall(NO_AUTHENTICATION)
        asked = receive(sock, 22)
        sock.sendall(GRANTED)
        shout(sock)
        return source, asked[3]

    with peer(behave) as proxy:
        done = through(f"socks5://{proxy.address}", "--source", "127.0.0.2", "-4", target="[2001:db8::1]:9")
        assert done == Finished(0, b"HELLO", "")
        assert proxy.result() == ("127.0.0.2", 4)


# -- usage errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["unix:/x", "--proxy", "http://p"], "--proxy does not apply: a proxy connects to hosts and ports"),
        ([":80", "--proxy", "http://p"], "address ':80' is this machine: write the host"),
        (["h:80", "--proxy", "socks4://p", "--proxy", "http://[::1]"], "address '[::1]:8080' is IPv6"),
        (["h:80", "--proxy", "me:hunter2@p"], "--proxy: proxy 'me:...@p' has no scheme"),
        (["h:80", "--proxy-user-file", "f"], "--proxy-user-file needs --proxy"),
        (["127.0.0.1:80", "-n", "--proxy", "http://p"], "host 'p' is a name, and --numeric allows addresses alone"),
        (["h:80", "--proxy", "http://p", "--cafile", "f"], "--cafile does not apply: without --tls, tls: or "),
        (["h:80", "-x", "p:1080"], "no such option '-x': --proxy socks5://HOST:PORT goes through a proxy; "),
        (["h:80", "-X", "connect"], "no such option '-X': the proxy's URL says what it speaks: "),
        (["h:80", "--proxy-type", "http"], "no such option '--proxy-type': the proxy's URL says what it speaks: "),
        (["h:80", "--proxy-auth", "a:b"], "no such option '--proxy-auth': --proxy URL has USER:PASSWORD@ "),
        (["h:80", "--socks5-hostname", "p"], "no such option '--socks5-hostname': --proxy socks5h://HOST:PORT"),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    """A usage error is one line, and nothing is sent."""
    done = netkit("connect", *words)
    assert (done.code, done.out) == (2, b"")
    assert done.err.startswith("netkit connect: ") and done.err.count("\n") == 1
    assert message in done.err and "hunter2" not in done.err


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 26, "cannot read user and password from {file}: no such file or directory"),
        ("hunter2\n", 26, "cannot read user and password from {file}: its first line is not USER:PASSWORD"),
        (f"{'u' * 256}:hunter2\n", 2, "SOCKS5 wants a user of 1 to 255 bytes"),
    ],
)
def test_a_file_that_has_no_user(content: str | None, code: int, message: str, tmp_path: Path) -> None:
    """A bad user file is reported before the proxy is connected, and its content is not shown."""
    file = tmp_path / "user"
    if content is not None:
        file.write_text(content)
    done = through(f"socks5h://127.0.0.1:{free_port()}", "--proxy-user-file", str(file))
    assert done.code == code
    assert message.format(file=file) in done.err and "hunter2" not in done.err
