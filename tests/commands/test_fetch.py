"""fetch from the command line: complete files or none, TLS, unix sockets and signals."""

import contextlib
import os
import random
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import NETKIT, PATIENCE, free_port, netkit, peer, read_all, running
from tests.support.certificates import Pki
from tests.support.data import check_same, files
from tests.support.namespaces import separate
from tests.support.peers import full_backlog
from tests.support.processes import ends
from tests.support.secured import Secured, serving
from tests.support.sites import answer, fetch, redirect, site

BODY = random.Random(8).randbytes(300_000)
HALF = len(BODY) // 2


def rest(start: int) -> bytes:
    """Return a 206 answer for the body from ``start`` on."""
    where = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    return answer(BODY[start:], "206 Partial Content", ETag='"v1"', Content_Range=where)


WHOLE = answer(BODY, ETag='"v1"')
CUT = answer(BODY[:HALF], length=len(BODY), ETag='"v1"')
MISSING = answer(b"no", "404 Not Found")


def await_part(path: Path, size: int) -> None:
    """Wait until the part file has ``size`` bytes."""
    part = f"{path}.netkit-part"
    while True:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(part).st_size >= size:
                return
        os.sched_yield()


# -- a file


def test_a_file_comes_alone(tmp_path: Path) -> None:
    """A complete download leaves only the file; an existing file is only overwritten with --force."""
    path = tmp_path / "file"
    with site(WHOLE, answer(b"new")) as web:
        assert fetch(web.url, "-o", str(path)).out == b""
        check_same(path.read_bytes(), BODY)
        assert f"cannot write {path}: it exists" in fetch(web.url, "-o", str(path), code=23).err
        assert len(web.got) == 1
        fetch(web.url, "-o", str(path), "--force")
    assert path.read_bytes() == b"new"
    assert files(tmp_path) == ["file"]


def test_no_litter(tmp_path: Path) -> None:
    """A server that refuses, answers 404 or sends nothing leaves no file and no part."""
    path = str(tmp_path / "file")
    with site(MISSING, b"") as web:
        fetch(web.url, "-o", path, "--fail", code=22)
        fetch(web.url, "-o", path, code=8)
    fetch(f"http://127.0.0.1:{free_port()}/", "-o", path, code=7)
    assert files(tmp_path) == []


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    """If the folder is missing, or the name is too long for a part file, it is exit code 23, and no request is sent."""
    (tmp_path / "file").touch()
    with site() as web:
        for name in ("folder/file", "n" * 250):
            done = fetch(web.url, "-o", str(tmp_path / name), code=23)
            assert done.err.startswith(f"netkit fetch: cannot write {tmp_path}")
        assert web.got == []
    assert files(tmp_path) == ["file"]


def test_a_file_limit(tmp_path: Path) -> None:
    """A file size limit is exit code 23 with the file's name, and the download can be resumed."""
    path = tmp_path / "file"
    with site(WHOLE, rest(100_000)) as web:
        done = fetch(web.url, "-o", str(path), code=23, wrapper=("prlimit", "--fsize=100000"))
        assert f"{path}: file too large" in done.err
        fetch(web.url, "-o", str(path), "--resume")
        assert web.conditions == [(None, None), ("bytes=100000-", '"v1"')]
    check_same(path.read_bytes(), BODY)


@pytest.mark.fault("disk that fills up")
def test_a_full_disk(tmp_path: Path) -> None:
    """A full disk is exit code 23 with the file's name, and no unfinished file is left under the final name."""
    disk = tmp_path / "disk"
    disk.mkdir()
    wrapper = separate(f"ip link set lo up; mount -t tmpfs -o size=200k none '{disk}'")
    script = f'cd {disk}; "$@"; code=$?; ls -A >&2; exit $code'
    tail = ("--unix-socket", str(tmp_path / "sock"), "-o", str(disk / "file"), "http://localhost/")
    command = [*wrapper, "sh", "-c", script, "sh", *NETKIT, "fetch", *tail]
    for sent in (WHOLE, answer(BODY)):
        with site(sent, host=str(tmp_path / "sock")), running(argv=command) as process:
            done = process.finish()
        os.unlink(tmp_path / "sock")
        said, *left = done.err.splitlines()
        assert (done.code, said) == (23, f"netkit fetch: cannot write to {disk}/file: no space left on device")
        assert left == (["file.netkit-info", "file.netkit-part"] if sent is WHOLE else [])


# -- resuming


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_going_on_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """After a signal the part is kept, and --resume requests exactly the rest."""
    path = tmp_path / "file"
    with site(CUT, rest(HALF), stays=True) as web:
        with running("fetch", web.url, "-o", str(path)) as process:
            await_part(path, HALF)
            ends(process, number)
        assert files(tmp_path) == ["file.netkit-info", "file.netkit-part"]
        fetch(web.url, "-o", str(path), "--resume")
        assert web.conditions == [(None, None), (f"bytes={HALF}-", '"v1"')]
    check_same(path.read_bytes(), BODY)
    assert files(tmp_path) == ["file"]


# -- TLS


def test_https(pki: Pki, tmp_path: Path) -> None:
    """The certificate must be of a trusted CA and for the URL's host, or it is exit code 60; --insecure accepts any."""
    path = tmp_path / "file"
    with site(context=pki.server(pki.bad("wrong name"))) as web:
        fetch(web.url, "--cafile", pki.ca, "-o", str(path), code=60)
        assert web.got == [] and files(tmp_path) == []
    with site(WHOLE, WHOLE, context=pki.server()) as web:
        check_same(fetch(f"https://localhost:{web.port}", "-4", "--cafile", pki.ca).out, BODY)
        fetch(web.url, "--cafile", pki.other_ca, code=60)
        done = netkit("fetch", web.url, "--insecure", "-o", str(path))
        assert done.code == 0
        assert done.err.count("\n") == 1 and "not verified" in done.err
        check_same(path.read_bytes(), BODY)
        assert len(web.got) == 2


def test_truncation(pki: Pki) -> None:
    """Without close_notify a body of unknown length is exit code 18, and one of a known length is complete."""

    def send_only(data: bytes) -> Callable[[socket.socket], object]:
        return lambda sock: sock.sendall(data)

    unknown = b"HTTP/1.1 200 OK\r\n\r\nthe beginning"
    with site(send_only(unknown), send_only(WHOLE), context=pki.server()) as web:
        assert fetch(web.url, "--cafile", pki.ca, code=18).out == b"the beginning"
        check_same(fetch(web.url, "--cafile", pki.ca).out, BODY)


def test_http_where_https_should_be(pki: Pki, tmp_path: Path) -> None:
    """https to a server without TLS is exit code 35; http to a server with TLS is 8."""
    with peer(lambda sock: (sock.recv(65536), sock.sendall(MISSING))) as plain:
        fetch(f"https://{plain.address}", code=35)
    with peer(serving(pki.server(), Secured.recv)) as secure:
        fetch(f"http://{secure.address}", "-o", str(tmp_path / "file"), code=8)
        assert isinstance(secure.result(), ssl.SSLError)
    assert files(tmp_path) == []


def test_redirect_to_https(pki: Pki) -> None:
    """A redirect from http to https is followed, and the certificate is verified."""
    with site(WHOLE, context=pki.server()) as secure, site(redirect(f"{secure.url}/x", 301)) as web:
        check_same(fetch(web.url, "--cafile", pki.ca).out, BODY)
        assert len(secure.got) == 1


# -- unix sockets


def test_redirect_to_a_name_with_numeric() -> None:
    """With -n a redirect to a name is exit code 6, and the next URL is fetched all the same."""
    with site(redirect("http://localhost:1/"), WHOLE) as web:
        done = fetch(web.url, web.url, "-n", code=6)
    assert "cannot resolve localhost: host 'localhost' is a name, and --numeric" in done.err
    assert len(web.got) == 2


def test_unix_sockets(pki: Pki, tmp_path: Path) -> None:
    """--unix-socket takes absolute, relative and abstract paths, also with TLS; Host is that of the URL."""
    name = f"netkit-test-{os.getpid()}"
    path, tls = str(tmp_path / "sock"), str(tmp_path / "tls")
    with site(WHOLE, WHOLE, host=path) as web:
        check_same(fetch("http://app:81/x?y", "--unix-socket", path).out, BODY)
        check_same(fetch("http://app/", "--unix-socket", "sock", cwd=tmp_path).out, BODY)
        assert (web.got[0].line, web.got[0].fields["host"]) == ("GET /x?y HTTP/1.1", "app:81")
    with site(WHOLE, host=f"\0{name}"):
        check_same(fetch("http://app/", "--unix-socket", f"@{name}").out, BODY)
    with site(WHOLE, host=tls, context=pki.server()):
        check_same(fetch("https://localhost/", "--unix-socket", tls, "--cafile", pki.ca).out, BODY)
    missing = str(tmp_path / "none")
    assert missing in fetch("http://app/", "--unix-socket", missing, code=7).err


# -- addresses


@pytest.mark.ipv6
def test_addresses() -> None:
    """IPv6 literals work, and --source and -6 are heeded."""
    with site(WHOLE, host="::1") as web:
        check_same(fetch(web.url).out, BODY)
        assert web.got[0].fields["host"] == web.address
    came: list[str] = []

    def note(sock: socket.socket) -> None:
        came.append(sock.getpeername()[0])
        sock.sendall(WHOLE)

    with site(note) as web:
        fetch(web.url, "--source", "127.0.0.2")
        fetch(web.url, "-6", code=6)
    assert came == ["127.0.0.2"]


# -- waiting


@pytest.mark.parametrize(
    "number, moment", [(signal.SIGINT, "head"), (signal.SIGTERM, "body"), (signal.SIGINT, "stdout")]
)
def test_signals_while_it_waits(number: signal.Signals, moment: str) -> None:
    """A signal ends fetch at once while it waits for the head, for the body, or for the reader of stdout."""
    waits = threading.Event()

    def behave(sock: socket.socket) -> None:
        waits.set()
        if moment == "body":
            sock.sendall(answer(b"x", length=10))
        if moment == "stdout":
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with contextlib.suppress(OSError):
                while True:
                    sock.sendall(BODY)
        read_all(sock)

    with site(behave) as web, running("fetch", web.url) as process:
        assert waits.wait(PATIENCE)
        if moment != "head":
            assert process.out.read(1)
        ends(process, number)


@pytest.mark.parametrize("clock", ["-w", "--timeout"])
def test_waiting_for_a_connection(clock: str) -> None:
    """A server that does not accept is exit code 28 when a clock expires."""
    with full_backlog() as port:
        assert "100 ms" in fetch(f"http://127.0.0.1:{port}/", clock, "100ms", code=28).err


def test_a_slow_reader_slows_the_server_down() -> None:
    """A slow reader of stdout slows the server down: memory stays flat, and in the end all bytes are there."""
    count = 100
    with site(answer(BODY * count)) as web, running("fetch", web.url, real=True) as process:
        assert process.out.read(1) == BODY[:1]
        await_jam(web.port)
        with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        assert peak < 60_000
        check_same(BODY[:1] + process.read_all(), BODY * count)
        assert process.finish()[::2] == (0, "")


def await_jam(port: int) -> None:
    """Wait until much data is queued at the server on that port."""
    while True:
        with open("/proc/net/tcp", encoding="ascii") as rows:
            found = [row.split() for row in rows if row.split()[1] == f"0100007F:{port:04X}"]
        if any(state == "01" and int(queues.partition(":")[0], 16) > 100_000 for _, _, _, state, queues, *_ in found):
            return
        os.sched_yield()
