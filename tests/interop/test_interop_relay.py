"""Other tools as the clients and as the targets of ``netkit relay``."""

import contextlib
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
    """300,000 bytes pass each way intact, the answer after the client's end."""
    with peer(answering) as there, running("relay", HERE, there.address) as server:
        done = run(tcp_client(name, server.port), DATA)
        check_same(done.out, OTHER)
        assert (done.code, done.err) == (0, "")
        check_same(there.result(), DATA)
        assert server.terminate().complaints == []


@pytest.mark.parametrize("name", ["nc", "socat"])
def test_their_clients_of_a_unix_socket(name: str, tmp_path: Path) -> None:
    """A relay from a Unix socket to a TCP port passes data both ways."""
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
    """Data from the client arrives at the server intact, and data from the server at the client."""
    sent = b"" if answer else DATA
    # nc and ncat as servers discard unsent data when their client half-closes.
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
    """cat behind socat returns every byte through the relay, which passes the half-close on."""
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
    """A relay adds TLS to a server without it, for clients that verify the certificate."""
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
    """A client without TLS uses openssl s_server through a relay, which verifies its certificate."""
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
    """curl gets two pages of a plain nginx over https, in one connection."""
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
    """Run Redis on a Unix socket, and yield its path once it listens."""
    path = folder / "redis.sock"
    options = ("--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder))
    with running(argv=[tool("redis-server"), *options]) as server:
        await_listener(f"unix:{path}", server)
        yield str(path)


def test_redis_on_a_unix_socket(tmp_path: Path) -> None:
    """redis-cli on a TCP port stores and reads 100,000 bytes in a Redis on a Unix socket."""
    with redis(tmp_path) as path, running("relay", HERE, f"unix:{path}") as server:
        cli = [tool("redis-cli"), "-h", "127.0.0.1", "-p", str(server.port)]
        value = DATA.hex().encode()[:100_000]
        assert run([*cli, "ping"]) == (0, b"PONG\n", "")
        assert run([*cli, "-x", "set", "key"], value) == (0, b"OK\n", "")
        assert run([*cli, "get", "key"]) == (0, value + b"\n", "")
        assert server.terminate().complaints == []
