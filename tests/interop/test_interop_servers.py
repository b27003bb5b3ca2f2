"""``netkit connect`` with other servers, and ``netkit listen`` with other clients."""

import os
import pty
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import NETKIT, netkit, peer, read_all, running
from tests.support.data import DATA, OTHER, check_same
from tests.support.partners import check_page, content, file_of, nginx, run, tcp_client, tcp_server

# -- netkit connect with nc, ncat and socat as servers


@pytest.mark.parametrize("server", ["nc", "ncat", "socat"])
@pytest.mark.parametrize(("sent", "answer"), [(b"", OTHER), (DATA, OTHER)], ids=["from server", "both ways"])
def test_connect_to_a_listening_tool(server: str, sent: bytes, answer: bytes) -> None:
    """Data arrives intact at connect and at the server, and both exit with 0."""
    # nc and ncat as servers discard unsent data when their client half-closes.
    options = ["--no-shutdown"] if server != "socat" else []
    with file_of(answer) as stdin, file_of() as stdout, tcp_server(server, stdin=stdin, stdout=stdout) as (other, at):
        ours = run([*NETKIT, "connect", at, *options], sent)
        assert other.finish().code == 0
        check_same(content(stdout), sent)
    check_same(ours.out, answer)
    assert (ours.code, ours.err) == (0, "")


def test_connect_to_a_program_behind_socat() -> None:
    """connect gets every byte back from cat behind socat, which receives the half-close."""
    with file_of() as nothing, tcp_server("socat", "EXEC:cat", stdin=nothing, stdout=nothing) as (other, at):
        ours = run([*NETKIT, "connect", at], DATA)
        assert other.finish().code == 0
    check_same(ours.out, DATA)
    assert (ours.code, ours.err) == (0, "")


def test_receive_from_a_program_behind_ncat(tmp_path: Path) -> None:
    """Each of two clients gets all output of the command that ncat runs for it."""
    source = tmp_path / "source"
    source.write_bytes(OTHER)
    command = ["-k", "-c", f"cat {shlex.quote(str(source))}"]
    with file_of() as nothing, tcp_server("ncat", *command, stdin=nothing, stdout=nothing) as (_, at):
        for _ in range(2):
            ours = netkit("connect", at, "--recv-only")
            check_same(ours.out, OTHER)
            assert (ours.code, ours.err) == (0, "")


def test_send_to_a_program_behind_ncat(tmp_path: Path) -> None:
    """A command that ncat runs gets every byte that connect sends."""
    target = tmp_path / "target"
    command = ["-k", "-c", f"cat > {shlex.quote(str(target))}; echo saved >&2"]
    with file_of() as nothing, tcp_server("ncat", *command, stdin=nothing, stdout=nothing) as (other, at):
        assert run([*NETKIT, "connect", at], DATA) == (0, b"", "")
        other.line("^saved$")
    check_same(target.read_bytes(), DATA)


# -- netkit listen with nc, ncat and socat as clients


@pytest.mark.parametrize("client", ["nc", "ncat", "socat"])
def test_listen_receives(client: str) -> None:
    """listen prints all data from a client, ends at its half-close, and both exit with 0."""
    with running("listen", "127.0.0.1:0") as server:
        port = server.port
        with file_of(DATA) as stdin, running(argv=tcp_client(client, port), stdin=stdin) as other:
            check_same(server.read_all(), DATA)
            assert server.finish() == (0, b"", f"netkit listen: listening on 127.0.0.1:{port}\n")
            assert other.finish() == (0, b"", "")


@pytest.mark.parametrize("client", ["nc", "ncat", "socat"])
def test_listen_sends(client: str) -> None:
    """A client that half-closes at once still gets all of listen's input, and both exit with 0."""
    with file_of(DATA) as stdin, running("listen", "127.0.0.1:0", stdin=stdin) as server:
        port = server.port
        other = run(tcp_client(client, port))
        check_same(other.out, DATA)
        assert (other.code, other.err) == (0, "")
        assert server.finish() == (0, b"", f"netkit listen: listening on 127.0.0.1:{port}\n")


# -- nginx, as a web server and as a proxy


def test_nginx_serves_a_file(tmp_path: Path) -> None:
    """connect gets a whole page from nginx, in HTTP/1.0 and 1.1, over TCP and over a Unix socket."""
    (tmp_path / "page").write_bytes(DATA)
    with nginx(tmp_path, f"root {tmp_path};") as address:
        http_1_0 = netkit("connect", address, "--wait", "20s", input=b"GET /page HTTP/1.0\r\n\r\n")
        request = b"GET /page HTTP/1.1\nHost: localhost\nConnection: close\n\n"
        http_1_1 = netkit("connect", address, "--crlf", input=request)
        # Here the page is larger than the socket's buffer, so that nginx would cut it after a half-close.
        unix = f"unix:{tmp_path}/nginx.sock"
        over_unix = netkit("connect", unix, "--no-shutdown", "--send", r"GET /page HTTP/1.0\r\n\r\n")
    for result in (http_1_0, http_1_1, over_unix):
        check_page(result.out, DATA)
        assert (result.code, result.err) == (0, "")


def test_post_through_nginx_to_listen(tmp_path: Path) -> None:
    """With --no-shutdown a request passes through nginx to listen and the answer back, both intact."""
    request = b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(DATA), DATA)
    answer = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(OTHER), OTHER)
    with running("listen", "127.0.0.1:0") as backend:
        port = backend.port
        with (
            nginx(tmp_path, f"proxy_pass http://127.0.0.1:{port};") as address,
            file_of(request) as stdin,
            file_of() as stdout,
            running("connect", address, "--wait", "20s", "--no-shutdown", stdin=stdin, stdout=stdout) as client,
        ):
            got = b""
            while len(got.partition(b"\r\n\r\n")[2]) < len(DATA) and (chunk := backend.out.read(1 << 18)):
                got += chunk
            assert got.startswith(b"POST / HTTP/1.0\r\n")
            check_same(got.partition(b"\r\n\r\n")[2], DATA)
            backend.stdin.write(answer)
            assert backend.finish() == (0, b"", f"netkit listen: listening on 127.0.0.1:{port}\n")
            assert client.finish() == (0, b"", "")
            check_page(content(stdout), OTHER)


@contextmanager
def proxy_without_answer(prefix: Path) -> Iterator[str]:
    """Run nginx as a proxy of a server that never answers, so that only the client can make it close."""
    with peer(read_all) as backend, nginx(prefix, f"proxy_pass http://{backend.address};") as address:
        yield address


def test_half_close_makes_a_proxy_drop_the_request(tmp_path: Path) -> None:
    """If nginx closes because of the half-close, connect exits with 0 and prints nothing to a pipe."""
    with proxy_without_answer(tmp_path) as address:
        assert netkit("connect", address, "--wait", "20s", "--send", r"GET / HTTP/1.0\r\n\r\n") == (0, b"", "")


def test_half_close_that_makes_a_proxy_drop_the_request_gets_a_hint(tmp_path: Path) -> None:
    """If nginx closes because of the half-close, connect prints a hint to a terminal that names --no-shutdown."""
    terminal, stderr = pty.openpty()
    try:
        with proxy_without_answer(tmp_path) as address:
            request = ("--wait", "20s", "--send", r"GET / HTTP/1.0\r\n\r\n")
            assert netkit("connect", address, *request, stderr=stderr) == (0, b"", "")
        os.write(stderr, b"\n")  # so that the read below does not block without a hint
        said = os.read(terminal, 4096).decode()
    finally:
        os.close(stderr)
        os.close(terminal)
    assert "hint: " in said
    assert "--no-shutdown" in said
