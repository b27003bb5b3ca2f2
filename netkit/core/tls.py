"""TLS over any connection: the layers for client and server, and the stream. OpenSSL makes records, by memory BIOs.

Our end is a close_notify alert, after which we still read. If the peer's stream ends without a close_notify, it counts
as truncated. Session secrets are not written anywhere.
"""

import re
from collections.abc import Set
from typing import TYPE_CHECKING, Any

from netkit.core import trust, x509
from netkit.core.connection import acknowledged
from netkit.core.errors import Exit, Failure
from netkit.core.events import Distrusted, Observer, Secured
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
from netkit.core.layer import Layer, Ledger, Wrapped
from netkit.core.stream import LARGEST_READ, Connection, Counts
from netkit.core.sync import Lock
from netkit.core.tls_context import OLDEST, Security, for_clients, for_server, silent

if TYPE_CHECKING:
    import ssl

_RECORD = 16 * 1024  # bytes of a record at most: RFC 8446, section 5.1
_PIECE = 16 * _RECORD
_LAST_WORDS = 0.25  # s that the peer has to send its close_notify after ours
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
_WRAPPING = re.compile(r"^\[[^]]*\] | \(_ssl\.c:[0-9]+\)$")  # what Python puts around OpenSSL's message
_SENDER = re.compile(r"^(?:sslv3|tlsv1|tlsv13|ssl/tls) (?:alert )?")  # marks an alert of the peer, not an error of ours
_HINT = "a server that drops clients which half-close may want --no-shutdown"
_HINT_OLDER = "--tls-min 1.0 speaks old versions, too"
_HINT_PLAIN = "the service may not use TLS: leave out tls: or --tls, or write http:"
_OPTION = re.compile(r"--[a-z-]+")
_NO_OPTIONS: Set[str] = frozenset()
_NO_TLS = "the peer does not speak TLS"
_REASONS = {
    "wrong version number": _NO_TLS,
    "http request": _NO_TLS,
    "packet length too long": _NO_TLS,
    "record layer failure": _NO_TLS,
    "no shared cipher": "no cipher in common",
}
# Ports of services that begin without TLS, and their values of --starttls: IANA's registry, and irc's by custom.
_PLAIN_PORTS = {
    **{21: "ftp", 24: "lmtp", 25: "smtp", 110: "pop3", 119: "nntp", 143: "imap", 389: "ldap", 587: "smtp"},
    **{3306: "mysql", 4190: "sieve", 5222: "xmpp", 5432: "postgres", 6667: "irc"},
}


def client(how: Security, host: str, observe: Observer, *, options: Set[str] = _NO_OPTIONS) -> Layer:
    """The layer that secures a client's connection to ``host``. Raises Failure READ for files that cannot be used.

    The handshake raises Failure: CERT for a certificate that is not acceptable, else TLS. No payload is sent before it
    has succeeded. ``options`` are those that its hints may name.
    """
    return _layer(for_clients(how), how, host.partition("%")[0].rstrip("."), observe, options)


def server(how: Security, observe: Observer) -> Layer:
    """The layer that secures the connection of a client of ours. Raises Failure READ for files that cannot be used."""
    return _layer(for_server(how), how, None, observe, {"--cafile", "--tls-min"})


def _layer(context: "ssl.SSLContext", how: Security, name: str | None, observe: Observer, options: Set[str]) -> Layer:
    """``name`` is the server's name, or None if we are the server."""

    async def secure(stream: Connection, group: Group) -> Connection:
        secured = TlsStream(stream, context, how, name, options)
        try:
            await secured.do_handshake()
        except Failure as failure:
            if failure.exit is Exit.CERT:
                observe(Distrusted(secured.certificates))
            raise
        observe(secured.describe())
        return secured

    return secure


def _records(start: int, end: int, size: int) -> list[tuple[int, int]]:
    """For the records that take bytes ``start`` to ``end``: where each ends, and how much of ``size`` it has.

    ``size`` is their payload in bytes; every record but the last is full.
    """
    full, last = divmod(size - 1, _RECORD)
    step = _RECORD + (end - start - size) // (full + 1)
    return [*((start + step * number, _RECORD) for number in range(1, full + 1)), (end, last + 1)]


class TlsStream(Wrapped):
    """A connection secured by TLS. Its counts are of payload. It is closed with the connection underneath."""

    def __init__(
        self, stream: Connection, context: "ssl.SSLContext", how: Security, name: str | None, options: Set[str]
    ) -> None:
        import ssl

        super().__init__(stream)
        self.counts = Counts()
        self._ssl = ssl
        self._how = how
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: Any = context.wrap_bio(
            self._incoming, self._outgoing, server_side=name is None, server_hostname=name or None
        )
        self.tls.chain = []  # type: ignore[attr-defined]  # the peer's certificates, in DER: see tls_context.py
        self._turn = Lock()  # held while records are sent, so that they stay in order
        self._held = b""  # payload that ``send_eof`` had to read
        self._ended = self._peer_ended = False
        self._options = options
        self._at_once = not stream.counts.received  # TLS from the first byte, without STARTTLS before
        self._sent = Ledger(stream)
        self._written: list[tuple[int, int]] = []  # where the records in ``_outgoing`` end, and their payload

    async def do_handshake(self) -> None:
        """Do the handshake. Raises Failure CERT or TLS, after it has sent the peer an alert."""
        action = f"secure the connection to {self.name}"
        try:
            await self._shake(action)
        except Failure as failure:
            if failure.exit in (Exit.SEND, Exit.RECV):
                raise Failure(Exit.TLS, action, failure.reason) from failure
            raise

    async def _shake(self, action: str) -> None:
        done = False
        while not done:
            try:
                self.tls.do_handshake()
                done = True
            except self._ssl.SSLWantReadError:
                pass
            except self._ssl.SSLCertVerificationError as error:
                await self._flush_alert()
                raise self._refused(error) from error
            except self._ssl.SSLError as error:
                await self._flush_alert()
                reason = _reason(error)
                if reason == "unsupported protocol":
                    reason = f"the peer speaks no version {self._how.versions}"
                older = "version" in reason and (self._how.oldest, self._how.newest) == (OLDEST, None)
                hint = self._known(_HINT_OLDER) if older else self._plain_hint(_HINT_PLAIN if reason == _NO_TLS else "")
                raise Failure(Exit.TLS, action, reason, hint=hint) from error
            if done or self.tls.chain:
                self._check_fingerprint()  # before our own certificate is sent
            await self._flush()
            if not done and not await self._feed():
                raise Failure(Exit.TLS, action, "the peer ended in the middle of it", hint=self._plain_hint())
        if self.tls.chain:
            self.tls.context = silent(server_side=self.tls.server_side)

    def _plain_hint(self, otherwise: str = "") -> str:
        """A hint for a server that does not begin with TLS: by its port, else ``otherwise``; "" as a server."""
        if self.tls.server_side or not self._at_once:
            return ""
        protocol = _PLAIN_PORTS.get(self.peer.port)
        told = f"this port begins without TLS: --starttls {protocol} in place of tls: secures it" if protocol else ""
        return self._known(told) or otherwise

    def _known(self, hint: str) -> str:
        """The hint, or "" if it names an option that the command does not have, or not for this connection."""
        return hint if self._options >= set(_OPTION.findall(hint)) else ""

    def _refused(self, error: "ssl.SSLCertVerificationError") -> Failure:
        failure = trust.refused(
            f"trust {self.name}",
            error.verify_code,
            error.verify_message.lower().rstrip("."),
            tuple(map(x509.read, self.certificates)),
            peer="client" if self.tls.server_side else "server",
            cafile=self._how.cafile,
        )
        failure.hint = self._known(failure.hint)
        return failure

    def _check_fingerprint(self) -> None:
        """Raise Failure CERT if there are fingerprints, and the peer's certificate has none of them or is missing."""
        if not self._how.fingerprints:
            return
        shown = [x509.Certificate(der).fingerprint for der in self.certificates[:1]]
        if not set(shown).intersection(self._how.fingerprints):
            found = f"its certificate has {shown[0]}" if shown else "it has shown no certificate"
            raise Failure(Exit.CERT, f"trust {self.name}", found, detail="--fingerprint wants another")

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """The certificates that the peer has sent, in DER, its own first."""
        return tuple(self.tls.chain)

    def describe(self) -> Secured:
        """The event with the result of the handshake."""
        cipher = self.tls.cipher()
        return Secured(
            protocol=self.tls.version() or "",
            cipher=cipher[0] if cipher else "",
            alpn=self.tls.selected_alpn_protocol(),
            certificates=self.certificates,
        )

    async def recv(self) -> bytes:
        """Receive payload. Raises Failure: PARTIAL if the peer's stream ends without close_notify, TLS for an alert."""
        data = self._read()
        while data is None:
            # Send what reading has produced, such as a KeyUpdate. A ``send`` that is blocked now will send it, too: to
            # wait for that here would be a deadlock with a peer that is blocked in sending to us.
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

        A peer that has sent its own and closed answers with a reset. That is ignored if all payload is acknowledged.
        """
        if self._ended:
            return
        self._ended = True
        if self._peer_ended:
            await acknowledged(self)
        # unwrap() fails, and loses payload, if there is some that was not read.
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
        """Send close_notify, and read and drop what the peer sends for a moment: unread data would cause a reset.

        Raises Failure TLS for an alert that is all the answer to what we have sent: the peer has refused our
        certificate, or that we have none, after our side of the handshake was done.
        """
        await self.send_eof()
        try:
            with deadline(now() + _LAST_WORDS):
                while not self._peer_ended and self._read() != b"" and await self._feed():
                    pass
        except Failure as failure:
            if failure.exit is Exit.TLS and self.counts.sent and not self.counts.received:
                raise
        except DeadlineExceeded:
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
        """Whether the peer has sent close_notify and acknowledged all we sent: then a reset means nothing."""
        return self._peer_ended and not self.unacknowledged()

    def unacknowledged(self) -> int:
        """The payload of all records that are not acknowledged completely."""
        return self._sent.unacknowledged() + sum(size for _, size in self._written)

    def _read(self) -> bytes | None:
        """Payload that is there, b"" after close_notify, None if more must be received first."""
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
                    break  # the next call raises it again
                raise Failure(Exit.TLS, f"receive from {self.name}", _reason(error)) from error
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
        return b"".join(parts) if parts else None

    async def _feed(self) -> bool:
        """Receive from the stream underneath. Returns False at its end."""
        try:
            data = await self._stream.recv()
        except Failure as failure:
            if self._ended:
                failure.hint = _HINT
            raise
        if not data:
            return False
        self._incoming.write(data)
        self.counts.moved_at = now()  # the record may still be incomplete
        return True

    async def _flush(self) -> None:
        """Send the records that OpenSSL has made, and note where they end."""
        async with self._turn:
            while data := self._outgoing.read():
                before = self._stream.counts.sent
                for end, size in self._written:
                    self._sent.add(before + end, size)
                self._written.clear()
                await self._stream.send(data)

    async def _flush_alert(self) -> None:
        """Send our alert, then read and drop what the peer sends for a moment: a reset at once could lose the alert."""
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
    """OpenSSL's message in our words: alerts of the peer by their names in RFC 8446, the rest in lower case."""
    text = _WRAPPING.sub("", error.reason or error.strerror or str(error)).replace("_", " ").lower()
    name, by_peer = _SENDER.subn("", text)
    name = name.replace(" ", "_").replace("cancelled", "canceled")
    return f"the peer sent alert {name}" if by_peer and name in _ALERTS else _REASONS.get(text, text)
