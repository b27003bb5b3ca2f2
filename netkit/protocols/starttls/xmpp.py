"""STARTTLS in XMPP (RFC 6120, section 5).

A stream has only elements, attributes and text: no comments, processing instructions or entity declarations (section
11.1). So regular expressions can read its tags one by one, and nothing can expand.
"""

import re
from typing import NamedTuple

from netkit.protocols.dialogue import Malformed, Names, Refused, Steps, refused
from netkit.protocols.starttls.dialogue import NOT_OFFERED

_NAMESPACE = "urn:ietf:params:xml:ns:xmpp-tls"
_HEADER = (
    "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)
_REQUEST = f"<starttls xmlns='{_NAMESPACE}'/>"
# Text, and the tag after it. Written without backtracking, as a peer's text may be long: each alternative is known by
# its first byte. No group is possessive, which Python before 3.11.5 matches wrongly (gh-106052).
_TAG = re.compile(rb"""([^<]*+)<(/?+)((?:[^<>"'/]|"[^"<]*+"|'[^'<]*+'|/(?!>))*)(/?+)>""")
_FIRST_TAG = re.compile(rb"(?:\s*+<\?xml\b[^<>]*+>|(?!\s*+<\?xml\b))" + _TAG.pattern)  # behind an XML declaration
_NAME = re.compile(r"(?:([\w.-]+):)?([\w.-]+)(?!\S)")
_ATTRIBUTE = re.compile(r"""\s([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")


class _Tag(NamedTuple):
    """A tag: the text before it, its name without prefix, that prefix, and its attributes."""

    text: str
    name: str
    prefix: str
    attributes: dict[str, str]
    opens: bool
    closes: bool


def xmpp(names: Names) -> Steps[None]:
    """Open a stream to the server's domain, and request TLS, up to ``proceed``."""
    yield _HEADER.format(_escaped(names.server)).encode()
    stream = yield from _next_tag(first=True)
    if not (stream.name == "stream" and stream.opens):
        raise Malformed(stream.name.encode("utf-8", "surrogateescape"))
    if not (yield from _offered(stream)):
        raise Refused(NOT_OFFERED)
    yield _REQUEST.encode()
    answer = yield from _next_tag()
    if answer.name != "proceed":
        raise refused("STARTTLS", (yield from _told(answer)))
    if not answer.closes:
        yield from _next_tag()


def _offered(stream: _Tag) -> Steps[bool]:
    """Read the features of a stream; return whether STARTTLS is among them."""
    features = yield from _next_tag()
    if features.name != "features":
        raise refused("the stream", (yield from _told(features)))
    found = False
    tag = features
    while not (tag.closes and tag.name == "features"):
        tag = yield from _next_tag()
        declared = {**stream.attributes, **features.attributes, **tag.attributes}
        namespace = declared.get(f"xmlns:{tag.prefix}" if tag.prefix else "xmlns")
        found = found or (tag.name == "starttls" and namespace == _NAMESPACE)
    return found


def _told(error: _Tag) -> Steps[bytes]:
    """Read an error; return the names and texts in it."""
    words = [] if error.name == "error" else [error.name]
    tag = error
    while not (tag.closes and tag.name == error.name):
        tag = yield from _next_tag()
        words += [tag.text] if tag.text else []
        words += [tag.name] if tag.opens and tag.name != "text" else []
    return " ".join(words).encode("utf-8", "surrogateescape")


def _next_tag(*, first: bool = False) -> Steps[_Tag]:
    pattern = _FIRST_TAG if first else _TAG

    def end(data: bytes) -> int:
        if first and data.lstrip()[:1] not in (b"", b"<"):
            raise Malformed(data)
        if match := pattern.match(data):
            return match.end()
        if b"<!" in data:
            raise Malformed(data)
        return 0

    unit = yield end
    match = pattern.fullmatch(unit)
    assert match is not None
    text, slash, inner, last = (part.decode("utf-8", "surrogateescape") for part in match.groups())
    if not (name := _NAME.match(inner)):
        raise Malformed(unit)
    attributes = {key: one or other for key, one, other in _ATTRIBUTE.findall(inner)}
    return _Tag(text.strip(), name[2], name[1] or "", attributes, not slash, bool(slash or last))


def _escaped(name: str) -> str:
    return name.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;")
