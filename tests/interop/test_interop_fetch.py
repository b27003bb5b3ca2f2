"""fetch with common servers: nginx, Python's http.server, openssl s_server, and ``netkit listen``."""

import contextlib
import hashlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import NETKIT, free_port, netkit, running
from tests.support.certificates import Pki
from tests.support.data import DATA, OTHER, check_same, files
from tests.support.partners import NGINX, await_listener, s_server
from tests.support.processes import tool
from tests.support.sites import answer, fetch, site

SLOW = 2_000_000  # bytes of a file that nginx sends at 512 KiB/s, unless a range is requested
LARGE = 64 << 20
FORM = "Content-Type: application/x-www-form-urlencoded"

CONF = (
    NGINX
    + """
    log_format asked escape=none '$request_method $request_uri $status [$http_range] [$http_if_range]';
    sendfile on;
    root {folder};
    types {{ text/html html; }}
    gzip_min_length 1;
    gzip_types *;
    map $http_range $pace {{ default 0; "" 512k; }}
    server {{
        listen 127.0.0.1:{port};
        access_log log asked;
        listen unix:{folder}/sock;
        location / {{ autoindex on; ssi on; }}
        location /slow {{ limit_rate $pace; }}
        location = /moved {{ return 302 /page?x=1; }}
        location = /busy {{ return 503; }}
        location = /secure {{ return 307 https://localhost:{secure}/who; }}
        location /packed {{ alias {folder}/; gzip on; }}
        location = /which {{ return 200 "$connection $connection_requests\\n"; }}
        location = /told {{ return 200 "$request_method [$http_x_test] [$content_type] [$http_user_agent] [$host]"; }}
    }}
    server {{
        listen 127.0.0.1:{secure} ssl;
        access_log log asked;
        listen unix:{folder}/tls ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_client_certificate {ca};
        ssl_verify_client optional;
        location / {{ }}
        location /page.html {{ ssi on; }}
        location = /which {{ return 200 "$connection $connection_requests\\n"; }}
        location = /who {{ return 200 "$ssl_client_verify $ssl_client_s_dn"; }}
    }}
}}
"""
)


class Nginx(NamedTuple):
    """The URLs of a running nginx, and the folder that it serves."""

    url: str
    port: int
    secure: str
    folder: Path

    def logged(self, path: str, count: int) -> list[str]:
        """Wait until ``count`` requests for a path have been logged, and return their lines, without the path."""
        while True:
            rows = [line.split(" ", 2) for line in (self.folder / "log").read_text().splitlines(keepends=True)]
            found = [row[2].strip() for row in rows if row[1] == path and row[2].endswith("\n")]
            if len(found) >= count:
                return found
            os.sched_yield()


@pytest.fixture(scope="module")
def nginx(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """Run nginx on TCP and Unix sockets, with TLS and without."""
    folder = tmp_path_factory.mktemp("nginx")
    port, secure = free_port(), free_port()
    about = {"folder": folder, "port": port, "secure": secure, "ca": pki.ca}
    (folder / "conf").write_text(CONF.format(**about, cert=pki.good.cert, key=pki.good.key))
    (folder / "page").write_bytes(DATA)
    (folder / "empty").touch()
    (folder / "page.html").write_bytes(DATA)
    with running(argv=[tool("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "conf")]) as server:
        await_listener(secure, server)
        yield Nginx(f"http://127.0.0.1:{port}", port, f"https://localhost:{secure}", folder)
        server.signal(signal.SIGTERM)
        assert server.finish().code == 0


# -- nginx


def test_pages_of_nginx(nginx: Nginx) -> None:
    """Pages arrive intact: plain, empty, redirected, chunked, and the list of a folder. A 404 is 22 with --fail."""
    check_same(fetch(f"{nginx.url}/page").out, DATA)
    check_same(fetch(f"{nginx.url}/moved").out, DATA)
    assert fetch(f"{nginx.url}/empty").out == b""
    chunked = fetch(f"{nginx.url}/page.html", "-i").out
    assert b"\r\nTransfer-Encoding: chunked\r\n" in chunked
    check_same(chunked.partition(b"\r\n\r\n")[2], DATA)
    assert b'<a href="page">' in fetch(f"{nginx.url}/").out
    assert b"<h1>404 Not Found</h1>" in fetch(f"{nginx.url}/none").out
    done = fetch(f"{nginx.url}/none", "--fail", code=22)
    assert (done.out, done.err) == (
        b"",
        f"netkit fetch: cannot fetch {nginx.url}/none: the server answered 404 Not Found\n",
    )
    assert nginx.logged("/page?x=1", 1) == ["200 [] []"]


def test_heads_of_nginx(nginx: Nginx) -> None:
    """--head and -i write the head byte for byte as nginx sends it."""
    with socket.create_connection(("127.0.0.1", nginx.port)) as sock:
        sock.sendall(b"HEAD /page HTTP/1.1\r\nHost: x\r\n\r\n")
        theirs = b""
        while not theirs.endswith(b"\r\n\r\n"):
            theirs += sock.recv(4096)
    dated = re.compile(rb"\r\nDate: [^\r]+")
    assert dated.sub(b"", fetch(f"{nginx.url}/page", "--head").out) == dated.sub(b"", theirs)
    head, end, body = fetch(f"{nginx.url}/page", "-i").out.partition(b"\r\n\r\n")
    assert dated.sub(b"", head + end) == dated.sub(b"", theirs)
    check_same(body, DATA)


def test_what_nginx_is_told(nginx: Nginx) -> None:
    """nginx receives the given method, header fields and content type."""
    told = fetch(f"{nginx.url}/told", "-H", "X-Test: a b", "-H", "User-Agent: me", "-H", "Host: other").out
    assert told == b"GET [a b] [] [me] [other]"
    told = fetch(f"{nginx.url}/told", "--data", "a=1", "--method", "PUT", "-H", "Content-Type: text/plain").out
    assert re.fullmatch(rb"PUT \[\] \[text/plain\] \[netkit/[0-9.]+\] \[127.0.0.1\]", told)


@pytest.mark.parametrize("changes", [False, True])
def test_going_on_with_nginx(nginx: Nginx, tmp_path: Path, changes: bool) -> None:
    """--resume continues an interrupted download at the right byte, or gets all of the file if it has changed."""
    name = f"slow-{changes}"
    data = (DATA * 7)[:SLOW]
    (nginx.folder / name).write_bytes(data)
    path = tmp_path / "file"
    with running("fetch", f"{nginx.url}/{name}", "-o", str(path)) as process:
        part = Path(f"{path}.netkit-part")
        while not part.exists() or part.stat().st_size < 100_000:
            os.sched_yield()
        process.signal(signal.SIGKILL)
        process.wait()
        count = part.stat().st_size
    assert 0 < count < SLOW
    if changes:
        (nginx.folder / name).write_bytes(OTHER)
    fetch(f"{nginx.url}/{name}", "-o", str(path), "--resume")
    check_same(path.read_bytes(), OTHER if changes else data)
    asked = nginx.logged(f"/{name}", 2)
    assert re.fullmatch(rf'{200 if changes else 206} \[bytes={count}-\] \["[0-9a-f-]+"\]', asked[1])
    assert files(tmp_path) == ["file"]


def test_parts_that_are_whole_or_too_long(nginx: Nginx, tmp_path: Path) -> None:
    """A complete part is checked by its last byte, one that is too long is replaced, and after a 503 it is kept."""
    path = tmp_path / "file"
    (nginx.folder / "parts").write_bytes(DATA)
    etag = re.search(r"ETag: (\S+)", fetch(f"{nginx.url}/parts", "--head").out.decode())[1]  # type: ignore[index]

    def left(url: str, part: bytes, length: int) -> None:
        Path(f"{path}.netkit-part").write_bytes(part)
        spelled = etag.replace('"', '\\"')
        info = f'{{"url": "{url}", "validator": "{spelled}", "tag": "{spelled}", "length": {length}}}'
        Path(f"{path}.netkit-info").write_text(info)

    for part, length, asked in (
        (DATA, len(DATA), [f"206 [bytes={len(DATA) - 1}-]"]),
        (DATA + b"x", len(DATA), ["200 []"]),
        (DATA + b"x", len(DATA) + 9, ["416 [", "200 ["]),
    ):
        left(f"{nginx.url}/parts", part, length)
        before = len(nginx.logged("/parts", 1))  # the first is --head
        fetch(f"{nginx.url}/parts", "-o", str(path), "--resume", "--force")
        check_same(path.read_bytes(), DATA)
        rows = nginx.logged("/parts", before + len(asked))[before:]
        assert [row[: len(start)] for row, start in zip(rows, asked, strict=True)] == asked
    left(f"{nginx.url}/busy", DATA[:100], len(DATA))
    fetch(f"{nginx.url}/busy", "-o", str(path), "--resume", "--force", code=22)
    assert Path(f"{path}.netkit-part").read_bytes() == DATA[:100]


def test_a_whole_file_of_nginx(nginx: Nginx, tmp_path: Path) -> None:
    """--resume of a complete file succeeds while nginx has the same version, and refuses another version."""
    (nginx.folder / "whole").write_bytes(DATA)
    url, path = f"{nginx.url}/whole", tmp_path / "file"
    fetch(url, "-o", str(path))
    with contextlib.suppress(OSError):
        assert os.getxattr(path, "user.netkit.version")
        fetch(url, "-o", str(path), "--resume")
        assert nginx.logged("/whole", 2)[1] == "304 [] []"
        (nginx.folder / "whole").write_bytes(OTHER)
        os.utime(nginx.folder / "whole", (1_600_000_000,) * 2)
        assert "another version" in fetch(url, "-o", str(path), "--resume", code=23).err
    check_same(path.read_bytes(), DATA)


def test_what_curl_and_wget_have_left(nginx: Nginx, tmp_path: Path) -> None:
    """--resume continues the files of curl and wget, unless nginx has another version by now."""
    served = nginx.folder / "left"
    served.write_bytes(DATA)
    os.utime(served, (1_600_000_000,) * 2)
    url, path = f"{nginx.url}/left", tmp_path / "file"
    into = ("-o", str(path))
    for argv in (["curl", "-sS", "-r", "0-99999", *into, url], ["wget", "-q", "-O", str(path), url]):
        with running(argv=[tool(argv[0]), *argv[1:]]) as process:
            assert process.finish().code == 0
        fetch(url, *into, "--resume")
        check_same(path.read_bytes(), DATA)
        path.unlink()
    assert [row[:3] for row in nginx.logged("/left", 5)] == ["206", "206", "206", "200", "206"]
    path.write_bytes(DATA[:1000])
    served.write_bytes(OTHER)
    assert "it exists" in fetch(url, *into, "--resume", code=23).err
    assert path.read_bytes() == DATA[:1000]


def test_nginx_on_a_unix_socket(nginx: Nginx, pki: Pki, tmp_path: Path) -> None:
    """Pages arrive intact over a Unix socket, with TLS and without, also to a file."""
    over = ("--unix-socket", str(nginx.folder / "sock"))
    fetch("http://app/page", *over, "-o", str(tmp_path / "file"))
    check_same((tmp_path / "file").read_bytes(), DATA)
    assert fetch("http://app/told", *over).out.endswith(b"[app]")
    secure = ("--unix-socket", str(nginx.folder / "tls"), "--cafile", pki.ca)
    check_same(fetch("https://localhost/page", *secure).out, DATA)
    fetch("https://other.example/page", *secure, code=60)


def test_https_of_nginx(nginx: Nginx, pki: Pki, tmp_path: Path) -> None:
    """nginx is verified, and gets the client certificate, but not after a redirect from another origin."""
    trust = ("--cafile", pki.ca)
    check_same(fetch(f"{nginx.secure}/page", *trust).out, DATA)
    assert fetch(f"{nginx.secure}/who", *trust, *pki.client.options()).out.startswith(b"SUCCESS CN=a client,")
    assert fetch(f"{nginx.secure}/who", *trust, *pki.stranger.options()).out.startswith(b"<html>")
    assert fetch(f"{nginx.url}/secure", *trust).out == b"NONE "
    fetch(f"https://127.0.0.1:{nginx.port}/", code=35)
    assert b"400 The plain HTTP request" in fetch(nginx.secure.replace("https", "http")).out


@pytest.mark.parametrize("size", [0, 1000, 3_000_000])
def test_a_request_by_hand_to_nginx_over_tls(nginx: Nginx, pki: Pki, size: int) -> None:
    """nginx discards unsent data when it receives our end; connect delays it over TLS, and gets the whole page."""
    name = f"by-hand-{size}"
    (nginx.folder / name).write_bytes(body := (DATA * 10)[:size])
    address = f"tls:{nginx.secure.removeprefix('https://')}"
    done = netkit("connect", address, "--cafile", pki.ca, input=f"GET /{name} HTTP/1.0\r\n\r\n".encode())
    check_same(done.out.partition(b"\r\n\r\n")[2], body)
    assert (done.code, done.err) == (0, "")


def test_several_urls_of_nginx(nginx: Nginx, pki: Pki) -> None:
    """Several URLs use one connection, also over TLS, and with a chunked answer and a 404 between them."""
    for url, trust in ((nginx.url, ()), (nginx.secure, ("--cafile", pki.ca))):
        which = f"{url}/which"
        lines = fetch(which, f"{url}/page.html", f"{url}/none", which, *trust).out.splitlines()
        first, last = (line.split() for line in (lines[0], lines[-1]))
        assert (first, last) == ([first[0], b"1"], [first[0], b"4"])


def test_what_nginx_compresses(nginx: Nginx, tmp_path: Path) -> None:
    """--compressed writes the decoded page, and also works if nginx does not compress it."""
    text = b"".join(b"line %d\n" % number for number in range(50_000))
    (nginx.folder / "text").write_bytes(text)
    path = tmp_path / "file"
    for part in ("packed/", ""):
        fetch(f"{nginx.url}/{part}text", "--compressed", "--force", "-o", str(path))
        check_same(path.read_bytes(), text)
    head, _, body = fetch(f"{nginx.url}/packed/text", "--compressed", "-i").out.partition(b"\r\n\r\n")
    assert b"\r\nContent-Encoding: gzip" in head
    check_same(body, text)
    assert "more than 1024 bytes" in fetch(f"{nginx.url}/packed/text", "--compressed", "--max-size", "1K", code=63).err


@pytest.mark.parametrize("into", ["file", "pipe"])
def test_the_kernel_moves_what_is_large(nginx: Nginx, tmp_path: Path, into: str) -> None:
    """64 MiB arrive intact, and the kernel moves nearly all of them by splice(2)."""
    large = nginx.folder / "large"
    if not large.exists():
        with large.open("wb") as file:
            for index in range(LARGE // (1 << 20)):
                file.write(index.to_bytes(4, "big") + bytes((1 << 20) - 4))
    trace, path = tmp_path / "trace", tmp_path / "file"
    calls = "splice,read,readv,recvfrom,recvmsg"
    argv = [tool("strace"), "-f", "-qq", "-o", str(trace), "-e", f"trace={calls}", "-e", "signal=none"]
    argv += [*NETKIT, "fetch", f"{nginx.url}/large", *(["-o", str(path)] if into == "file" else [])]
    digest = hashlib.sha256()
    with running(argv=argv) as process:
        while into == "pipe" and (data := process.out.read(1 << 20)):
            digest.update(data)
        assert process.wait() == 0
    if into == "file":
        digest.update(path.read_bytes())
    assert digest.digest() == hashlib.sha256(large.read_bytes()).digest()
    moved = [int(count) for count in re.findall(r"splice\(.*= (\d+)$", trace.read_text(), re.MULTILINE)]
    assert sum(moved) >= (1 if into == "pipe" else 2) * LARGE * 0.95
    received = re.findall(r"(?:recvfrom|recvmsg)\(.*= (\d+)$", trace.read_text(), re.MULTILINE)
    assert sum(map(int, received)) < LARGE * 0.05


# -- Python


def test_python_serves_a_folder(tmp_path: Path) -> None:
    """Files, lists and redirects of ``python -m http.server`` arrive intact, and --resume, as it has no ranges."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "page").write_bytes(DATA)
    os.utime(tmp_path / "folder" / "page", (1_600_000_000,) * 2)
    argv = [NETKIT[0], "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    path = tmp_path / "file"
    with running(argv=argv) as server:
        url = "http://127.0.0.1:" + re.search(rb"port (\d+)", server.out.readline())[1].decode()  # type: ignore[index]
        check_same(fetch(f"{url}/folder/page").out, DATA)
        assert b'<a href="page">' in fetch(f"{url}/folder").out  # by way of /folder/
        info = (
            f'{{"url": "{url}/folder/page", "validator": "Sun, 13 Sep 2020 12:26:40 GMT", "tag": null, "length": null}}'
        )
        Path(f"{path}.netkit-info").write_text(info)
        Path(f"{path}.netkit-part").write_bytes(OTHER[:1000])
        fetch(f"{url}/folder/page", "-o", str(path), "--resume")
        check_same(path.read_bytes(), DATA)
        assert fetch(f"{url}/none", "--fail", code=22).out == b""


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (("--data-binary", "@{file}"), ("--data-file", "{file}", "-H", FORM)),
        (("-T", "{file}"), ("--method", "PUT", "--data-file", "{file}")),
        (("-u", "me:s\xe9cret"), ("-u", "me:s\xe9cret")),
        (("-H", "Accept:"), ("-H", "Accept:")),
        (("-I",), ("--head",)),
        (("--resolve", "web.test:{port}:127.0.0.1"), ("--resolve", "web.test:{port}:127.0.0.1")),
    ],
)
def test_a_server_is_told_what_curl_tells_it(tmp_path: Path, theirs: tuple[str, ...], ours: tuple[str, ...]) -> None:
    """fetch and curl send the same request, except for User-Agent."""
    (tmp_path / "file").write_bytes(DATA[:5000])
    with site(*[answer(b"done")] * 2) as web:
        about = {"file": str(tmp_path / "file"), "port": web.port}
        url = f"http://{'web.test' if '--resolve' in ours else '127.0.0.1'}:{web.port}/x?y"
        curl = [tool("curl"), "-sS", "--fail", "-o", os.devnull, url, "-H", "Accept-Encoding: identity"]
        for argv in ([*curl, *theirs], [*NETKIT, "fetch", url, *ours]):
            with running(argv=[word.format(**about) for word in argv]) as process:
                assert process.finish().code == 0
    for got in web.got:
        del got.fields["user-agent"]
        got.fields.pop("expect", None)  # some versions of curl send it
    first, second = ((got.line, got.fields, got.body) for got in web.got)
    assert first == second


# -- openssl, and listen


def test_openssl_serves_a_file(pki: Pki, tmp_path: Path) -> None:
    """Pages of s_server, which ends the connection after them, arrive intact."""
    (tmp_path / "page").write_bytes(DATA)
    (tmp_path / "answer").write_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + OTHER)
    for mode, name, data in (("-WWW", "page", DATA), ("-HTTP", "answer", OTHER)):
        with s_server(pki, mode, "-naccept", "1", cwd=tmp_path) as (server, port):
            while b"ACCEPT" not in server.out.readline():
                pass
            check_same(fetch(f"https://localhost:{port}/{name}", "--cafile", pki.ca).out, data)


def test_listen_serves_a_reply(pki: Pki, tmp_path: Path) -> None:
    """A reply of ``listen`` is a valid answer, with TLS and without, and listen prints the requests."""
    page = tmp_path / "page"
    page.write_bytes(b"HTTP/1.1 200 OK\r\n\r\n" + DATA)
    trust = ("--cafile", pki.ca)
    for address, scheme, options in (("127.0.0.1:0", "http", ()), ("tls:127.0.0.1:0", "https", pki.good.options())):
        serve = ("listen", address, "--reply-file", str(page), "--max-clients", "2", *options)
        with running(*serve) as server:
            port = server.port
            check_same(fetch(f"{scheme}://localhost:{port}/", *trust, "-4").out, DATA)
            fetch(f"{scheme}://127.0.0.1:{port}/", *trust, "--head")
            done = server.finish()
        assert done.code == 0
        assert re.findall(rb"^(\S+) / HTTP/1.1\r$", done.out, re.MULTILINE) == [b"GET", b"HEAD"]
