"""How one side speaks TLS: versions, whom it trusts, its own certificate, and the library's context for all that."""

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit.core import files
from netkit.core.errors import Exit, Failure, doing

if TYPE_CHECKING:
    import ssl

_MAX_PASSWORD = 1024  # bytes: PEM_BUFSIZE of OpenSSL
_TLS_1_3, _HANDSHAKE, _CERTIFICATE = 0x0304, 22, 11  # RFC 8446, sections 4.1.2, 5.1 and 4
# SSL_OP_NO_RX_CERTIFICATE_COMPRESSION of OpenSSL 3.2, which older ones pass over: certificates come as they are.
_NO_COMPRESSED_CERTIFICATES = 1 << 33
_MAX_CHAIN = 32  # certificates that are looked at: some peer may send thousands
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")

OLDEST = "1.2"
"""The version of TLS that is the oldest unless one is asked for: RFC 8996 has done with those before."""


class Security(NamedTuple):
    """How one side speaks TLS.

    ``cafile`` has the authorities that are trusted, in PEM (a client's are the system's unless given; a server asks for
    certificates only if it is). ``cert`` and ``key`` are files in PEM, ``password_file`` begins with the line that the
    key is encrypted with. ``alpn`` are protocols in the order of preference, ``oldest`` and ``newest`` the versions
    that are spoken, 1.0 to 1.3. A client may trust nobody but certificates with one of ``fingerprints``, or anybody.
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
        """Which versions there are, for a message."""
        return f"from TLS {self.oldest} " + (f"to {self.newest}" if self.newest else "on")


@cache
def for_clients(how: Security) -> "ssl.SSLContext":
    """The context that all our connections share: to load what the system trusts takes longer than a handshake."""
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
    context.num_tickets = 0  # a client that leaves with a ticket unread would reset the connection
    context.options |= ssl.OP_NO_TICKET  # that is for TLS 1.2
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
        # The one way to the certificates of a handshake that fails. It is not public, and there since Python 3.8.
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

    if how.oldest < OLDEST:  # SHA-1, which these versions sign with, is beneath OpenSSL's level 1
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of old versions, which were asked for
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

    def tell_password() -> bytes:  # OpenSSL would ask the terminal for it
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
    """The first line of a file, as ``-passin file:`` of openssl has it."""
    action = f"read the password of the key from {path}"
    with doing(Exit.READ, action), open(files.source(path), "rb") as file:
        line = file.readline(_MAX_PASSWORD + 2).removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(line) <= _MAX_PASSWORD:
        raise Failure(Exit.READ, action, f"its first line is not 1 to {_MAX_PASSWORD} bytes long")
    return line


def _words(error: "ssl.SSLError") -> str:
    """What OpenSSL says, in lower case, if it says anything."""
    return (error.reason or "").replace("_", " ").lower()


def _keep_certificates(tls: Any, way: str, version: int, content: int, kind: int, message: bytes) -> None:
    """Note the certificates of a peer as its message comes: called by OpenSSL for all that goes over the wire."""
    if way == "read" and (content, kind) == (_HANDSHAKE, _CERTIFICATE):
        tls.chain = _certificates(message, newest=version >= _TLS_1_3)


def _certificates(message: bytes, *, newest: bool) -> list[bytes]:
    """Those in a Certificate message (RFC 5246, section 7.4.2; RFC 8446, section 4.4.2), whose form nobody checked."""
    at = 7 + (1 + int.from_bytes(message[4:5]) if newest else 0)
    found: list[bytes] = []
    while at < len(message) and len(found) < _MAX_CHAIN:
        end = at + 3 + int.from_bytes(message[at : at + 3])
        found.append(message[at + 3 : end])
        at = end + (2 + int.from_bytes(message[end : end + 2]) if newest else 0)
    return found


@cache
def silent(*, server_side: bool) -> "ssl.SSLContext":
    """A context that does not report what goes over the wire: for records it costs more than their encryption."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
