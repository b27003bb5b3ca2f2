"""``netkit listen`` with several other clients at a time."""

import contextlib
import subprocess

import pytest

from tests.support import Running, running
from tests.support.data import DATA, check_same
from tests.support.partners import content, file_of, run, tcp_client, unix_client
from tests.support.processes import HERE, tool

CLIENTS = ("nc", "ncat", "netkit")


def out_lines(server: Running, count: int) -> list[bytes]:
    """Return the next ``count`` lines of a server's stdout."""
    data = b""
    while data.count(b"\n") < count and (chunk := server.out.read(65536)):
        data += chunk
    return data.splitlines()


def test_three_clients_are_told_apart_and_all_hear_what_is_typed() -> None:
    """With --label each line has the address of its client, and all clients get stdin and its end."""
    with running("listen", HERE, "-k", "--label", "-v") as server, contextlib.ExitStack() as stack:
        port = server.port
        labels: dict[str, bytes] = {}
        talkers = {}
        for name in CLIENTS:
            talkers[name] = stack.enter_context(running(argv=tcp_client(name, port)))
            labels[name] = server.line(r"connection from (127\.0\.0\.1:\d+)$")[1].encode()
        assert len(set(labels.values())) == 3
        for turn in range(3):
            for name, talker in talkers.items():
                talker.stdin.write(f"{name} {turn}\n".encode())
            assert sorted(out_lines(server, 3)) == sorted(
                labels[name] + f"\t{name} {turn}".encode() for name in CLIENTS
            )
        server.stdin.write(b"to all\n")
        for talker in talkers.values():
            assert talker.out.read(100) == b"to all\n"
            talker.stdin.close()
        server.stdin.close()
        for talker in talkers.values():
            assert talker.finish() == (0, b"", "")


@pytest.mark.parametrize("client", ["nc", "ncat", "socat", "netkit"])
def test_every_client_gets_a_reply_and_is_heard(client: str) -> None:
    """A client that sends 300,000 bytes gets the whole reply without an error, and its data is written intact."""
    with (
        file_of() as requests,
        running("listen", HERE, "--reply", r"200 ok\n", "--max-clients", "1", stdout=requests) as server,
    ):
        done = run(tcp_client(client, server.port), DATA)
        assert done == (0, b"200 ok\n", "")
        assert server.finish().code == 0
        check_same(content(requests), DATA)


def test_a_reply_of_http_serves_curl() -> None:
    """curl accepts a --reply in HTTP to a GET and a POST, and listen writes the requests."""
    reply = r"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n"
    with file_of() as out, running("listen", HERE, "--reply", reply, "--max-clients", "2", stdout=out) as server:
        url = f"http://127.0.0.1:{server.port}/page"
        curl = [tool("curl"), "--silent", "--show-error", "--fail", "--noproxy", "*"]
        assert run([*curl, url]) == (0, b"hi\n", "")
        assert run([*curl, "--data", "name=value", url]) == (0, b"hi\n", "")
        assert server.finish().code == 0
        got = content(out)
    assert got.startswith(b"GET /page HTTP/1.1\r\n")
    assert b"POST /page HTTP/1.1\r\n" in got
    assert got.endswith(b"\r\n\r\nname=value")


@pytest.mark.parametrize("client", ["nc", "ncat", "socat"])
def test_clients_of_a_unix_socket_hear_what_is_typed(client: str, tmp_path: object) -> None:
    """Two clients on a Unix socket both get stdin and its end."""
    path = f"{tmp_path}/s"
    with running("listen", f"unix:{path}", "--max-clients", "2", stdin=subprocess.PIPE) as server:
        server.line("listening")
        with running(argv=unix_client(client, path)) as one, running(argv=unix_client(client, path)) as two:
            for talker in (one, two):
                talker.stdin.write(b"!")
                assert server.out.read(1) == b"!"
            server.stdin.write(b"typed")
            server.stdin.close()
            for talker in (one, two):
                assert talker.finish() == (0, b"typed", "")
        assert server.finish()[:2] == (0, b"")
