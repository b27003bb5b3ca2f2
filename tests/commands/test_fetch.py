"""fetch from the command line: complete files or none, resuming, TLS, unix sockets and signals."""

import contextlib
import os
import random
import signal
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import NETKIT, PATIENCE, died_by, free_port, netkit, peer, read_all, running
from tests.support.certificates import Pki
from tests.support.data import OTHER, check_same, files
from tests.support.namespaces import separate
from tests.support.peers import full_backlog
from tests.support.processes import ends
from tests.support.secured import Secured, serving
from tests.support.sites import answer, fetch, redirect, site

BODY = random.Random(8).randbytes(300_000)
HALF = len(BODY) // 2


def rest(start: int, count: int | None = None, tag: str = '"v1"') -> bytes:
    """Return a 206 answer for the body from ``start`` on, cut after ``count`` bytes."""
    where = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    part = BODY[start:]
    return answer(part[:count], "206 Partial Content", length=len(part), ETag=tag, Content_Range=where)


WHOLE = answer(BODY, ETag='"v1"')
CUT = answer(BODY[:HALF], length=len(BODY), ETag='"v1"')
MISSING = answer(b"no", "404 Not Found")


def held(data: bytes) -> Callable[[socket.socket], object]:
    """Return a behaviour that sends ``data`` and then waits until the client leaves."""

    def behave(sock: socket.socket) -> None:
        sock.sendall(data)
        read_all(sock)

    return behave


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


def test_no_content_is_no_file(tmp_path: Path) -> None:
    """A 304 to a condition of the user keeps the file as it is; a 304 without one is exit code 8."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    same = b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n'
    with site(same, same) as web:
        fetch(web.url, "-o", str(path), "--force", "-H", 'If-None-Match: "v1"')
        assert "was not asked" in fetch(web.url, "-o", str(path), "--force", code=8).err
    assert path.read_bytes() == b"old"


# -- resuming


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_going_on_after_a_signal(number: signal.Signals) -> None:
    """After a signal the part is kept, and --resume requests exactly the rest."""
    with tempfile.TemporaryDirectory() as folder, site(held(CUT), rest(HALF)) as web:
        path = Path(folder) / "file"
        with running("fetch", web.url, "-o", str(path)) as process:
            await_part(path, HALF)
            process.signal(number)
            assert died_by(process.wait()) is number
            assert process.finish().err == ""
        assert files(path.parent) == ["file.netkit-info", "file.netkit-part"]
        fetch(web.url, "-o", str(path), "--resume")
        assert web.conditions == [(None, None), (f"bytes={HALF}-", '"v1"')]
        check_same(path.read_bytes(), BODY)
        assert files(path.parent) == ["file"]


def test_going_on_again_and_again(tmp_path: Path) -> None:
    """After a timeout (28), a 503 (22) and a cut (18) the part is kept, and in the end the file is complete."""
    path = str(tmp_path / "file")
    with site(held(CUT), answer(b"", "503 Busy"), rest(HALF, 1000), rest(HALF + 1000)) as web:
        assert "--idle-timeout" in fetch(web.url, "-o", path, "--idle-timeout", "1s", code=28).err
        fetch(web.url, "-o", path, "--resume", code=22)
        assert f"(1000 of {len(BODY) - HALF} bytes)" in fetch(web.url, "-o", path, "--resume", code=18).err
        assert files(tmp_path) == ["file.netkit-info", "file.netkit-part"]
        fetch(web.url, "-o", path, "--resume")
        ranges = [None, f"bytes={HALF}-", f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
        assert [asked for asked, _ in web.conditions] == ranges
    check_same(Path(path).read_bytes(), BODY)
    assert files(tmp_path) == ["file"]


def test_going_on_where_a_redirect_leads(tmp_path: Path) -> None:
    """A part belongs to the URL as given; --resume follows the redirect again and asks that server for the rest."""
    path = tmp_path / "file"
    with site(CUT, rest(HALF)) as mirror:
        with site(*[redirect(mirror.url)] * 2) as web:
            fetch(web.url, "-o", str(path), code=18)
            fetch(web.url, "-o", str(path), "--resume")
        assert mirror.conditions == [(None, None), (f"bytes={HALF}-", '"v1"')]
    check_same(path.read_bytes(), BODY)


@pytest.mark.parametrize("second", [rest(HALF, tag='"v2"'), answer(b"", "416 Range Not Satisfiable")])
def test_another_version(tmp_path: Path, second: bytes) -> None:
    """If the rest is of another version, or there is none, the part is dropped and the whole new version is fetched."""
    path = tmp_path / "file"
    with site(CUT, second, answer(b"new", ETag='"v2"')) as web:
        fetch(web.url, "-o", str(path), code=18)
        fetch(web.url, "-o", str(path), "--resume")
        assert [asked for asked, _ in web.conditions] == [None, f"bytes={HALF}-", None]
    assert path.read_bytes() == b"new"
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("options", [["--include"], ["--data", "x"]])
def test_what_is_no_part_is_not_gone_on_with(options: list[str]) -> None:
    """Output with --include, or the answer to a POST, is not resumed."""
    with tempfile.TemporaryDirectory() as folder, site(CUT, WHOLE) as web:
        path = Path(folder) / "file"
        fetch(web.url, "-o", str(path), *options, code=18)
        fetch(web.url, "-o", str(path), "--resume")
        assert web.conditions[1] == (None, None)
        check_same(path.read_bytes(), BODY)


SAME = b"HTTP/1.1 304 Not Modified\r\n\r\n"
STAMPED = answer(BODY, Last_Modified="Fri, 20 Nov 2020 11:00:00 GMT", Date="Fri, 20 Nov 2020 12:00:00 GMT")


def needs_attributes(folder: Path) -> None:
    """Skip the test if files cannot have extended attributes."""
    try:
        os.setxattr(folder, "user.netkit.test", b"")
    except OSError:
        pytest.skip("the file system of the tests has no extended attributes")


@pytest.mark.parametrize(
    ("first", "condition"),
    [((WHOLE,), "if-none-match"), ((CUT, rest(HALF)), "if-none-match"), ((STAMPED,), "if-modified-since")],
)
def test_a_file_that_is_whole(tmp_path: Path, first: tuple[bytes, ...], condition: str) -> None:
    """--resume of a complete file asks whether it has changed: if not it is kept, otherwise the exit code is 23."""
    needs_attributes(tmp_path)
    path = tmp_path / "file"
    with site(*first, SAME, answer(b"new"), answer(b"new", ETag='"v2"')) as web:
        for code in (18, 0)[-len(first) :]:
            fetch(web.url, "-o", str(path), "--resume", code=code)
        before = path.stat()
        fetch(web.url, "-o", str(path), "--resume")
        assert path.stat() == before
        assert web.got[-1].fields[condition] in ('"v1"', "Fri, 20 Nov 2020 11:00:00 GMT")
        assert "the server has another version" in fetch(web.url, "-o", str(path), "--resume", code=23).err
        assert path.stat() == before
        fetch(web.url, "-o", str(path), "--resume", "--force")
    assert path.read_bytes() == b"new"
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize("change", ["other URL", "other bytes", "no validator", "forged"])
def test_a_file_of_which_nobody_knows(tmp_path: Path, change: str) -> None:
    """--resume keeps a complete file, with 23, if netkit does not know its version for certain."""
    needs_attributes(tmp_path)
    path = tmp_path / "file"
    with site(answer(BODY) if change == "no validator" else WHOLE, WHOLE) as web:
        fetch(web.url, "-o", str(path))
        if change == "other bytes":
            path.write_bytes(OTHER)
        if change == "forged":
            known = os.getxattr(path, "user.netkit.version")
            os.setxattr(path, "user.netkit.version", known.replace(b"v1", rb"v1\r\nX: y"))
        before = path.stat()
        url = f"{web.url}/other" if change == "other URL" else web.url
        assert "it exists (the server sends no parts" in fetch(url, "-o", str(path), "--resume", code=23).err
        assert web.conditions[1] == (f"bytes={len(BODY) - 65536}-{len(BODY) - 1}", None)
    assert path.stat() == before


def tail(size: int, whole: int = len(BODY), **fields: str) -> bytes:
    """Return a 206 answer with the last 64 KiB of the first ``size`` bytes of the body."""
    start = max(size - 65536, 0)
    about = {"Content_Range": f"bytes {start}-{size - 1}/{whole}", "Last_Modified": OLD, "ETag": '"v1"', **fields}
    return answer(BODY[start:size], "206 Partial Content", **about)


OLD = "Fri, 20 Nov 2020 11:00:00 GMT"


@pytest.mark.parametrize("size", [1000, HALF, len(BODY)])
def test_what_another_tool_has_left(tmp_path: Path, size: int) -> None:
    """--resume completes a part of another tool if its last bytes match the server's; a complete file is kept."""
    path = tmp_path / "file"
    path.write_bytes(BODY[:size])
    with site(tail(size), rest(size, 10), rest(size + 10)) as web:
        if size < len(BODY):
            fetch(web.url, "-o", str(path), "--resume", code=18)
            assert files(tmp_path) == ["file.netkit-info", "file.netkit-part"]
            fetch(web.url, "-o", str(path), "--resume")
            assert web.conditions[1:] == [(f"bytes={size}-", '"v1"'), (f"bytes={size + 10}-", '"v1"')]
        else:
            fetch(web.url, "-o", str(path), "--resume")
    check_same(path.read_bytes(), BODY)
    assert files(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (tail(HALF - 1), "no parts"),
        (tail(HALF, HALF - 1), "how much"),
        (answer(b"", "416 Range Not Satisfiable"), "has less"),
        (tail(HALF, Last_Modified="Fri, 20 Nov 2099 11:00:00 GMT"), "may be newer"),
        (tail(HALF, Last_Modified="once"), "may be newer"),
        (tail(HALF, Last_Modified=""), "may be newer"),
        (tail(HALF, Last_Modified="Fri, 20 Nov 2020 11:00:00"), "may be newer"),  # without a zone
        (tail(HALF).replace(BODY[HALF - 9 : HALF], b"different"), "another version"),
        (tail(HALF, ETag="W/v1"), "no version"),
    ],
)
def test_what_another_tool_has_left_may_be_something_else(tmp_path: Path, sent: bytes, reason: str) -> None:
    """If a file of another tool may be of another version, it is exit code 23 with the reason, and the file is kept."""
    path = tmp_path / "file"
    path.write_bytes(BODY[:HALF])
    with site(sent) as web:
        assert reason in fetch(web.url, "-o", str(path), "--resume", code=23).err
    check_same(path.read_bytes(), BODY[:HALF])
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
