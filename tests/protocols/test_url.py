"""URLs: how they are parsed, which are refused and with which message, and where a redirect leads."""

import base64
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netkit.core.address import Endpoint
from netkit.core.errors import Invalid
from netkit.protocols.url import Url, follow, parse
from tests.support.properties import examples

PROPERTY = examples(200)
ARGUMENTS = st.text() | st.binary().map(os.fsdecode)
PIECES = [
    *("http:", "https:", "ftp:", "/", "//", "@", ":", "[", "]", "%", "%25", "?", "#", ";", ".", ".."),
    *("h", "::1", "127.0.0.1", "80", "080", "a.b", "user", "fe80::1", "eth0"),
    *("\\", " ", "\0", "\x1b", "\xe9", "\u202e", "\udcff", "\uff18"),
]
NEAR = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def refusal(text: str) -> str:
    """Return the message with which a URL is refused."""
    with pytest.raises(Invalid) as refused:
        parse(text)
    return str(refused.value)


# -- reading


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h", Url("http", Endpoint("h", 80), "/")),
        ("http://h/", Url("http", Endpoint("h", 80), "/")),
        ("https://h/", Url("https", Endpoint("h", 443), "/")),
        ("HTTP://EXAMPLE.Org/A", Url("http", Endpoint("example.org", 80), "/A")),
        ("http://h:8080/x", Url("http", Endpoint("h", 8080), "/x")),
        ("http://h:443/", Url("http", Endpoint("h", 443), "/")),
        ("http://h:/x", Url("http", Endpoint("h", 80), "/x")),
        ("http://h?a=b", Url("http", Endpoint("h", 80), "/?a=b")),
        ("http://h?", Url("http", Endpoint("h", 80), "/?")),
        ("http://h/?", Url("http", Endpoint("h", 80), "/?")),
        ("http://h#f", Url("http", Endpoint("h", 80), "/")),
        ("http://h/a#f?b", Url("http", Endpoint("h", 80), "/a")),
        ("http://h/a?b?c#d#e", Url("http", Endpoint("h", 80), "/a?b?c")),
        ("http://h//a//b", Url("http", Endpoint("h", 80), "//a//b")),
        ("http://h/a/../b;c", Url("http", Endpoint("h", 80), "/b;c")),
        ("http://h/../a/./b/..?c/../d", Url("http", Endpoint("h", 80), "/a/?c/../d")),
        ("http://h/a/..", Url("http", Endpoint("h", 80), "/")),
        ("http://h/%2e%2e/a/...", Url("http", Endpoint("h", 80), "/%2e%2e/a/...")),
        ("http://h/%41%zz%", Url("http", Endpoint("h", 80), "/%41%zz%")),
        ("http://h/\xe9?q=\xe9", Url("http", Endpoint("h", 80), "/%C3%A9?q=%C3%A9")),
        ("http://h/\udcff", Url("http", Endpoint("h", 80), "/%FF")),
        ("http://h/\u2028\x85\xa0", Url("http", Endpoint("h", 80), "/%E2%80%A8%C2%85%C2%A0")),
        ("http://h/<\"{|}^`'>", Url("http", Endpoint("h", 80), "/<\"{|}^`'>")),
        ("http://h./", Url("http", Endpoint("h.", 80), "/")),
        ("http://b\xfccher.example/", Url("http", Endpoint("xn--bcher-kva.example", 80), "/")),
        ("http://127.0.0.1:1/", Url("http", Endpoint("127.0.0.1", 1), "/")),
        ("http://[::1]/", Url("http", Endpoint("::1", 80), "/")),
        ("http://[::1]:65535/", Url("http", Endpoint("::1", 65535), "/")),
        ("http://[::ffff:1.2.3.4]/", Url("http", Endpoint("::ffff:1.2.3.4", 80), "/")),
        ("http://[fe80::1%25eth0]/", Url("http", Endpoint("fe80::1%eth0", 80), "/")),
        ("http://[fe80::1%eth0]/", Url("http", Endpoint("fe80::1%eth0", 80), "/")),
        ("http://user@h/", Url("http", Endpoint("h", 80), "/", "user")),
        ("http://user:a:b@h:1/", Url("http", Endpoint("h", 1), "/", "user:a:b")),
        ("http://user:p@ss@h/", Url("http", Endpoint("h", 80), "/", "user:p@ss")),
        ("http://h:80@other:81/", Url("http", Endpoint("other", 81), "/", "h:80")),
        ("http://h%2f@other/", Url("http", Endpoint("other", 80), "/", "h%2f")),
        ("http://@h/", Url("http", Endpoint("h", 80), "/", "")),
        ("http://h/@other", Url("http", Endpoint("h", 80), "/@other")),
        ("http://h?@other/x", Url("http", Endpoint("h", 80), "/?@other/x")),
        ("http://h#@other/", Url("http", Endpoint("h", 80), "/")),
    ],
)
def test_url(text: str, url: Url) -> None:
    """The fragment is dropped, and characters beyond ASCII are percent-encoded."""
    assert parse(text) == url


@pytest.mark.parametrize(
    ("text", "authority", "shown"),
    [
        ("http://h:80/x", "h", "http://h/x"),
        ("https://h:443/x", "h", "https://h/x"),
        ("http://h:443/x", "h:443", "http://h:443/x"),
        ("https://h:80/", "h:80", "https://h:80/"),
        ("http://h:8080/", "h:8080", "http://h:8080/"),
        ("https://h:8443/", "h:8443", "https://h:8443/"),
        ("http://[::1]/", "[::1]", "http://[::1]/"),
        ("http://[2001:db8::80]:80/", "[2001:db8::80]", "http://[2001:db8::80]/"),
        ("https://[2001:db8::443]:80/", "[2001:db8::443]:80", "https://[2001:db8::443]:80/"),
        ("http://[fe80::1%25eth0]/", "[fe80::1]", None),
        ("http://user:secret@h/", "h", "http://h/"),
    ],
)
def test_url_is_said(text: str, authority: str, shown: str | None) -> None:
    """Host has a port unless it is the scheme's default, and no zone; the URL is shown without user and password."""
    url = parse(text)
    assert url.authority == authority
    assert shown is None or str(url) == shown


@pytest.mark.parametrize(
    ("userinfo", "pair"),
    [
        ("user:secret", b"user:secret"),
        ("user", b"user:"),
        ("user:", b"user:"),
        (":secret", b":secret"),
        ("user:a:b@c", b"user:a:b@c"),
        ("us%20er:%70%2F%3a%00", b"us er:p/:\x00"),
        ("\xfcser:\xe9", "\xfcser:\xe9".encode()),
        ("us\udcffer:s\udcfe", b"us\xffer:s\xfe"),
        ("", b":"),
    ],
)
def test_user_and_password(userinfo: str, pair: bytes) -> None:
    """User and password are sent as Basic, percent-decoded, and may be any bytes."""
    authorization = parse(f"http://{userinfo}@h/").authorization
    assert authorization is not None
    assert base64.b64decode(authorization.removeprefix("Basic ")) == pair
    assert parse("http://h/").authorization is None


# -- refusing


@pytest.mark.fault("injection into a request")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("h", "write http://h"),
        ("h:80/x", "write http://h:80/x"),
        ("localhost:8080", "write http://localhost:8080"),
        ("//h/", "has no scheme"),
        ("/x", "has no scheme"),
        ("http:", "has no host"),
        ("http:h", "has no host"),
        ("http:/h", "has no host"),
        ("http://", "host is empty"),
        ("http:///x", "host is empty"),
        ("http://:80/", "host is empty"),
        ("http://u:p@/", "host is empty"),
        ("ftp://h/", "scheme ftp: only http and https"),
        ("file:///etc/passwd", "scheme file"),
        ("javascript:alert(1)", "scheme javascript"),
        ("unix:/run/x", "scheme unix"),
        ("tls:h:443", "scheme tls"),
        (" http://h/", "space or a control"),
        ("http://h/ ", "space or a control"),
        ("http://h/a b", "space or a control"),
        ("http://h/\r\nX: y", "space or a control"),
        ("http://h/\0", "space or a control"),
        ("http://h\t/", "space or a control"),
        ("http://h/\x7f", "space or a control"),
        ("http://h\\@other/", "backslash"),
        ("http://h/\\x", "backslash"),
        ("http://h:080/", "leading zero"),
        ("http://h:+80/", "is not a number"),
        ("http://h:\uff18\uff10/", "is not a number"),
        ("http://h:0/", "between 1 and 65535"),
        ("http://h:" + "9" * 5000 + "/", "between 1 and 65535"),
        ("http://h:http/", "is not a number"),
        ("http://h:80:90/", "brackets"),
        ("http://::1/", "brackets"),
        ("http://::1]/", "brackets"),
        ("http://[::1/", "no closing bracket"),
        ("http://[::1%25]/", "empty zone"),
        ("http://[fe80::1]/", "needs a zone"),
        ("http://[fe80::1%25a/b]/", "bracket"),
        ("http://127.1/", "write 127.0.0.1"),
        ("http://a..b/", "empty label"),
        ("http://a%00b/", "not a host name"),
        ("http://a%2eb/", "not a host name"),
        ("http://\u2460.example/", "internationalized"),
        ("http://\udcff/", "internationalized"),
    ],
)
def test_url_is_refused(text: str, says: str) -> None:
    """A URL that is invalid, or not of http or https, is refused with the reason. core/test_address.py has hosts."""
    assert says in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://user:secret@h:notport/",
        "http://user:secret@h /",
        "http://user:secret@/x",
        "http://user:secret@127.1/",
        "http://user:sec ret@h/",
        "http://user:secret@h\\x/",
        "http://user:secret@",
        "//user:secret@h/",
        "user:secret@h/",
        "http:user:secret@h/",
        "ftp://user:secret@h/",
        "http://user:secret/x@h/",
        "http://user:x/secret@h/",
        "http://user:secret//x y@h/",
        "http://user:secret?x@h/",
        "http://user:x?secret@h/",
        "http://user:secret#x@h/",
        "http://user:x#secret@h/",
        "http:/user:secret@h/",
        "http:///user:secret@h/",
        "ftp://user:secret/x@h/",
    ],
)
def test_no_password_is_told(text: str) -> None:
    """No message shows a password, even if its / ? or # is not encoded."""
    assert "sec" not in refusal(text)
    with pytest.raises(Invalid) as refused:
        follow(parse("http://base/"), text.replace(" ", "\t").encode() + b"\x1b")
    assert "sec" not in str(refused.value)


# -- redirects

_RFC = {  # RFC 3986, section 5.4, from http://a/b/c/d;p?q
    **{"g": "/b/c/g", "./g": "/b/c/g", "g/": "/b/c/g/", "/g": "/g", "?y": "/b/c/d;p?y", "g?y": "/b/c/g?y"},
    **{"#s": "/b/c/d;p?q", "g#s": "/b/c/g", "g?y#s": "/b/c/g?y", ";x": "/b/c/;x", "g;x": "/b/c/g;x"},
    **{"g;x?y#s": "/b/c/g;x?y", "": "/b/c/d;p?q", ".": "/b/c/", "./": "/b/c/", "..": "/b/", "../": "/b/"},
    **{"../g": "/b/g", "../..": "/", "../../": "/", "../../g": "/g", "../../../g": "/g", "../../../../g": "/g"},
    **{"/./g": "/g", "/../g": "/g", "g.": "/b/c/g.", ".g": "/b/c/.g", "g..": "/b/c/g..", "..g": "/b/c/..g"},
    **{"./../g": "/b/g", "./g/.": "/b/c/g/", "g/./h": "/b/c/g/h", "g/../h": "/b/c/h", "g;x=1/./y": "/b/c/g;x=1/y"},
    **{"g;x=1/../y": "/b/c/y", "g?y/./x": "/b/c/g?y/./x", "g?y/../x": "/b/c/g?y/../x", "g#s/../x": "/b/c/g"},
    # parts that are empty
    **{"?": "/b/c/d;p?", "/g?": "/g?", "/;": "/;", "g;": "/b/c/g;", "x//y": "/b/c/x//y", "/x//y": "/x//y"},
}


@pytest.mark.parametrize(("location", "target"), _RFC.items())
def test_relative_redirect(location: str, target: str) -> None:
    """A relative Location is resolved as in RFC 3986, section 5."""
    base = parse("http://a/b/c/d;p?q")
    assert follow(base, location.encode()) == base._replace(target=target)


@pytest.mark.parametrize(
    ("base", "location", "url"),
    [
        ("http://a/b", b"//g", "http://g/"),
        ("https://a/b", b"//g:81/x", "https://g:81/x"),
        ("http://a/b", b"https://a/", "https://a/"),
        ("https://a/b", b"http://a:443/", "http://a:443/"),
        ("http://a/b", b"HTTP://G/x", "http://g/x"),
        ("http://a/b", b"http://g?x", "http://g/?x"),
        ("http://a:81/b", b"/x", "http://a:81/x"),
        ("http://[::1]:81/b", b"c", "http://[::1]:81/c"),
        ("http://a//b/c", b"d", "http://a//b/d"),
        ("http://a/b", b"/x y  z", "http://a/x%20y%20%20z"),
        ("http://a/b", b"/\xc3\xa9\xff", "http://a/%C3%A9%FF"),
        ("http://a/b", b"/%C3%A9%zz", "http://a/%C3%A9%zz"),
        ("http://a/b", b"/x#\xff", "http://a/x"),
    ],
)
def test_redirect(base: str, location: bytes, url: str) -> None:
    """A Location may have another scheme, host or port; spaces and bytes beyond ASCII are percent-encoded."""
    assert str(follow(parse(base), location)) == url


def test_a_zone_is_named_as_it_is() -> None:
    """The case of an interface's name is kept, unlike that of a host."""
    assert parse("http://[FE80::1%25enP2p1s0]/").endpoint.host == "fe80::1%enP2p1s0"


@pytest.mark.parametrize(
    ("location", "host", "port"),
    [
        (b"/y", "fe80::1%eth0", 81),
        (b"http://[fe80::1]:81/y", "fe80::1%eth0", 81),
        (b"https://[FE80::1]/y", "fe80::1%eth0", 443),
        (b"//a:b@[fe80::1]", "fe80::1%eth0", 80),
        (b"http://[fe80::1%25eth1]/y", "fe80::1%eth1", 80),
        (b"http://[::1]/y?//[fe80::1]", "::1", 80),
    ],
)
def test_redirect_keeps_the_zone(location: bytes, host: str, port: int) -> None:
    """A redirect to the same link-local host keeps the zone, which no server knows."""
    assert follow(parse("http://[fe80::1%25eth0]:81/x"), location).endpoint == Endpoint(host, port)


@pytest.mark.parametrize(
    "location",
    [
        *(b"file:///etc/passwd", b"ftp://h/", b"javascript:alert(1)", b"gopher://h:70/", b"data:,x", b"unix:/run/x"),
        *(b"http://", b"https:", b"https:/x", b"//", b"http://h:8x/", b"http://[::1", b"http://[x]/", b"http://a b/"),
        *(b"\\\\h\\x", b"/\\h", b"http:\\\\h", b"http://h\\@g/", b"/\r\nX: y", b"/\0", b"\x1b[31m", b"/\x7f"),
        *(b"javascript:1", b"tel:5", b"file:0/x", b"localhost:8080/x", b"x:1", b"http:80", b"https:1/x"),
        *(b"http://127.1/", b"http://2130706433/", b"http://b\xfccher.example/", b"//\xe2\x91\xa0/"),
    ],
)
def test_redirect_is_refused(location: bytes) -> None:
    """Only URLs of http or https are followed, and the message is printable."""
    with pytest.raises(Invalid) as refused:
        follow(parse("http://base/dir/x?q"), location)
    assert str(refused.value).isprintable()


# -- properties


@PROPERTY
@given(NEAR | ARGUMENTS)
@example("http://us\udcffer@h/")
def test_any_text_is_a_url_or_refused(text: str) -> None:
    """Any text is refused, or gives a URL that can be sent and whose text parses back."""
    try:
        url = parse(text)
    except Invalid:
        return
    assert url.target.startswith("/")
    for sent in (url.target, url.authority, url.authorization or "-"):
        assert sent.isascii()
        assert sent.isprintable()
    assert " " not in url.target
    if "%" not in (url.endpoint.host or ""):
        assert parse(str(url)) == url._replace(userinfo=None)


@PROPERTY
@given(st.binary() | NEAR.map(os.fsencode))
@example(b"http://us\xffer@h/")
def test_any_location_is_a_url_or_refused(location: bytes) -> None:
    """Any Location is refused, or gives a URL without our user and password."""
    base = parse("http://user:secret@h:81/a/b?c")
    try:
        url = follow(base, location)
    except Invalid as refused:
        assert "secret" not in str(refused)
        return
    assert url.scheme in ("http", "https")
    assert parse(str(url)) == url._replace(userinfo=None)
    assert url.userinfo != base.userinfo


@PROPERTY
@given(st.lists(st.sampled_from(["a", "", ".", "..", "b;c", "%2e"]), max_size=8))
def test_paths_go_nowhere_above_the_root(segments: list[str]) -> None:
    """Dot segments of a relative redirect are removed, and never lead above the root."""
    target = follow(parse("http://h/a/b"), b"/x/" + "/".join(segments).encode()).target
    assert target.startswith("/")
    assert not {".", ".."} & set(target.split("/"))


def test_origins() -> None:
    """An origin is scheme, host and port, independent of their spelling."""
    same = ["http://h/", "http://H:80/x", "http://u:p@h./", "http://h:"]
    assert len({parse(text).origin for text in same}) == 1
    others = [
        "http://h/",
        "https://h/",
        "http://h:81/",
        "https://h:80/",
        "http://g/",
        "http://127.0.0.1/",
        "http://[::1]/",
    ]
    assert len({parse(text).origin for text in others}) == len(others)
