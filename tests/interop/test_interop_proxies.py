"""netkit through other proxies to a target: microsocks, Dante, tinyproxy, squid and ssh -D."""

import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import NETKIT, Finished, exchange, free_port, netkit, peer, running
from tests.support.certificates import Pki
from tests.support.data import DATA, OTHER, check_same
from tests.support.partners import await_listener, run, ssh, sshd
from tests.support.peers import read_all, receive
from tests.support.processes import HERE, tool
from tests.support.proxies import head
from tests.support.relays import answering

ROOT = os.geteuid() == 0
USER = "me:hunter2@"  # required by microsocks and tinyproxy

DANTE = """
logoutput: /dev/null
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks block {{ from: 0.0.0.0/0 to: 127.0.0.9/32 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""
TINYPROXY = """
Listen 127.0.0.1
Port {port}
BasicAuth me hunter2
"""
SQUID = """
http_port 127.0.0.1:{port}
acl forbidden dst 127.0.0.9
http_access deny forbidden
http_access allow all
cache deny all
access_log none
cache_log /dev/null
pid_filename none
coredump_dir none
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
"""


class Proxies:
    """Proxies, each started when it is first used, with their files in ``folder``."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._ports: dict[str, int] = {}

    def url(self, scheme: str, name: str) -> str:
        """Return the URL of a proxy, with the user and password that it requires."""
        user = USER if name in ("microsocks", "tinyproxy") and not scheme.startswith("socks4") else ""
        return f"{scheme}://{user}127.0.0.1:{self.port(name)}"

    def port(self, name: str) -> int:
        """Return the port of a proxy, and start it if it does not run."""
        if name not in self._ports:
            port = free_port()
            self._stack.enter_context(self._running(name, port))
            self._ports[name] = port
        return self._ports[name]

    @contextlib.contextmanager
    def _running(self, name: str, port: int) -> Iterator[None]:
        argv = getattr(self, f"_{name}")(port)
        with running(argv=argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as it:
            await_listener(port, it)
            yield
            it.signal(signal.SIGTERM)  # so that it ends its children
            it.wait()

    def _written(self, name: str, content: str, port: int) -> str:
        file = self._folder / name
        file.write_text(content.format(port=port, folder=self._folder))
        return str(file)

    def _microsocks(self, port: int) -> list[str]:
        return [tool("microsocks"), "-i", "127.0.0.1", "-p", str(port), "-u", "me", "-P", "hunter2"]

    def _dante(self, port: int) -> list[str]:
        users = "user.privileged: root\nuser.unprivileged: nobody\n" if ROOT else ""
        return [tool("danted"), "-f", self._written("danted.conf", users + DANTE, port)]

    def _tinyproxy(self, port: int) -> list[str]:
        return [tool("tinyproxy"), "-d", "-c", self._written("tinyproxy.conf", TINYPROXY, port)]

    def _squid(self, port: int) -> list[str]:
        user = "cache_effective_user nobody\n" if ROOT else ""
        name = f"netkit{os.getpid()}"  # in the names of its shared memory
        return [tool("squid"), "-N", "-n", name, "-f", self._written("squid.conf", SQUID + user, port)]

    def _ssh(self, port: int) -> list[str]:
        return [*self.ssh(), "-N", "-D", f"127.0.0.1:{port}", "127.0.0.1"]

    def ssh(self, *options: str) -> list[str]:
        """Return a command line of ssh, up to the host."""
        if "sshd" not in self._ports:
            _, self._ports["sshd"] = self._stack.enter_context(sshd(self._folder))
        return ssh(self._folder, self._ports["sshd"], *options)


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxies]:
    """Provide the proxies, shared by all tests of this file."""
    with contextlib.ExitStack() as stack:
        yield Proxies(tmp_path_factory.mktemp("proxies"), stack)


def answer(sock: socket.socket) -> bytes:
    """Read all of DATA, then answer with OTHER."""
    data = receive(sock, len(DATA))
    sock.sendall(OTHER)
    return data


EVERY = [
    ("socks5h", "microsocks"),
    ("socks5", "microsocks"),
    ("socks5h", "dante"),
    ("socks5", "dante"),
    ("socks4", "dante"),
    ("socks4a", "dante"),
    ("http", "tinyproxy"),
    ("http", "squid"),
    ("socks5h", "ssh"),
    ("socks5", "ssh"),
    ("socks4a", "ssh"),
]


def check_both_ways(*words: str, behave: Callable[[socket.socket], bytes] = answer, host: str = "127.0.0.1") -> None:
    """Assert that 300,000 bytes pass each way intact through proxies."""
    with peer(behave, host) as target:
        done = netkit("connect", target.address, *words, input=DATA)
        check_same(target.result(), DATA)
        check_same(done.out, OTHER)
        assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(("scheme", "name"), EVERY)
def test_data_goes_both_ways(scheme: str, name: str, proxies: Proxies) -> None:
    """Data passes intact, although some proxies would drop the answer after a half-close."""
    check_both_ways("--proxy", proxies.url(scheme, name))


@pytest.mark.parametrize("name", ["dante", "ssh"])
def test_an_end_that_is_passed_on(name: str, proxies: Proxies) -> None:
    """Dante and ssh pass a half-close on, and an answer after it arrives intact."""
    check_both_ways("--proxy", proxies.url("socks5h", name), "--shutdown-after", "0", behave=answering)


@pytest.mark.ipv6
def test_an_ipv6_target(proxies: Proxies) -> None:
    """A proxy can connect to an IPv6 address."""
    check_both_ways("--proxy", proxies.url("socks5h", "microsocks"), host="::1")


def test_a_chain_of_three(proxies: Proxies) -> None:
    """Data passes both ways through a chain of squid, Dante and microsocks."""
    chain = (("http", "squid"), ("socks5h", "dante"), ("socks5", "microsocks"))
    check_both_ways(*(word for each in chain for word in ("--proxy", proxies.url(*each))))


@pytest.mark.parametrize(
    ("scheme", "name", "host", "code", "reason"),
    [
        ("socks5h", "microsocks", "127.0.0.1", 7, "connection refused"),
        ("socks5h", "dante", "127.0.0.1", 7, "connection refused"),
        ("socks5h", "dante", "127.0.0.9", 97, "its rules forbid it"),
        ("socks4a", "dante", "127.0.0.1", 7, "the proxy rejected the request, or it failed"),
        ("http", "tinyproxy", "127.0.0.1", 97, "it answered 500 Unable to connect"),
        ("http", "squid", "127.0.0.1", 7, "the proxy answered 503 Service Unavailable"),
        ("http", "squid", "127.0.0.9", 97, "it answered 403 Forbidden"),
        ("socks5h", "ssh", "127.0.0.1", 97, "it closed the connection"),
    ],
)
def test_what_they_say_of_a_target(scheme: str, name: str, host: str, code: int, reason: str, proxies: Proxies) -> None:
    """If a proxy reports that the target refuses the connection, or is forbidden, the message has its reason."""
    target = f"{host}:{free_port()}"
    done = netkit("connect", target, "--proxy", proxies.url(scheme, name))
    where = proxies.url(scheme, name).replace(USER, "")
    assert done == Finished(code, b"", f"netkit connect: cannot connect to {target} through proxy {where}: {reason}\n")


@pytest.mark.parametrize(
    ("scheme", "name", "user", "reason"),
    [
        ("socks5h", "microsocks", "", "it wants authentication"),
        ("socks5h", "microsocks", "me:wrong@", "it refused user and password"),
        ("http", "tinyproxy", "", "it answered 407 Proxy Authentication Required"),
        ("http", "tinyproxy", "me:wrong@", "it answered 401 Unauthorized"),
    ],
)
def test_who_is_not_let_in(scheme: str, name: str, user: str, reason: str, proxies: Proxies) -> None:
    """A missing or wrong password is 97, and the message has the reason, not the password."""
    done = netkit("connect", "127.0.0.1:1", "--proxy", proxies.url(scheme, name).replace(USER, user))
    assert done.code == 97
    assert done.err.endswith(f": {reason}\n") and "wrong" not in done.err


@pytest.mark.parametrize(("scheme", "name"), [("socks5h", "microsocks"), ("http", "squid")])
def test_ssh_through_a_proxy(scheme: str, name: str, proxies: Proxies) -> None:
    """netkit works as ssh's ProxyCommand through a proxy: 10 MB pass each way, and the exit code is kept."""
    command = f"ProxyCommand={NETKIT[0]} -m netkit connect %h:%p --proxy {proxies.url(scheme, name)}"
    data = random.Random(3).randbytes(10_000_000)
    done = run([*proxies.ssh(command), "127.0.0.1", "cat; exit 7"], data)
    check_same(done.out, data)
    assert (done.code, done.err) == (7, "")


@pytest.mark.parametrize("name", ["tinyproxy", "squid"])
def test_a_page_by_way_of_a_proxy(name: str, proxies: Proxies) -> None:
    """fetch gets an http URL through a proxy, which does not pass the credentials on."""

    def page(sock: socket.socket) -> bytes:
        asked = head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA) + DATA)
        return asked

    with peer(page) as server:
        done = netkit("fetch", f"http://{server.address}/x", "--proxy", proxies.url("http", name))
        assert (done.code, done.err) == (0, "")
        check_same(done.out, DATA)
        asked = server.result()
    assert asked.startswith(b"GET /x HTTP/1.") and b"Proxy-Authorization" not in asked


@pytest.mark.parametrize(("scheme", "name"), [("http", "tinyproxy"), ("http", "squid"), ("socks5h", "ssh")])
def test_a_secured_page_through_a_tunnel(scheme: str, name: str, proxies: Proxies, pki: Pki) -> None:
    """fetch gets an https URL through a tunnel, and verifies the server's certificate."""
    context = pki.server()

    def page(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as server:
            head(server)
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA) + DATA)
            server.unwrap()

    with peer(page) as server:
        words = ("--proxy", proxies.url(scheme, name), "--cafile", pki.ca)
        done = netkit("fetch", f"https://127.0.0.1:{server.port}/", *words)
        assert (done.code, done.err) == (0, "")
        check_same(done.out, DATA)


def test_ports_behind_dante(proxies: Proxies) -> None:
    """portcheck through Dante reports open and closed ports, and unknown for one that its rules forbid."""
    with peer(read_all) as server:
        closed = free_port()
        words = (f"127.0.0.1:{server.port},{closed}", "127.0.0.9:1", "--all-open")
        done = netkit("portcheck", *words, "--proxy", proxies.url("socks5", "dante"))
    states = {tuple(line.split(b"\t")[:2]): line.split(b"\t")[3] for line in done.out.splitlines()}
    assert done.code == 7
    assert states == {
        (b"127.0.0.1", b"%d/tcp" % server.port): b"open",
        (b"127.0.0.1", b"%d/tcp" % closed): b"closed",
        (b"127.0.0.9", b"1/tcp"): b"unknown",
    }


def test_a_target_that_comes_later(proxies: Proxies) -> None:
    """--wait tries again while Dante reports a refused connection."""
    port = free_port()
    words = (f"127.0.0.1:{port}", "--proxy", proxies.url("socks5h", "dante"), "--wait", "20s", "-vv")
    with running("connect", *words) as client:
        client.line("through proxy .*: connection refused.*; again in ")
        with peer(lambda sock: sock.sendall(b"here"), port=port):
            assert client.out.read() == b"here"
            assert client.finish().code == 0


def test_a_relay_by_way_of_ssh(proxies: Proxies) -> None:
    """A client without proxy support uses ssh -D through a relay, which passes ends on."""

    def back(sock: socket.socket) -> None:
        sock.sendall(read_all(sock))

    with peer(back) as target:
        words = ("--proxy", proxies.url("socks5h", "ssh"), "--shutdown-after", "0")
        with running("relay", HERE, target.address, *words) as relay:
            check_same(exchange(relay.port, DATA), DATA)
            assert relay.terminate().complaints == []
