"""The plaintext dialogues before TLS: what is said, and what a server may not say."""

import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from netkit.cli.layers import STARTTLS
from netkit.core import kernel, tls
from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure
from netkit.core.events import ignore
from netkit.core.kernel import Group
from netkit.core.layer import Setting, through
from netkit.core.stream import Connection
from netkit.core.tls_context import Security
from netkit.protocols.dialogue import LIMIT, Names, Refused
from netkit.protocols.starttls.dialogue import INJECTED, Upgrade
from netkit.protocols.starttls.layer import DIALOGUES, beginning, greeting
from tests import contract, memory
from tests.contract import Check, check_stream, read_all, read_exactly
from tests.support.binary import postgres_failure
from tests.support.certificates import Pki
from tests.support.peers import tcp_sockets
from tests.support.probes import Outcome, outcome_of
from tests.support.starttls import (
    CLIENT,
    DOMAIN,
    XMPP_FEATURES,
    XMPP_STREAM,
    XMPP_TLS,
    dialogue,
    ldap_response,
    mysql_greeting,
    mysql_packet,
)
from tests.support.streams import streams_of

PROTOCOLS = pytest.mark.parametrize("protocol", STARTTLS)
# The answers of INN 2.7.1, whose nnrpd is not among the servers of the interop tests.
INN = [
    b"200 news.example.org InterNetNews NNRP server INN 2.7.1 ready (posting ok)\r\n",
    b"101 Capability list:\r\nVERSION 2\r\nIMPLEMENTATION INN 2.7.1\r\nAUTHINFO SASL\r\nCOMPRESS DEFLATE\r\nREADER\r\n"
    b"SASL SCRAM-SHA-512 SCRAM-SHA-384 DIGEST-MD5\r\nSTARTTLS\r\nXPAT\r\n.\r\n",
    b"382 Begin TLS negotiation now\r\n",
]
NOT_OFFERED = "it does not offer STARTTLS"


def upgrade(protocol: str) -> Upgrade:
    """Return a dialogue at its beginning."""
    return Upgrade(DIALOGUES[protocol](Names(DOMAIN, CLIENT)))


def outcome(protocol: str, pieces: Iterable[bytes]) -> Outcome:
    """The outcome of a dialogue with a server that says this."""
    return outcome_of(upgrade(protocol), [b"", *pieces])


def test_the_option_knows_them_all() -> None:
    """The option's values are the names of the dialogues."""
    assert tuple(DIALOGUES) == STARTTLS


@PROTOCOLS
def test_turns_are_taken(protocol: str) -> None:
    """We send each message in our turn, and TLS begins after the last answer."""
    each = upgrade(protocol)
    assert not each.done
    for theirs, ours in dialogue(protocol):
        assert each.receive(theirs) == ours
    assert each.done


@pytest.mark.parametrize(
    ("protocol", "answers"),
    [
        ("smtp", [b"220\r\n", b"250-mail\n250-\n250 STARTTLS\n", b"220-a\r\n220\r\n"]),
        ("pop3", [b"+OK\r\n", b"-ERR what?\r\n", b"+OK\r\n"]),
        ("ftp", [b"120 in a minute\r\n", b"220 now\r\n", b"234 AUTH TLS\r\n"]),
        ("nntp", [b"200 hi\r\n", b"500 what?\r\n", b"382 go\r\n"]),
        ("nntp", INN),
        ("imap", [b"* ok\r\n", b"* CAPABILITY STARTTLS\r\nA OK\r\n", b"B ok\r\n"]),
        ("sieve", [b'"STARTTLS"\r\nOK\r\n', b'OK (TAG {2}\r\n\r\n) "go"\r\n']),
        ("irc", [b":x CAP * LS :tls\r\n:x 020 * :wait\r\n", b"670 nick :go\r\n"]),
        ("ldap", [bytes.fromhex("308400000028 020101 78840000001f 0a0100 0400 0400 8a16") + b"1.3.6.1.4.1.1466.20037"]),
        ("xmpp", [XMPP_STREAM, XMPP_FEATURES, b"<proceed " + XMPP_TLS + b"></proceed>"]),
        (
            "xmpp",
            [
                b"<stream:stream xmlns:t='urn:ietf:params:xml:ns:xmpp-tls' xmlns:stream='s' version=\"1.0\" >",
                b"\n<stream:features>\n<t:starttls/>\n</stream:features>\n",
                b"\n<proceed " + XMPP_TLS + b" />",
            ],
        ),
    ],
)
def test_other_words_for_yes(protocol: str, answers: list[bytes]) -> None:
    """Answers that the standards allow, and other servers give, are accepted as well."""
    found = outcome(protocol, answers)
    assert found.kind == "ready", found


@pytest.mark.parametrize(
    ("protocol", "answers", "reason"),
    [
        ("smtp", b"220 hi\r\n250-mail\r\n250 XSTARTTLS\r\n", NOT_OFFERED),
        ("smtp", b"220 hi\r\n250 STARTTLS\r\n", NOT_OFFERED),  # the first line has the server's name, not an extension
        ("smtp", b"554-not\r\n554 today\r\n", "it refused the connection: 554-not 554 today"),
        ("smtp", b"220 hi\r\n502 what?\r\n", "it refused EHLO: 502 what?"),
        ("smtp", b"220 hi\r\n250-x\r\n250 STARTTLS\r\n454 TLS \x1b\xff\r\n", "it refused STARTTLS: 454 TLS \x1b\\xff"),
        ("smtp", b"SSH-2.0-OpenSSH_9.2p1\r\n", "its answer is malformed: SSH-2.0-OpenSSH_9.2p1"),
        ("smtp", b"220-hi\r\n250 there\r\n", "its answer is malformed: 250 there"),
        ("lmtp", b"220 hi\r\n250 x\r\n", NOT_OFFERED),
        ("lmtp", b"220 hi\r\n500 x\r\n", "it refused LHLO: 500 x"),
        ("imap", b"* PREAUTH hi\r\n", "it greets with PREAUTH, after which TLS cannot begin"),
        ("imap", b"* BYE full\r\n", "it refused the connection: * BYE full"),
        ("imap", b"* OK\r\n* CAPABILITY IMAP4rev1\r\na OK\r\n", NOT_OFFERED),
        ("imap", b"* OK\r\n* CAPABILITY STARTTLS\r\na OK\r\nb NO later\r\n", "it refused STARTTLS: b NO later"),
        ("imap", b"* OK\r\n* CAPABILITY STARTTLS\r\na OK\r\n* BYE x\r\n", "it refused STARTTLS: * BYE x"),
        ("imap", b"* OK\r\nc OK\r\n", "its answer is malformed: c OK"),
        ("pop3", b"-ERR busy\r\n", "it refused the connection: -ERR busy"),
        ("pop3", b"+OK\r\n+OK\r\nUSER\r\n.\r\n", NOT_OFFERED),
        ("pop3", b"+OK\r\n-ERR\r\n-ERR no\r\n", "it refused STLS: -ERR no"),
        ("ftp", b"421 full\r\n", "it refused the connection: 421 full"),
        ("ftp", b"220 hi\r\n534-not\r\n534 now\r\n", "it refused AUTH TLS: 534-not 534 now"),
        ("nntp", b"400 no\r\n", "it refused the connection: 400 no"),
        ("nntp", b"200 hi\r\n101 list\r\nREADER\r\n.\r\n", NOT_OFFERED),
        ("nntp", b"200 hi\r\n500 what?\r\n580 cannot\r\n", "it refused STARTTLS: 580 cannot"),
        ("sieve", b'"SIEVE" "STARTTLS"\r\nOK\r\n', NOT_OFFERED),
        ("sieve", b'BYE "full"\r\n', 'it refused the connection: BYE "full"'),
        ("sieve", b'"STARTTLS"\r\nOK\r\nNO "later"\r\n', 'it refused STARTTLS: NO "later"'),
        ("irc", b":x 691 * :no TLS\r\n", "it refused STARTTLS: :x 691 * :no TLS"),
        ("irc", b":x 451 * :register first\r\n", "it refused STARTTLS: :x 451 * :register first"),
        ("irc", b"ERROR :closing\r\n", "it refused STARTTLS: ERROR :closing"),
        (
            "ldap",
            ldap_response(2, b"unsupported extended operation"),
            "it refused STARTTLS: result 2 (protocolError) unsupported extended operation",
        ),
        ("ldap", ldap_response(53, b"no"), "it refused STARTTLS: result 53 (unwillingToPerform) no"),
        ("ldap", ldap_response(99), "it refused STARTTLS: result 99"),
        ("ldap", ldap_response(52, b"bye", id=0), "it refused STARTTLS: result 52 (unavailable) bye"),
        ("ldap", b"\x30\x80\0\0", "its answer is malformed: 0\\x80\0\0"),
        ("ldap", b"\x30\x84\x7f\0\0\0", "its answer would be 2130706438 bytes long"),
        ("ldap", b"\x30\x03\x02\x7f\x01", "its answer is malformed: 0\x03\x02\x7f\x01"),
        ("xmpp", XMPP_STREAM + b"<stream:features/>", NOT_OFFERED),
        ("xmpp", XMPP_STREAM + b"<stream:features><starttls xmlns='else'/></stream:features>", NOT_OFFERED),
        (
            "xmpp",
            XMPP_STREAM
            + b"<stream:error><host-unknown xmlns='s'/><text>\xe2\x82\xac</text></stream:error></stream:stream>",
            "it refused the stream: host-unknown \u20ac",
        ),
        ("xmpp", XMPP_STREAM + XMPP_FEATURES + b"<failure x='y'/>", "it refused STARTTLS: failure"),
        (
            "xmpp",
            XMPP_STREAM + XMPP_FEATURES + b"<failure><text>\xc2\x9b</text></failure>",
            "it refused STARTTLS: failure \x9b",
        ),
        ("xmpp", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", "its answer is malformed: <!DOCTYPE a [<!ENTITY b 'c'>]>"),
        ("xmpp", XMPP_STREAM + b"<!-- no -->", "its answer is malformed: <!-- no -->"),
        ("xmpp", b"<html>", "its answer is malformed: html"),
        ("postgres", b"N", "it does not offer TLS"),
        ("postgres", postgres_failure(b"53300", b"too many clients"), "it refused TLS: too many clients"),
        ("postgres", b"Ecould not fork\n\0", "it refused TLS: could not fork"),
        ("mysql", mysql_greeting(0xF7FF), "it does not offer TLS"),
        ("mysql", mysql_packet(b"\xff\x10\x04Too many connections"), "it refused the connection: Too many connections"),
        ("mysql", mysql_packet(b"\x09old"), "its answer is malformed: \x04\0\0\0\told"),
    ],
)
def test_words_for_no(protocol: str, answers: bytes, reason: str) -> None:
    """The reason for a refusal has the words of the server."""
    assert outcome(protocol, [answers]).words == reason


@PROTOCOLS
def test_another_protocol(protocol: str) -> None:
    """The answer of a server of another protocol is malformed, and shown."""
    assert outcome(protocol, [b"HTTP/1.1 400 Bad\r\n\r\n"]).words == "its answer is malformed: HTTP/1.1 400 Bad"


@PROTOCOLS
def test_nothing_may_follow_the_go_ahead(protocol: str) -> None:
    """Data after the go-ahead in the same read is not protected by TLS, and is refused."""
    for more in (b"\n", b"250 injected\r\n", bytes(LIMIT)):
        *before, (last, _) = dialogue(protocol)
        assert outcome(protocol, [*(theirs for theirs, _ in before), last + more]).words == INJECTED


@PROTOCOLS
def test_an_answer_without_an_end_is_bounded(protocol: str) -> None:
    """An answer without an end is given up at the limit."""
    flood = {"ldap": b"\x30\x83\x01\x00\x00", "mysql": b"\xff\xff\0\0\n", "postgres": b"Efl", "xmpp": b"<a b='"}
    flood |= {"imap": b"* OK ", "pop3": b"+OK "}
    begin = flood.get(protocol, b"220-")
    each = upgrade(protocol)
    each.receive(b"")
    with pytest.raises(Refused, match=r"it sent 64 KiB, and no go-ahead for TLS|would be 65\d{3} bytes"):
        each.receive(begin)
        for _ in range(LIMIT // 1024):
            each.receive(b"o" * 1024)


def test_a_long_answer_is_cut() -> None:
    """A long answer is truncated in the message."""
    reason = outcome("smtp", [b"554 " + b"no " * 1000 + b"\r\n"]).words
    assert len(reason) < 240 and reason.endswith("...")


# -- the layer

HERE = Setting(Endpoint(DOMAIN, 1), DOMAIN)


async def speak(stream: Connection, protocol: str, client: str) -> None:
    """Act as the server in the dialogue."""
    for ours, theirs in dialogue(protocol, client):
        await stream.send(ours)
        assert await read_exactly(stream, len(theirs)) == theirs


@pytest.fixture(params=["tcp", "unix"])
def pair_of(request: pytest.FixtureRequest, pki: Pki) -> Any:
    """Return a function that makes the two ends of a connection with TLS after a dialogue."""
    client = [beginning("smtp", HERE), tls.client(Security(cafile=pki.ca), "localhost", ignore)]
    server = tls.server(Security(cert=pki.good.cert, key=pki.good.key), ignore)
    of_unix = request.param == "unix"

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Any, Any]]:
        sockets = socket.socketpair() if of_unix else tcp_sockets()
        async with streams_of(sockets) as (ours, theirs), Group() as group:

            async def serve() -> Connection:
                await speak(theirs, "smtp", "localhost" if of_unix else "[127.0.0.1]")
                return await server(theirs, group)

            serving = group.start_soon(serve())
            near = await through(ours, client, group)
            await serving.finished.wait()
            yield near, serving.result

    return make


@contract.every_check(contract.UNIX, without=contract.closing_ends_the_connection)
def test_contract(pair_of: Any, check: Check) -> None:
    """A connection with TLS after a dialogue keeps the contract, and counts from 0."""
    check_stream(pair_of, check)


@PROTOCOLS
def test_the_layer_reads_no_more_than_the_dialogue(protocol: str) -> None:
    """Data after the dialogue is left for TLS, and plaintext instead of TLS is refused."""

    async def main(first: bytes) -> tuple[bytes, bytes]:
        async with streams_of(tcp_sockets()) as (ours, theirs), Group() as group:
            group.start_soon(speak(theirs, protocol, "[127.0.0.1]"))
            stream = await beginning(protocol, HERE)(ours, group)
            await theirs.send(first)
            came = await stream.recv()
            await theirs.send(b"plain")
            return came, await stream.recv()

    for record in (b"\x16\x03\x03", b"\x15"):
        assert kernel.run(main(record)) == (record, b"plain")
    with pytest.raises(Failure, match=INJECTED) as caught:
        kernel.run(main(b"250 injected\r\n"))
    assert caught.value.exit is Exit.PROTOCOL


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("smtp", b"220 mail.example ESMTP\r\n"),
        ("lmtp", b"220 mail.example LMTP\r\n"),
        ("imap", b"* OK mail.example\r\n"),
        ("pop3", b"+OK mail.example\r\n"),
        ("ftp", b"220 mail.example\r\n"),
        ("nntp", b"200 mail.example\r\n"),
        *((protocol, b"") for protocol in ("sieve", "ldap", "xmpp", "irc", "postgres")),
    ],
)
def test_the_client_of_a_relay_is_greeted(protocol: str, words: bytes) -> None:
    """The target's greeting was in plain text, so a relay sends one of its own to a client that waits for it."""

    async def main() -> bytes:
        near, far = memory.pair()
        stream: Any = await greeting(protocol, HERE._replace(client=cast("Connection", far)))(near, Group())  # type: ignore[arg-type]
        await far.send(b"more")
        await far.send_eof()
        return await read_all(stream)

    assert kernel.run(main()) == words + b"more"
