"""Addresses: all forms for clients and servers, and the spellings that are refused."""

import os
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from netkit.core.address import (
    Endpoint,
    Role,
    family_of,
    from_socket,
    parse,
    parse_port,
    parse_ports,
    parse_source,
    take,
)
from netkit.core.errors import Invalid

ROLES: tuple[Role, ...] = ("client", "server")


def refusal(words: Sequence[str], role: Role) -> str:
    """Return the message with which an address is refused, after checking that it is one printable line."""
    with pytest.raises(Invalid) as refused:
        take(words, role)
    message = str(refused.value)
    assert message
    assert message.isprintable()
    return message


# -- forms

FORMS = [
    (["example.org", "80"], Endpoint("example.org", 80)),
    (["example.org:80"], Endpoint("example.org", 80)),
    (["example.org.", "80"], Endpoint("example.org.", 80)),
    (["localhost", "1"], Endpoint("localhost", 1)),
    (["localhost:65535"], Endpoint("localhost", 65535)),
    (["Example.ORG:80"], Endpoint("Example.ORG", 80)),
    (["a:80"], Endpoint("a", 80)),
    (["a_b.c-d", "80"], Endpoint("a_b.c-d", 80)),
    (["_dmarc.example.org", "80"], Endpoint("_dmarc.example.org", 80)),
    (["xn--bcher-kva.example", "80"], Endpoint("xn--bcher-kva.example", 80)),
    (["127.example.org", "80"], Endpoint("127.example.org", 80)),
    (["1a", "80"], Endpoint("1a", 80)),
    (["0xg:80"], Endpoint("0xg", 80)),
    (["127.0.0.1", "80"], Endpoint("127.0.0.1", 80)),
    (["127.0.0.1:80"], Endpoint("127.0.0.1", 80)),
    (["0.0.0.0:80"], Endpoint("0.0.0.0", 80)),
    (["255.255.255.255:80"], Endpoint("255.255.255.255", 80)),
    (["::1", "80"], Endpoint("::1", 80)),
    (["[::1]", "80"], Endpoint("::1", 80)),
    (["[::1]:80"], Endpoint("::1", 80)),
    (["::", "80"], Endpoint("::", 80)),
    (["[::]:80"], Endpoint("::", 80)),
    (["2001:db8::80", "443"], Endpoint("2001:db8::80", 443)),
    (["::ffff:127.0.0.1", "80"], Endpoint("::ffff:127.0.0.1", 80)),
    (["[::ffff:127.0.0.1]:80"], Endpoint("::ffff:127.0.0.1", 80)),
    (["fe80::1%eth0", "80"], Endpoint("fe80::1%eth0", 80)),
    (["[fe80::1%eth0]", "80"], Endpoint("fe80::1%eth0", 80)),
    (["[fe80::1%eth0]:80"], Endpoint("fe80::1%eth0", 80)),
    (["[fe80::1%eth0.100]:80"], Endpoint("fe80::1%eth0.100", 80)),
    (["fe80::1%2", "80"], Endpoint("fe80::1%2", 80)),
    (["febf::1%eth0", "80"], Endpoint("febf::1%eth0", 80)),
    (["fec0::1", "80"], Endpoint("fec0::1", 80)),
    ([":80"], Endpoint("", 80)),
    (["localhost", "http"], Endpoint("localhost", 80)),
    (["localhost:http"], Endpoint("localhost", 80)),
    (["[::1]:https"], Endpoint("::1", 443)),
    ([":http"], Endpoint("", 80)),
    (["unix:/run/app.sock"], Endpoint(path="/run/app.sock")),
    (["unix:app.sock"], Endpoint(path="app.sock")),
    (["unix:./@app"], Endpoint(path="./@app")),
    (["unix:/with space:80"], Endpoint(path="/with space:80")),
    (["unix:~/app"], Endpoint(path="~/app")),
    (["unix:8080"], Endpoint(path="8080")),
    (["unix:unix:app"], Endpoint(path="unix:app")),
    (["unix:tls:app"], Endpoint(path="tls:app")),
    (["unix:@app"], Endpoint(path="\0app")),
    (["unix:@/run/app"], Endpoint(path="\0/run/app")),
    (["unix:@@"], Endpoint(path="\0@")),
    (["tls:example.org:443"], Endpoint("example.org", 443, tls=True)),
    (["tls:example.org", "443"], Endpoint("example.org", 443, tls=True)),
    (["tls:[::1]:443"], Endpoint("::1", 443, tls=True)),
    (["tls:::1", "443"], Endpoint("::1", 443, tls=True)),
    (["tls::443"], Endpoint("", 443, tls=True)),
    (["tls:unix:/run/app.sock"], Endpoint(path="/run/app.sock", tls=True)),
    (["tls:unix:@app"], Endpoint(path="\0app", tls=True)),
    (["tls", "80"], Endpoint("tls", 80)),
    (["unix", "80"], Endpoint("unix", 80)),
    (["TLS:80"], Endpoint("TLS", 80)),
]
SERVER_FORMS = [
    (["8080"], Endpoint(None, 8080)),
    (["0"], Endpoint(None, 0)),
    (["65535"], Endpoint(None, 65535)),
    ([":0"], Endpoint("", 0)),
    (["localhost", "0"], Endpoint("localhost", 0)),
    (["127.0.0.1:0"], Endpoint("127.0.0.1", 0)),
    (["[::1]:0"], Endpoint("::1", 0)),
    (["tls:8443"], Endpoint(None, 8443, tls=True)),
]


@pytest.mark.parametrize(("words", "endpoint"), FORMS)
def test_form(words: list[str], endpoint: Endpoint) -> None:
    """A form means the same to a client and to a server, and the words after it are left."""
    for role in ROLES:
        assert take(words, role) == (endpoint, [])
        assert take([*words, "5000", "hello"], role) == (endpoint, ["5000", "hello"])


@pytest.mark.parametrize(("words", "endpoint"), SERVER_FORMS)
def test_server_form(words: list[str], endpoint: Endpoint) -> None:
    """A server accepts a bare port, and 0 as a port; a client refuses both."""
    assert take(words, "server") == (endpoint, [])
    assert take([*words, "db", "5432"], "server") == (endpoint, ["db", "5432"])
    assert "port" in refusal(words, "client")


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (Endpoint("example.org", 80), "example.org:80"),
        (Endpoint("127.0.0.1", 80), "127.0.0.1:80"),
        (Endpoint("::1", 80), "[::1]:80"),
        (Endpoint("fe80::1%eth0", 80), "[fe80::1%eth0]:80"),
        (Endpoint("", 80), ":80"),
        (Endpoint(None, 80), "80"),
        (Endpoint(path="/run/app.sock"), "unix:/run/app.sock"),
        (Endpoint(path="\0app"), "unix:@app"),
        (Endpoint("::1", 443, tls=True), "tls:[::1]:443"),
        (Endpoint(path="app", tls=True), "tls:unix:app"),
    ],
)
def test_text(endpoint: Endpoint, text: str) -> None:
    """An endpoint is shown as one word, with IPv6 in brackets."""
    assert str(endpoint) == text


def test_words_are_read_from_the_left() -> None:
    """One address is taken, and the next one starts after it."""
    source, rest = take(["8080", "db", "5432"], "server")
    assert source == Endpoint(None, 8080)
    assert take(rest, "client") == (Endpoint("db", 5432), [])
    assert take(["db", "5432", "cache:6379"], "client") == (Endpoint("db", 5432), ["cache:6379"])


def test_words_are_left_alone() -> None:
    """The given list is not changed."""
    words = ["localhost", "80", "more"]
    take(words, "client")
    assert words == ["localhost", "80", "more"]


def test_one_word_takes_no_second() -> None:
    """``parse`` takes a single word, so that a host without a port is refused."""
    for role in ROLES:
        assert parse("localhost:80", role) == Endpoint("localhost", 80)
        with pytest.raises(Invalid, match="no port"):
            parse("localhost", role)


# -- hosts that are refused

LONG_LABEL, TOO_LONG_LABEL = "a" * 63, "a" * 64
LONG_NAME = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
TOO_LONG_NAME = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 62])

REFUSED_HOSTS = [
    ("", "the host is empty"),
    (" ", "the host is empty"),
    ("\t", "the host is empty"),
    (" localhost", "space or a control character"),
    ("local host", "space or a control character"),
    ("localhost\n", "space or a control character"),
    ("ho\x1b[31mst\nX", "space or a control character"),
    ("a\0b", "space or a control character"),
    ("a\x7fb", "space or a control character"),
    ("::1\n", "space or a control character"),
    ("x\n::error::y", "space or a control character"),
    (".", "empty label"),
    ("..", "empty label"),
    ("a..b", "empty label"),
    (".a", "empty label"),
    ("a.b..", "empty label"),
    (TOO_LONG_LABEL, "64 bytes is longer than 63"),
    (f"www.{TOO_LONG_LABEL}.org", "64 bytes is longer than 63"),
    (TOO_LONG_NAME, "254 bytes is longer than 253"),
    ("a" * 300, "longer than"),
    ("-h", "not a host name"),
    ("-", "not a host name"),
    ("-1", "not a host name"),
    ("a-", "not a host name"),
    ("a.-b", "not a host name"),
    ("@/etc/passwd", "not a host name"),
    ("%s%n", "not a host name"),
    ("~", "not a host name"),
    ("*", "takes every interface with :PORT"),
    ("a/b", "not a host name"),
    ("user@host", "not a host name"),
    ("127.0.0.1%lo", "not a host name"),
    ("localhost%lo", "not a host name"),
    ("b\u00fccher..example", "Empty Label"),
    ("\u2603.example", "no internationalized name"),
    ("\u0661\u0662\u0667.0.0.1", "no internationalized name"),
    ("\uff11\uff12\uff17.0.0.1", "no internationalized name"),
    ("127\u30020\u30020\u30021", "no internationalized name"),
    ("127\uff0e0\uff0e0\uff0e1", "no internationalized name"),
    ("exam\u00adple", "no internationalized name"),
    ("\u202elocalhost", "no internationalized name"),
    ("\udcff", "no internationalized name"),
    ("127.0.0.256", "0 to 255"),
    ("256.1.1.1", "0 to 255"),
    ("1.2.3.4.5", "5 parts"),
    ("4294967296", "no IPv4 address"),
    ("1.2.3.", "no IPv4 address"),
    ("1..2", "no IPv4 address"),
    ("08.1.1.1", "no IPv4 address"),
    ("0x", "no IPv4 address"),
    ("0xfg.0x1ffffffff", "no IPv4 address"),
    ("example.127", "no IPv4 address"),
    ("::g", "not an IPv6 address"),
    (":::", "not an IPv6 address"),
    ("1:2:3", "not an IPv6 address"),
    ("::1::", "not an IPv6 address"),
    ("12345::", "not an IPv6 address"),
    ("::1/128", "not an IPv6 address"),
    ("::127.1", "not an IPv6 address"),
    ("::\uff11", "not an IPv6 address"),
    ("localhost:80:", "not an IPv6 address"),
    ("http://example.org:80", "is a URL: write HOST:PORT; netkit fetch gets URLs"),
    (":::80", "':::80' is not an IPv6 address (write [::]:80 for :: and a port)"),
    ("fe80::1", "needs a zone"),
    ("febf::1", "needs a zone"),
    ("fe80::1%", "empty zone"),
    ("::1%", "empty zone"),
    ("fe80::1%a b", "space or a control character"),
]
LEGACY_HOSTS = [
    ("127.1", "127.0.0.1"),
    ("127.0.1", "127.0.0.1"),
    ("0177.0.0.1", "127.0.0.1"),
    ("127.0.0.01", "127.0.0.1"),
    ("010.0.0.1", "8.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("4294967295", "255.255.255.255"),
    ("017700000001", "127.0.0.1"),
    ("0x7f.1", "127.0.0.1"),
    ("0x7f000001", "127.0.0.1"),
    ("0X7F.0.0.1", "127.0.0.1"),
    ("0", "0.0.0.0"),
    ("1.2.65535", "1.2.255.255"),
]


def spellings(host: str, role: Role) -> list[list[str]]:
    """Return the ways to write a host and port 80."""
    two_words = [] if role == "server" and host.isdigit() else [[host, "80"]]  # a server takes digits for a port
    one_word = [] if not host or ":" in host else [[f"{host}:80"]]
    return two_words + one_word


@pytest.mark.fault("empty host", "almost IPv4")
@pytest.mark.parametrize(("host", "why"), REFUSED_HOSTS)
def test_host_is_refused(host: str, why: str) -> None:
    """A host that is empty, broken or too long is refused, and the message says what is wrong with it."""
    for role in ROLES:
        for words in spellings(host, role):
            assert why in refusal(words, role)


@pytest.mark.fault("IPv4 as of old")
@pytest.mark.parametrize(("host", "meant"), LEGACY_HOSTS)
def test_legacy_address_is_refused(host: str, meant: str) -> None:
    """The legacy spelling of an IPv4 address is refused, and the message names the address that it stands for."""
    for role in ROLES:
        for words in spellings(host, role):
            message = refusal(words, role)
            assert repr(host) in message
            assert f" {meant} " in message


@pytest.mark.fault("host too long")
def test_longest_names() -> None:
    """A label may have 63 bytes and a name 253, without the final dot."""
    for role in ROLES:
        for name in (LONG_LABEL, LONG_NAME, LONG_NAME + "."):
            assert take([name, "80"], role) == (Endpoint(name, 80), [])


def test_closing_dot_of_ipv4_is_named() -> None:
    """The message does not count the empty part after a final dot as a fifth."""
    for role in ROLES:
        assert "5 parts" not in refusal(["127.0.0.1.", "80"], role)


@pytest.mark.fault("brackets")
@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("[::1", "no closing bracket"),
        ("[", "no closing bracket"),
        ("[]:80", "not an IPv6 address"),
        ("[]", "not an IPv6 address"),
        ("[localhost]:80", "not an IPv6 address"),
        ("[127.0.0.1]:80", "not an IPv6 address"),
        ("[::g]:80", "not an IPv6 address"),
        ("[[::1]]:80", "not an IPv6 address"),
        ("[::1]80", "after the bracket"),
        ("[::1]]:80", "after the bracket"),
        ("[::1] :80", "after the bracket"),
        ("[::1]:", "the port is empty"),
        ("[::1]:80:90", "port '80:90'"),
        ("[::1]:65536", "65536"),
        ("[fe80::1]:80", "needs a zone"),
        ("[fe80::1%]:80", "empty zone"),
        ("[fe80::1%a b]:80", "space or a control character"),
        ("]", "not a host name"),
        ("::1]", "not an IPv6 address"),
    ],
)
def test_brackets(word: str, why: str) -> None:
    """Brackets may hold only an IPv6 address, and only a port may follow them."""
    for role in ROLES:
        assert why in refusal([word], role)


# -- words that are missing or too many


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "address is missing"),
        ([""], "the host is empty"),
        (["localhost"], "'localhost' has no port"),
        (["127.0.0.1"], "'127.0.0.1' has no port"),
        (["[::1]"], "'[::1]' has no port"),
        (["/run/db.sock"], "'/run/db.sock' is a path: write unix: in front of it"),
        (["tls:./db.sock"], "'tls:./db.sock' is a path: write unix: in front of it"),
        (["::1"], "'::1' has no port"),
        (["::80"], "'::80' has no port"),
        (["2001:db8::1:80"], "'2001:db8::1:80' has no port"),
        (["::1:80"], "'::1:80' has no port: write [::1]:80 if 80 is the port"),
        (["http"], "'http' has no port"),
        (["localhost:"], "the port is empty"),
        ([":"], "the port is empty"),
        (["localhost", ""], "the port is empty"),
        (["localhost", "8 0"], "not a number"),
        (["localhost", "db:5432"], "port 'db:5432'"),
        (["localhost", "unix:app"], "port 'unix:app'"),
        (["tls:"], "the host is empty"),
        (["tls::"], "the port is empty"),
        (["tls:localhost"], "no port"),
        (["tls:tls:localhost:443"], "twice"),
        (["tls:tls:unix:app"], "twice"),
        (["tls:unix:"], "path after unix: is empty"),
        (["unix:"], "path after unix: is empty"),
        (["unix:@"], "path after unix: is empty"),
    ],
)
def test_words_are_refused(words: list[str], why: str) -> None:
    """An address that lacks its host, its port or its path is refused, and the message says which."""
    for role in ROLES:
        assert why in refusal(words, role)


@pytest.mark.parametrize("words", [["80"], ["tls:80"]])
def test_client_needs_a_host(words: list[str]) -> None:
    """A client refuses a bare port, and the message says what to write for this machine."""
    assert ":80 for this machine" in refusal(words, "client")


# -- unix paths


@pytest.mark.fault("length of a socket path")
def test_longest_path() -> None:
    """A path may have 107 bytes; one of 108 is refused rather than truncated."""
    for role in ROLES:
        path = "/" + "p" * 106
        assert take([f"unix:{path}"], role) == (Endpoint(path=path), [])
        message = refusal([f"unix:{path}x"], role)
        assert "108" in message
        assert "107" in message


def test_path_is_measured_in_bytes() -> None:
    """The length of a path is counted in bytes, not in characters."""
    for role in ROLES:
        fits = "\u00e9" * 53 + "x"
        assert take([f"unix:{fits}"], role) == (Endpoint(path=fits), [])
        assert "108" in refusal([f"unix:{fits}x"], role)


def test_longest_abstract_name() -> None:
    """An abstract name may have 106 bytes; one of 200 is refused."""
    for role in ROLES:
        name = "n" * 106
        assert take([f"unix:@{name}"], role) == (Endpoint(path=f"\0{name}"), [])
        assert "201" in refusal(["unix:@" + "n" * 200], role)


@pytest.mark.fault("length of a socket path")
@pytest.mark.parametrize("path", ["a\0b", "\0a", "a\0", "@a\0b", "\0"])
def test_path_with_nul(path: str) -> None:
    """A path with a NUL byte, which would end it early, is refused."""
    for role in ROLES:
        assert "NUL" in refusal([f"unix:{path}"], role)


def test_path_that_is_not_utf8() -> None:
    """A path may contain any bytes, as file names may."""
    path = os.fsdecode(b"/tmp/\xff\xfe")
    assert take([f"unix:{path}"], "client") == (Endpoint(path=path), [])


# -- ports

REFUSED_PORTS = [
    ("", "the port is empty"),
    ("65536", "between"),
    ("70000", "between"),
    ("99999999999", "between"),
    ("9" * 5000, "between"),
    ("080", "leading zero"),
    ("00", "leading zero"),
    ("0" * 5000, "leading zero"),
    ("-1", "negative"),
    ("-0", "negative"),
    ("-80", "negative"),
    ("+80", "not a number"),
    (" 80", "not a number"),
    ("80 ", "not a number"),
    ("80\n", "not a number"),
    ("\t80", "not a number"),
    ("8\x000", "not a number"),
    ("1_0", "not a number"),
    ("0x50", "0x50"),
    ("1e3", "1e3"),
    ("80abc", "80abc"),
    ("80.0", "not a number"),
    ("8,0", "not a number"),
    ("80-90", "not a number"),
    ("$((80))", "not a number"),
    ("\uff18\uff10", "not a number"),
    ("\u0663", "not a number"),
    ("\u00b2", "not a number"),
    ("8\u0660", "not a number"),
    ("\udc38", "not a number"),
    ("nosuchservice", "neither a number nor a known service"),
    ("http\n", "not a number"),
    ("h\u00e9", "not a number"),
    ("-h", "not a number"),
]


@pytest.mark.fault("port out of range", "negative port", "digits beyond ASCII", "other spellings of numbers")
@pytest.mark.parametrize(("port", "why"), REFUSED_PORTS)
def test_port_is_refused(port: str, why: str) -> None:
    """Only ASCII decimal digits and names of known services are ports, although ``int`` accepts more."""
    for role in ROLES:
        with pytest.raises(Invalid) as refused:
            parse_port(port, role)
        message = str(refused.value)
        assert why in message
        assert message.isprintable()
        assert refusal(["localhost", port], role) == message
        assert refusal([f"localhost:{port}"], role) == message


@pytest.mark.parametrize(
    ("text", "port"), [("1", 1), ("80", 80), ("65535", 65535), ("http", 80), ("https", 443), ("tftp", 69)]
)
def test_port(text: str, port: int) -> None:
    """A port is a number from 1 to 65535 or the name of a service."""
    for role in ROLES:
        assert parse_port(text, role) == port


@pytest.mark.fault("port 0 to dial")
def test_port_zero() -> None:
    """A server may use port 0, for which the system chooses one; a client may not."""
    assert parse_port("0", "server") == 0
    with pytest.raises(Invalid, match="port 0 is not between 1 and 65535"):
        parse_port("0", "client")
    with pytest.raises(Invalid, match="port 65536 is not between 0 and 65535"):
        parse_port("65536", "server")


# -- sources


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("127.0.0.1", ("127.0.0.1", 0)),
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        (":5000", ("", 5000)),
        ("::1", ("::1", 0)),
        ("::1:5000", ("::1:5000", 0)),
        ("[::1]", ("::1", 0)),
        ("[::1]:5000", ("::1", 5000)),
        ("fe80::1%eth0", ("fe80::1%eth0", 0)),
        ("[fe80::1%eth0]:5000", ("fe80::1%eth0", 5000)),
    ],
)
def test_source(text: str, source: tuple[str, int]) -> None:
    """A source is an address, a port, or both."""
    assert parse_source(text) == source


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (":", "the port is empty"),
        (" ", "the host is empty"),
        ("127.0.0.1:", "the port is empty"),
        ("127.0.0.1:70000", "between"),
        ("127.0.0.1:-1", "negative"),
        ("127.0.0.1:\uff18", "not a number"),
        ("localhost", "not an IP address"),
        ("localhost:80", "not an IP address"),
        ("eth0", "not an IP address"),
        ("unix:/run/app.sock", "not an IP address"),
        ("127.1", "127.0.0.1"),
        ("80", "0.0.0.80"),
        ("127.0.0.256", "0 to 255"),
        ("\uff11.0.0.1", "no internationalized name"),
        ("fe80::1", "needs a zone"),
        ("fe80::1%", "empty zone"),
        ("::g", "not an IPv6 address"),
        ("[::1", "no closing bracket"),
        ("[127.0.0.1]", "not an IPv6 address"),
        ("127.0.0.1\n", "space or a control character"),
    ],
)
def test_source_is_refused(text: str, why: str) -> None:
    """A source has to be an IP address; names and broken addresses are refused."""
    with pytest.raises(Invalid) as refused:
        parse_source(text)
    assert why in str(refused.value)
    assert str(refused.value).isprintable()


# -- families and socket addresses


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("0.0.0.0", socket.AF_INET),
        ("::1", socket.AF_INET6),
        ("::", socket.AF_INET6),
        ("::ffff:127.0.0.1", socket.AF_INET6),
        ("fe80::1%eth0", socket.AF_INET6),
        ("localhost", None),
        ("", None),
        ("127.1", None),
        ("0177.0.0.1", None),
        ("127.0.0.256", None),
        ("127.0.0.1 ", None),
        ("127.0.0.1%lo", None),
        ("[::1]", None),
        ("\uff11\uff12\uff17.0.0.1", None),
        ("::\uff11", None),
        ("::1\0", None),
        ("127.0.0.1\0", None),
        ("\udcff", None),
    ],
)
def test_family(host: str, family: int | None) -> None:
    """The family of an IP address is known, that of a name is not."""
    assert family_of(host) == family


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        (("127.0.0.1", 80), Endpoint("127.0.0.1", 80)),
        (("::1", 80, 0, 0), Endpoint("::1", 80)),
        (("::ffff:127.0.0.1", 80, 0, 0), Endpoint("127.0.0.1", 80)),
        (("::ffff:1", 80, 0, 0), Endpoint("::ffff:1", 80)),
        (("fe80::1%eth0", 80, 0, 2), Endpoint("fe80::1%eth0", 80)),
        (("fe80::1", 80, 0, 2**31 - 1), Endpoint("fe80::1%2147483647", 80)),
        ("/run/app.sock", Endpoint(path="/run/app.sock")),
        (b"\0app", Endpoint(path="\0app")),
    ],
)
def test_socket_address(address: object, endpoint: Endpoint) -> None:
    """The address of a socket becomes an endpoint."""
    assert from_socket(address) == endpoint


@pytest.mark.fault("zones")
def test_zone_is_the_name_of_the_interface() -> None:
    """A scope id is shown as the name of its interface."""
    index, name = socket.if_nameindex()[0]
    assert from_socket(("fe80::1", 80, 0, index)) == Endpoint(f"fe80::1%{name}", 80)


# -- properties

LABELS = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,20}[A-Za-z0-9_])?", fullmatch=True)
LAST_LABELS = st.from_regex(r"[A-Za-z]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?", fullmatch=True)
NAMES = st.builds(
    lambda labels, last, dot: ".".join([*labels, last]) + dot,
    st.lists(LABELS, max_size=3),
    LAST_LABELS,
    st.sampled_from(["", "."]),
).filter(lambda name: name not in ("tls", "udp", "unix"))  # those are taken for prefixes
ZONES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}", fullmatch=True)
IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).filter(lambda address: not address.is_link_local).map(str) | st.builds(
    "{}%{}".format, st.ip_addresses(v=6), ZONES
)
HOSTS = NAMES | IPV4 | IPV6
PATHS = (
    st.binary(min_size=1, max_size=107)
    .filter(lambda path: b"\0" not in path and not path.startswith(b"@"))
    .map(os.fsdecode)
)
ABSTRACT = (
    st.binary(min_size=1, max_size=106)
    .filter(lambda name: b"\0" not in name)
    .map(lambda name: "\0" + os.fsdecode(name))
)
OVER: dict[str, st.SearchStrategy[bool]] = {"tls": st.booleans(), "udp": st.booleans()}


def endpoints(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Endpoint]:
    """Endpoints with these parts, with TLS, with UDP, or with neither."""
    return st.builds(Endpoint, **parts, **OVER).filter(lambda endpoint: not (endpoint.tls and endpoint.udp))


UNIX = endpoints(host=st.none(), port=st.just(0), path=PATHS | ABSTRACT)
DIALLED = endpoints(host=HOSTS | st.just(""), port=st.integers(1, 65535), path=st.none())
SERVED = endpoints(host=HOSTS | st.sampled_from(["", None]), port=st.integers(0, 65535), path=st.none())
ARGUMENTS = st.text() | st.binary().map(os.fsdecode)
FRAGMENTS = st.sampled_from(
    [
        *("tls:", "unix:", "@", ":", "::", "[", "]", "%", ".", "-", "_", " ", "\n", "\0", "\x1b", "\uff11", "\u3002"),
        *("0", "1", "80", "255", "0x", "0177", "65536", "localhost", "eth0", "fe80::1", "::1", "127.0.0.1", "http"),
    ]
)
NEAR_MISSES = st.lists(FRAGMENTS, max_size=6).map("".join)
WORDS = st.lists(ARGUMENTS | NEAR_MISSES, max_size=4)


@given(UNIX | DIALLED)
def test_client_text_parses_back(endpoint: Endpoint) -> None:
    """The text of a client's endpoint parses back to the same endpoint."""
    assert parse(str(endpoint), "client", udp=True) == endpoint


@given(UNIX | SERVED)
def test_server_text_parses_back(endpoint: Endpoint) -> None:
    """The text of a server's endpoint parses back to the same endpoint."""
    assert parse(str(endpoint), "server", udp=True) == endpoint


@given(NAMES | IPV4, st.integers(1, 65535), st.sampled_from(ROLES))
def test_one_word_or_two(host: str, port: int, role: Role) -> None:
    """HOST PORT and HOST:PORT mean the same."""
    assert take([host, str(port)], role) == take([f"{host}:{port}"], role)


@given(IPV6, st.integers(1, 65535), st.sampled_from(ROLES))
def test_brackets_change_nothing(host: str, port: int, role: Role) -> None:
    """An IPv6 address is the same with and without brackets."""
    assert take([host, str(port)], role) == take([f"[{host}]", str(port)], role) == take([f"[{host}]:{port}"], role)


@given(WORDS, st.sampled_from(ROLES))
@example(["fe80::1%a]b", "80"], "client")
@example(["fe80::1%[", "80"], "client")
def test_anything_is_an_address_or_refused(words: list[str], role: Role) -> None:
    """Any words are either refused in one line or give an endpoint whose text parses back."""
    try:
        endpoint, rest = take(words, role)
    except Invalid as error:
        assert str(error).isprintable()
        return
    assert rest == words[len(words) - len(rest) :]
    assert len(words) - len(rest) in (1, 2)
    assert (0 if role == "server" or endpoint.path is not None else 1) <= endpoint.port <= 65535
    if endpoint.host and ":" not in endpoint.host:
        assert endpoint.host.isascii()
    assume(endpoint.host not in ("tls", "udp", "unix"))
    assert parse(str(endpoint), role) == endpoint


@pytest.mark.fault("digits beyond ASCII")
@given(ARGUMENTS | NEAR_MISSES, st.sampled_from(ROLES))
def test_any_text_is_a_port_or_refused(text: str, role: Role) -> None:
    """Any text for a port is refused in one line or gives a port, which for digits is their value."""
    try:
        port = parse_port(text, role)
    except Invalid as error:
        assert str(error).isprintable()
    else:
        assert text.isascii()
        assert str(port) == text or not text.isdigit()


@given(ARGUMENTS | NEAR_MISSES)
def test_any_text_is_a_source_or_refused(text: str) -> None:
    """Any text for a source is refused in one line or gives a source whose host is an IP address."""
    try:
        host, port = parse_source(text)
    except Invalid as error:
        assert str(error).isprintable()
    else:
        assert not host or family_of(host) is not None
        assert 0 <= port <= 65535


@pytest.mark.fault("host too long")
@pytest.mark.parametrize(
    "word",
    ["1.", "a.", "a-", "0x", "9", ":", "[", "[::1]", "-", " ", "tls:", "unix:", "\uff11"],
)
def test_huge_words(word: str) -> None:
    """Words of 100,000 characters are refused quickly, without catastrophic backtracking."""
    huge = word * (100_000 // len(word))
    for role in ROLES:
        for words in ([huge + "!"], [huge + "!", "80"], ["localhost", huge]):
            refusal(words, role)


# -- names beyond ASCII


@pytest.mark.fault("host beyond ASCII")
@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("B\u00dccher.Example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),  # decomposed, as some systems enter it
        ("fa\u00df.de", "xn--fa-hia.de"),  # fass.de in IDNA 2003
        ("\u4f8b\u3048.\u30c6\u30b9\u30c8", "xn--r8jz45g.xn--zckzah"),
    ],
)
def test_names_beyond_ascii_become_a_labels(host: str, label: str) -> None:
    """Client and server convert a name to A-labels by IDNA 2008."""
    assert take([host, "80"], "client") == (Endpoint(label, 80), [])
    assert take([f"{host}:80"], "server") == (Endpoint(label, 80), [])


# -- lists of ports


@pytest.mark.fault("range backwards", "malformed range")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the port is empty"),
        (",", "has an empty part"),
        ("1,", "has an empty part"),
        ("1,,2", "has an empty part"),
        ("1-", "is not LOW-HIGH"),
        ("-5", "port -5 is negative"),
        ("1-2-3", "is not LOW-HIGH"),
        ("1 - 2", "not a number"),
        ("3-1", "is reversed: write 1-3"),
        ("0-5", "port 0 is not between"),
        ("1-65536", "port 65536 is not between"),
        ("01-5", "leading zero"),
        ("1-http", "is not LOW-HIGH"),
        ("80,nosuchsvc", "neither a number nor a known service"),
        ("\uff11-\uff12", "not a number"),
        ("1-\u0665", "is not LOW-HIGH"),
    ],
)
def test_ports_are_refused(text: str, why: str) -> None:
    """An invalid list of ports is refused, and the message says which part is wrong."""
    with pytest.raises(Invalid) as refused:
        parse_ports(text)
    assert why in str(refused.value)


@given(st.lists(st.tuples(st.integers(1, 60) | st.integers(65500, 65535), st.integers(0, 20)), min_size=1, max_size=9))
@example([(1, 65534)] * 5000)  # as quick as a single range
def test_ranges_overlap(ranges: list[tuple[int, int]]) -> None:
    """Each port appears once, where it was first named."""
    ends = [(low, min(low + more, 65535)) for low, more in ranges]
    every = dict.fromkeys(port for low, high in dict.fromkeys(ends) for port in range(low, high + 1))
    assert parse_ports(",".join(f"{low}-{high}" for low, high in ends)) == list(every)


@given(st.text("0123456789,-h \n\u0661", max_size=12))
def test_any_text_is_ports_or_refused(text: str) -> None:
    """Any text is either refused in one line or gives ports."""
    try:
        ports = parse_ports(text)
    except Invalid as error:
        assert str(error).isprintable()
    else:
        assert ports and all(0 < port < 65536 for port in ports)


@pytest.mark.fault("name of a service for a port")
def test_services_have_ports_of_their_protocol() -> None:
    """The name of a service is looked up for the given protocol."""
    assert parse_ports("tftp", "udp") == [69]
    with pytest.raises(Invalid):
        parse_ports("tftp", "tcp")
