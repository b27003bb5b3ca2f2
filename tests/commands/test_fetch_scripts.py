"""fetch in scripts: bodies from files, retries, several URLs, users, and timings."""

import base64
import json
import os
import re
import socket
import threading
from pathlib import Path

import pytest

from tests.support import PATIENCE, free_port, netkit, peer, read_all, reset, running
from tests.support.certificates import Pki
from tests.support.data import DATA, check_same, files
from tests.support.processes import feed, sound
from tests.support.sites import answer, fetch, site
from tests.support.terminals import on_terminal

DONE = answer(b"done")
BUSY = "503 Service Unavailable"
SOON = answer(b"busy", BUSY, Retry_After="0")


def told(*args: str, **popen: object) -> str:
    """Run fetch, which has to succeed, and return its stderr."""
    done = netkit("fetch", *args, **popen)  # type: ignore[arg-type]
    assert (done.code, done.out) == (0, b"done")
    return done.err


# -- a body from a file


@pytest.mark.parametrize("size", [0, len(DATA)])
def test_a_file_is_sent_as_it_is(tmp_path: Path, size: int) -> None:
    """A file, also as stdin from its current position, is sent with Content-Length, and a pipe in chunks."""
    data = DATA[:size]
    (tmp_path / "file").write_bytes(data)
    with site(DONE, DONE, DONE) as web:
        fetch(web.url, "--data-file", str(tmp_path / "file"))
        with (tmp_path / "file").open("rb") as stdin:
            stdin.seek(size // 2)
            fetch(web.url, "--data-file", "-", "--method", "PUT", "-H", "Content-Type: x/y", stdin=stdin)
        fetch(web.url, "--data-file", "-", input=data)
    named, stood, piped = web.got
    check_same(named.body, data)
    check_same(stood.body, data[size // 2 :])
    check_same(piped.body, data)
    assert [got.line.split()[0] for got in web.got] == ["POST", "PUT", "POST"]
    assert (named.fields["content-length"], "content-type" in named.fields) == (str(size), False)
    assert (stood.fields["content-length"], stood.fields["content-type"]) == (str(size - size // 2), "x/y")
    assert piped.fields["transfer-encoding"] == "chunked"
    assert "content-length" not in piped.fields


@pytest.mark.parametrize("path", ["/proc/version", "/sys/class/net/lo/mtu"])
def test_a_file_of_the_system(path: str) -> None:
    """Files in /proc have the size 0, and those in /sys that of a page; what is in them is sent."""
    if not os.path.exists(path):
        pytest.skip(f"this system has no {path}")
    with site(DONE) as web:
        fetch(web.url, "--data-file", path)
    assert web.got[0].body == Path(path).read_bytes()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file or a folder as body is exit code 26, and nothing connects."""
    with site() as web:
        for name in ("none", "."):
            assert (
                f"cannot read {tmp_path / name}: " in fetch(web.url, "--data-file", str(tmp_path / name), code=26).err
            )
    assert web.connections == 0


def test_a_file_that_shrinks_while_it_is_sent(tmp_path: Path) -> None:
    """If a body shrinks while it is sent, the exit code is 26, and a reset tells the server that it is incomplete."""
    file = tmp_path / "file"
    file.write_bytes(bytes(16 << 20))  # more than socket buffers hold

    def shrink(sock: socket.socket) -> bytes:
        assert sock.recv(1) == b"P"
        os.truncate(file, 1000)
        return read_all(sock)

    with peer(shrink) as server:
        done = fetch(f"http://{server.address}/", "--data-file", str(file), code=26)
        assert f"cannot read {file}: it is shorter than it was (" in done.err
        assert isinstance(server.result(), ConnectionResetError)


def test_a_name_behind_an_at_is_no_body(tmp_path: Path) -> None:
    """``--data @FILE`` is a mistake if the file exists, and names --data-file; other text after @ is sent."""
    (tmp_path / "body.txt").write_text("text")
    with site(DONE) as web:
        done = fetch(web.url, "--data", "@body.txt", code=2, cwd=tmp_path)
        assert "--data-file body.txt" in done.err
        fetch(web.url, "--data", "@somebody", cwd=tmp_path)
    assert [got.body for got in web.got] == [b"@somebody"]


def test_an_answer_before_the_end_of_a_pipe() -> None:
    """If the server answers before a pipe has ended, the rest is not sent, and the exit code is 55."""
    go = threading.Event()

    def refuse(sock: socket.socket) -> None:
        data = b""
        while b"hello" not in data:
            data += sock.recv(65536)
        sock.sendall(answer(b"no", "413 Too Large"))
        assert go.wait(PATIENCE)

    with peer(refuse) as server, running("fetch", f"http://{server.address}/", "--data-file", "-") as process:
        process.stdin.write(b"hello")
        process.stdin.flush()
        assert process.wait() == 55
        go.set()
        assert process.read_all() == b"no"
        process.line("it answered before the end of the body")


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_a_body_that_is_redirected(tmp_path: Path, kind: str) -> None:
    """A 307 redirect sends a file again; a pipe cannot be read again, which is exit code 26."""
    (tmp_path / "file").write_bytes(b"hello")
    with site(answer(status="307 Temporary Redirect", Location="/there"), DONE) as web:
        if kind == "file":
            fetch(web.url, "--data-file", str(tmp_path / "file"))
        else:
            assert "cannot read stdin again" in fetch(web.url, "--data-file", "-", input=b"hello", code=26).err
    assert [got.body for got in web.got] == [b"hello"] * (2 if kind == "file" else 1)


# -- retries


def test_tries_come_to_an_end() -> None:
    """After the last retry the answer counts; if Retry-After is later than --wait allows, there is no retry."""
    with site(SOON, SOON, answer(b"", BUSY, Retry_After="60")) as web:
        assert fetch(web.url, "--retry", "1").out == b"busy"
        done = fetch(web.url, "--wait", "30s", code=28)
        assert "still the server answered 503 Service Unavailable, and asks for another 60 s after 30 s" in done.err
    assert len(web.got) == 3
    fetch(f"http://127.0.0.1:{free_port()}/", "--wait", "100ms", code=28)


def test_a_server_that_comes_later() -> None:
    """--wait retries a refused connection, also with a body from a pipe."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with running("fetch", url, "--wait", "20s", "--data-file", "-", "-vv") as process:
        feed(process, b"hello")
        process.line("connection refused.*; again in")
        with site(DONE, port=port) as web:
            assert process.wait() == 0
    assert [got.body for got in web.got] == [b"hello"]


def test_a_server_that_leaves_tls_without_a_word(pki: Pki) -> None:
    """A TLS server that ends the connection without close_notify, and without an answer, is asked again."""
    with site(lambda sock: os.close(sock.detach()), DONE, context=pki.server()) as web:
        assert fetch(web.url, "--cafile", pki.ca, "--wait", "20s").out == b"done"


def test_a_pipe_is_sent_only_once() -> None:
    """If the connection ends without an answer, a request whose body came from a pipe is not repeated."""
    with site(reset) as web:
        sound(netkit("fetch", web.url, "--wait", "10s", "--method", "PUT", "--data-file", "-", input=b"x"), 8, 55, 56)
    assert len(web.got) == 1


def test_a_silent_server_has_no_more_time_than_there_is() -> None:
    """--wait also limits the time for an answer, or the rest of its head."""
    with site(read_all, read_all) as web:
        assert "still no answer came after 300 ms (--wait)" in fetch(web.url, "--wait", "300ms", code=28).err
        done = fetch(web.url, "--wait", "300ms", "--data", "x", code=28)
        assert done.err == f"netkit fetch: cannot fetch {web.url}/: no answer came (--wait)\n"
    with site(lambda sock: (sock.sendall(b"HTTP/1.1 200"), read_all(sock))) as web:
        done = fetch(web.url, "--wait", "2s", code=28)
        assert done.err == f"netkit fetch: cannot fetch {web.url}/: only a part of the head came (--wait)\n"


# -- several URLs


def test_one_of_several_fails(tmp_path: Path) -> None:
    """If one URL fails, the others are still fetched; each failure is one line, and the exit code is the worst."""
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"

    def cut(sock: socket.socket) -> None:
        sock.sendall(short)

    with site(cut, b"nonsense\r\n\r\n", DONE, cut, answer(b"", "404 Not Found"), DONE) as web:
        urls = [f"{web.url}/{name}" for name in "abc"]
        done = netkit("fetch", *urls)
        assert (done.code, done.out, done.err.count("\n")) == (8, b"shortdone", 2)
        done = netkit("fetch", *urls, "-O", "--fail", cwd=tmp_path)
        assert (done.code, done.out, done.err.count("\n")) == (22, b"", 2)
    assert files(tmp_path) == ["c"]


def test_files_have_the_names_of_urls(tmp_path: Path) -> None:
    """-O names each file after the last part of the path as given, without the query."""
    with site(answer(b"one"), answer(b"two")) as web:
        fetch(f"{web.url}/x/one%20file?q=a/b", f"{web.url}/two", "-O", cwd=tmp_path)
        assert "two: it exists" in fetch(f"{web.url}/two", "-O", code=23, cwd=tmp_path).err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"one%20file": b"one", "two": b"two"}


# -- users and names


@pytest.mark.fault("secrets in messages")
def test_a_user_is_for_one_host() -> None:
    """--user is only sent to the host of the URL and is not printed; the password may come from the environment."""
    with site(DONE) as other, site(answer(status="302 Found", Location=f"{other.url}/")) as web:
        said = told(web.url, "-u", "someone:se:cret/é", "-vv")
        assert "cret" not in said
        assert "someone" not in said
    expected = base64.b64encode("someone:se:cret/é".encode()).decode()
    assert [got.fields.get("authorization") for got in (*web.got, *other.got)] == [f"Basic {expected}", None]
    with site(DONE) as web:
        fetch(web.url, "--user", "me", env={**os.environ, "NETKIT_PASSWORD": "secret"})
    assert web.got[0].fields["authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


def test_a_name_is_where_it_is_said_to_be() -> None:
    """--resolve replaces the look-up of that name and port, also with -n; Host stays that of the URL."""
    with site(DONE) as web:
        said = told(f"http://web.test:{web.port}/", "--resolve", f"WEB.test:{web.port}:127.0.0.1", "-n", "-v")
    assert web.got[0].fields["host"] == f"web.test:{web.port}"
    assert "resolved" not in said
    fetch("http://web.test:1/", "--resolve", "web.test:1:[::1]", "-4", code=6)


def test_a_proxy_of_the_environment_has_names_of_its_own() -> None:
    """--resolve does not go with a proxy of the environment, which looks names up itself (2)."""
    env = {**os.environ, "http_proxy": "http://127.0.0.1:1"}
    assert "--proxy ''" in fetch("http://web.test/", "--resolve", "web.test:80:127.0.0.1", env=env, code=2).err


# -- timings, and output on a terminal


def test_the_time_of_a_fetch() -> None:
    """-v ends with a line of timings; --stats has them in milliseconds."""
    with site(DONE, DONE) as web:
        url = web.url.replace("127.0.0.1", "localhost")
        last = told(url, "-v", "-4").splitlines()[-1]
        stats = json.loads(told(url, "--stats", "-4"))
    number = r"[0-9.]+ m?s"
    assert re.fullmatch(f"netkit fetch: name {number}, connect {number}, first byte {number}, body {number}", last)
    assert (stats["event"], stats["bytes_received"], "tls_ms" in stats) == ("stats", len(DONE), False)
    assert all(stats[f"{name}_ms"] >= 0 for name in ("name", "connect", "first_byte", "body"))


def test_the_time_of_a_fetch_on_a_terminal() -> None:
    """On a terminal -v draws the timings as bars."""
    with site(DONE) as web, open(os.devnull, "wb") as null:
        code, shown = on_terminal("fetch", web.url, "-v", stdout=null)
    last = shown.decode().splitlines()[-1]
    assert code == 0
    assert re.fullmatch(
        r"connect [0-9.]+ ms [▏▎▍▌▋▊▉█]+ first byte [0-9.]+ ms [▏▎▍▌▋▊▉█]+ body \S+ ms [▏▎▍▌▋▊▉█]+", last
    )
    assert len(last) < 100


@pytest.mark.parametrize("raw", [False, True])
def test_binary_data_on_a_terminal(raw: bool) -> None:
    """Binary data is not written to a terminal (23), and the message says what to do; --raw writes it."""
    with site(answer(b"\x7fELF\0\0\x1b[2J")) as web:
        code, shown = on_terminal("fetch", web.url, *(["--raw"] if raw else []))
    assert code == (0 if raw else 23)
    assert (b"ELF" in shown, b"-o FILE" in shown) == (raw, not raw)
