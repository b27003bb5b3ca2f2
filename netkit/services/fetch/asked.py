"""What to fetch, the HTTP request for it, and the request that follows a redirect."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from netkit import __version__
from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure, Invalid
from netkit.protocols.http import Head, Request, names, told
from netkit.protocols.proxy import Proxy
from netkit.protocols.url import Url, follow
from netkit.services.fetch.data_file import DataFile

_MOVED, _SAME = (301, 302, 303, 307, 308), (307, 308)
# Of the given fields only these are sent after a redirect to another origin: any other might be a secret.
_HARMLESS = (
    *("accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "content-encoding"),
    *("content-language", "content-type", "if-match", "if-modified-since", "if-none-match", "if-range"),
    *("if-unmodified-since", "pragma", "range", "user-agent"),
)
_OURS = ("content-length", "transfer-encoding", "upgrade", "te", "trailer")
_LEFT_OUT = ("user-agent", "accept", "accept-encoding", "content-type")  # fields of ours that may be left out
_REPEATABLE = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")  # idempotent methods: RFC 9110, section 9.2.2


_PASSWORD = "NETKIT_PASSWORD"


class Asked(NamedTuple):
    """What to fetch, and what to do with the response.

    ``fields`` are added to ours, or replace them; one with an empty value removes ours. ``fail`` makes a status of 400
    or more a failure. ``include`` writes the head before the body. ``compressed`` accepts a compressed body and decodes
    it. ``max_size`` is in bytes, ``idle_timeout`` in seconds.
    """

    method: str = "GET"
    fields: tuple[tuple[str, bytes], ...] = ()
    body: bytes | DataFile | None = None
    fail: bool = False
    include: bool = False
    compressed: bool = False
    max_redirects: int = 10
    max_size: int | None = None
    idle_timeout: float | None = None
    url: Url = Url("http", Endpoint(), "/")

    @property
    def is_repeatable(self) -> bool:
        """Whether the request may be sent again: the method is idempotent, and the body can be read again."""
        again = not isinstance(self.body, DataFile) or self.body.is_repeatable
        return self.method in _REPEATABLE and again

    def request(self, proxy: Proxy | None, conditions: Sequence[tuple[str, bytes]] = ()) -> Request:
        """Make the request, for ``proxy`` if there is one, else for the server. Raises Failure READ for the body."""
        authorization = self.url.authorization
        codings = "identity"
        if self.compressed:
            from netkit.protocols.content_coding import ACCEPTED as codings
        ours = {
            "Host": self.url.authority,
            "User-Agent": f"netkit/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": codings,
            **({"Authorization": authorization} if authorization else {}),
            **({"Proxy-Authorization": proxy.authorization} if proxy and proxy.authorization else {}),
            **({"Content-Type": "application/x-www-form-urlencoded"} if isinstance(self.body, bytes) else {}),
        }
        fields = told(ours, (*self.fields, *conditions))
        target = self.url.target if proxy is None else str(self.url)  # RFC 9112, section 3.2.2
        return Request(self.method, target, fields, self.body.begin() if isinstance(self.body, DataFile) else self.body)

    def redirected(self, head: Head) -> "Asked | None":
        """The request that follows a redirect (RFC 9110, section 15.4); None if the response is no redirect.

        Raises Failure PROTOCOL for a malformed Location, and for a body that would go from https to http.
        """
        location = head.get("location")
        if head.status not in _MOVED or location is None:
            return None
        try:
            url = follow(self.url, location.encode("latin-1"))
        except Invalid as error:
            raise Failure(Exit.PROTOCOL, f"follow the redirect of {self.url}", str(error)) from error
        if self.body is not None and head.status in _SAME and (self.url.scheme, url.scheme) == ("https", "http"):
            reason = "it would take the body from https to http"
            raise Failure(Exit.PROTOCOL, f"follow the redirect of {self.url}", reason, detail=f"to {url}")
        same = url.origin == self.url.origin
        if same and url.userinfo is None:
            url = url._replace(userinfo=self.url.userinfo)
        method, body, fields = self.method, self.body, self.fields
        if (head.status == 303 and method != "HEAD") or (head.status in (301, 302) and method == "POST"):
            method, body = "GET", None
            fields = tuple(field for field in fields if not field[0].lower().startswith("content-"))
        if not same:
            fields = tuple(field for field in fields if field[0].lower() in _HARMLESS)
        return self._replace(url=url, method=method, fields=fields, body=body)


def login(text: str) -> tuple[str, str]:
    """Parse ``USER[:PASSWORD]``; the default password is in the environment. Raises Invalid if there is none."""
    user, colon, password = text.partition(":")
    if not colon and _PASSWORD not in os.environ:
        raise Invalid(f"--user has no password: it is {_PASSWORD} of the environment, or behind a colon, even if empty")
    return user, password if colon else os.environ[_PASSWORD]


def check_fields(fields: Sequence[tuple[str, bytes]]) -> None:
    """Raise Invalid for fields that must not be given.

    They are: fields that frame the message, a second Host, and one with an empty value that does not remove ours.
    """
    given = names(fields)
    for name in given:
        if name in _OURS:
            raise Invalid(f"field {name!r} is not to be given: it says how the message is read")
    if given.count("host") > 1:
        raise Invalid("there is one Host")
    for name, value in fields:
        if not value and name.lower() not in _LEFT_OUT:
            raise Invalid(f"field {name!r} has no value, and is none that could be left out: {', '.join(_LEFT_OUT)}")
