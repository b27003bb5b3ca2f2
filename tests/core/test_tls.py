"""TLS keeps the contract of streams over a real handshake: ends, counts, timeouts, and peers that break the rules."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from netkit.core import tls, tls_context
from netkit.core.address import Endpoint
from netkit.core.connection import HANDSHAKE, close_gracefully, serve_connection
from netkit.core.dial import Dialling, dial, dial_until
from netkit.core.errors import Exit, Failure
from netkit.core.events import Closed, Observer, ignore
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now, sleep
from netkit.core.layer import Layer
from netkit.core.pump import pump
from netkit.core.relay import AFTER_THE_ANSWER, Ending, relay
from netkit.core.socket_stream import SocketStream
from netkit.core.stream import Stream
from netkit.core.tls_context import Security
from netkit.core.x509 import read
from netkit.output.events import fields, sentence
from tests import contract, memory
from tests.clock import JumpClock, PatientClock, in_real_time, on_kernel, run
from tests.contract import Check, check_stream, failure_of, pattern, read_all, read_exactly, until_held_back
from tests.support.certificates import BAD, Pair, Pki
from tests.support.peers import tcp_sockets
from tests.support.servers import Client, Server, hold, serving
from tests.support.streams import streams_of
from tests.support.terminals import held

HERE = "127.0.0.1"

RECORD = 16 * 1024  # RFC 8446, section 5.1
OVERHEAD = 5 + 1 + 16  # header, type and tag of a record under AES-GCM: RFC 8446, section 5.2
TARGET = Endpoint(HERE, 1)
NONE = Group()  # for layers that start no tasks, as TLS does


async def shaken(client: Any, server: Any) -> tuple[Any, Any]:
    """Do the handshake on both sides, and return both streams."""
    async with Group() as group:
        sides = [group.start_soon(side) for side in (client, server)]
    return sides[0].result, sides[1].result


def client_of(pki: Pki, observe: Observer = ignore, name: str = "localhost", **about: Any) -> Layer:
    """Return the TLS layer of a client that trusts the test authority."""
    return tls.client(Security(cafile=pki.ca, **about), name, observe)


def server_of(pki: Pki, observe: Observer = ignore, pair: Pair | None = None, **about: Any) -> Layer:
    """Return the TLS layer of a server."""
    pair = pair or pki.good
    return tls.server(Security(cert=pair.cert, key=pair.key, **about), observe)


@pytest.fixture
def pair_of(pki: Pki) -> Any:
    """Return a function that makes the two ends of a TLS connection over TCP."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Stream, Stream]]:
        async with streams_of(tcp_sockets()) as (a, b):
            yield await shaken(client_of(pki)(a, NONE), server_of(pki)(b, NONE))

    return make


@contract.every_check(contract.TCP, without=contract.closing_ends_the_connection)
def test_contract(pair_of: Any, check: Check) -> None:
    """A TLS stream keeps the contract of streams."""
    check_stream(pair_of, check)


@in_real_time
async def test_closing_without_an_end_is_a_cut(pair_of: Any) -> None:
    """If a stream is closed without sending its end, the peer gets all data sent before, and then PARTIAL."""
    async with pair_of() as (a, b):
        await a.send(b"last words")
        a.close()
        assert await b.recv() == b"last words"
        with pytest.raises(Failure) as caught:
            await b.recv()
        assert caught.value.exit is Exit.PARTIAL


@in_real_time
async def test_a_sender_who_is_held_back_does_not_stop_the_receiver(pair_of: Any) -> None:
    """While our send waits for a peer that does not read until it has sent its own data, we receive that data."""
    there, back = pattern(12 << 20, 1), pattern(contract.MEGABYTES, 2)
    async with pair_of() as (a, b), Group() as group:
        group.start_soon(a.send(there))
        await until_held_back(a)
        answering = group.start_soon(b.send(back))
        try:
            with deadline(now() + 3):
                assert await read_exactly(a, len(back)) == back
        except DeadlineExceeded:
            pytest.fail(f"{a.counts.received} of {len(back)} bytes came while we were held back")
        await answering.finished.wait()
        assert await read_exactly(b, len(there)) == there


@in_real_time
async def test_an_end_waits_for_its_turn(pair_of: Any) -> None:
    """An end that is sent while the connection is full arrives after all data."""
    data = pattern(100_000)
    async with pair_of() as (a, b), Group() as group:
        filling = 0
        while a.unacknowledged() <= filling:  # until the connection is full
            filling = a.unacknowledged()
            await a.send(data)
        group.start_soon(a.send_eof())
        got = await read_all(b)
        assert len(got) == a.counts.sent
        assert got == data * (a.counts.sent // len(data))


async def in_memory(pki: Pki) -> tuple[Any, Any]:
    """Return the two ends of a TLS connection over a stream in memory."""
    one, other = map(connection, memory.pair())
    return await shaken(client_of(pki)(one, NONE), server_of(pki)(other, NONE))


@on_kernel
async def test_a_reply_comes_however_late(pki: Pki) -> None:
    """After our close_notify the answer is still received completely, even an hour later."""

    async def answer(stream: Any) -> None:
        assert await read_all(stream) == b"question"
        await sleep(3600)
        for _ in range(3):
            await stream.send(b"answer" * 10_000)
            await sleep(1)
        await stream.send_eof()

    a, b = await in_memory(pki)
    async with Group() as group:
        group.start_soon(answer(b))
        await a.send(b"question")
        await a.send_eof()
        assert await read_all(a) == b"answer" * 30_000
    assert now() == pytest.approx(3603)


@on_kernel
async def test_what_had_come_before_our_end_is_not_lost(pki: Pki) -> None:
    """Data that came along with the handshake, and was not read before our close_notify, can still be received."""
    one, other = map(connection, memory.pair())

    async def begin() -> None:
        client = await client_of(pki)(one, NONE)
        await client.send(b"early and ")
        await sleep(1)
        await client.send(b"late")
        await client.send_eof()

    async with Group() as group:
        group.start_soon(begin())
        server = await server_of(pki)(other, NONE)
        await server.send_eof()
        assert await read_all(server) == b"early and late"


@on_kernel
async def test_a_record_that_comes_slowly_is_no_silence(pki: Pki) -> None:
    """While an answer comes, however slowly, our end is not sent, although no record of it is complete."""
    near, middle = memory.pair()
    far_middle, far = memory.pair()
    user, ours = memory.pair()
    seen: list[object] = []

    async def trickle() -> None:
        while data := await far_middle.recv():
            for start in range(0, len(data), 1000):
                await middle.send(data[start : start + 1000])
                await sleep(1)

    async with Group() as group:
        group.start_soon(pump(middle, far_middle))
        group.start_soon(trickle())
        a, b = await shaken(client_of(pki)(connection(near), NONE), server_of(pki)(connection(far), NONE))
        await user.send(b"question")
        await user.send_eof()
        talk = group.start_soon(relay(ours, a, Ending(shutdown=AFTER_THE_ANSWER), observe=seen.append))
        assert await read_exactly(b, 8) == b"question"
        await b.send(bytes(RECORD))
        begun = now()
        assert await read_all(b) == b""
        assert 16 + 2 <= now() - begun <= 16 + 2 + 4  # the rest of the handshake comes before
        await b.send_eof()
        await talk.finished.wait()
        group.cancel()
    assert await user.recv() == bytes(RECORD)
    assert seen == []


@on_kernel
async def test_a_refusal_that_comes_after_all_was_acknowledged(pki: Pki) -> None:
    """In TLS 1.3 a server tells a client late that it wants a certificate: the end of the connection waits for that."""
    near, middle = memory.pair()
    far_middle, far = memory.pair()

    async def pass_on_late() -> None:
        while data := await middle.recv():
            await sleep(0.1)
            await far_middle.send(data)

    async with Group() as group:
        group.start_soon(pass_on_late())
        group.start_soon(pump(far_middle, middle))
        group.start_soon(contract.fails(server_of(pki, cafile=pki.ca)(connection(far), NONE), Exit.TLS))
        client = await client_of(pki)(connection(near), NONE)
        await client.send(b"all that we have to say")
        assert not client.unacknowledged()
        with pytest.raises(Failure) as caught:
            await close_gracefully(client)
        group.cancel()
    assert caught.value.exit is Exit.TLS
    assert "the peer sent alert certificate_required" in str(caught.value)


def connection(stream: memory.MemoryStream) -> Any:
    """Return a stream in memory as a connection; its addresses are not used."""
    return stream


# -- resets


@in_real_time
async def test_payload_that_was_lost_is_counted_to_the_record(pki: Pki) -> None:
    """After a reset all data counts as unacknowledged, except whole records that the peer's system had received."""
    ours, theirs = tcp_sockets()
    async with streams_of((ours, theirs)) as (under, other), Group() as group:
        a, b = await shaken(client_of(pki)(under, NONE), server_of(pki)(other, NONE))
        before = under.counts.sent
        sending = group.start_soon(contract.fails(contract.send_without_end(a), Exit.SEND))
        await until_held_back(a)
        while (taken := under.counts.sent - before - under.unacknowledged()) != held(theirs.fileno()):
            await sleep(0)
        b.abort()
        await sending.finished.wait()
        delivered = taken // (RECORD + OVERHEAD) * RECORD
        assert a.counts.sent - a.unacknowledged() == delivered


@on_kernel
async def test_what_waits_for_its_turn_is_not_acknowledged(pki: Pki) -> None:
    """Data that is given to ``send`` while the connection is full counts as sent, and as not acknowledged."""
    a, b = await in_memory(pki)
    async with Group() as group:
        group.start_soon(a.send(bytes(2 * memory.CAPACITY)))
        await sleep(1)
        before = a.unacknowledged()
        group.start_soon(a.send(b"behind"))
        await sleep(1)
        assert a.unacknowledged() == before + 6
        await read_exactly(b, 2 * memory.CAPACITY + 6)
    assert a.unacknowledged() == 0


@in_real_time
async def test_an_end_that_nobody_wants_is_no_reset(pair_of: Any) -> None:
    """A peer that closes after its close_notify has all our data, so that it is no failure if it refuses ours."""
    local, ours = memory.pair()
    async with pair_of() as (a, b), Group() as group:
        joined = group.start_soon(relay(local, a, Ending(None), observe=ignore))
        await ours.send(b"question")
        assert await b.recv() == b"question"
        await b.send(b"answer")
        await b.send_eof()
        b.close()
        assert await read_all(ours) == b"answer"
        await ours.send_eof()
    assert joined.result.first == "peer"


# -- what a peer sends instead of a handshake

ALERTS = {
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""RFC 8446, section 6."""


def refused(secure: Layer, words: bytes, *, end: bool = False) -> Failure:
    """Return how a handshake fails if the peer sends ``words`` instead, and then perhaps its end."""

    async def main() -> Failure:
        ours, theirs = memory.pair()
        await theirs.send(words)
        if end:
            await theirs.send_eof()
        with pytest.raises(Failure) as caught:
            await secure(connection(ours), NONE)
        return caught.value

    return run(main())


@pytest.mark.parametrize(("number", "name"), ALERTS.items(), ids=str)
def test_an_alert_is_told_by_its_name(pki: Pki, number: int, name: str) -> None:
    """A fatal alert makes the handshake fail with TLS, and the reason has the name of the alert in RFC 8446."""
    failure = refused(client_of(pki), bytes([21, 3, 3, 0, 2, 2, number]))
    assert (failure.exit, failure.reason) == (Exit.TLS, f"the peer sent alert {name}")


@pytest.mark.fault("TLS to who speaks none")
@pytest.mark.parametrize(
    "words",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220 ready\r\n",
        bytes(100),
        bytes(range(255, 0, -1)),
    ],
    ids=["ssh", "http", "smtp", "zeros", "noise"],
)
def test_what_is_not_tls_is_called_so(pki: Pki, words: bytes) -> None:
    """Plaintext instead of a handshake fails with TLS, for a client and for a server, and the message says so."""
    for secure in (client_of(pki), server_of(pki)):
        failure = refused(secure, words)
        assert (failure.exit, failure.reason) == (Exit.TLS, "the peer does not speak TLS")


@pytest.mark.parametrize("words", [b"", b"22", b"\x16\x03\x03\x10\0half a record"], ids=["nothing", "little", "half"])
def test_an_end_in_place_of_a_handshake(pki: Pki, words: bytes) -> None:
    """If the peer ends during the handshake, it fails with TLS."""
    for secure in (client_of(pki), server_of(pki)):
        failure = refused(secure, words, end=True)
        assert (failure.exit, failure.reason) == (Exit.TLS, "the peer ended in the middle of it")


@on_kernel
async def test_a_reset_in_place_of_a_handshake(pki: Pki) -> None:
    """If the peer resets during the handshake, it fails with TLS, too."""
    for secure in (client_of(pki), server_of(pki)):
        ours, theirs = memory.pair()
        theirs.abort()
        failure = await failure_of(secure(connection(ours), NONE))
        assert failure is not None
        assert (failure.exit, failure.action) == (Exit.TLS, f"secure the connection to {ours.name}")


@pytest.mark.parametrize(
    "words",
    [b"\x15\x03\x03\0\2\1\0", b"\x15\x03\x03\0\2\2\0", b"\x15\x03\x03\0\2\2\x63", b"\x17\x03\x03\0\5hello"],
    ids=["close_notify", "fatal close_notify", "alert without a name", "payload"],
)
def test_records_out_of_place(pki: Pki, words: bytes) -> None:
    """Other records instead of a handshake fail with TLS, and messages do not show OpenSSL's internals."""
    for secure in (client_of(pki), server_of(pki)):
        failure = refused(secure, words)
        assert failure.exit is Exit.TLS
        assert ".c:" not in failure.reason, failure.reason
        assert "[" not in failure.reason, failure.reason


def test_what_we_find_is_no_alert_of_the_peer(pki: Pki) -> None:
    """A message out of order is our finding, not an alert of the peer, although OpenSSL names both alike."""
    certificate = b"\x16\x03\x03\0\4\x0b\0\0\0"  # instead of a hello
    assert refused(client_of(pki), certificate).reason == "unexpected message"


# -- certificates


def meet(client: Layer, server: Layer) -> tuple[Any, Any]:
    """Do a handshake, and return the failures of client and server; None for success."""

    async def main() -> tuple[Any, Any]:
        one, other = memory.pair()
        async with Group() as group:
            ours = group.start_soon(failure_of(client(connection(one), NONE)))
            theirs = group.start_soon(failure_of(server(connection(other), NONE)))
        return ours.result, theirs.result

    return run(main())


STRANGE = {
    "folder name": [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))],
    "registered": [x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4"))],
    "other": [x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x01x")],
    "address": [x509.UniformResourceIdentifier("spiffe://x/y"), x509.RFC822Name("x@example.org")],
    "control bytes": b"\x30\x07\x82\x05a\x1b[2J",
    "no UTF-8": b"\x30\x05\x82\x03\xff\xfeA",
    "short address": b"\x30\x05\x87\x03\x7f\0\0",
}


@pytest.mark.fault("foreign text in messages")
@pytest.mark.parametrize("kind", STRANGE)
def test_whatever_names_a_certificate_has_they_can_be_told(pki: Pki, kind: str) -> None:
    """Whatever names a valid certificate has, it is shown as text and as JSON, or refused with TLS or CERT."""
    told: list[Any] = []
    pair = pki.built(f"strange {kind}", "c", STRANGE[kind])  # its own file, as contexts are kept by their files
    client = client_of(pki, cert=pair.cert, key=pair.key)
    _, failure = meet(client, server_of(pki, told.append, cafile=pki.ca))
    if failure is None:
        [event] = told
        assert read(event.certificates[0]).subject == "CN=c"
        assert "TLSv1.3" in (sentence(event, 1) or "")
        assert fields(event, 1) is not None
    else:
        assert failure.exit in (Exit.TLS, Exit.CERT)


@given(st.binary(max_size=100), st.booleans())
@example(b"", True)
@example(b"\x0b\0\0\0", True)
@example(b"\x0b\0\0\1\xff", True)
@example(b"\x0b" + bytes(10_000), False)
def test_any_message_of_certificates(message: bytes, newest: bool) -> None:
    """Any message of certificates, which nothing has checked yet, is read without an error, and its size is limited."""
    assert len(tls_context._certificates(message, newest=newest)) <= 32


@on_kernel
async def test_without_a_certificate_no_fingerprint_is_met(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the peer's certificate is not available, a fingerprint is not accepted."""
    monkeypatch.setattr(tls_context, "_keep_certificates", lambda *message: None)
    pair = pki.built("unseen", "c", [x509.DNSName("localhost")])
    [wanted] = [read(ssl.PEM_cert_to_DER_cert(Path(pair.cert).read_text())).fingerprint]
    client = tls.client(Security(fingerprints=(wanted,)), "localhost", ignore)
    one, other = map(connection, memory.pair())
    async with Group() as group:
        group.start_soon(failure_of(server_of(pki, pair=pair)(other, NONE)))
        with pytest.raises(Failure) as caught:
            await client(one, NONE)
        group.cancel()
    assert (caught.value.exit, caught.value.reason) == (Exit.CERT, "it has shown no certificate")


@pytest.mark.parametrize("newest", ["1.2", None])
@on_kernel
async def test_our_certificate_is_not_sent_to_a_server_of_another_fingerprint(pki: Pki, newest: str | None) -> None:
    """The fingerprint is checked before anything is sent behind the first message."""
    ours = {"cert": pki.client.cert, "key": pki.client.key, "newest": newest}
    one, other = memory.pair()
    async with Group() as group:
        refusing = group.start_soon(failure_of(client_of(pki, fingerprints=("none",), **ours)(connection(one), NONE)))
        await sleep(0)
        hello = one.counts.sent
        group.start_soon(server_of(pki, cafile=pki.ca)(connection(other), NONE))
        await refusing.finished.wait()
        group.cancel()
    assert (refusing.result.exit, one.counts.sent) == (Exit.CERT, hello)


def test_a_certificate_without_alternative_names_is_told_by_its_subject(pki: Pki) -> None:
    """For a certificate with only a common name, as clients often have, the message shows its subject."""
    told: list[Any] = []
    client = client_of(pki, cert=pki.client.cert, key=pki.client.key)
    assert meet(client, server_of(pki, told.append, cafile=pki.ca)) == (None, None)
    assert "certificate of a client, " in (sentence(told[0], 1) or "")


@pytest.mark.fault("payload before verification")
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_certificate_is_refused_before_payload(pki: Pki, kind: str) -> None:
    """A bad certificate fails with CERT at the client, and the server gets an alert."""
    name = HERE if kind == "address as DNS name" else "localhost"
    ours, theirs = meet(client_of(pki, name=name), server_of(pki, pair=pki.bad(kind)))
    assert (ours.exit, theirs.exit) == (Exit.CERT, Exit.TLS)
    assert theirs.reason.startswith("the peer sent alert ")


@on_kernel
async def test_who_is_refused_is_read_on_so_that_the_alert_arrives(pki: Pki) -> None:
    """What a client sends before it hears of its refusal is read; unread, it would make a reset of the close."""
    one, other = memory.pair()
    async with Group() as group:
        refusing = group.start_soon(failure_of(server_of(pki, cafile=pki.ca)(connection(other), NONE)))
        client = await client_of(pki)(connection(one), NONE)  # under TLS 1.3 it is done before the server is
        await client.send(bytes(200_000))
    assert refusing.result.exit is Exit.TLS
    assert other.counts.received == one.counts.sent
    with pytest.raises(Failure) as caught:
        await client.recv()
    assert (caught.value.exit, caught.value.reason) == (Exit.TLS, "the peer sent alert certificate_required")


@pytest.mark.fault("name of a TLS server")
@pytest.mark.parametrize(
    "name",
    [
        "www.example.org",
        "WWW.Example.ORG",
        "www.example.org.",
        "xn--bcher-kva.example",
        "xn--bcher-kva.example.org",
        "192.0.2.7",
        "fe80::1",
        "fe80::1%eth0",
        "FE80:0:0:0:0:0:0:1",
    ],
)
def test_names_that_a_certificate_covers(pki: Pki, name: str) -> None:
    """Wildcards, A-labels, IPv4 and IPv6 addresses, zones and trailing dots match the names of the certificate."""
    assert meet(client_of(pki, name=name), server_of(pki, pair=pki.names)) == (None, None)


@pytest.mark.parametrize("name", ["example.org", "a.b.example.org", "xn--fiqs8s.example", "192.0.2.8", "fe80::2"])
def test_names_that_a_certificate_does_not_cover(pki: Pki, name: str) -> None:
    """A wildcard stands for exactly one label."""
    failure, _ = meet(client_of(pki, name=name), server_of(pki, pair=pki.names))
    assert failure.exit is Exit.CERT
    assert "match" in failure.reason


# -- timeouts


@pytest.mark.fault("handshake without an answer")
def test_a_handshake_has_ten_seconds(pki: Pki) -> None:
    """A handshake that takes more than HANDSHAKE seconds is aborted, even if single bytes arrive."""
    for pause in (1000.0, 0.9):
        clock = PatientClock() if pause > HANDSHAKE else JumpClock()
        events: list[Any] = []

        async def main(pause: float = pause, events: list[Any] = events) -> None:
            ours, theirs = socket.socketpair()
            with theirs:
                async with Group() as group:

                    async def drip() -> None:
                        for byte in b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(100):
                            await sleep(pause)
                            theirs.send(bytes([byte]))

                    group.start_soon(drip())
                    with pytest.raises(Failure) as caught:
                        await serve_connection(SocketStream(ours, "client"), hold, events.append, [server_of(pki)])
                    group.cancel()
            assert caught.value.exit is Exit.TIMEOUT
            assert str(caught.value) == "cannot secure the connection to client: no handshake within 10 s"

        run(main(), clock)
        assert clock.time == pytest.approx(HANDSHAKE)
        [closed] = events
        assert isinstance(closed, Closed)
        assert (closed.bytes_received, closed.bytes_sent, closed.bytes_acknowledged) == (0, 0, 0)


@pytest.mark.fault("client that stalls in its handshake")
def test_a_client_that_stalls_holds_up_nobody(pki: Pki) -> None:
    """While one client stalls in its handshake others are served; it is reset after its timeout."""

    async def script(server: Server) -> None:
        with Client(server.listener) as stalled, Client(server.listener) as plain:
            plain.socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert await plain.was_reset()
            for _ in range(2):
                async with Group() as group:
                    how = Dialling(layers=[client_of(pki)])
                    stream = await dial(server.listener.endpoints[0], how, group=group)
                    await stream.send(b"echo")
                    assert await stream.recv() == b"echo"
                    stream.close()
            assert now() < 1
            assert await stalled.was_reset()
            assert now() == pytest.approx(HANDSHAKE, abs=0.5)
        server.stop.set()

    server = serving(script, layers=[server_of(pki)])
    assert server.failure is None
    reasons = [event.reason for event in server.seen(Closed)]
    assert any("does not speak TLS" in reason for reason in reasons)
    assert any("no handshake within 10 s" in reason for reason in reasons)


def test_the_connect_timeout_covers_the_handshake(pki: Pki) -> None:
    """If the server never answers the handshake, the failure is TIMEOUT after the connect timeout."""
    clock = PatientClock()
    with socket.create_server((HERE, 0)) as listener:
        target = Endpoint(HERE, listener.getsockname()[1])
        with pytest.raises(Failure) as caught:
            run(dial(target, Dialling(timeout=3.0, layers=[client_of(pki)]), group=NONE), clock)
    assert clock.time == pytest.approx(3.0)
    assert caught.value.exit is Exit.TIMEOUT
    assert str(caught.value).startswith(f"cannot secure the connection to {target}: no answer within 3 s")


def test_the_patience_of_wait_covers_handshakes(pki: Pki) -> None:
    """``dial_until`` dials a server that does not answer the handshake again until the time is over."""
    clock = PatientClock()
    with socket.create_server((HERE, 0)) as listener:
        target = Endpoint(HERE, listener.getsockname()[1])
        with pytest.raises(Failure) as caught:
            run(dial_until(target, 5.0, Dialling(timeout=2.0, layers=[client_of(pki)]), group=NONE), clock)
        assert clock.time == pytest.approx(5.0, abs=0.1)
        assert caught.value.exit is Exit.TIMEOUT
