"""URLs of http and https: parse, join, print (RFC 3986, RFC 9110 section 4.2). Pure: nothing is looked up."""

import base64
import os
import re
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes, urljoin

from netkit.core.address import Endpoint, check_host, parse_port, split
from netkit.core.errors import Invalid

_PORTS = {"http": 80, "https": 443}
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?![0-9])")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


class Url(NamedTuple):
    """What to ask whom. ``str()`` of it is the URL without user and password, so that none of them is ever told.

    ``target`` is path and query as the request has them. ``endpoint`` has the port, whether the URL named it or not.
    """

    scheme: str
    endpoint: Endpoint
    target: str
    userinfo: str | None = None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def authority(self) -> str:
        """Host and port as the Host field has them: without a zone, and without the scheme's own port."""
        host = self.endpoint._replace(host=(self.endpoint.host or "").partition("%")[0])
        return str(host).removesuffix(f":{_PORTS[self.scheme]}")

    @property
    def origin(self) -> tuple[str, str, int]:
        """Whom credentials are for: scheme, host and port (RFC 6454)."""
        return self.scheme, (self.endpoint.host or "").lower().removesuffix("."), self.endpoint.port

    @property
    def authorization(self) -> str | None:
        """The field that says user and password, as Basic (RFC 7617); None if the URL has none."""
        if self.userinfo is None:
            return None
        user, _, password = self.userinfo.partition(":")
        return "Basic " + base64.b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password)).decode()


def parse(text: str) -> Url:
    """Read a URL; raise Invalid. What is not ASCII in path and query is encoded, and the fragment is dropped."""
    if _CONTROL.search(text):
        raise Invalid(f"URL {_shown(text)!r} contains a space or a control character")
    match = _PARTS.fullmatch(text)
    if not match:
        return _unreadable(text)
    scheme, authority, path, query = match[1].lower(), match[2], match[3], match[4] or ""
    if scheme not in _PORTS:
        raise Invalid(f"URL {_shown(text)!r} is of scheme {scheme}: only http and https are spoken here")
    user, at, place = authority.rpartition("@")
    try:
        endpoint = _endpoint(place, scheme)
    except Invalid as error:
        raise Invalid(f"URL {_shown(text)!r}: {error}") from error
    if "\\" in text:
        raise Invalid(f"URL {_shown(text)!r} contains a backslash")
    return Url(scheme, endpoint, quote(os.fsencode((path or "/") + query), safe=_PRINTABLE), user if at else None)


def follow(base: Url, location: bytes) -> Url:
    """Return where a Location field leads from ``base``; raise Invalid. Spaces in it are encoded, as browsers do."""
    text = quote(location, safe=_PRINTABLE + " ").replace(" ", "%20")
    if any(byte < 0x20 or byte == 0x7F for byte in location):
        raise Invalid(f"URL {_shown(text)!r} contains a control character")
    try:
        joined = urljoin(str(base), text)
    except ValueError as error:
        raise Invalid(f"URL {_shown(text)!r} is malformed: {str(error).lower()}") from error
    return parse(joined)


def _endpoint(place: str, scheme: str) -> Endpoint:
    bare, colon, _ = place.rpartition(":")
    if colon and bare.count(":") and not place.startswith("["):
        raise Invalid("an IPv6 address has brackets around it: http://[::1]:8080/")
    host, port = split(place.replace("%25", "%"))  # a zone: RFC 6874
    if port and not (port.isascii() and port.isdigit()):
        raise Invalid(f"port {port!r} is not a number")
    return Endpoint(check_host(host).lower(), parse_port(port) if port else _PORTS[scheme])


def _unreadable(text: str) -> Url:
    if not text:
        raise Invalid("the URL is empty")
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() in _PORTS:
        raise Invalid(f"URL {_shown(text)!r} has no host: write {scheme[1].lower()}://HOST/PATH")
    if scheme:
        raise Invalid(f"URL {_shown(text)!r} is of scheme {scheme[1]}: only http and https are spoken here")
    raise Invalid(f"URL {_shown(text)!r} has no scheme: write http://{_shown(text)}")


def _shown(text: str) -> str:
    """Return the text without what stands before an @, which may be a password."""
    head, slashes, rest = text.partition("//") if "//" in text else ("", "", text)
    authority, slash, path = rest.partition("/")
    return head + slashes + authority.rpartition("@")[2] + slash + path
