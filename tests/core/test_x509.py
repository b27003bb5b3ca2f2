"""Certificates as text: names, dates and numbers, from any bytes."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from netkit.core.x509 import Certificate, read
from tests.support.certificates import BEGIN, END, der_of
from tests.support.partners import run
from tests.support.processes import tool

CN, ORG, OU, COUNTRY = (
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.COUNTRY_NAME,
)

Attributes = list[tuple[x509.ObjectIdentifier, str]]


def name_of(attributes: Attributes) -> x509.Name:
    """Return a distinguished name."""
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in attributes])


def raw_names(der: bytes) -> x509.ExtensionType:
    """Return the extension of alternative names with this DER."""
    return x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, der)


SUBJECTS: dict[str, tuple[Attributes, str]] = {
    "usual": ([(COUNTRY, "DE"), (ORG, "Example"), (CN, "db.example")], "CN=db.example,O=Example,C=DE"),
    "separators": ([(CN, 'a,b+c"d\\e<f>g;h')], 'CN=a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h'),
    "spaces": ([(ORG, " both "), (CN, "# first")], "CN=\\# first,O=\\ both\\ "),
    "one space": ([(ORG, " ")], "O=\\ "),
    "control bytes": ([(CN, "a\x1b[2J\nb\x7f\0")], "CN=a\\1B[2J\\0Ab\\7F\\00"),
    "letters beyond ASCII": ([(ORG, "Bücher 株")], "O=Bücher 株"),
    "bidirectional": ([(CN, "a\u202eb")], "CN=a\\E2\\80\\AEb"),
    "mail": ([(NameOID.EMAIL_ADDRESS, "a@b.example")], "emailAddress=a@b.example"),
    "unknown": ([(x509.ObjectIdentifier("1.2.840.99999.7"), "x")], "1.2.840.99999.7=#0C0178"),
    "large identifier": ([(x509.ObjectIdentifier("2.999.3"), "x")], "2.999.3=#0C0178"),
    "nothing": ([], ""),
}


@pytest.mark.parametrize("kind", SUBJECTS)
def test_names_are_those_of_rfc_4514(kind: str) -> None:
    """Names are shown as in RFC 4514, last part first, and special or invisible characters are escaped."""
    attributes, wanted = SUBJECTS[kind]
    found = read(der_of(name_of(attributes), name_of([(CN, "an issuer")])))
    assert (found.subject, found.issuer, found.issued_by) == (wanted, "CN=an issuer", "an issuer")
    assert not found.self_issued


def test_a_part_of_several_attributes() -> None:
    """Several attributes of one part are joined by a plus sign."""
    several = x509.RelativeDistinguishedName([x509.NameAttribute(CN, "a"), x509.NameAttribute(ORG, "b")])
    found = read(der_of(x509.Name([several, x509.RelativeDistinguishedName([x509.NameAttribute(OU, "c")])])))
    assert found.subject == "OU=c,O=b+CN=a"
    assert found.self_issued


@pytest.mark.parametrize("kind", [_ASN1Type.UTF8String, _ASN1Type.BMPString, _ASN1Type.UniversalString])
def test_types_of_strings(kind: Any) -> None:
    """Strings with two or four bytes per character are read, too."""
    name = x509.Name([x509.NameAttribute(CN, "Köln", kind)])
    assert read(der_of(name)).subject == "CN=Köln"


ALTERNATIVES: dict[str, tuple[x509.ExtensionType | None, tuple[str, ...]]] = {
    "none": (None, ("a subject",)),
    "hosts": (
        x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.DNSName("*.b.example")]),
        ("a.example", "*.b.example"),
    ),
    "others": (
        x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier("spiffe://x/y"),
                x509.RFC822Name("x@example.org"),
                x509.DirectoryName(name_of([(ORG, "o"), (CN, "c")])),
                x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
            ]
        ),
        ("spiffe://x/y", "x@example.org", "CN=c,O=o"),
    ),
    "nobody's": (x509.SubjectAlternativeName([x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4"))]), ("a subject",)),
    "addresses": (raw_names(bytes.fromhex("301887047f0000018710") + bytes(15) + b"\1"), ("127.0.0.1", "::1")),
    "short address": (raw_names(b"\x30\x07\x87\x03\x7f\0\0\x82\0"), ("a subject",)),
    "control bytes": (raw_names(b"\x30\x07\x82\x05a\x1b[2J"), ("a\x1b[2J",)),
    "no ASCII": (raw_names(b"\x30\x05\x82\x03\xff\xfeA"), ("\\xff\\xfeA",)),
    "no DER": (raw_names(b"\x30\x05\x82\x7f"), ("a subject",)),
}


@pytest.mark.parametrize("kind", ALTERNATIVES)
def test_names_of_hosts_and_others(kind: str) -> None:
    """The names are the alternative names of known types, or else the common name."""
    extension, names = ALTERNATIVES[kind]
    found = read(der_of(name_of([(CN, "a subject")]), None, *([extension] if extension else [])))
    assert found.names == names
    assert (found.not_before, found.not_after) == (BEGIN, END)


@pytest.mark.parametrize(("number", "text"), [(1, "01"), (0xABC, "0ABC"), (1 << 159 - 1, "4" + "0" * 39), (128, "80")])
def test_serial_numbers(number: int, text: str) -> None:
    """Serial numbers are in hexadecimal, with two digits per byte."""
    assert read(der_of(name_of([(CN, "x")]), serial=number)).serial == text


@pytest.mark.parametrize("year", [1950, 1999, 2049, 2050, 9999])
def test_years(year: int) -> None:
    """Years of two digits are 1950 to 2049; later years have four."""
    end = datetime.datetime(year, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    found = read(der_of(name_of([(CN, "x")]), begin=datetime.datetime(1950, 1, 1), end=end))
    assert found.not_after == end


def test_what_is_known_of_the_issuer() -> None:
    """The issuer of the issuer, and whether the issuer's certificate is published, are read from extensions."""
    key = x509.AuthorityKeyIdentifier(b"x", [x509.DirectoryName(name_of([(CN, "a root")]))], 7)
    where = x509.UniformResourceIdentifier("http://ca.example/ca.crt")
    access = [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)]
    responder = [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)]
    subject = name_of([(CN, "x")])
    found = read(der_of(subject, None, key, x509.AuthorityInformationAccess(access)))
    assert (found.grandparent, found.published) == ("CN=a root", True)
    found = read(der_of(subject, None, x509.AuthorityInformationAccess(responder)))
    assert (found.grandparent, found.published) == ("", False)


GOOD = der_of(name_of([(ORG, "o"), (CN, "c")]), None, x509.SubjectAlternativeName([x509.DNSName("a.example")]))


def check_readable(found: Certificate) -> None:
    """Check that all text is printable or can be encoded."""
    for text in (found.subject, found.issuer, found.serial):
        assert text.isprintable()
    json.dumps([found.names, found.issued_by, found.grandparent])
    for text in (*found.names, found.issued_by, found.grandparent):
        text.encode()


@given(st.binary(max_size=200))
@example(b"")
@example(b"\x30")
@example(b"\x30\xff" + b"\xff" * 127)
@example(b"\x30\x84\xff\xff\xff\xff")
@example(b"\x30\x80" * 100)
def test_any_bytes(data: bytes) -> None:
    """Any bytes can be read without an exception."""
    found = read(data)
    assert found.der == data
    check_readable(found)


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 40)
)
def test_bytes_that_were_changed_or_lost(changes: list[tuple[int, int]], lost: int) -> None:
    """A certificate with changed or missing bytes can be read without an exception."""
    data = bytearray(GOOD)
    for place, byte in changes:
        data[place] = byte
    check_readable(read(bytes(data[: len(data) - lost])))


def test_an_identifier_without_end() -> None:
    """An object identifier of 100,000 bytes is read quickly."""
    long = b"\x06\x83\x01\x86\xa0" + b"\xff" * 100_000
    check_readable(read(b"\x30\x83\x01\x86\xa5" + long))


@pytest.mark.interop
@pytest.mark.parametrize("kind", SUBJECTS)
def test_openssl_reads_the_same(kind: str, tmp_path: Path) -> None:
    """Subject, issuer, serial number, dates and fingerprint are the same as those of openssl x509."""
    der = der_of(
        name_of(SUBJECTS[kind][0]), name_of([(COUNTRY, "FR"), (CN, "an issuer")]), serial=0x0102030405060708090A
    )
    (tmp_path / "cert").write_bytes(der)
    said = "-subject -issuer -serial -dates -fingerprint -sha256 -dateopt iso_8601 -nameopt RFC2253,-esc_msb,utf8"
    theirs = run([tool("openssl"), "x509", "-inform", "DER", "-in", str(tmp_path / "cert"), "-noout", *said.split()])
    found = read(der)
    ours = [
        f"subject={found.subject}",
        f"issuer={found.issuer}",
        f"serial={found.serial}",
        *(
            f"{name}={date:%Y-%m-%d %H:%M:%SZ}"
            for name, date in (("notBefore", found.not_before), ("notAfter", found.not_after))
            if date
        ),
        f"sha256 Fingerprint={bytes.fromhex(found.fingerprint.removeprefix('sha256:')).hex(':').upper()}",
    ]
    if kind == "bidirectional":  # openssl prints it as it is
        ours[0] = ours[0].replace("\\E2\\80\\AE", "\u202e")
    assert theirs.out.decode().splitlines() == ours
