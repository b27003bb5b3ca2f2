"""Certificates as a sentence, as fields for JSON, and in PEM."""

import binascii
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from netkit.core.events import CoreEvent, Distrusted, Observer, Secured
from netkit.core.trust import days_left, distance
from netkit.core.x509 import Certificate, read
from netkit.output.console import write
from netkit.output.escape import printable

_MAX_NAMES = 3  # of more, only the first is shown
_LINE = 48  # bytes in a line of PEM: RFC 7468, section 2


def sentence(certificate: Certificate) -> str:
    """Its names, issuer and expiry date: ``db.example, +3 names, by Example CA, ends 2027-02-11 (74 days)``."""
    names = certificate.names or (certificate.subject or "nobody",)
    more = len(names) - 1
    shown = names if more < _MAX_NAMES else (names[0], f"+{more} names")
    parts = list(shown)
    if certificate.issuer:
        parts.append(f"by {'itself' if certificate.self_issued else certificate.issued_by}")
    end = certificate.not_after
    if end is not None:
        parts.append(f"{'ended' if days_left(end) < 0 else 'ends'} {end.date()} ({distance(end)})")
    return ", ".join(parts)


def fields(certificate: Certificate) -> dict[str, Any]:
    """The fields for JSON. What could not be read is None."""
    end = certificate.not_after
    return {
        "subject": certificate.subject or None,
        "issuer": certificate.issuer or None,
        "names": certificate.names or None,
        "serial": certificate.serial or None,
        "not_before": _moment(certificate.not_before),
        "not_after": _moment(end),
        "days_left": None if end is None else days_left(end),
        "fingerprint": certificate.fingerprint,
    }


def _moment(moment: datetime | None) -> str | None:
    """A time in UTC, as RFC 3339 writes it."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def chain(certificates: Iterable[Certificate]) -> str:
    """A chain in PEM (RFC 7468), each certificate after its subject and issuer, as in ``openssl s_client``."""
    return "".join(
        f" {number} s:{printable(each.subject)}\n   i:{printable(each.issuer)}\n{pem(each.der)}"
        for number, each in enumerate(certificates)
    )


def showing(observe: Observer) -> Observer:
    """Wrap an observer to write the chain of each TLS handshake to stdout, even if its verification fails."""

    def see(event: CoreEvent) -> None:
        observe(event)
        if isinstance(event, Secured | Distrusted):
            write(chain(map(read, event.certificates)))

    return see


def pem(data: bytes) -> str:
    """A certificate in PEM."""
    lines = (binascii.b2a_base64(data[at : at + _LINE]).decode() for at in range(0, len(data), _LINE))
    return "".join(("-----BEGIN CERTIFICATE-----\n", *lines, "-----END CERTIFICATE-----\n"))
