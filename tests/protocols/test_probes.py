"""Probes: which answers mean that a server is ready, which that it is not, and which are another protocol.

Debian has no packages of MongoDB and Kafka, so that their answers are made here as their documentation says.
"""

import re
import struct
from collections.abc import Sequence

import dns.message
import dns.rcode
import pytest

from netkit.core.errors import Failure
from netkit.core.search import Pattern
from netkit.protocols import url
from netkit.protocols.dialogue import LIMIT, NotReady
from netkit.protocols.probes.http import http
from tests.clock import run
from tests.memory import pair
from tests.support import binary
from tests.support.binary import (
    BSON_NOT_OK,
    BSON_OK,
    BSON_OTHERS,
    KAFKA_VERSIONS,
    POSTGRES_REQUEST,
    amqp_method,
    bson,
    bson_bool,
    bson_text,
    grpc_answer,
    grpc_heard,
    kafka_handshake,
    kafka_message,
    kafka_metadata,
    kafka_versions,
    ldap_done,
    mongodb_message,
    mysql_error,
    postgres_failure,
    postgres_message,
)
from tests.support.probes import FITTING, INFO, NAMES, READY, READY_DATAGRAMS, SSH, bytes_of, outcome
from tests.support.starttls import mysql_greeting, mysql_packet

PASSWORD = "it wants a password"
NEITHER = "it is neither primary nor secondary"
GREETING = mysql_greeting()
TRUST, TERMINATE = binary.POSTGRES_TRUST, binary.POSTGRES_TERMINATE
SWITCH = mysql_packet(b"\xfecaching_sha2_password\0" + bytes(21), 2)
SETTINGS = bytes.fromhex("000000 04 00 00000000")
GOAWAY = bytes.fromhex("000008 07 00 00000000 00000000 00000000")


def hello(*elements: bytes, answered: int = 1) -> bytes:
    """Return MongoDB's answer with these elements among others."""
    return mongodb_message(9, answered, bson(*BSON_OTHERS, *elements, *BSON_OTHERS))


UNKNOWN = hello(BSON_NOT_OK, bson_text(b"errmsg", b"no such command: 'hello'"), b"\x10code\0" + struct.pack("<i", 59))
IS_MASTER = bson_bool(b"ismaster", True)
PLAIN = kafka_handshake(34)
MOCK_VERSIONS = kafka_versions((3, 0, 2), (18, 0, 2))  # as librdkafka's mock cluster has them
STREAMS = pytest.mark.parametrize("name", READY)


@STREAMS
def test_a_server_that_is_ready(name: str) -> None:
    """The server is ready with its last byte, not before, however its answer is split; the probe says goodbye."""
    said, heard = READY[name]
    for pieces in ([said], bytes_of(said)):
        found = outcome(name, pieces)
        assert (found.kind, found.words) == ("ready", "")
        assert re.fullmatch(heard, found.said), found.said
    for end in range(len(said)):
        assert outcome(name, [said[:end]]).kind == "waits"


@pytest.mark.parametrize(
    ("name", "said", "words", "heard"),
    [
        ("redis", b"-NOAUTH Authentication required.\r\n", PASSWORD, b"QUIT\r\n"),
        ("redis", b"-NOPERM this user has no permissions to run the 'ping' command\r\n", PASSWORD, b"QUIT\r\n"),
        ("redis", b"-ERR operation not permitted\r\n", PASSWORD, b"QUIT\r\n"),
        ("memcached", b"CLIENT_ERROR unauthenticated\r\n", PASSWORD, b"quit\r\n"),
        ("nats", b'INFO {"auth_required":true,"nonce":"x"}\r\n', PASSWORD, b""),
        ("nats", b'INFO {"auth_required":true,"tls_required":true}\r\n', "it wants TLS", b""),
        ("nats", b'INFO {"auth_required":false,"tls_available":true}\r\nPONG\r\n', "", b"PING\r\n"),
        ("mqtt", b"\x20\x02\x00\x04", PASSWORD, b""),
        ("mqtt", b"\x20\x02\x00\x05", PASSWORD, b""),
        ("mqtt", b"\x20\x02\x01\x00", "", b"\xe0\0"),
        ("smtp", b"220\n250\n", "", b"QUIT\r\n"),
        ("imap", b"* preauth hi\r\nA OK\r\n", "", b"LOGOUT\r\n"),
        ("pop3", b"+ok\r\n+OK\r\n", "", b"QUIT\r\n"),
        ("ftp", b"220 hi\r\n200 zzz\r\n", "", b"QUIT\r\n"),
        ("ftp", b"220 hi\r\n502 what?\r\n", "", b"QUIT\r\n"),
        ("ftp", b"220 hi\r\n503 Login with USER first.\r\n", "", b"QUIT\r\n"),
        ("ssh", b"Authorized use alone.\r\n\r\nYes, \xc3\xbc!\nSSH-1.99-x\n", "", b"netkit\r\n"),
        ("ssh", b"SSH-2.0-x comments are for people\r\n", "", b"netkit\r\n"),
        ("postgres", postgres_message(b"R", struct.pack("!I", 3)), "", POSTGRES_REQUEST),
        ("postgres", postgres_failure(b"28000", b'no pg_hba.conf entry for host "192.0.2.1"'), "", POSTGRES_REQUEST),
        ("postgres", postgres_failure(b"3D000", b'no such database: "postgres"'), "", POSTGRES_REQUEST),
        ("postgres", TRUST + postgres_failure(b"28000", b'role "netkit" does not exist'), "", POSTGRES_REQUEST),
        ("postgres", postgres_message(b"v", bytes(8)) + TRUST + postgres_message(b"S", b"a\0b\0"), "", TERMINATE),
        ("mysql", GREETING + mysql_error(2, 1698, b"#28000Access denied"), "", binary.mysql_response()),
        ("mysql", GREETING + mysql_error(2, 3159, b"#HY000Connections using"), "it wants TLS", binary.mysql_response()),
        ("mysql", GREETING + SWITCH + mysql_error(4, 1045, binary.MYSQL_DENIED), "", mysql_packet(b"", 3)),
        ("mysql", GREETING + mysql_packet(b"\x01\x04", 2), "", binary.mysql_response()),
        ("mysql", GREETING + mysql_packet(bytes(7), 2), "", mysql_packet(b"\x01")),
        ("mongodb", hello(bson_bool(b"secondary", True), BSON_OK), "", binary.mongodb_request(1, b"hello")),
        ("mongodb", UNKNOWN + hello(IS_MASTER, BSON_OK, answered=2), "", binary.mongodb_request(2, b"isMaster")),
        ("amqp", b"AMQP\0\x01\0\0", "it speaks AMQP 1.0", b"AMQP\0\0\x09\x01"),
        ("amqp", b"AMQP\x03\x01\0\0", "it speaks AMQP 1.0", b"AMQP\0\0\x09\x01"),
        ("kafka", KAFKA_VERSIONS + kafka_handshake(0), PASSWORD, binary.KAFKA_HANDSHAKE),
        ("kafka", KAFKA_VERSIONS + kafka_handshake(33), PASSWORD, binary.KAFKA_HANDSHAKE),
        ("kafka", MOCK_VERSIONS + kafka_metadata(1), "", binary.kafka_request(3, 1, bytes(4))),
        ("kafka", kafka_versions((18, 0, 4), error=35), "", binary.kafka_request(18, 0)),
        ("ldap", ldap_done(32), "", binary.LDAP_UNBIND),
        ("ldap", ldap_done(8, b"authentication required"), PASSWORD, binary.LDAP_UNBIND),
        ("ldap", ldap_done(1, b"BIND required"), "result 1 (operationsError) BIND required", binary.LDAP_UNBIND),
        ("ldap", ldap_done(50), PASSWORD, binary.LDAP_UNBIND),
        ("ldap", ldap_done(13), "it wants TLS", binary.LDAP_UNBIND),
        ("grpc", grpc_answer(16, None, "who are you?"), "it wants credentials", GOAWAY),
        ("grpc", grpc_answer(7, None), "it wants credentials", GOAWAY),
    ],
)
def test_other_words_for_ready(name: str, said: bytes, words: str, heard: bytes) -> None:
    """A server that asks for authentication is ready, and the probe ends with the protocol's farewell, if any."""
    found = outcome(name, [said])
    assert found[:2] == outcome(name, bytes_of(said))[:2] == ("ready", words)
    assert found.said.endswith(heard)
    for end in range(len(said)):
        assert outcome(name, [said[:end]]).kind == "waits"


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING Redis is loading the dataset"),
        ("redis", b"-MASTERDOWN Link with MASTER is down\r\n", "MASTERDOWN Link with MASTER is down"),
        ("redis", b"-CLUSTERDOWN The cluster is down\r\n", "CLUSTERDOWN The cluster is down"),
        ("redis", b"-BUSY Redis is busy running a script.\r\n", "BUSY Redis is busy"),
        ("redis", b"-MISCONF Errors writing to the AOF file\r\n", "MISCONF Errors writing"),
        ("redis", b"-ERR max number of clients reached\r\n", "ERR max number of clients reached"),
        ("redis", b"-DENIED Redis is running in protected mode because\r\n", "DENIED Redis is running in protected"),
        ("redis", b"-\xff\x1b\r\n", "\\xff\x1b"),
        ("memcached", b"ERROR Too many open connections\r\n", "ERROR Too many open connections"),
        ("memcached", b"SERVER_ERROR out of memory\r\n", "SERVER_ERROR out of memory"),
        ("nats", b'INFO {"ldm":true}\r\n', "it is in lame duck mode"),
        ("nats", b"-ERR 'maximum connections exceeded'\r\n", "maximum connections exceeded"),
        ("nats", INFO + b"-ERR 'Server Shutdown'\r\n", "Server Shutdown"),
        ("mqtt", b"\x20\x02\x00\x03", "it is unavailable (code 3)"),
        ("ftp", b"120 ready in 5 minutes\r\n", "120 ready in 5 minutes"),
        ("ssh", b"Exceeded MaxStartups\r\n", "Exceeded MaxStartups"),
        ("ssh", b"Not allowed at this time\r\n", "Not allowed at this time"),
        ("postgres", postgres_failure(b"57P03", b"the database system is starting up"), "the database system is sta"),
        ("postgres", postgres_failure(b"53300", b"sorry, too many clients already"), "sorry, too many clients already"),
        ("postgres", TRUST + postgres_failure(b"53300", b"remaining connection slots"), "remaining co"),
        ("postgres", postgres_failure(b"08P01", b"server conn crashed?"), "server conn crashed?"),
        ("postgres", b"Ecould not fork new process for connection: Cannot allocate memory\n\0", "could not fork new p"),
        ("mysql", mysql_error(0, 1040, b"Too many connections"), "Too many connections"),
        ("mysql", mysql_error(0, 1040, b"#08004Too many connections"), "Too many connections"),
        ("mysql", mysql_error(0, 1129, b"Host '192.0.2.1' is blocked"), "Host '192.0.2.1' is blocked"),
        ("mysql", mysql_error(0, 1130, b"Host '192.0.2.1' is not allowed to connect"), "Host '192.0.2.1' is not al"),
        ("mysql", GREETING + mysql_error(2, 1053, b"#08S01Server shutdown in progress"), "Server shutdown in progress"),
        ("mongodb", hello(bson_bool(b"isWritablePrimary", False), bson_bool(b"secondary", False), BSON_OK), NEITHER),
        ("mongodb", hello(bson_bool(b"ismaster", False), bson_text(b"info", b"why"), BSON_OK), f"{NEITHER}: why"),
        ("mongodb", hello(BSON_NOT_OK, bson_text(b"errmsg", b"shutdown in progress")), "shutdown in progress"),
        ("mongodb", UNKNOWN + UNKNOWN.replace(struct.pack("<ii", 9, 1), struct.pack("<ii", 9, 2)), "no such command"),
        ("amqp", b"AMQP\0\0\x08\0", "it speaks AMQP 0-8-0, not 0-9-1"),
        ("kafka", kafka_versions(error=-1), "it refused ApiVersions: error -1"),
        ("kafka", KAFKA_VERSIONS + PLAIN + kafka_metadata(4, brokers=0), "it knows no broker"),
        ("kafka", MOCK_VERSIONS + kafka_metadata(1, brokers=0), "it knows no broker"),
        ("kafka", KAFKA_VERSIONS + PLAIN + kafka_metadata(4, controller=-1), "it knows no controller"),
        ("ldap", ldap_done(51, b"try later"), "result 51 (busy) try later"),
        ("ldap", ldap_done(52), "result 52 (unavailable)"),
        ("ldap", ldap_done(80, b"internal error"), "result 80 (other) internal error"),
        ("ldap", ldap_done(0, b"bye", id=0, operation=0x78), "result 0 bye"),
        ("grpc", grpc_answer(0, b"\x08\x02"), "NOT_SERVING"),
        ("grpc", grpc_answer(0, b""), "UNKNOWN"),
        ("grpc", grpc_answer(0, b"\x08\x63"), "status 99"),
        ("grpc", grpc_answer(12, None, "unknown service"), "it has no health service"),
        ("grpc", grpc_answer(5, None), "it does not know the service"),
        ("grpc", grpc_answer(14, None, "100%25 b%C3%B6se"), "it refused the check, status 14: 100% böse"),
        ("grpc", grpc_answer(2, None), "it refused the check, status 2"),
        ("grpc", grpc_answer(999_999_999, None), "it refused the check, status 999999999"),
        ("grpc", grpc_answer(None, None, http="503"), "it answered HTTP status 503"),
        ("grpc", SETTINGS + bytes.fromhex("000004 03 00 00000001 00000007"), "it reset the request, error 7"),
        ("grpc", SETTINGS + GOAWAY, "it is going away"),
        ("mysql", mysql_error(0, 1040, b""), "it does not say why"),
        ("postgres", b"E\0\0\0\5\0", "it does not say why"),
        ("mongodb", hello(BSON_NOT_OK, bson_text(b"errmsg", b"\t")), "it does not say why"),
        ("mongodb", hello(BSON_NOT_OK, bson_text(b"errmsg", b"no" * 9999)), "no" * 100 + "..."),
        ("grpc", grpc_answer(13, None, "no" * 999), "it refused the check, status 13: nono"),
    ],
)
def test_a_server_that_is_not_ready(name: str, said: bytes, words: str) -> None:
    """A server that says that it is not ready is not, and its reason is reported."""
    for pieces in ([said], bytes_of(said)):
        found = outcome(name, pieces)
        assert found.kind == "NotReady" and found.words.startswith(words) and len(found.words) <= 203, found


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("mqtt", b"\x20\x02\x00\x01", "it does not take a client of MQTT 3.1.1 (code 1)"),
        ("mqtt", b"\x20\x02\x00\x02", "it does not take a client of MQTT 3.1.1 (code 2)"),
        ("smtp", b"421-too\r\n421 busy\r\n", "it refused the connection: 421-too 421 busy"),
        ("smtp", b"554 5.7.1 not you\r\n", "it refused the connection: 554 5.7.1 not you"),
        ("smtp", b"220 hi\r\n421 going down\r\n", "it refused EHLO: 421 going down"),
        ("lmtp", b"220 hi\r\n500 what?\r\n", "it refused LHLO: 500 what?"),
        ("imap", b"* BYE full\r\n", "it refused the connection: * BYE full"),
        ("imap", b"* OK hi\r\n* BYE shutting down\r\n", "it refused NOOP: * BYE shutting down"),
        ("pop3", b"-ERR [SYS/TEMP] busy\r\n", "it refused the connection: -ERR [SYS/TEMP] busy"),
        ("ftp", b"421 too many\r\n", "it refused the connection: 421 too many"),
        ("ftp", b"220 hi\r\n421 going down\r\n", "it refused NOOP: 421 going down"),
    ],
)
def test_a_server_that_refuses(name: str, said: bytes, words: str) -> None:
    """A refusal is reported with the server's words."""
    assert outcome(name, [said])[:2] == outcome(name, bytes_of(said))[:2] == ("Refused", words)


STRANGERS = {
    "ssh": SSH,
    "http": b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>",
    "tls": b"\x15\x03\x03\x00\x02\x02\x46",
    "noise": bytes(range(128, 256)) + bytes(range(128)),
    "mysql": b"J\0\0\0\n5.5.5-10.11.19-MariaDB\0",
    "line": b"\r\n\r\n",
    "json": b'{"error":"what?"}\n',
    **{name: said for name, (said, _) in READY.items()},
}
# The probe waits for more here: SSH may send text before its identification, and bytes may be a length.
MAY_BE = {
    *(("ssh", stranger) for stranger in ("line", "json", "memcached")),
    *(("mysql", "mysql"), ("mysql", "mqtt"), ("mongodb", "mqtt")),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@STREAMS
def test_another_protocol(name: str, stranger: str) -> None:
    """An answer of another protocol is reported at once, with its first line."""
    said = STRANGERS[stranger]
    if said == READY[name][0]:
        return
    found = outcome(name, [said])
    if (name, stranger) in MAY_BE:
        assert found.kind == "waits"
        return
    assert found.kind == outcome(name, bytes_of(said)).kind == "Malformed", found
    assert "\n" not in found.words


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("redis", b"+PONG!\r\n"),
        ("memcached", b"ERROR\r\n"),
        ("memcached", b"CLIENT_ERROR unauthenticated, you\r\n"),
        ("nats", b"INFO []\r\n"),
        ("nats", b"INFO " + b"[" * 30_000 + b"\r\n"),
        ("nats", b"INFO \xff\r\n"),
        ("nats", b"INFOX {}\r\n"),
        ("nats", INFO + b"PONGS\r\n"),
        ("mqtt", b"\x20\x02\x00\x06"),
        ("mqtt", b"\x20\x02\x02"),
        ("mqtt", b"\x20\xff\xff\xff\x7f"),  # a length of 256 MiB
        ("smtp", b"220-hi\r\n250 there\r\n"),
        ("imap", b"* OKAY\r\n"),
        ("imap", b"* OK\r\nb OK\r\n"),
        ("pop3", b"+OKAY\r\n"),
        ("ftp", b"220 hi\r\n250 2.0.0 Ok\r\n"),  # Postfix
        ("ssh", b"SSH-1.5-old\r\n"),
        ("ssh", b"SSH-2.0\r\n"),
        ("ssh", b"220 mail.example\r\n"),
        ("postgres", b"ERROR\r\n"),
        ("postgres", b"R\0\0\0\3"),
        ("postgres", b"R\0\0\x7f\xff"),
        ("mysql", mysql_packet(b"\x09old")),
        ("mysql", mysql_packet(b"\x0a5.5\0short")),
        ("mysql", GREETING + mysql_packet(b"\x02", 2)),
        ("mysql", GREETING + mysql_packet(b"", 2)),
        ("mysql", GREETING + GREETING),
        ("mysql", GREETING + SWITCH + mysql_packet(b"\xfe", 4)),
        ("mysql", b"\xff\xff\xff\0"),
        ("mysql", b"\xff\xff\0\0\0"),
        ("mysql", bytes(4)),
        ("mongodb", hello(BSON_OK, answered=2)),
        ("mongodb", mongodb_message(1, 1, bson(BSON_OK), 1)),
        ("mongodb", mongodb_message(1, 1, b"\0\0\0\0")),
        ("mongodb", mongodb_message(1, 1, bson(BSON_OK[:-1]))),
        ("mongodb", mongodb_message(1, 1, bson(b"\x02a\0\xff\xff\xff\x7fx"))),
        ("mongodb", mongodb_message(1, 1, bson(b"\x20a\0"))),
        ("mongodb", mongodb_message(1, 1, bson(b"\x0ba\0b"))),
        ("mongodb", b"\xff\xff\xff\xff"),
        ("amqp", b"AMQX"),
        ("amqp", b"\1\0\1"),
        ("amqp", amqp_method(10, 50)),
        ("amqp", binary.AMQP_START[:-1] + b"\0"),
        ("amqp", b"\1\0\0\xff\xff\xff\xff"),
        ("kafka", b"\x7f\xff\xff\xff"),
        ("kafka", kafka_message(b"\0\0\0\x12\0\0\0\0\xff\xff")),
        ("kafka", KAFKA_VERSIONS + kafka_metadata(4)),
        ("kafka", KAFKA_VERSIONS + PLAIN + kafka_message(struct.pack("!iii", 3, 0, 2**31 - 1))),
        ("kafka", kafka_message(struct.pack("!ihi", 18, 0, -1))),  # -1 versions
        ("kafka", KAFKA_VERSIONS + PLAIN + kafka_message(struct.pack("!iii", 3, 0, -1))),  # -1 brokers
        ("ldap", ldap_done(0, operation=0x61)),
        ("ldap", ldap_done(0, id=2)),
        ("ldap", b"\x30\x80"),
        ("ldap", b"\x30\x03\x02\x01\x01"),
        ("ldap", b"\x30\x07\x02\x01\x01\x65\x02\x02\x00"),
        ("grpc", bytes.fromhex("000000 00 00 00000000")),  # no SETTINGS
        ("grpc", bytes.fromhex("000000 04 00 00000001")),  # SETTINGS on a stream
        ("grpc", bytes.fromhex("ffffff")),
        ("grpc", grpc_answer(None, None, http="404")),
        ("grpc", grpc_answer(None)),
        ("grpc", grpc_answer(0, None)),
        ("grpc", grpc_answer(0, b"\x10\x01")),
        ("grpc", grpc_answer("9" * 5000, None)),
    ],
)
def test_an_answer_that_means_nothing(name: str, said: bytes) -> None:
    """An invalid answer is malformed, however it is split."""
    found = outcome(name, [said])
    assert found.kind == outcome(name, bytes_of(said)).kind == "Malformed", found


def test_what_is_too_long_is_not_waited_for() -> None:
    """An answer with a large length, which LDAP can give in four bytes, is refused without waiting for it."""
    for pieces in ([b"\x30\x84\x7f\0\0\0"], bytes_of(b"\x30\x84\x7f\0\0\0")):
        assert outcome("ldap", pieces)[:2] == ("Refused", "its answer would be 2130706438 bytes long")


@STREAMS
def test_an_answer_without_an_end(name: str) -> None:
    """An answer without an end is given up at the limit."""
    begin = {"memcached": b"VERSION ", "nats": b"INFO ", "mqtt": b"\x20\x02\x00", "ssh": b""}
    first = begin.get(name, READY[name][0][:1])
    assert outcome(name, [first, *[b"o" * 1024] * (LIMIT // 1024 + 1)]).kind in ("Refused", "Malformed")


@pytest.mark.parametrize(
    ("name", "said", "heard"),
    [
        ("smtp", b"250 hi\r\n", b"EHLO [192.0.2.1]\r\nQUIT\r\n"),
        ("lmtp", b"250 hi\r\n", b"LHLO [192.0.2.1]\r\nQUIT\r\n"),
        ("imap", b"a OK\r\n", b"a NOOP\r\nb LOGOUT\r\n"),
        ("pop3", b"+OK\r\n", b"QUIT\r\n"),
        ("ftp", b"530 login first\r\n", b"NOOP\r\nQUIT\r\n"),
    ],
)
def test_behind_starttls(name: str, said: bytes, heard: bytes) -> None:
    """After STARTTLS the server sends no second greeting."""
    assert outcome(name, [said], NAMES._replace(greeted=True)) == ("ready", "", heard)


def test_mysql_behind_starttls() -> None:
    """After STARTTLS there is no greeting, packet numbers continue, and capabilities are those of the SSLRequest."""
    said = mysql_error(3, 1045, binary.MYSQL_DENIED)
    names = NAMES._replace(greeted=True)
    assert outcome("mysql", [said], names) == ("ready", "", binary.mysql_response(2, 0x8AA05))


@pytest.mark.parametrize(
    ("name", "resource", "scheme", "body"),
    [
        ("grpc", "", "http", b""),
        ("grpc", "a.B", "http", b"\x0a\x03a.B"),
        ("grpcs", "\udcff" * 300, "https", b"\x0a\xac\x02" + b"\xff" * 300),
    ],
)
def test_a_check_of_grpc(name: str, resource: str, scheme: str, body: bytes) -> None:
    """The check asks for the service in the URL, as gRPC's health protocol over HTTP/2 requires."""
    headers, message = grpc_heard(outcome(name, [], NAMES._replace(resource=resource)).said)
    assert message == struct.pack("!BI", 0, len(body)) + body
    assert headers == {
        ":method": "POST",
        ":scheme": scheme,
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": "mail.example",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "netkit",
    }


def test_a_service_of_grpc_that_has_too_long_a_name() -> None:
    """A service with too long a name is refused."""
    with pytest.raises(ValueError, match="too long"):
        outcome("grpc", [], NAMES._replace(resource="a" * 4097))


# -- datagrams


def answer(code: int, flags: int = 0x8100, counts: int = 1) -> bytes:
    """A DNS message without its id: flags, counts of its sections, and the question."""
    return struct.pack("!HHHHH", flags | code, counts, 0, 0, 0) + b"\0\0\x02\0\x01"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (answer(dns.rcode.NOERROR), "ready", ""),
        (answer(dns.rcode.NOERROR, 0x8300), "ready", ""),  # truncated
        (answer(dns.rcode.NXDOMAIN), "ready", "NXDOMAIN"),
        (answer(dns.rcode.REFUSED), "ready", "REFUSED"),
        (answer(dns.rcode.REFUSED, counts=0)[:10], "ready", "REFUSED"),  # only the header
        (answer(dns.rcode.SERVFAIL), "NotReady", "SERVFAIL"),
        (answer(dns.rcode.NOERROR, 0x9800), "Malformed", ""),  # opcode 3, which older versions of dnspython do not know
        (answer(dns.rcode.NOERROR, 0x0100), "Malformed", ""),  # the question itself, as from an echo server
        (answer(dns.rcode.NOERROR).replace(b"\0\x02\0\x01", b"\0\x01\0\x01"), "Malformed", ""),
        (answer(dns.rcode.NOERROR, counts=9), "Malformed", ""),
        (b"", "Malformed", ""),
    ],
)
def test_dns(said: bytes, kind: str, words: str) -> None:
    """A server that answers the question is ready, unless the answer says that it failed."""
    found = outcome("dns", [said])
    assert found.kind == kind and (found.words == words or kind == "Malformed")
    query = dns.message.from_wire(found.said)
    assert [str(question) for question in query.question] == [". IN NS"]


def time(first: int = 0x24, stratum: int = 2, reference: bytes = b"\x7f\x7f\x01\x01") -> bytes:
    """An NTP packet without its origin timestamp."""
    return bytes([first, stratum]) + bytes(10) + reference + bytes(24)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (time(), "ready", "stratum 2"),
        (time(0x1C, 15), "ready", "stratum 15"),  # version 3
        (time(0x64, 1), "ready", "stratum 1"),  # with a leap second announced
        (time() + bytes(20), "ready", "stratum 2"),  # with a signature
        (time(0xE4), "NotReady", "its clock is not synchronized"),
        (time(0x24, 0), "NotReady", "its clock is not synchronized"),
        (time(0x24, 16), "NotReady", "its clock is not synchronized"),
        (time(0xE4, 0, bytes(4)), "NotReady", "its clock is not synchronized"),
        (time(0xE4, 0, b"RATE"), "NotReady", "kiss-o'-death RATE"),
        (time(0x23), "Malformed", ""),  # that of a client, as from an echo server
        (time()[:39], "Malformed", ""),
        (b"", "Malformed", ""),
    ],
)
def test_ntp(said: bytes, kind: str, words: str) -> None:
    """The server is ready if its clock is synchronized."""
    found = outcome("ntp", [said])
    assert found.kind == kind and (found.words == words or kind == "Malformed")
    assert len(found.said) == 48 and found.said[0] == 0x23


@pytest.mark.parametrize("name", READY_DATAGRAMS)
def test_what_answers_somebody_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Datagrams that answer another request are ignored."""
    said = READY_DATAGRAMS[name]
    fit = FITTING[name]
    alien, own = fit(bytes(48), said), lambda request, data: data or fit(request, said)
    monkeypatch.setitem(FITTING, name, own)
    assert outcome(name, [alien]).kind == "waits"
    assert outcome(name, [alien, alien, b""]).kind == "ready"


def ask(answer: bytes, statuses: Sequence[int], expect: bytes | None) -> str:
    """Return what the probe of URLs says of an answer, behind which the server ends."""

    async def main() -> str:
        ours, theirs = pair()
        await theirs.send(answer)
        await theirs.send_eof()
        try:
            return await http(ours, url.parse("http://h/"), [], statuses, expect and Pattern(expect))
        except NotReady as error:
            return f"not ready: {error}"
        except Failure as failure:
            return f"{failure.exit.name} {failure.reason}"

    return run(main())


OK, FOUND, NONE, BUSY = "200 OK", "302 Found", "204 No Content", "503 Busy"


@pytest.mark.parametrize(
    ("status", "statuses", "expect", "said"),
    [
        *((status, (), None, status) for status in (OK, NONE, FOUND, "399 x")),
        *((status, (), None, f"not ready: {status}") for status in ("400 x", BUSY)),
        *((status, (200, 503), None, status) for status in (OK, BUSY)),
        *((status, (200, 503), None, f"not ready: {status}") for status in (NONE, FOUND)),
        (OK, (), b"^up$", OK),
        (OK, (), b"down", "not ready: 200 OK, and nothing in its body matches --expect"),
        (BUSY, (), b"^up$", "not ready: 503 Busy"),
    ],
)
def test_urls(status: str, statuses: Sequence[int], expect: bytes | None, said: str) -> None:
    """2xx and 3xx are ready unless other statuses are wanted, and the body has to match a pattern."""
    body = b"" if status == NONE else b"all is\nup\n"
    assert (
        ask(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body), statuses, expect)
        == said
    )


@pytest.mark.parametrize(
    ("answer", "exit"),
    [
        (b"SSH-2.0-x\r\n", "PROTOCOL"),
        (b"HTTP/1.1 2xx\r\n\r\n", "PROTOCOL"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "PARTIAL"),
    ],
)
def test_what_is_no_answer_of_http(answer: bytes, exit: str) -> None:
    """An answer that is malformed or ends early is a failure."""
    assert ask(answer, (), b"x").startswith(f"{exit} ")
