"""Making a self-signed certificate for a server (library cryptography); clients trust it by its fingerprint."""

import datetime
import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager

from netkit.core.address import family_of
from netkit.core.errors import Invalid
from netkit.core.events import Observer, SelfSigned

_DAY = datetime.timedelta(days=1)
_VALIDITY = 365 * _DAY


@contextmanager
def made(name: str, observe: Observer) -> Iterator[tuple[str, str]]:
    """Make a certificate for a host; yield the paths of the certificate and its key, each of which can be read once.

    Both are in PEM, and only in memory. Raises Invalid if the library is not installed.
    """
    try:
        certificate, pem, key = _pair(name)
    except ImportError as error:
        raise Invalid("--self-signed needs the Python package cryptography, which is not installed") from error
    observe(SelfSigned((certificate,)))
    with _path(pem) as of_certificate, _path(key) as of_key:
        yield of_certificate, of_key


def _pair(name: str) -> tuple[bytes, bytes, bytes]:
    """A certificate in DER and in PEM, and its key in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    host = name.partition("%")[0]
    alternative: x509.GeneralName = (
        x509.DNSName(host) if family_of(host) is None else x509.IPAddress(ipaddress.ip_address(host))
    )
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, host[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # for clients whose clock is slow
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(Encoding.DER),
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


@contextmanager
def _path(data: bytes) -> Iterator[str]:
    """A path to read ``data`` from, once: that of a pipe, as ssl loads only from files. It must fit into the pipe."""
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as file:
            file.write(data)
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)
