"""Parsing, joining and printing of http and https URLs (RFC 3986, RFC 9110 section 4.2)."""

import base64
import os
import re
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from netkit.core.address import Endpoint, check_host, family_of, parse_port, split
from netkit.core.errors import Invalid

_PORTS = {"http": 80, "https": 443}
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_LEAD = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?/*")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class Url(NamedTuple):
    """A URL. Its ``str()`` is without user and password, so that messages never show them.

    ``target`` is path and query as in a request. ``endpoint`` always has the port, also if it is the default one.
    """

    scheme: str
    endpoint: Endpoint
    target: str
    userinfo: str | None = None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def authority(self) -> str:
        """Host and port as in the Host field: without zone, and without the default port."""
        host = self.endpoint._replace(host=(self.endpoint.host or "").partition("%")[0])
        return str(host).removesuffix(f":{_PORTS[self.scheme]}")

    @property
    def origin(self) -> tuple[str, str, int]:
        """The origin to which credentials belong: scheme, host and port (RFC 6454)."""
        return self.scheme, (self.endpoint.host or "").removesuffix("."), self.endpoint.port

    @property
    def file_name(self) -> str:
        """The last segment of the path, percent-encoded; "" if the path ends with a slash."""
        return self.target.partition("?")[0].rpartition("/")[2]

    def with_user(self, user: str, password: str) -> "Url":
        """A copy with this user and password, percent-encoded."""
        return self._replace(userinfo=":".join(quote(os.fsencode(word), safe="") for word in (user, password)))

    @property
    def authorization(self) -> str | None:
        """The value of Authorization, Basic (RFC 7617); None if the URL has no user."""
        if self.userinfo is None:
            return None
        user, _, password = (unquote_to_bytes(part) for part in os.fsencode(self.userinfo).partition(b":"))
        return "Basic " + base64.b64encode(user + b":" + password).decode()


def parse(text: str) -> Url:
    """Parse a URL; raises Invalid. The fragment is dropped.

    Segments . and .. of the path are resolved, and non-ASCII characters in path and query are percent-encoded.
    """
    if _CONTROL.search(text):
        raise Invalid(f"URL {without_password(text)!r} contains a space or a control character")
    _check_slashes(text)
    match = _PARTS.fullmatch(text)
    if not match:
        raise _unreadable(text)
    scheme, authority, path, query = match[1].lower(), match[2], match[3], match[4] or ""
    if scheme not in _PORTS:
        raise Invalid(f"URL {without_password(text)!r} is of scheme {scheme}: only http and https are spoken here")
    user, at, place = authority.rpartition("@")
    try:
        endpoint = parse_place(place, _PORTS[scheme])
    except Invalid as error:
        reason = "in user and password / is %2F, ? is %3F and # is %23" if "@" in text and not at else str(error)
        raise Invalid(f"URL {without_password(text)!r}: {reason}") from None
    return Url(scheme, endpoint, _encoded(_without_dots(path or "/") + query), user if at else None)


def follow(base: Url, location: bytes) -> Url:
    """Resolve the value of a Location field against ``base`` (RFC 3986, section 5.2). Raises Invalid.

    The host of ``base`` keeps its zone, which a server does not know: it is not in the Host field.
    """
    text = location.decode("utf-8", "surrogateescape").replace(" ", "%20")
    if _CONTROL.search(text):
        raise Invalid(f"URL {without_password(text)!r} contains a control character")
    _check_slashes(text)
    reference, _, _ = text.partition("#")
    bare, zone = (base.endpoint.host or "").partition("%")[::2]
    if zone:
        same = rf"((?:[^/?:]+:)?//(?:[^/?]*@)?\[{re.escape(bare)})\]"
        if match := re.match(same, reference, re.IGNORECASE):
            reference = f"{match[1]}%25{zone}{reference[match.end() - 1 :]}"
    if _SCHEME.match(reference):
        url = parse(reference)
    elif reference.startswith("//"):
        url = parse(f"{base.scheme}:{reference}")
    else:
        path, mark, query = reference.partition("?")
        old, old_mark, old_query = base.target.partition("?")
        if not path:
            path, mark, query = old, *((mark, query) if mark else (old_mark, old_query))
        elif not path.startswith("/"):
            path = old[: old.rindex("/") + 1] + path
        url = base._replace(target=_encoded(path + mark + query), userinfo=None)
    path, mark, query = url.target.partition("?")
    return url._replace(target=_without_dots(path) + mark + query)


def parse_resolved(text: str) -> tuple[Endpoint, Endpoint]:
    """Parse ``HOST:PORT:ADDR``, as curl's --resolve: the endpoint in URLs, and where to connect. Raises Invalid."""
    host, first, rest = text.partition(":")
    port, second, address = rest.partition(":")
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if not (first and second):
        raise Invalid(f"{text!r} is not HOST:PORT:ADDR, such as example.org:443:192.0.2.7")
    if family_of(bare) is None:
        raise Invalid(f"{address!r} is not an IP address")
    check_host(bare)  # a link-local one needs a zone
    named = Endpoint(check_host(host).lower(), parse_port(port))
    return named, named._replace(host=bare)


def _encoded(target: str) -> str:
    """Percent-encode non-ASCII characters of path and query (RFC 3987, section 3.1), and bytes that are no UTF-8."""
    return quote(target.encode("utf-8", "surrogateescape"), safe=_PRINTABLE)


def _check_slashes(text: str) -> None:
    """Raise Invalid for a backslash, which some parsers take for a slash."""
    if "\\" in text:
        raise Invalid(f"URL {without_password(text)!r} contains a backslash")


def _without_dots(path: str) -> str:
    """Return the path without segments . and .. (RFC 3986, section 5.2.4)."""
    found: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del found[-1:]
        elif segment != ".":
            found.append(segment)
    return "/" + "/".join(found) + ("/" if found and segments[-1] in (".", "..") else "")


def parse_place(place: str, default_port: int) -> Endpoint:
    """Parse ``HOST[:PORT]`` of a URL, without userinfo. Raises Invalid."""
    bare, colon, _ = place.rpartition(":")
    if colon and bare.count(":") and not place.startswith("["):
        raise Invalid("an IPv6 address has brackets around it: http://[::1]:8080/")
    host, port = split(place.replace("%25", "%"))  # a zone: RFC 6874
    if port and not (port.isascii() and port.isdigit()):
        raise Invalid(f"port {port!r} is not a number")
    name, percent, zone = check_host(host).partition("%")
    return Endpoint(name.lower() + percent + zone, parse_port(port) if port else default_port)


def _unreadable(text: str) -> Invalid:
    """What is wrong with a text that has not the form of a URL."""
    if not text:
        return Invalid("the URL is empty")
    shown = without_password(text)
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in _PORTS:
        return Invalid(f"URL {shown!r} has no host: write {scheme.lower()}://HOST/PATH")
    if _SCHEME.match(text) and not rest[:1].isdigit():
        hint = "--unix-socket PATH http://localhost/ asks a socket" if scheme == "unix" else ""
        return Invalid(f"URL {shown!r} is of scheme {scheme}: only http and https are spoken here", hint=hint)
    return Invalid(f"URL {shown!r} has no scheme: write http://{shown.lstrip('/')}")


def without_password(text: str) -> str:
    """A URL as it was typed, with ``...`` for all between its slashes and its last @, which may be a password."""
    head, at, rest = text.rpartition("@")
    lead = _LEAD.match(head)
    return f"{lead[0]}...@{rest}" if at and lead else text
