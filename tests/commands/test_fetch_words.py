"""The command line of fetch: a usage error is one line and exit code 2, and nothing connects."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netkit.cli.app import run
from netkit.cli.types import FIELD, METHOD
from tests.support.refusals import the_line

ARGUMENTS = st.text() | st.binary().map(os.fsdecode)
URL = "http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a listener; no client may have connected by the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener.getsockname()[1]
        with pytest.raises(BlockingIOError):
            listener.accept()


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Run fetch in this process, and return the line of its usage error."""
    code = run(["fetch", *words])
    out, err = capfd.readouterr()
    assert (code, out) == (2, ""), err
    return the_line(err)


# -- words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the URL is missing"),
        ([URL, "more"], "write http://more"),
        (["127.0.0.1", "{port}"], "write http://127.0.0.1"),
        (["http://user:secret@127.0.0.1:{port}x/"], "is not a number"),
        ([URL + "\r\nX: y"], "a space or a control character"),
        ([URL, "-O"], "names no file"),
        ([URL + "?x/y", "--remote-name"], "names no file"),
        ([URL + "x", URL + "y/x?z", "-O"], "'x' would be the file of two URLs"),
        ([URL, "-o", "-"], "standard output"),
        ([URL, "-o", ""], "empty"),
        ([URL, "--data", "@-"], "--data-file - sends"),
        ([URL, "--data", "@/etc/passwd"], "--data-file /etc/passwd sends"),
        ([URL, "-H", "X: a\r\nY: b"], "control character"),
        ([URL, "-H", "X\r\nY: b"], "not a field"),
        ([URL, "-H", "X:"], "none that could be left out"),
        ([URL, "-H", "Host:"], "none that could be left out"),
        ([URL, "-H", "Host: a", "-H", "host: b"], "one Host"),
        ([URL, "-H", "Content-Length: 5"], "content-length"),
        ([URL, "-H", "TRANSFER-ENCODING: chunked"], "transfer-encoding"),
        ([URL, "-H", "Upgrade: h2c"], "upgrade"),
        ([URL, "-H", "TE: trailers"], "te"),
        ([URL, "-H", "Trailer: X"], "trailer"),
        ([URL, "--method", "GET\r\nX: y"], "is not a method"),
        ([URL, "--method", "CONNECT"], "tunnel"),
        ([URL, "--user", "me"], "NETKIT_PASSWORD"),
        (["http://@127.0.0.1:{port}/", "-H", "authorization: x"], "Authorization"),
        ([URL, "--resolve", "127.0.0.1:80"], "is not HOST:PORT:ADDR"),
        ([URL, "--resolve", "h:80:localhost"], "'localhost' is not an IP address"),
        ([URL, "--resolve", "h:http9:127.0.0.1"], "http9"),
        ([URL, "--resolve", "h:80:fe80::1"], "needs a zone"),
        ([URL, "--unix-socket", ""], "empty"),
        ([URL, "--unix-socket", "/" + "x" * 200], "longer than"),
        ([URL, "--retry", "-1"], "whole number"),
        ([URL, "--max-redirects", "1001"], "more than 1000"),
        ([URL, "-I"], "--head"),
        ([URL, "-L"], "--max-redirects"),
        ([URL, "-d", "x"], "--data"),
        ([URL, "-k"], "--insecure"),
    ],
)
def test_mistake(capfd: pytest.CaptureFixture[str], port: int, words: list[str], says: str) -> None:
    """A usage error is one line with the reason, and nothing is sent. cli/test_rules.py has rules between options."""
    line = refused(capfd, *(word.format(port=port) for word in words))
    assert line.startswith("netkit fetch: ")
    assert says.format(port=port) in line
    assert "secret" not in line


@pytest.mark.fault("injection into a request")
@pytest.mark.parametrize(
    "field", ["Authorization: secret\n", "Cookie secret", "Cookie: \x1bsecret", "Authorization secret:"]
)
def test_a_field_is_no_message(capfd: pytest.CaptureFixture[str], port: int, field: str) -> None:
    """The value of a bad header field is not printed, as it may be a password."""
    assert "secret" not in refused(capfd, URL.format(port=port), "-H", field)


# -- values


def read(kind: Any, text: str) -> Any:
    """Convert a value as the command does."""
    return kind.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("A: b", ("A", b"b")),
        ("A:b", ("A", b"b")),
        ("A:  b \t", ("A", b"b")),
        ("A: b: c", ("A", b"b: c")),
        ("A: b \t c", ("A", b"b \t c")),
        ("A:", ("A", b"")),
        ("A: ", ("A", b"")),
        ("x-!#$%&'*+.^_`|~9: b", ("x-!#$%&'*+.^_`|~9", b"b")),
        ("A: \xe9\u20ac", ("A", "\xe9\u20ac".encode())),
        ("A: \udcff", ("A", b"\xff")),
        ("A: \x85\xa0\u2028", ("A", "\x85\xa0\u2028".encode())),
    ],
)
def test_field(text: str, field: tuple[str, bytes]) -> None:
    """A field is a name, a colon and a value, whose surrounding blanks are removed."""
    assert read(FIELD, text) == field
    assert read(FIELD, field) == field  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((FIELD, text) for text in ("X: a\nY: b", "X: a\rb", "X: \x1b[2J", "X: \x7f", "X : b", " X: b", "X Y: b")),
        *((FIELD, text) for text in (": b", "X", "\xc4: b", "")),
        *((METHOD, text) for text in ("GET /x", "", "G\xc4T")),
    ],
)
def test_value_is_refused(kind: Any, text: str) -> None:
    """What is no field, or no method, is refused."""
    with pytest.raises(click.BadParameter):
        read(kind, text)


@given(ARGUMENTS | st.tuples(st.sampled_from(["A", "x-y", ""]), ARGUMENTS).map(": ".join))
@example("A: \r\nB: c")
def test_any_text_is_a_field_or_refused(text: str) -> None:
    """No accepted field can end its line, or has characters that RFC 9110 (section 5.5) forbids."""
    try:
        name, value = read(FIELD, text)
    except click.BadParameter as refused:
        assert refused.message
        return
    assert name
    assert name.isascii()
    assert not set(name) & set(" \t\r\n:\0")
    assert all(byte == 9 or 32 <= byte != 127 for byte in value)
    assert value == value.strip(b" \t")


@pytest.mark.parametrize("text", ["GET", "get", "PUT", "M-SEARCH", "PROPFIND", "X_1", "connect"])
def test_method(text: str) -> None:
    """A method is a token, and its case is kept."""
    assert read(METHOD, text) == text


@given(ARGUMENTS)
@example("GET\n")
@example("")
@example("CONNECT")
def test_any_text_is_a_method_or_refused(text: str) -> None:
    """Only tokens are accepted as methods, and CONNECT is not."""
    try:
        read(METHOD, text)
    except click.BadParameter as refused:
        assert refused.message
        return
    assert text != "CONNECT"
    assert text.isascii()
    assert text.isprintable()
    assert not set(text) & set(' "(),/:;<=>?@[\\]{}')
