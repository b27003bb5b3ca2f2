"""Parsing of X.509 certificates (RFC 5280) for display: subject, issuer, names, dates, fingerprint.

It parses DER (X.690) by itself, as the ssl module parses only certificates that it has verified; of others it has only
the bytes. Nothing is verified here. ``read`` never raises: what cannot be parsed is left out.
"""

import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

_MAX_IDENTIFIER = 128  # bytes
_MALFORMED = (ValueError, IndexError)
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
# Tags in a TBSCertificate and an AuthorityKeyIdentifier, and those of GeneralName: RFC 5280, sections 4.1, 4.2.1.1 and
# 4.2.1.6.
_VERSION, _EXTENSIONS, _AUTHORITY_ISSUER = 0xA0, 0xA3, 0xA1
_EMAIL, _DNS, _DIRECTORY, _URI, _ADDRESS = 0x81, 0x82, 0xA4, 0x86, 0x87
_ALTERNATIVE_NAMES, _AUTHORITY_KEY, _AUTHORITY_ACCESS = "2.5.29.17", "2.5.29.35", "1.3.6.1.5.5.7.1.1"
_CA_ISSUERS = "1.3.6.1.5.5.7.48.2"
_COMMON_NAME = "2.5.4.3"
# The table of RFC 4514, section 3, and OpenSSL's names of some attributes that are not in it.
_ATTRIBUTES = {
    _COMMON_NAME: "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.12": "title",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.42": "GN",
    "2.5.4.97": "organizationIdentifier",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_CODECS = {
    0x0C: "utf-8",  # UTF8String
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, in practice
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
_SEPARATORS = '"+,;<>\\'
_SPECIAL = re.compile(f"[^ -~]|[{re.escape(_SEPARATORS)}]")  # what may have to be escaped
_UTC_FORM = re.compile(rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")
_GENERALIZED_FORM = re.compile(rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")


class Certificate(NamedTuple):
    """A certificate: its bytes, ``der``, and what could be parsed of them.

    ``subject`` and ``issuer`` are in the form of RFC 4514; ``issued_by`` is a short form of the issuer. Alternative
    names are hosts, addresses and the like. ``serial`` is in hex. ``grandparent`` is the issuer of the issuer's own
    certificate, if this one names it. ``published`` is whether it has a URL for the issuer's certificate.
    """

    der: bytes
    subject: str = ""
    issuer: str = ""
    issued_by: str = ""
    common_name: str = ""
    alternative_names: tuple[str, ...] = ()
    serial: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    grandparent: str = ""
    published: bool = False

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of ``der``, in the form that ``--fingerprint`` takes."""
        import hashlib  # with its algorithms: 2 ms, and most certificates are trusted by their names

        return f"sha256:{hashlib.sha256(self.der).hexdigest()}"

    @property
    def names(self) -> tuple[str, ...]:
        """The alternative names, or else the common name, if any."""
        return self.alternative_names or ((self.common_name,) if self.common_name else ())

    @property
    def label(self) -> str:
        """A short name of the certificate: its first name, or else its subject."""
        return self.names[0] if self.names else self.subject

    @property
    def self_issued(self) -> bool:
        return self.subject == self.issuer


class _Value(NamedTuple):
    """A value in DER: its tag, its content, and both with the length between."""

    tag: int
    content: bytes
    whole: bytes

    def parts(self) -> "list[_Value]":
        """The values in its content. Raises ValueError if that is not DER."""
        return list(_values(self.content))


def read(der: bytes) -> Certificate:
    """Parse a certificate. Fields that cannot be parsed keep their defaults."""
    found = Certificate(der)
    try:
        [whole] = _values(der)
        to_be_signed = whole.parts()[0].parts()
        if to_be_signed[0].tag == _VERSION:
            del to_be_signed[0]
        serial, _, issuer, validity, subject, _, *rest = to_be_signed
        begin, end = validity.parts()
        found = Certificate(
            der,
            subject=_name(subject),
            issuer=_name(issuer),
            issued_by=_common_name(issuer) or _name(issuer),
            common_name=_common_name(subject),
            serial=_hex(serial.content),
            not_before=_moment(begin),
            not_after=_moment(end),
        )
        for part in rest:
            if part.tag == _EXTENSIONS:
                for extension in part.parts()[0].parts():
                    found = _with_extension(found, extension)
    except _MALFORMED:
        pass
    return found


def _with_extension(found: Certificate, extension: _Value) -> Certificate:
    try:
        kind, *_, text = extension.parts()
        [value] = _values(text.content)
        parts = value.parts()
        name = _identifier(kind)
        if name == _ALTERNATIVE_NAMES:
            return found._replace(alternative_names=tuple(filter(None, map(_alternative, parts))))
        if name == _AUTHORITY_KEY:
            issuers = [each for part in parts if part.tag == _AUTHORITY_ISSUER for each in part.parts()]
            return found._replace(grandparent=next(filter(None, map(_alternative, issuers)), ""))
        if name == _AUTHORITY_ACCESS:
            return found._replace(published=any(_identifier(part.parts()[0]) == _CA_ISSUERS for part in parts))
    except _MALFORMED:
        pass
    return found


def _alternative(name: _Value) -> str | None:
    """A GeneralName as text; None for other types than DNS name, address, mail address, URI and directory name."""
    if name.tag in (_DNS, _EMAIL, _URI):
        return name.content.decode("ascii", "backslashreplace")
    if name.tag == _ADDRESS and len(name.content) in (4, 16):
        return socket.inet_ntop(socket.AF_INET if len(name.content) == 4 else socket.AF_INET6, name.content)
    return _name(name.parts()[0]) if name.tag == _DIRECTORY else None


def _name(value: _Value) -> str:
    """A distinguished name as RFC 4514 writes it: the last part first."""
    parts = ("+".join(map(_attribute, reversed(relative.parts()))) for relative in reversed(value.parts()))
    return ",".join(parts)


def _attribute(value: _Value) -> str:
    kind, content = value.parts()
    name = _identifier(kind)
    try:
        text = _SPECIAL.sub(_escaped, _text(content, "surrogateescape")) if name in _ATTRIBUTES else None
    except ValueError:
        text = None
    if text is None:
        return f"{_ATTRIBUTES.get(name, name)}=#{content.whole.hex().upper()}"
    if text.startswith(("#", " ")):
        text = "\\" + text
    if text.endswith(" ") and text != "\\ ":
        text = text[:-1] + "\\ "
    return f"{_ATTRIBUTES[name]}={text}"


def _escaped(match: re.Match[str]) -> str:
    """Escape a character by RFC 4514, section 2.4; one that is not printable becomes its bytes in hex."""
    character = match[0]
    if character in _SEPARATORS:
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def _text(value: _Value, errors: str) -> str:
    """Decode a string. Raises ValueError if it is of another type, or cannot be decoded with ``errors``."""
    codec = _CODECS.get(value.tag)
    if codec is None:
        raise ValueError("no string")
    return value.content.decode(codec, errors)


def _common_name(name: _Value) -> str:
    """The last common name of a distinguished name; empty if it has none."""
    attributes = [attribute.parts() for relative in name.parts() for attribute in relative.parts()]
    for kind, text in reversed(attributes):
        if _identifier(kind) == _COMMON_NAME and text.tag in _CODECS:
            return _text(text, "backslashreplace")
    return ""


def _identifier(value: _Value) -> str:
    """An object identifier in dotted form. Raises ValueError if it is longer than 128 bytes, as none in use is."""
    if len(value.content) > _MAX_IDENTIFIER:
        raise ValueError("the identifier is too long")
    return _dotted(value.content)


@lru_cache(256)
def _dotted(identifier: bytes) -> str:
    numbers = [0]
    for byte in identifier:
        numbers[-1] = numbers[-1] << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(0)
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:-1])))


def _hex(integer: bytes) -> str:
    """A number in hex, two digits a byte."""
    number = int.from_bytes(integer, signed=True)
    digits = f"{abs(number):X}"
    return ("-" if number < 0 else "") + "0" * (len(digits) % 2) + digits


def _moment(value: _Value) -> datetime | None:
    """Parse a time (RFC 5280, section 4.1.2.5); None if it has another form, or is no valid time."""
    form = {_UTC_TIME: _UTC_FORM, _GENERALIZED_TIME: _GENERALIZED_FORM}.get(value.tag)
    match = form and form.fullmatch(value.content)
    if not match:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    if value.tag == _UTC_TIME:
        year += 1900 if year >= 50 else 2000
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def _values(data: bytes) -> Iterator[_Value]:
    """Yield the consecutive values in ``data``, with tags below 31. Raises ValueError if it is not DER."""
    at = 0
    while at < len(data):
        tag, length = data[at], int.from_bytes(data[at + 1 : at + 2])
        begin = at + 2
        if length & 0x80:
            begin += length & 0x7F
            length = int.from_bytes(data[at + 2 : begin])
        end = begin + length
        if begin > len(data) or end > len(data):
            raise ValueError("the value is longer than what is there")
        yield _Value(tag, data[begin:end], data[at:end])
        at = end
