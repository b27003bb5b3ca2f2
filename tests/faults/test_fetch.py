"""HTTP servers that misbehave: data received is kept, bad answers are refused, and secrets stay within an origin."""

import base64
import gzip
import json
import re
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from netkit import __version__
from tests.support import PATIENCE, Finished, died_by, netkit, peer, read_all, reset, running
from tests.support.certificates import Pki
from tests.support.data import digest
from tests.support.namespaces import separate
from tests.support.processes import sound
from tests.support.sites import Answer, redirect, site
from tests.support.terminals import on_terminal

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"
BIG = "x" * 120_000  # more than the buffers of a connection with a small window hold, and still one argument
MEMORY = "--data=80000000"  # bytes, for prlimit


def fetched(answer: Answer, *options: str, stays: bool = False, wrapper: tuple[str, ...] = ()) -> Finished:
    """Run fetch against a server that gives this answer."""
    with site(answer, stays=stays) as server:
        return netkit("fetch", server.url, *options, wrapper=wrapper)


# -- framing


@pytest.mark.fault("HTTP body cut or malformed")
@pytest.mark.parametrize(
    "answer, code, out, says",
    [
        (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 8, b"", "Content-Length"),
        (b"HTTP/1.1 2\x1b[31mK\r\n\r\nhello", 8, b"", "status"),
        (CHUNKED + b"5\r\nhello\r\n\x1b[2J\r\n", 8, b"hello", "chunk"),
        (OK + b"Content-Length: 10\r\n\r\nhello", 18, b"hello", "5 of 10 bytes"),
    ],
)
def test_framing(answer: bytes, code: int, out: bytes, says: str) -> None:
    """Malformed or ambiguous framing is 8, a short body 18. The part received is written; the message has the cause."""
    done = sound(fetched(answer), code)
    assert done.out == out
    assert says in done.err


@pytest.mark.parametrize("head", [OK + b"Content-Length: 10\r\n\r\n", OK + b"\r\n"])
def test_reset_in_the_body(head: bytes) -> None:
    """A reset within the body is 56, even if the body would end with the connection; data received is written."""
    seen = threading.Event()

    def answer(sock: socket.socket) -> None:
        sock.sendall(head + b"hello")
        assert seen.wait(PATIENCE)
        reset(sock)

    with site(answer) as server, running("fetch", server.url) as process:
        assert process.out.read(5) == b"hello"
        seen.set()
        done = process.finish()
    sound(done, 56)
    assert f"connection reset by peer (after {len(head) + 5} bytes)" in done.err


# -- floods


def _endless(before: bytes, unit: bytes) -> Callable[[socket.socket], None]:
    def answer(sock: socket.socket) -> None:
        sock.sendall(before)
        while True:
            sock.sendall(unit)

    return answer


@pytest.mark.fault("HTTP without bound")
@pytest.mark.parametrize(
    "before, unit",
    [
        (OK + b"X: ", b"x" * 65536),
        (OK, b"X: y\r\n" * 10_000),
        (b"", b"HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n" * 2000),
        (CHUNKED + b"5;", b"x" * 65536),
        (CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000),
    ],
)
def test_flood(before: bytes, unit: bytes) -> None:
    """Endless heads, hints, chunk lines and trailers are 63, and need less than 80 MB of memory."""
    done = sound(fetched(_endless(before, unit), wrapper=("prlimit", MEMORY)), 63)
    assert done.out == b""


@pytest.mark.fault("HTTP without bound")
@pytest.mark.parametrize(
    "head",
    [
        OK + b"a:\n" * 85_000 + b"\r\n",
        b"HTTP/1.1 200 " + b"x" * 260_000 + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://" + b"x." * 130_000 + b"\r\n\r\n",
        b"HTTP/1.1 404 \xff\r\nContent-Type: " + b"\x1b" * 260_000 + b"\r\n\r\n",
    ],
)
def test_largest_head(head: bytes) -> None:
    """A head near the limit of its size takes little memory, and the message about it is short."""
    sound(fetched(head, "--fail", wrapper=("prlimit", MEMORY)), 0, 8, 22, 63)


def test_large_body_in_little_memory() -> None:
    """An endless body is written as it arrives, up to --max-size, and not buffered."""
    with open("/dev/null", "wb") as out, site(_endless(CHUNKED, b"10000\r\n%s\r\n" % (b"x" * 65536))) as server:
        args = ("fetch", server.url, "--max-size", "100M")
        sound(netkit(*args, stdout=out, wrapper=("prlimit", MEMORY)), 63)


# -- connections that stay open, and answers before the end of the request


@pytest.mark.parametrize(
    "answer, options, out",
    [
        (OK + b"Content-Length: 5\r\n\r\n", ("--head",), OK + b"Content-Length: 5\r\n\r\n"),
        (b"HTTP/1.1 103 Early\r\n\r\n" + HELLO + b"more", ("-i",), HELLO),
    ],
)
def test_the_server_stays(answer: bytes, options: tuple[str, ...], out: bytes) -> None:
    """fetch ends at the end of the answer, and does not wait until the server closes the connection."""
    assert sound(fetched(answer, *options, stays=True), 0).out == out


@pytest.mark.parametrize("body", ["argument", "file"])
@pytest.mark.parametrize("stays", [True, False])
def test_answer_before_the_body_was_read(tmp_path: Path, stays: bool, body: str) -> None:
    """An answer before the whole request was read is written; the exit code is 55 if part of it was not taken."""
    left = threading.Event()
    file = tmp_path / "file"
    file.write_bytes(bytes(16 << 20))  # more than socket buffers hold

    def behave(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        assert not stays or left.wait(PATIENCE)

    with peer(behave) as server:
        server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sent = ("--data", BIG) if body == "argument" else ("--data-file", str(file))
        done = netkit("fetch", f"http://127.0.0.1:{server.port}", *sent)
        left.set()
    sound(done, 55)
    assert done.out == b"no"
    assert "bytes not acknowledged" in done.err


def test_answer_while_the_body_is_read() -> None:
    """A server that answers before it reads the whole request still receives all of it."""

    def behave(sock: socket.socket) -> int:
        size = len(sock.recv(100))
        sock.sendall(HELLO)
        while data := sock.recv(5000):
            size += len(data)
        return size

    with peer(behave) as server:
        server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        done = netkit("fetch", f"http://127.0.0.1:{server.port}", "--data", BIG)
        assert server.result() > len(BIG)
    assert sound(done, 0).out == b"hello"


# In a network namespace, where a small tcp_wmem, tcp(7), keeps most of the request out of the system's buffers.
ANSWERED_FIRST = """
import socket, subprocess, sys
from pathlib import Path
Path("/proc/sys/net/ipv4/tcp_wmem").write_text("4096 16384 32768")
with socket.create_server(("127.0.0.1", 0)) as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    process = subprocess.Popen([sys.executable, "-m", "netkit", "fetch", "--data", "x" * 100_000, url])
    with listener.accept()[0] as sock:
        size = len(sock.recv(100))
        sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
        while data := sock.recv(4096):
            size += len(data)
            while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "R":
                pass  # until it waits for us
    assert size > 100_000, size
    sys.exit(process.wait())
"""


def test_answer_before_the_body_is_taken_slowly() -> None:
    """fetch waits for a server that has answered but reads the request slowly, and sends all of it."""
    wrapper = separate("ip link set lo up")
    with running(argv=[*wrapper, sys.executable, "-c", ANSWERED_FIRST]) as process:
        done = process.finish()
    assert (done.code, done.out, done.err) == (0, b"hello", "")


# -- redirects


@pytest.mark.fault("odd redirects")
@pytest.mark.parametrize("location", [b"file:///etc/passwd", b"/\x1b[31m", b"http://user:secret@h:x/"])
def test_redirect_refused(location: bytes) -> None:
    """A redirect to another scheme or to no valid URL is 8: it is not followed, and its password is not shown."""
    with site(redirect(location)) as server:
        done = sound(netkit("fetch", server.url), 8)
    assert (done.out, len(server.got)) == (b"", 1)
    assert "secret" not in done.err


@pytest.mark.fault("odd redirects")
def test_loop() -> None:
    """A page that redirects to itself is 47."""
    with site(*[redirect("")] * 3) as server:
        done = sound(netkit("fetch", server.url, "--max-redirects", "2"), 47)
    assert "more than 2 redirects" in done.err


# -- secrets

SECRETS = ("-H", "Cookie: secret", "-H", "X-Api-Key: secret", "-H", "Referer: http://h/secret", "-H", "Accept: a/b")


@pytest.mark.fault("odd redirects")
@pytest.mark.parametrize("host, port", [("localhost", "same"), ("127.0.0.1", "other"), ("127.0.0.2", "same")])
def test_no_secret_crosses_origins(host: str, port: str) -> None:
    """Another origin gets no user, password or secret fields; nor does the first one after a redirect back."""
    pages: dict[str, Answer] = {"/back": HELLO}
    with site(pages=pages, host="0.0.0.0") as own, site(pages=pages) as other:
        there = other if port == "other" else own
        pages["/"] = redirect(f"http://{host}:{there.port}/there")
        pages["/there"] = redirect(f"http://127.0.0.1:{own.port}/back")
        url = f"http://user:p%40ss@127.0.0.1:{own.port}/"
        done = netkit("fetch", url, "-4", "-vv", *SECRETS)
    assert (done.code, done.out) == (0, b"hello")
    first, there_got, back = own.got[0], there.got[-1 if port == "other" else 1], own.got[-1]
    assert first.fields["authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert {"cookie", "x-api-key", "referer"} <= set(first.fields)
    for request in (there_got, back):
        assert b"secret" not in request.raw
        assert set(request.fields) == {"host", "user-agent", "accept", "accept-encoding"}
        assert request.fields["accept"] == "a/b"
    assert "p%40ss" not in done.err
    assert "user" not in done.err


def test_secrets_within_an_origin() -> None:
    """A redirect within the same scheme, host and port keeps secrets."""
    with site(pages={"/x": HELLO}) as server:
        server.pages["/"] = redirect(f"{server.url}/x")
        sound(netkit("fetch", f"http://user:secret@127.0.0.1:{server.port}/", *SECRETS), 0)
    first, second = server.got
    assert first.fields == second.fields
    assert {"authorization", "cookie", "x-api-key", "referer"} <= set(second.fields)


@pytest.mark.parametrize("talk", ["-vv", "--json"])
def test_user_of_a_location(talk: str) -> None:
    """User and password in a Location are sent to its target; --json and -v show neither."""
    with site(pages={"/x": HELLO}) as server:
        server.pages["/"] = redirect(f"http://other:secret@127.0.0.1:{server.port}/x")
        done = netkit("fetch", f"http://user:secret@127.0.0.1:{server.port}/", talk)
    assert done.out == b"hello"
    assert "secret" not in done.err
    told = [got.fields["authorization"].removeprefix("Basic ") for got in server.got]
    assert [base64.b64decode(pair) for pair in told] == [b"user:secret", b"other:secret"]


@pytest.mark.fault("secrets in messages")
@pytest.mark.parametrize(
    "answer, code, talk",
    [(b"HTTP/1.1 404 No\r\n\r\n", 22, ("-vv",)), (b"", 8, ()), (OK + b"Content-Length: 9\r\n\r\n", 18, ("--json",))],
)
def test_no_password_in_messages(answer: bytes, code: int, talk: tuple[str, ...]) -> None:
    """No message about a failure contains the user or the password."""
    with site(answer) as server:
        done = netkit("fetch", f"http://user:secret@127.0.0.1:{server.port}/", "--fail", *talk)
    assert done.code == code
    assert str(server.port) in done.err
    assert "user" not in done.err
    assert "secret" not in done.err


def test_certificate_does_not_cross_origins(pki: Pki) -> None:
    """The client certificate is only sent to the origin of the given URL, and not after a redirect back."""
    context = pki.server(asks=True)
    context.verify_mode = ssl.CERT_OPTIONAL
    ours = ("--cafile", pki.ca, *pki.client.options())
    pages: dict[str, Answer] = {"/": redirect("/own"), "/back": redirect("/end"), "/end": HELLO}
    with site(pages=pages, context=context) as own, site(redirect(f"{own.url}/back"), context=context) as other:
        pages["/own"] = redirect(f"{other.url}/there")
        assert sound(netkit("fetch", f"{own.url}/", *ours), 0).out == b"hello"
    assert [bool(found) for found in own.certificates] == [True, True, False, False]
    assert not other.certificates[0]


def test_a_body_does_not_leave_https(pki: Pki) -> None:
    """A redirect from https to http is not followed if it would send the body again."""
    with site(HELLO) as plain, site(*[redirect(plain.url, 308)] * 2, context=pki.server()) as own:
        done = netkit("fetch", own.url, "--cafile", pki.ca, "--data", "secret")
        assert "from https to http" in sound(done, 8).err
        assert sound(netkit("fetch", own.url, "--cafile", pki.ca), 0).out == b"hello"
    assert len(plain.got) == 1


# -- clocks


@pytest.mark.parametrize(
    "answer, option",
    [(OK + b"Content-Length: 10\r\n\r\nhello", "--idle-timeout"), (CHUNKED + b"a\r\nhello", "--timeout")],
)
def test_clocks(answer: bytes, option: str) -> None:
    """If a server stops within its answer, fetch gives up with 28, and the message names the option."""
    done = sound(fetched(answer, option, "2s", stays=True), 28)
    assert done.out == b"hello"
    assert option in done.err
    assert " 2 s (" in done.err


# -- limits


def test_max_size() -> None:
    """--max-size is exact, also where the kernel moves the bytes (splice)."""
    done = sound(fetched(OK + b"\r\n" + b"x" * 3_000_000, "--max-size", "2999999"), 63)
    assert len(done.out) == 2_999_999
    assert "more than 2999999 bytes (--max-size)" in done.err


# -- messages and JSON

HOSTILE = (
    b"HTTP/1.1 404 \x1b[31mNo\xe2\x80\xae\xff\r\n"
    b"Content-Type: text/\x1b]0;x\x07\xe2\x80\xae\r\nContent-Length: 2\r\n\r\nno"
)


def test_fail() -> None:
    """An answer with a status of 400 or above is a success; with --fail it is 22, and the body is not written."""
    assert sound(fetched(HOSTILE), 0).out == b"no"
    done = sound(fetched(HOSTILE, "--fail"), 22)
    assert done.out == b""
    assert r"the server answered 404 \x1b[31mNo" in done.err


@pytest.mark.fault("foreign text in messages")
def test_nothing_of_a_peer_is_obeyed() -> None:
    """Escape sequences and bidi controls in reason, type and Location are shown escaped."""
    with site(pages={"/": redirect(b"/\xe2\x80\xae\xff"), "/%E2%80%AE%FF": HOSTILE}) as server:
        done = netkit("fetch", server.url, "-vv", "--fail")
    assert done.code == 22
    for line in done.err.splitlines():
        assert re.fullmatch(r"netkit fetch: [ -~]+", line)
    assert r"answered 404 \x1b[31mNo" in done.err
    assert "redirected by 302 to " in done.err


def test_quiet() -> None:
    """-q prints no messages, not even about a failure."""
    for answer, code in ((HELLO, 0), (redirect(b"ftp://h/"), 8)):
        done = fetched(answer, "-q")
        assert (done.code, done.err) == (code, "")


def test_json() -> None:
    """--json prints an object for each event, with the same names as other commands."""
    typed = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    with site(pages={"/": redirect("/x"), "/x": typed}) as server:
        done = netkit("fetch", server.url, "--json")
    told = [json.loads(line) for line in done.err.splitlines()]
    assert (done.code, done.out) == (0, b"hello")
    assert [found["event"] for found in told] == [
        *("connected", "answered", "redirected", "closed"),
        *("connected", "answered", "closed", "timed"),
    ]
    assert all(found["command"] == "fetch" and "time" in found for found in told)
    connected, moved, redirected, _, _, answered, closed, timed = told
    assert (connected["peer_address"], connected["peer_port"]) == ("127.0.0.1", server.port)
    assert (moved["target"], moved["status"], moved["reason"]) == (f"{server.url}/", 302, "Moved")
    assert (redirected["status"], redirected["location"]) == (302, f"{server.url}/x")
    assert timed.keys() - {"command", "event", "time"} == {"target", "connect_ms", "first_byte_ms", "body_ms"}
    assert (answered["status"], answered["size_bytes"], answered["content_type"]) == (200, 5, "text/plain")
    assert (closed["bytes_received"], closed["bytes_sent"]) == (len(typed), len(server.got[1].raw))


def test_failure_in_json() -> None:
    """With --json the last object is the failure, in ASCII."""
    done = fetched(HOSTILE, "--json", "--fail")
    assert done.code == 22
    assert done.err.isascii()
    *_, failure = (json.loads(line) for line in done.err.splitlines())
    assert (failure["exit_code"], failure["error"]["kind"]) == (22, "http")
    assert failure["error"]["message"].startswith("cannot fetch http://127.0.0.1:")


# -- requests

COMMON = f"User-Agent: netkit/{__version__}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
HOST = "Host: {host}\r\n"
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    "path, options, line, fields, body",
    [
        ("", (), "GET /", HOST + COMMON, ""),
        ("/\xe9?\xe9=%20#x", (), "GET /%C3%A9?%C3%A9=%20", HOST + COMMON, ""),
        ("/x", ("--method", "DELETE"), "DELETE /x", HOST + COMMON, ""),
        ("/x", ("--method", "get"), "get /x", HOST + COMMON, ""),
        ("/x", ("--data", "a=\\x00\\n"), "POST /x", HOST + COMMON + FORM + "Content-Length: 4\r\n", "a=\0\n"),
        ("/x", ("--method", "POST"), "POST /x", HOST + COMMON + "Content-Length: 0\r\n", ""),
        ("/x", ("--data", "", "--method", "PUT"), "PUT /x", HOST + COMMON + FORM + "Content-Length: 0\r\n", ""),
        (
            "/x",
            ("-H", "accept: a/b", "-H", "X-One:1", "-H", "X-Two: \u20ac \t2 ", "-H", "x-one: 3", "-H", "User-Agent:"),
            "GET /x",
            HOST + "accept: a/b\r\nAccept-Encoding: identity\r\nX-One: 1\r\nx-one: 3\r\nX-Two: \u20ac \t2\r\n",
            "",
        ),
        ("/x", ("-H", "Host: other:81"), "GET /x", "Host: other:81\r\n" + COMMON, ""),
    ],
)
def test_request(path: str, options: tuple[str, ...], line: str, fields: str, body: str) -> None:
    """The request is exactly this, byte for byte."""
    with site(HELLO) as server:
        sound(netkit("fetch", server.url + path, *options), 0)
    head = f"{line} HTTP/1.1\r\n{fields.format(host=server.address)}\r\n"
    assert [got.raw for got in server.got] == [(head + body).encode()]


# -- stdout

ESCAPES = bytes(range(256)) + b"\x1b[31mred\x1b]0;title\x07\r\n"


def test_bytes_are_exact_in_a_pipe() -> None:
    """To a pipe the body is written unchanged."""
    assert sound(fetched(OK + b"\r\n" + ESCAPES), 0).out == ESCAPES


@pytest.mark.fault("compression bomb")
def test_a_compressed_body_stays_so() -> None:
    """A compressed body that was not requested is written as received, and counts as such for --max-size."""
    bomb = gzip.compress(bytes(32 << 20))
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    with site(head + bomb) as server:
        done = sound(netkit("fetch", server.url, "--max-size", str(len(bomb))), 0)
    assert digest(done.out) == digest(bomb)
    assert server.got[0].fields["accept-encoding"] == "identity"


def test_terminal() -> None:
    """On a terminal, control bytes in head and body are escaped, unless with --raw."""
    answer = OK + b"X: \x1b[2J\r\nContent-Length: 13\r\n\r\n\x1b[31m\x9b2Jred\r\n"
    for raw in (False, True):
        with site(answer) as server:
            code, shown = on_terminal("fetch", server.url, "-i", *(["--raw"] if raw else []))
        assert code == 0
        assert (b"\x1b[31m" in shown, b"\x1b[2J" in shown) == (raw, raw)
        assert (rb"\x1b[31m" in shown) == (not raw)
        assert b"red" in shown


@pytest.mark.parametrize("answer", [OK + b"\r\n" + b"x" * 100, CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n", b""])
def test_the_reader_leaves(answer: bytes) -> None:
    """When the reader of stdout closes it, fetch ends by SIGPIPE at once, silently, even if the server is silent."""
    asked = threading.Event()

    def behave(sock: socket.socket) -> None:
        asked.set()
        sock.sendall(answer)
        read_all(sock)

    with site(behave) as server, running("fetch", server.url) as process:
        assert asked.wait(PATIENCE)
        if answer:
            assert process.out.read(10) == b"x" * 10
        process.out.close()
        assert died_by(process.wait()) is signal.SIGPIPE
