"""TLS over any stream: the library turns bytes into records, and the stream underneath carries them.

The end of our side is a close_notify alert, after which the peer's bytes are still read; a peer whose stream ends
without one was cut short. Versions from TLS 1.2 on. Session secrets are written nowhere.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from netkit.core.connection import acknowledged
from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Observer, Secured
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
from netkit.core.layer import Layer, Ledger, Wrapped
from netkit.core.stream import LARGEST_READ, Connection, Counts
from netkit.core.sync import Lock

if TYPE_CHECKING:
    import ssl

_RECORD = 16 * 1024  # bytes of a record at most: RFC 8446, section 5.1
_PIECE = 16 * _RECORD
_LAST_WORDS = 0.25  # s that the peer has for its close_notify when we leave
# The fatal alerts of RFC 8446, section 6.2.
_ALERTS = frozenset(
    (
        *("unexpected_message", "bad_record_mac", "record_overflow", "handshake_failure", "bad_certificate"),
        *("unsupported_certificate", "certificate_revoked", "certificate_expired", "certificate_unknown"),
        *("illegal_parameter", "unknown_ca", "access_denied", "decode_error", "decrypt_error", "protocol_version"),
        *("insufficient_security", "internal_error", "inappropriate_fallback", "user_canceled", "missing_extension"),
        *("unsupported_extension", "unrecognized_name", "bad_certificate_status_response", "unknown_psk_identity"),
        *("certificate_required", "no_application_protocol"),
    )
)
_WRAPPING = re.compile(r"^\[[^]]*\] | \(_ssl\.c:[0-9]+\)$")  # what Python puts around OpenSSL's words
_SENDER = re.compile(r"^(?:sslv3|tlsv1|tlsv13|ssl/tls) (?:alert )?")  # in front of alerts, and not of our own findings
_HINT = "a server that drops clients which half-close may want --no-shutdown"
_REASONS = {
    "wrong version number": "the peer does not speak TLS",
    "http request": "the peer does not speak TLS",
    "packet length too long": "the peer does not speak TLS",
    "record layer failure": "the peer does not speak TLS",
    "unsupported protocol": "the peer speaks no version from TLS 1.2 on",
    "no shared cipher": "no cipher in common",
}


class Security(NamedTuple):
    """How one side speaks TLS.

    ``cafile`` has the authorities that are trusted, in PEM (a client's are the system's unless given; a server asks for
    certificates only if it is). ``cert`` and ``key`` are files in PEM, ``alpn`` protocols in the order of preference.
    """

    cafile: str | None = None
    cert: str | None = None
    key: str | None = None
    alpn: tuple[str, ...] = ()
    insecure: bool = False


def client(how: Security, host: str, observe: Observer) -> Layer:
    """The layer that secures a client's connection to ``host``. Raises Failure READ for files that cannot be used.

    The handshake raises Failure: CERT for a certificate that is not acceptable, else TLS. Nothing of the payload has
    been sent then.
    """
    return _layer(_for_clients(how), host.partition("%")[0].rstrip("."), observe)


@cache
def _for_clients(how: Security) -> "ssl.SSLContext":
    """The context that all our connections share: to load what the system trusts takes longer than a handshake."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    if how.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif how.cafile is None:
        context.load_default_certs()
    _prepare(context, how)
    return context


def server(how: Security, observe: Observer) -> Layer:
    """The layer that secures the connection of a client of ours. Raises Failure READ for files that cannot be used."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # a client that leaves with a ticket unread would reset the connection
    context.options |= ssl.OP_NO_TICKET  # that is for TLS 1.2
    if how.cafile is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    _prepare(context, how)
    return _layer(context, None, observe)


def _layer(context: "ssl.SSLContext", name: str | None, observe: Observer) -> Layer:
    """``name`` is the server's, or None if that is us."""

    async def secure(stream: Connection, group: Group) -> Connection:
        secured = TlsStream(stream, context, name)
        await secured.do_handshake()
        observe(secured.describe())
        return secured

    return secure


def seconds_of(date: str) -> int:
    """A certificate's date in seconds since the epoch."""
    import ssl

    return ssl.cert_time_to_seconds(date)


def _prepare(context: "ssl.SSLContext", how: Security) -> None:
    import ssl

    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if how.alpn:
        context.set_alpn_protocols(list(how.alpn))
    if how.cafile is not None:
        with doing(Exit.READ, f"read authorities from {how.cafile}"):
            _load(lambda: context.load_verify_locations(how.cafile), "no certificate in PEM is in it")
    if how.cert is not None:
        key = how.key or how.cert
        with doing(Exit.READ, f"use certificate {how.cert} with key {key}"):
            # Without a function for it OpenSSL would ask the terminal for the passphrase of a key.
            _load(lambda: context.load_cert_chain(how.cert or "", key, lambda: b""), "they are no pair in PEM")


def _load(load: Callable[[], None], otherwise: str) -> None:
    import ssl

    try:
        load()
    except ssl.SSLError as error:
        raise OSError(None, (error.reason or "").replace("_", " ").lower() or otherwise) from error


def _records(start: int, end: int, size: int) -> list[tuple[int, int]]:
    """Where each of the records from ``start`` to ``end`` ends, and its part of their ``size`` bytes of payload."""
    full, last = divmod(size - 1, _RECORD)
    step = _RECORD + (end - start - size) // (full + 1)
    return [*((start + step * number, _RECORD) for number in range(1, full + 1)), (end, last + 1)]


class TlsStream(Wrapped):
    """The secured stream, which counts payload; what is underneath is closed with it."""

    def __init__(self, stream: Connection, context: "ssl.SSLContext", name: str | None) -> None:
        import ssl

        super().__init__(stream)
        self.counts = Counts()
        self._ssl = ssl
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=name is None, server_hostname=name or None
        )
        self._turn = Lock()
        self._held = b""  # payload that had to be read before its time
        self._ended = self._peer_ended = False
        self._sent = Ledger(stream)
        self._written: list[tuple[int, int]] = []  # where the records in ``_outgoing`` end, and their payload

    async def do_handshake(self) -> None:
        """Go through the handshake. Raises Failure CERT or TLS, after the peer was told why."""
        action = f"secure the connection to {self.name}"
        try:
            await self._shake(action)
        except Failure as failure:
            if failure.exit in (Exit.SEND, Exit.RECV):
                raise Failure(Exit.TLS, action, failure.reason) from failure
            raise

    async def _shake(self, action: str) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except self._ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    raise Failure(Exit.TLS, action, "the peer ended in the middle of it") from None
                continue
            except self._ssl.SSLCertVerificationError as error:
                await self._flush_alert()
                raise Failure(Exit.CERT, f"trust {self.name}", error.verify_message.lower().rstrip(".")) from error
            except self._ssl.SSLError as error:
                await self._flush_alert()
                raise Failure(Exit.TLS, action, _reason(error)) from error
            await self._flush()
            return

    def describe(self) -> Secured:
        """What the handshake came to."""
        cipher = self.tls.cipher()
        names, found = _subject(self.tls)
        return Secured(
            protocol=self.tls.version() or "",
            cipher=cipher[0] if cipher else "",
            alpn=self.tls.selected_alpn_protocol(),
            names=names,
            not_before=found.get("notBefore"),
            not_after=found.get("notAfter"),
        )

    async def recv(self) -> bytes:
        """Receive payload. Raises Failure: PARTIAL if the peer's stream ends without close_notify, TLS for an alert."""
        data = self._read()
        while data is None:
            # What reading made us say, such as new keys. A sender who is held back takes it along: to wait for that
            # one here would keep the peer from reading.
            if not self._turn.locked() or self._outgoing.pending > _PIECE:
                await self._flush()
            if not await self._feed():
                raise self._cut_short()
            data = self._read()
        if data:
            self.counts.add_received(len(data))
        else:
            self._peer_ended = True
        return data

    async def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            piece, rest = rest[:_PIECE], rest[_PIECE:]
            before = self._outgoing.pending
            try:
                self.tls.write(piece)
            except self._ssl.SSLError as error:
                raise Failure(Exit.SEND, f"send to {self.name}", _reason(error)) from error
            self._written += _records(before, self._outgoing.pending, len(piece))
            self.counts.add_sent(len(piece))
            await self._flush()

    async def send_eof(self) -> None:
        """Send close_notify; receiving goes on.

        A peer that has ended and closed answers it by a reset, which is nothing once all the rest is acknowledged.
        """
        if self._ended:
            return
        self._ended = True
        if self._peer_ended:
            await acknowledged(self)
        # unwrap() would fail, and lose it, if there were payload still to be read.
        while data := self._read_on():
            self._held += data
        try:
            self.tls.unwrap()
        except (self._ssl.SSLWantReadError, self._ssl.SSLError):
            pass  # the peer's close_notify is still to come
        try:
            await self._flush()
        except Failure:
            if not self._peer_ended:
                raise

    async def shutdown(self) -> None:
        """Send close_notify; what the peer says in this moment is dropped: unread, it would make a reset of our end."""
        await self.send_eof()
        try:
            with deadline(now() + _LAST_WORDS):
                while not self._peer_ended and self._read() != b"" and await self._feed():
                    pass
        except (Failure, DeadlineExceeded):
            pass

    def raise_if_reset(self) -> None:
        if not self._is_over():
            super().raise_if_reset()

    async def peer_left(self) -> None:
        try:
            await super().peer_left()
        except Failure:
            if not self._is_over():
                raise

    def _is_over(self) -> bool:
        """Whether the peer has sent close_notify and acknowledged all of ours: what TCP says then is noise."""
        return self._peer_ended and not self.unacknowledged()

    def unacknowledged(self) -> int:
        """Payload of which not all the ciphertext was acknowledged, record by record."""
        return self._sent.unacknowledged() + sum(size for _, size in self._written)

    def _read(self) -> bytes | None:
        """Payload that is here, b"" after close_notify, None where more has to come first."""
        if self._held:
            data, self._held = self._held, b""
            return data
        return self._read_on()

    def _read_on(self) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while size < LARGEST_READ:
            try:
                part = self.tls.read(_RECORD)
            except self._ssl.SSLWantReadError:
                break
            except self._ssl.SSLZeroReturnError:
                return b"".join(parts)
            except self._ssl.SSLError as error:
                if parts:
                    break  # it comes again
                raise Failure(Exit.TLS, f"receive from {self.name}", _reason(error)) from error
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
        return b"".join(parts) if parts else None

    async def _feed(self) -> bool:
        """Wait for more of the stream underneath; False at its end."""
        try:
            data = await self._stream.recv()
        except Failure as failure:
            if self._ended:
                failure.hint = _HINT
            raise
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        """Send the records that are ready, and note where they end."""
        async with self._turn:
            while data := self._outgoing.read():
                before = self._stream.counts.sent
                for end, size in self._written:
                    self._sent.add(before + end, size)
                self._written.clear()
                await self._stream.send(data)

    async def _flush_alert(self) -> None:
        """Let the peer hear why, before a reset takes it back: what it still sends is read, and dropped."""
        try:
            await self._flush()
            with deadline(now() + _LAST_WORDS):
                while await self._stream.recv():
                    pass
        except (Failure, DeadlineExceeded):
            pass

    def _cut_short(self) -> Failure:
        detail = f"after {self.counts.received} bytes"
        hint = _HINT if self._ended else ""
        reason = "it ended without close_notify"
        return Failure(Exit.PARTIAL, f"receive from {self.name}", reason, detail=detail, hint=hint)


def _reason(error: "ssl.SSLError") -> str:
    """What OpenSSL says: alerts of the peer by their names of RFC 8446, the rest in its own words."""
    text = _WRAPPING.sub("", error.reason or error.strerror or str(error)).replace("_", " ").lower()
    name, by_peer = _SENDER.subn("", text)
    name = name.replace(" ", "_").replace("cancelled", "canceled")
    return f"the peer sent alert {name}" if by_peer and name in _ALERTS else _REASONS.get(text, text)


def _subject(tls: "ssl.SSLObject") -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names in the peer's certificate, and what else Python reads in it where it was verified."""
    try:
        found: dict[str, Any] = tls.getpeercert() or {}
    except ValueError:  # a name that is not UTF-8
        return (), {}
    names = tuple(str(value) for _, value in found.get("subjectAltName", ()))
    return names or tuple(v for part in found.get("subject", ()) for k, v in part if k == "commonName"), found
