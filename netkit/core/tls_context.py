"""The TLS settings of one side (versions, trust, own certificate), and the ssl.SSLContext made of them."""

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit.core import files
from netkit.core.errors import Exit, Failure, doing

if TYPE_CHECKING:
    import ssl

_MAX_PASSWORD = 1024  # bytes: PEM_BUFSIZE of OpenSSL
_TLS_1_3, _HANDSHAKE, _CERTIFICATE = 0x0304, 22, 11  # RFC 8446, sections 4.1.2, 5.1 and 4
# SSL_OP_NO_RX_CERTIFICATE_COMPRESSION of OpenSSL 3.2, so that ``_certificates`` can read them; older ones ignore it.
_NO_COMPRESSED_CERTIFICATES = 1 << 33
_MAX_CHAIN = 32  # certificates that are kept: a peer may send thousands
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")

OLDEST = "1.2"
"""The default of --tls-min. RFC 8996 deprecates the versions before."""


class Security(NamedTuple):
    """The TLS settings of one side.

    ``cafile`` has the trusted authorities, in PEM; without it a client trusts those of the system, and a server does
    not ask for a certificate. ``cert`` and ``key`` are files in PEM; the first line of ``password_file`` decrypts the
    key. ``alpn`` are protocols in order of preference. ``oldest`` and ``newest`` are versions, "1.0" to "1.3". With
    ``fingerprints`` only certificates with one of these are trusted; ``insecure`` trusts every certificate.
    """

    cafile: str | None = None
    cert: str | None = None
    key: str | None = None
    alpn: tuple[str, ...] = ()
    insecure: bool = False
    password_file: str | None = None
    oldest: str = OLDEST
    newest: str | None = None
    fingerprints: tuple[str, ...] = ()

    @property
    def versions(self) -> str:
        """The range of versions, for a message."""
        return f"from TLS {self.oldest} " + (f"to {self.newest}" if self.newest else "on")


@cache
def for_clients(how: Security) -> "ssl.SSLContext":
    """The context of a client, shared by all connections: it takes longer to load than a handshake.

    Raises Failure READ for files that cannot be used.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    if how.insecure or how.fingerprints:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif how.cafile is None:
        context.load_default_certs()
    _prepare(context, how, shown=True)
    return context


def for_server(how: Security) -> "ssl.SSLContext":
    """The context of a server. Raises Failure READ for files that cannot be used."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # TLS 1.3: a client that closes with a ticket unread would reset the connection
    context.options |= ssl.OP_NO_TICKET  # the same for TLS 1.2
    if how.cafile is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    _prepare(context, how, shown=how.cafile is not None)
    return context


def _prepare(context: "ssl.SSLContext", how: Security, *, shown: bool) -> None:
    """Set what clients and servers have in common; ``shown`` is whether the peer may send certificates."""
    import ssl

    _set_versions(context, how)
    context.options |= ssl.OP_NO_RENEGOTIATION | _NO_COMPRESSED_CERTIFICATES
    if shown:
        # The only way to get the certificates of a handshake that fails. Not public, but there since Python 3.8.
        context._msg_callback = _keep_certificates  # type: ignore[attr-defined]
    if how.alpn:
        context.set_alpn_protocols(list(how.alpn))
    if how.cafile is not None:
        with doing(Exit.READ, f"read authorities from {how.cafile}"):
            try:
                context.load_verify_locations(files.source(how.cafile))
            except ssl.SSLError as error:
                raise OSError(None, _words(error) or "no certificate in PEM is in it") from error
    if how.cert is not None:
        _load_pair(context, how, how.cert, how.key or how.cert)


def _set_versions(context: "ssl.SSLContext", how: Security) -> None:
    import warnings

    if how.oldest < OLDEST:  # these versions sign with SHA-1, which OpenSSL's security level 1 does not allow
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about old versions, which the user asked for
        context.minimum_version = _version(how.oldest)
        if how.newest is not None:
            context.maximum_version = _version(how.newest)


def _version(name: str) -> "ssl.TLSVersion":
    import ssl

    return ssl.TLSVersion["TLSv1" if name == "1.0" else f"TLSv{name.replace('.', '_')}"]


def _load_pair(context: "ssl.SSLContext", how: Security, cert: str, key: str) -> None:
    import ssl

    action = f"use certificate {cert} with key {key}"
    password = b"" if how.password_file is None else _password(how.password_file)
    asked = False

    def tell_password() -> bytes:  # without it OpenSSL would ask on the terminal
        nonlocal asked
        asked = True
        return password

    with doing(Exit.READ, action):
        try:
            context.load_cert_chain(files.source(cert), files.source(key), tell_password)
        except ssl.SSLError as error:
            if error.reason in _MISMATCHES:
                raise Failure(Exit.READ, action, "the key is that of another certificate") from error
            if not asked:
                raise OSError(None, _words(error) or "they are no pair in PEM") from error
            if how.password_file is None:
                detail = "--key-password-file FILE has its password"
                raise Failure(Exit.READ, action, "the key is encrypted", detail=detail) from error
            raise Failure(Exit.READ, action, f"the password in {how.password_file} is not that of the key") from error


def _password(path: str) -> bytes:
    """Read the first line of a file, as ``-passin file:`` of openssl does."""
    action = f"read the password of the key from {path}"
    with doing(Exit.READ, action), open(files.source(path), "rb") as file:
        line = file.readline(_MAX_PASSWORD + 2).removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(line) <= _MAX_PASSWORD:
        raise Failure(Exit.READ, action, f"its first line is not 1 to {_MAX_PASSWORD} bytes long")
    return line


def _words(error: "ssl.SSLError") -> str:
    """OpenSSL's reason in lower case; "" if it gives none."""
    return (error.reason or "").replace("_", " ").lower()


def _keep_certificates(tls: Any, way: str, version: int, content: int, kind: int, message: bytes) -> None:
    """Keep the peer's certificates when they come. OpenSSL calls this for every message of the protocol."""
    if way == "read" and (content, kind) == (_HANDSHAKE, _CERTIFICATE):
        tls.chain = _certificates(message, newest=version >= _TLS_1_3)


def _certificates(message: bytes, *, newest: bool) -> list[bytes]:
    """The certificates of a Certificate message (RFC 5246, section 7.4.2; RFC 8446, section 4.4.2), maybe malformed."""
    at = 7 + (1 + int.from_bytes(message[4:5]) if newest else 0)
    found: list[bytes] = []
    while at < len(message) and len(found) < _MAX_CHAIN:
        end = at + 3 + int.from_bytes(message[at : at + 3])
        found.append(message[at + 3 : end])
        at = end + (2 + int.from_bytes(message[end : end + 2]) if newest else 0)
    return found


@cache
def silent(*, server_side: bool) -> "ssl.SSLContext":
    """A context without message callback: after the handshake that would cost more than the encryption of records."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
