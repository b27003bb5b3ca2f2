"""Valid and invalid certificates, and TLS contexts for peers."""

import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

BAD = ("self-signed", "expired", "wrong name", "name only in CN", "address as DNS name")
PASSPHRASE = b"secret"
DAY = datetime.timedelta(days=1)


BEGIN = datetime.datetime(2026, 11, 29, 11, 30, 7, tzinfo=datetime.UTC)
END = datetime.datetime(2053, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
_KEY = ec.generate_private_key(ec.SECP256R1())


def der_of(
    subject: x509.Name,
    issuer: x509.Name | None = None,
    *extensions: x509.ExtensionType,
    serial: int = 0xA5,
    begin: datetime.datetime = BEGIN,
    end: datetime.datetime = END,
    key: ec.EllipticCurvePrivateKey = _KEY,
    issuer_key: Any = _KEY,
) -> bytes:
    """Return the DER of a certificate. By the defaults it is one for tests that only read it."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


class Pair(NamedTuple):
    """Files in PEM: a certificate, its key, and both in one."""

    cert: str
    key: str
    both: str

    def options(self) -> tuple[str, ...]:
        """The options for netkit."""
        return "--cert", self.cert, "--key", self.key


class Pki:
    """An authority and its certificates. ``ca`` is its file, ``other_ca`` that of another, untrusted authority.

    ``name`` and ``other`` are their names in the format of RFC 4514.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = trustme.CA()
        self._stranger = trustme.CA()
        self.ca = self._write("ca", self._authority.cert_pem.bytes())
        self.other_ca = self._write("other-ca", self._stranger.cert_pem.bytes())
        self.name, self.other = (
            x509.load_pem_x509_certificate(each.cert_pem.bytes()).subject.rfc4514_string()
            for each in (self._authority, self._stranger)
        )
        self.good = self._issued("good", "localhost", "127.0.0.1", "::1")
        self.client = self._issued("client", common_name="a client")
        self.stranger = self.keep("stranger", self._stranger.issue_cert(common_name="a stranger"))
        self.names = self._issued("names", "*.example.org", "xn--bcher-kva.example", "fe80::1", "192.0.2.7")

    def bad(self, kind: str) -> Pair:
        """Return a pair that clients of localhost reject: one of BAD or "untrusted"; "ending" is valid for 10 days."""
        past, now = datetime.datetime(2020, 1, 1), datetime.datetime.now(datetime.UTC)
        local = ("localhost", "127.0.0.1")
        return {
            "self-signed": lambda: self.built(kind, "localhost", [x509.DNSName("localhost")], signed=False),
            "expired": lambda: self._issued(kind, *local, not_before=past, not_after=past + DAY),
            "ending": lambda: self._issued(kind, *local, not_after=now + 10 * DAY),
            "untrusted": lambda: self.keep(kind, self._stranger.issue_cert("localhost")),
            "wrong name": lambda: self._issued(kind, "other.example"),
            "name only in CN": lambda: self._issued(kind, common_name="localhost"),
            "address as DNS name": lambda: self.built(kind, "127.0.0.1", [x509.DNSName("127.0.0.1")]),
        }[kind]()

    def for_hosts(self, *names: str) -> Pair:
        """Return a pair for these names and addresses."""
        return self._issued("hosts", *names)

    def below(self, file: str, *, known: bool = True) -> Pair:
        """Return a pair with its chain up to a root, which is trusted if ``known``."""
        authority = (self._authority if known else self._stranger).create_child_ca()
        return self.keep(file, authority.issue_cert("localhost", "127.0.0.1"))

    def incomplete(self) -> Pair:
        """Return a pair without its issuer's certificate, but with the URL where that is found."""
        where = x509.UniformResourceIdentifier("http://ca.example/issuer.crt")
        access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an issuer")])
        found = x509.AuthorityInformationAccess([access])
        return self.built("incomplete", "localhost", [x509.DNSName("localhost")], issuer=issuer, extensions=[found])

    def built(
        self,
        file: str,
        name: str,
        names: Sequence[x509.GeneralName] | bytes,
        *,
        signed: bool = True,
        issuer: x509.Name | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Pair:
        """Issue a certificate with these alternative names, or the DER of their extension.

        It is ``signed`` by the authority, whatever the name of ``issuer``, or else self-signed.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.load_pem_x509_certificate(self._authority.cert_pem.bytes())
        issuer_key: Any = serialization.load_pem_private_key(self._authority.private_key_pem.bytes(), None)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternatives: x509.ExtensionType = (
            x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, names)
            if isinstance(names, bytes)
            else x509.SubjectAlternativeName(names)
        )
        now = datetime.datetime.now(datetime.UTC)
        der = der_of(
            subject,
            issuer or (authority.subject if signed else subject),
            alternatives,
            *extensions,
            serial=x509.random_serial_number(),
            begin=now - DAY,
            end=now + DAY,
            key=key,
            issuer_key=issuer_key if signed else key,
        )
        return self._pair(file, ssl.DER_cert_to_PEM_cert(der).encode(), pem_of(key))

    def encrypted(self) -> str:
        """Return a file with the key of ``good``, encrypted with PASSPHRASE."""
        key: Any = serialization.load_pem_private_key(Path(self.good.key).read_bytes(), None)
        return self._write("encrypted", pem_of(key, PASSPHRASE))

    def keep(self, name: str, issued: trustme.LeafCert) -> Pair:
        """Write an issued certificate to files."""
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return self._pair(name, chain, issued.private_key_pem.bytes())

    def _issued(self, name: str, *identities: str, **about: Any) -> Pair:
        return self.keep(name, self._authority.issue_cert(*identities, **about))

    def _pair(self, name: str, cert: bytes, key: bytes) -> Pair:
        return Pair(self._write(f"{name} cert", cert), self._write(f"{name} key", key), self._write(name, key + cert))

    def _write(self, name: str, content: bytes) -> str:
        path = self.folder / f"{name.replace(' ', '-')}.pem"
        path.write_bytes(content)
        return str(path)

    # -- contexts of peers

    def server(self, pair: Pair | None = None, *, asks: bool = False, **about: Any) -> ssl.SSLContext:
        """Return the context of a server. If it ``asks``, clients must have a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = pair or self.good
        context.load_cert_chain(pair.cert, pair.key)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return _set(context, **about)

    def client_context(self, pair: Pair | None = None, **about: Any) -> ssl.SSLContext:
        """Return the context of a client that trusts the authority, with the certificate ``pair``, if any."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return _set(context, **about)


def _set(context: ssl.SSLContext, **about: Any) -> ssl.SSLContext:
    for name, value in about.items():
        setattr(context, name, value)
    return context


def pem_of(key: Any, passphrase: bytes | None = None) -> bytes:
    """Return a private key in PEM."""
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption(),
        )
    )
