"""A certificate as a line, as JSON fields, and in PEM."""

import ssl
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from netkit.core.x509 import Certificate
from netkit.output.certificate import chain, fields, pem, sentence

END = datetime(2027, 2, 11, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def in_november(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock to a fixed time."""
    monkeypatch.setattr(time, "time", datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp)


def shown(*names: str, **about: Any) -> Certificate:
    """Return a certificate with these alternative names and other fields."""
    found = Certificate(b"der", "CN=db,O=o", "CN=Example CA,O=o", "Example CA", alternative_names=names, serial="0A")
    return found._replace(not_after=END)._replace(**about)


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        (shown("db"), "db, by Example CA, ends 2027-02-11 (74 days)"),
        (shown("db", "db.local", "192.0.2.7"), "db, db.local, 192.0.2.7, by Example CA, ends 2027-02-11 (74 days)"),
        (shown("a", "b", "c", "d"), "a, +3 names, by Example CA, ends 2027-02-11 (74 days)"),
        (shown(), "CN=db,O=o, by Example CA, ends 2027-02-11 (74 days)"),
        (shown("db", issuer="CN=db,O=o"), "db, by itself, ends 2027-02-11 (74 days)"),
        (shown("db", not_after=datetime(2026, 11, 2, tzinfo=UTC)), "db, by Example CA, ended 2026-11-02 (27 days ago)"),
        (shown("db", not_after=None), "db, by Example CA"),
        (Certificate(b"no DER"), "nobody"),
    ],
)
def test_sentence(certificate: Certificate, text: str) -> None:
    """The line has the certificate's names, its issuer and its end, as far as they are known."""
    assert sentence(certificate) == text


def test_fields_of_what_could_be_read() -> None:
    """Dates are in the format of RFC 3339; a certificate that cannot be parsed only has its fingerprint."""
    begin = datetime(950, 1, 2, 3, 4, 5, tzinfo=UTC)
    found = fields(shown("db", not_before=begin))
    assert (found["not_before"], found["not_after"], found["days_left"]) == (
        *("0950-01-02T03:04:05Z", "2027-02-11T12:30:00Z"),
        74,
    )
    assert (found["subject"], found["issuer"], found["names"]) == ("CN=db,O=o", "CN=Example CA,O=o", ("db",))
    unknown = fields(Certificate(b"no DER"))
    assert {name for name, value in unknown.items() if value is not None} == {"fingerprint"}


@pytest.mark.parametrize("size", [1, 47, 48, 49, 1000])
def test_pem(size: int) -> None:
    """PEM is the same as from the ssl module."""
    data = bytes(size)
    assert pem(data) == ssl.DER_cert_to_PEM_cert(data)


def test_chain() -> None:
    """Each certificate of a chain follows its names, which are escaped and cannot start a line."""
    text = chain([shown("db", subject="CN=B\xfccher\n-----BEGIN CERTIFICATE-----"), shown("ca")])
    begin = "-----BEGIN CERTIFICATE-----\n"
    assert text.startswith(f" 0 s:CN=B\\xfccher\\x0a-----BEGIN CERTIFICATE-----\n   i:CN=Example CA,O=o\n{begin}")
    assert text.count(f"\n{begin}") == 2
    assert "\n 1 s:CN=db,O=o\n" in text
