"""Probes of databases, brokers, directories and gRPC: which answers mean that a server is ready, and which do not.

Tests that apply to all probes are in test_probes_lines.py. Debian has no packages of MongoDB and Kafka, so that
their answers are made here as their documentation says.
"""

import struct

import pytest

from tests.support import binary
from tests.support.binary import (
    BSON_NOT_OK,
    BSON_OK,
    BSON_OTHERS,
    KAFKA_VERSIONS,
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
from tests.support.probes import NAMES, bytes_of, outcome
from tests.support.starttls import mysql_greeting, mysql_packet

GREETING = mysql_greeting()
SWITCH = mysql_packet(b"\xfecaching_sha2_password\0" + bytes(21), 2)
GOAWAY = bytes.fromhex("000008 07 00 00000000 00000000 00000000")
PASSWORD = "it wants a password"


def hello(*elements: bytes, answered: int = 1) -> bytes:
    """Return MongoDB's answer with these elements among others."""
    return mongodb_message(9, answered, bson(*BSON_OTHERS, *elements, *BSON_OTHERS))


UNKNOWN = hello(BSON_NOT_OK, bson_text(b"errmsg", b"no such command: 'hello'"), b"\x10code\0" + struct.pack("<i", 59))
PLAIN = kafka_handshake(34)
MOCK_VERSIONS = kafka_versions((3, 0, 2), (18, 0, 2))  # as librdkafka's mock cluster has them


@pytest.mark.parametrize(
    ("name", "said", "words", "heard"),
    [
        ("postgres", postgres_message(b"R", struct.pack("!I", 3)), "", binary.POSTGRES_REQUEST),
        (
            "postgres",
            postgres_failure(b"28000", b'no pg_hba.conf entry for host "192.0.2.1"'),
            "",
            binary.POSTGRES_REQUEST,
        ),
        ("postgres", postgres_failure(b"3D000", b'no such database: "postgres"'), "", binary.POSTGRES_REQUEST),
        (
            "postgres",
            binary.POSTGRES_TRUST + postgres_failure(b"28000", b'role "netkit" does not exist'),
            "",
            binary.POSTGRES_REQUEST,
        ),
        (
            "postgres",
            postgres_message(b"v", bytes(8)) + binary.POSTGRES_TRUST + postgres_message(b"S", b"a\0b\0"),
            "",
            binary.POSTGRES_TERMINATE,
        ),
        ("mysql", GREETING + mysql_error(2, 1698, b"#28000Access denied"), "", binary.mysql_response()),
        ("mysql", GREETING + mysql_error(2, 3159, b"#HY000Connections using"), "it wants TLS", binary.mysql_response()),
        ("mysql", GREETING + SWITCH + mysql_error(4, 1045, binary.MYSQL_DENIED), "", mysql_packet(b"", 3)),
        ("mysql", GREETING + mysql_packet(b"\x01\x04", 2), "", binary.mysql_response()),
        ("mysql", GREETING + mysql_packet(bytes(7), 2), "", mysql_packet(b"\x01")),
        ("mongodb", hello(bson_bool(b"secondary", True), BSON_OK), "", binary.mongodb_request(1, b"hello")),
        (
            "mongodb",
            UNKNOWN + hello(bson_bool(b"ismaster", True), BSON_OK, answered=2),
            "",
            binary.mongodb_request(2, b"isMaster"),
        ),
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
        ("postgres", postgres_failure(b"57P03", b"the database system is starting up"), "the database system is sta"),
        ("postgres", postgres_failure(b"53300", b"sorry, too many clients already"), "sorry, too many clients already"),
        ("postgres", binary.POSTGRES_TRUST + postgres_failure(b"53300", b"remaining connection slots"), "remaining co"),
        ("postgres", postgres_failure(b"08P01", b"server conn crashed?"), "server conn crashed?"),
        ("postgres", b"Ecould not fork new process for connection: Cannot allocate memory\n\0", "could not fork new p"),
        ("mysql", mysql_error(0, 1040, b"Too many connections"), "Too many connections"),
        ("mysql", mysql_error(0, 1040, b"#08004Too many connections"), "Too many connections"),
        ("mysql", mysql_error(0, 1129, b"Host '192.0.2.1' is blocked"), "Host '192.0.2.1' is blocked"),
        ("mysql", mysql_error(0, 1130, b"Host '192.0.2.1' is not allowed to connect"), "Host '192.0.2.1' is not al"),
        ("mysql", GREETING + mysql_error(2, 1053, b"#08S01Server shutdown in progress"), "Server shutdown in progress"),
        (
            "mongodb",
            hello(bson_bool(b"isWritablePrimary", False), bson_bool(b"secondary", False), BSON_OK),
            "it is nei",
        ),
        (
            "mongodb",
            hello(bson_bool(b"ismaster", False), bson_text(b"info", b"no valid configuration"), BSON_OK),
            "it is neither primary nor secondary: no valid configuration",
        ),
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
        (
            "grpc",
            bytes.fromhex("000000 04 00 00000000 000004 03 00 00000001 00000007"),
            "it reset the request, error 7",
        ),
        ("grpc", bytes.fromhex("000000 04 00 00000000") + GOAWAY, "it is going away"),
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
    ("name", "said"),
    [
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
