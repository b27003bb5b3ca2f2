"""The reasons for an unacceptable certificate, from OpenSSL's error and the certificates received."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from netkit.core.errors import Exit
from netkit.core.trust import days_left, distance, refused
from netkit.core.x509 import Certificate

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAY = timedelta(days=1)
EXPIRED, NOT_YET, NO_ISSUER, SELF_SIGNED, SELF_SIGNED_ROOT, OTHER_HOST = 10, 9, 20, 18, 19, 62
ALL_BUT_ROOT = "the server should send all certificates but the root"
TRUSTS = "--cafile FILE trusts the authorities in FILE"


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the time to ``NOW``."""
    monkeypatch.setattr(time, "time", NOW.timestamp)


def issued(name: str, by: str, **about: Any) -> Certificate:
    """Return a certificate of ``name``, issued by ``by``."""
    about = {"not_before": NOW - DAY, "not_after": NOW + 30 * DAY, "alternative_names": (name,), **about}
    return Certificate(name.encode(), f"CN={name}", f"CN={by}", by, **about)


LEAF, MIDDLE, ROOT = issued("db", "Issuing"), issued("Issuing", "Root"), issued("Root", "Root")
PAST = {"not_after": NOW - 27 * DAY - timedelta(hours=1)}

ROWS: dict[str, tuple[int, list[Certificate], str | None, tuple[str, str, str]]] = {
    "nothing came": (NO_ISSUER, [], None, ("OpenSSL's words", "", "")),
    "another reason": (24, [LEAF], None, ("OpenSSL's words", "", "")),
    "expired": (
        *(EXPIRED, [issued("db", "Issuing", **PAST), MIDDLE], None),
        ("certificate has expired", "2026-11-02, 27 days ago", ""),
    ),
    "expired issuer": (
        *(EXPIRED, [LEAF, issued("Issuing", "Root", **PAST)], None),
        ("the certificate of its issuer Issuing has expired", "2026-11-02, 27 days ago", ""),
    ),
    "expired root of ours": (EXPIRED, [LEAF], None, ("the certificate of its authority has expired", "", "")),
    "not yet valid": (
        *(NOT_YET, [issued("db", "Issuing", not_before=NOW + DAY)], None),
        ("OpenSSL's words", "it begins on 2026-11-30", ""),
    ),
    "self-signed": (
        *(SELF_SIGNED, [ROOT], None),
        ("OpenSSL's words", "", f"if it is the right one: --fingerprint {ROOT.fingerprint}"),
    ),
    "another host": (
        *(OTHER_HOST, [issued("db", "Root", alternative_names=("a.example", "b.example"))], None),
        ("OpenSSL's words", "it is for a.example, b.example", "--servername NAME says another name that it may have"),
    ),
    "no host": (
        *(OTHER_HOST, [issued("db", "Root", alternative_names=(), common_name="db")], None),
        (
            "OpenSSL's words",
            "it has no alternative name, and a common name does not count",
            "--servername NAME says another name that it may have",
        ),
    ),
    "unknown root that was sent": (
        *(SELF_SIGNED_ROOT, [LEAF, MIDDLE, ROOT], None),
        ("issuer Root is not trusted", "--cafile FILE", TRUSTS),
    ),
    "unknown root": (
        *(NO_ISSUER, [LEAF, MIDDLE], None),
        ("issuer Root is not trusted", "--cafile FILE", TRUSTS),
    ),
    "root that a file lacks": (
        *(NO_ISSUER, [LEAF, MIDDLE], "ca.pem"),
        ("issuer Root is not trusted", "it is not in ca.pem", TRUSTS),
    ),
    "in another order": (
        *(NO_ISSUER, [LEAF, issued("stray", "another"), MIDDLE], None),
        ("issuer Root is not trusted", "--cafile FILE", TRUSTS),
    ),
    "private root": (
        *(NO_ISSUER, [LEAF], None),
        ("issuer Issuing is not trusted", "--cafile FILE", TRUSTS),
    ),
    "known to be of a root": (
        *(NO_ISSUER, [issued("db", "Root", grandparent="CN=Root")], "ca.pem"),
        ("issuer Root is not trusted", "it is not in ca.pem", TRUSTS),
    ),
    "incomplete, as the issuer has an issuer": (
        *(NO_ISSUER, [issued("db", "Issuing", grandparent="CN=Root")], "ca.pem"),
        ("the server does not send its intermediate certificate Issuing", "", ALL_BUT_ROOT),
    ),
    "incomplete, as the issuer is published": (
        *(NO_ISSUER, [issued("db", "Issuing", published=True)], None),
        ("the server does not send its intermediate certificate Issuing", "", ALL_BUT_ROOT),
    ),
    "incomplete further up": (
        *(NO_ISSUER, [LEAF, issued("Issuing", "Policy", grandparent="CN=Root", published=True)], None),
        ("the server does not send its intermediate certificate Policy", "", ALL_BUT_ROOT),
    ),
    "incomplete, or another file": (
        *(NO_ISSUER, [LEAF], "ca.pem"),
        (
            "the server does not send its intermediate certificate Issuing, or that is a root which ca.pem lacks",
            *("", f"{ALL_BUT_ROOT}, and --cafile FILE has that"),
        ),
    ),
    "two that issued each other": (
        *(NO_ISSUER, [issued("a", "b"), issued("b", "a")], None),
        ("issuer a is not trusted", "--cafile FILE", TRUSTS),
    ),
}


@pytest.mark.parametrize("kind", ROWS)
def test_reasons(kind: str) -> None:
    """Each error has its reason, its detail and its hint."""
    code, chain, cafile, wanted = ROWS[kind]
    failure = refused("trust db", code, "OpenSSL's words", chain, peer="server", cafile=cafile)
    assert (failure.exit, failure.action) == (Exit.CERT, "trust db")
    assert (failure.reason, failure.detail, failure.hint) == wanted


def test_a_client_is_called_so() -> None:
    """A failure about a client's certificate says "client", and does not suggest --fingerprint."""
    chain = [issued("me", "Issuing", grandparent="CN=Root")]
    failure = refused("trust x", NO_ISSUER, "", chain, peer="client", cafile="ca.pem")
    assert failure.reason == "the client does not send its intermediate certificate Issuing"
    assert refused("trust x", SELF_SIGNED, "self-signed", [ROOT], peer="client", cafile="ca.pem").hint == ""


@pytest.mark.parametrize(
    ("away", "days", "text"),
    [
        (timedelta(0), 0, "0 days"),
        (timedelta(hours=23), 0, "0 days"),
        (DAY, 1, "1 day"),
        (74 * DAY, 74, "74 days"),
        (-timedelta(seconds=1), -1, "0 days ago"),
        (-DAY - timedelta(seconds=1), -2, "1 day ago"),
        (datetime(9999, 12, 31, tzinfo=UTC) - NOW, 2912109, "2912109 days"),
        (datetime(1, 1, 1, tzinfo=UTC) - NOW, -739949, "739948 days ago"),
    ],
)
def test_distance(away: timedelta, days: int, text: str) -> None:
    """Days are counted as whole days, in the future or in the past."""
    assert (days_left(NOW + away), distance(NOW + away)) == (days, text)
