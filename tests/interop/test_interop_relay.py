"""Other people's tools on either side of ``netkit relay``."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import NETKIT, free_port, peer, running
from tests.support.certificates import Pki
from tests.support.data import DATA, OTHER, check_same
from tests.support.partners import await_listener, content, file_of, nginx, run, tcp_client, tcp_server, unix_client
from tests.support.processes import HERE, tool
from tests.support.relays import answering


@pytest.mark.parametrize("name", ["nc", "ncat", "socat", "netkit"])
def test_their_clients(name: str) -> None:
    """300,000 bytes go each way; the answer begins once the client's end has come."""
    with peer(answering) as there, running("relay", HERE, there.address) as server:
        done = run(tcp_client(name, server.port), DATA)
        check_same(done.out, OTHER)
        assert (done.code, done.err) == (0, "")
        check_same(there.result(), DATA)
        assert server.terminate().complaints == []


@pytest.mark.parametrize("name", ["nc", "socat"])
def test_their_clients_of_a_unix_socket(name: str, tmp_path: Path) -> None:
    """A path leads to a port."""
    path = f"{tmp_path}/s"
    with peer(answering) as there, running("relay", f"unix:{path}", there.address) as server:
        server.line("listening")
        done = run(unix_client(name, path), DATA)
        check_same(done.out, OTHER)
        assert done.code == 0
        check_same(there.result(), DATA)


@pytest.mark.parametrize("name", ["nc", "ncat", "socat"])
@pytest.mark.parametrize("answer", [b"", OTHER], ids=["to them", "from them"])
def test_their_servers(name: str, answer: bytes) -> None:
    """What the client sends arrives at the server, and what that sends at the client."""
    sent = b"" if answer else DATA
    # nc and ncat as servers forget what they have still to send once their client half-closes.
    options = ["--no-shutdown"] if answer and name != "socat" else []
    with (
        file_of(answer) as stdin,
        file_of() as stdout,
        tcp_server(name, stdin=stdin, stdout=stdout) as (other, at),
        running("relay", HERE, at) as server,
    ):
        ours = run([*NETKIT, "connect", f"127.0.0.1:{server.port}", *options], sent)
        assert other.finish().code == 0
        check_same(content(stdout), sent)
        check_same(ours.out, answer)
        assert (ours.code, ours.err) == (0, "")
        assert server.terminate().complaints == []


def test_a_program_behind_socat() -> None:
    """Both ways with a half-close: a cat behind socat gives every byte back."""
    with (
        file_of() as nothing,
        tcp_server("socat", "EXEC:cat", stdin=nothing, stdout=nothing) as (_, at),
        running("relay", HERE, at) as server,
    ):
        done = run(tcp_client("nc", server.port), DATA)
        check_same(done.out, DATA)
        assert server.terminate().complaints == []


@pytest.mark.parametrize("name", ["openssl", "socat", "ncat"])
def test_their_clients_of_tls(name: str, pki: Pki) -> None:
    """TLS in front of a server that knows none, for clients that verify."""
    with (
        peer(lambda sock: sock.sendall(sock.recv(100).upper())) as there,
        running("relay", f"tls:{HERE}", there.address, *pki.good.options()) as server,
    ):
        at = f"127.0.0.1:{server.port}"
        argv = {
            "openssl": lambda: [
                *(tool("openssl"), "s_client", "-quiet", "-verify_return_error", "-verify_quiet"),
                *("-CAfile", pki.ca, "-verify_hostname", "localhost", "-connect", at),
            ],
            "socat": lambda: [tool("socat"), "-", f"OPENSSL:{at},cafile={pki.ca}"],
            "ncat": lambda: [
                *(tool("ncat"), "--ssl", "--ssl-verify", "--ssl-trustfile", pki.ca),
                *("-4", "localhost", at.rpartition(":")[2]),
            ],
        }[name]()
        with running(argv=argv) as client:
            client.stdin.write(b"hello\n")
            assert client.out.read(6) == b"HELLO\n"
            assert client.finish().code == 0


def test_a_server_of_tls(pki: Pki) -> None:
    """A client that knows no TLS talks to openssl s_server, whose certificate is verified."""
    port = free_port()
    argv = [tool("openssl"), "s_server", "-quiet", "-naccept", "1", "-accept", f"127.0.0.1:{port}"]
    with (
        running(argv=[*argv, "-cert", pki.good.cert, "-key", pki.good.key]) as there,
        running("relay", HERE, f"tls:localhost:{port}", "-4", "--cafile", pki.ca) as server,
    ):
        await_listener(port)
        with running(argv=tcp_client("nc", server.port)) as client:
            client.stdin.write(b"hello\n")
            assert there.out.read(6) == b"hello\n"
            there.stdin.write(b"and back\n")
            assert client.out.read(9) == b"and back\n"


def test_nginx_behind_tls(pki: Pki, tmp_path: Path) -> None:
    """curl gets a page of a plain nginx over https, and posts to it; two requests share a connection."""
    (tmp_path / "page").write_bytes(DATA)
    with (
        nginx(tmp_path, f"root {tmp_path};") as address,
        running("relay", f"tls:{HERE}", address, *pki.good.options(), "-v") as server,
    ):
        await_listener(int(address.rpartition(":")[2]))
        url = f"https://localhost:{server.port}/page"
        curl = [tool("curl"), "-sS", "--fail", "--noproxy", "*", "--ipv4", "--cacert", pki.ca]
        done = run([*curl, url, url])
        check_same(done.out, DATA + DATA)
        assert (done.code, done.err) == (0, "")
        said = server.terminate().complaints
    assert sum("connection from" in line for line in said) == 1


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run redis on a unix socket, and yield its path once it listens."""
    path = folder / "redis.sock"
    options = ("--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder))
    with running(argv=[tool("redis-server"), *options]) as server:
        with socket.socket(socket.AF_UNIX) as probe:
            while probe.connect_ex(str(path)):
                assert server.process.poll() is None
                os.sched_yield()
        yield str(path)


def test_redis_on_a_unix_socket(tmp_path: Path) -> None:
    """redis-cli knows a port, redis a path, and values of 100,000 bytes pass."""
    with redis(tmp_path) as path, running("relay", HERE, f"unix:{path}") as server:
        cli = [tool("redis-cli"), "-h", "127.0.0.1", "-p", str(server.port)]
        value = DATA.hex().encode()[:100_000]
        assert run([*cli, "ping"]) == (0, b"PONG\n", "")
        assert run([*cli, "-x", "set", "key"], value) == (0, b"OK\n", "")
        assert run([*cli, "get", "key"]) == (0, value + b"\n", "")
        assert server.terminate().complaints == []
