"""URLs of proxies, the targets that a proxy can be asked for, and proxies from the environment."""

import pytest

from netkit.core.address import Endpoint
from netkit.core.errors import Invalid
from netkit.protocols import url as urls
from netkit.protocols.proxy import Environment, Proxy, parse, read_environment

SECRET = "h%75nter2"


@pytest.mark.parametrize(
    ("text", "proxy", "shown"),
    [
        ("socks5h://p", Proxy("socks5h", Endpoint("p", 1080)), "socks5h://p:1080"),
        ("SOCKS5://P.Example:9", Proxy("socks5", Endpoint("p.example", 9)), "socks5://p.example:9"),
        ("socks4://me@10.0.0.1", Proxy("socks4", Endpoint("10.0.0.1", 1080), b"me"), "socks4://10.0.0.1:1080"),
        ("socks4a://[::1]:1", Proxy("socks4a", Endpoint("::1", 1)), "socks4a://[::1]:1"),
        ("http://p/", Proxy("http", Endpoint("p", 8080)), "http://p:8080"),
        ("https://a:b@p", Proxy("https", Endpoint("p", 443), b"a", b"b"), "https://p:443"),
        (
            "socks5://a%40b:c%3A%2f%FF:d@p",
            Proxy("socks5", Endpoint("p", 1080), b"a@b", b"c:/\xff:d"),
            "socks5://p:1080",
        ),
        ("http://:b@p", Proxy("http", Endpoint("p", 8080), b"", b"b"), "http://p:8080"),
        ("http://a:@p", Proxy("http", Endpoint("p", 8080), b"a"), "http://p:8080"),
        ("http://fe80::1%25lo", None, "brackets around it"),
        ("http://[fe80::1%25lo]:80", Proxy("http", Endpoint("fe80::1%lo", 80)), "http://[fe80::1%lo]:80"),
    ],
)
def test_what_a_url_means(text: str, proxy: Proxy | None, shown: str) -> None:
    """Ports have defaults, user and password are decoded, and neither is shown."""
    if proxy is None:
        with pytest.raises(Invalid, match=shown):
            parse(text)
        return
    assert parse(text) == proxy
    assert (str(parse(text)), repr(parse(text))) == (shown, shown)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the URL of the proxy is empty"),
        ("p:8080", "proxy 'p:8080' has no scheme: write socks5h://p:8080 or http://p:8080"),
        (f"me:{SECRET}@p:80", "has no scheme: write socks5h://"),
        ("socks://p", "proxy 'socks://p' is of scheme socks: there are socks4, socks4a, socks5, socks5h, http, https"),
        (f"ftp://me:{SECRET}@p", "proxy 'ftp://...@p' is of scheme ftp: "),
        (f"http://me:{SECRET}@", "proxy 'http://...@': the host is empty"),
        (f"http://me:{SECRET}@p:0", "proxy 'http://...@p:0': port 0 is not between 1 and 65535"),
        (f"http://me:{SECRET}@127.1", "proxy 'http://...@127.1': host '127.1' is a legacy spelling"),
        (f"http://me:{SECRET}/x@p", "proxy 'http://...@p': in user and password / is %2F"),
        ("http://p/path", "proxy 'http://p/path': behind host and port is nothing"),
        ("http://p?x", "behind host and port is nothing"),
        (f"http://me:{SECRET} @p", "proxy 'http://...@p' contains a space or a control character"),
        (f"socks4://me:{SECRET}@p", "proxy socks4://p:1080: SOCKS4 knows users, and no passwords"),
        ("socks4a://a%00b@p", "proxy socks4a://p:1080: a user has no NUL byte in SOCKS4"),
        (f"socks5://:{SECRET}@p", "proxy socks5://p:1080: SOCKS5 wants a user of 1 to 255 bytes"),
        (f"socks5h://{'u' * 256}:{SECRET}@p", "SOCKS5 wants a user of 1 to 255 bytes"),
        (f"socks5h://u:{SECRET}{'x' * 249}@p", "SOCKS5 wants a user of 1 to 255 bytes"),
        (f"http://a%3Ab:{SECRET}@p", "proxy http://p:8080: a user has no colon in HTTP"),
    ],
)
def test_what_no_url_is(text: str, message: str) -> None:
    """An invalid URL is refused with a message that says what to write, and does not show a password."""
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value) and "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "target", "message"),
    [
        ("socks5h://p", Endpoint("", 80), "address ':80' is this machine: write the host"),
        ("http://p", Endpoint("fe80::1%lo", 80), "has a zone, which means nothing to a proxy"),
        ("socks4://p", Endpoint("::1", 80), "address '[::1]:80' is IPv6, which SOCKS4 does not know"),
        ("socks4a://p", Endpoint("::1", 80), "is IPv6, which SOCKS4 does not know"),
        ("socks5://p", Endpoint("::1", 80), ""),
        ("socks4://p", Endpoint("db", 80), ""),
    ],
)
def test_what_a_proxy_can_be_told(url: str, target: Endpoint, message: str) -> None:
    """A target that the protocol cannot express is refused before anything is sent."""
    if not message:
        parse(url).check(target)
        return
    with pytest.raises(Invalid) as caught:
        parse(url).check(target)
    assert message in str(caught.value)


def chosen(environ: dict[str, str], url: str) -> str:
    """The proxy for a URL, as text."""
    return str(read_environment(environ).proxy(urls.parse(url)) or "")


HTTP, HTTPS = "http://a.example/", "https://a.example/"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, HTTP, ""),
        ({"http_proxy": "http://p"}, HTTP, "http://p:8080"),
        ({"http_proxy": "p:3128"}, HTTP, "http://p:3128"),
        ({"http_proxy": "u:w@p:3128/"}, HTTP, "http://p:3128"),
        ({"http_proxy": "http://p"}, HTTPS, ""),
        ({"HTTP_PROXY": "http://p"}, HTTP, ""),
        ({"HTTPS_PROXY": "http://p"}, HTTPS, "http://p:8080"),
        ({"HTTPS_PROXY": "http://big", "https_proxy": "http://small"}, HTTPS, "http://small:8080"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://big"}, HTTPS, "http://big:8080"),
        ({"all_proxy": "socks5h://s"}, HTTP, "socks5h://s:1080"),
        ({"ALL_PROXY": "socks5h://s"}, HTTPS, "socks5h://s:1080"),
        ({"all_proxy": "Socks://s:9/"}, HTTPS, "socks4://s:9"),
        ({"ALL_PROXY": "socks5h://s", "http_proxy": "http://p"}, HTTP, "http://p:8080"),
    ],
)
def test_which_variable_counts(environ: dict[str, str], url: str, proxy: str) -> None:
    """Lower case wins over upper case and a scheme's own variable over all_proxy; HTTP_PROXY is ignored."""
    assert chosen(environ, url) == proxy


@pytest.mark.parametrize(
    ("words", "host", "direct"),
    [
        ("*", "a.example", True),
        ("a.example", "a.example", True),
        ("A.Example.", "a.example", True),
        (".example", "a.example", True),
        ("example", "a.example.", True),
        ("b.example, a.example", "a.example", True),
        ("b.example a.example", "a.example", True),
        ("xample", "a.example", False),
        ("a.example", "b.a.example", True),
        ("b.a.example", "a.example", False),
        (".", "a.example", False),
        ("*", "10.1.2.3", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("2.3", "10.1.2.3", False),
        ("::1", "[::1]", True),
        ("[::1]", "[::1]", True),
        ("fd00::/8", "[fd12::1]", True),
        ("nonsense/99", "10.1.2.3", False),
    ],
)
@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_where_no_proxy_is_used(variable: str, words: str, host: str, direct: bool) -> None:
    """no_proxy takes hosts, domains with their subdomains, and networks."""
    assert chosen({"http_proxy": "p", variable: words}, f"http://{host}/") == ("" if direct else "http://p:8080")


def test_the_variable_that_is_wrong_is_named() -> None:
    """The message names the variable, and does not show the password."""
    with pytest.raises(Invalid, match=r"^https_proxy in the environment: proxy 'ftp://\.\.\.@p' is of scheme ftp"):
        read_environment({"https_proxy": f"ftp://me:{SECRET}@p"})
    assert read_environment({}) == Environment()
