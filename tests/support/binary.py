"""Messages of binary protocols: those of servers, and those of our probes."""

import re
import struct

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

from tests.support.starttls import ldap_response, mysql_greeting, mysql_packet

# -- PostgreSQL


def postgres_startup(user: bytes) -> bytes:
    """A StartupMessage of protocol 3.0."""
    body = struct.pack("!HH", 3, 0) + b"user\0" + user + b"\0database\0postgres\0\0"
    return struct.pack("!I", 4 + len(body)) + body


POSTGRES_REQUEST = postgres_startup(b"netkit")
POSTGRES_TERMINATE = b"X\0\0\0\x04"


def postgres_message(kind: bytes, body: bytes) -> bytes:
    """A message of protocol 3."""
    return kind + struct.pack("!I", 4 + len(body)) + body


def postgres_failure(state: bytes, text: bytes) -> bytes:
    """An ErrorResponse with this SQLSTATE."""
    return postgres_message(b"E", b"SFATAL\0VFATAL\0C" + state + b"\0M" + text + b"\0Fpostmaster.c\0\0")


POSTGRES_SCRAM = postgres_message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")
POSTGRES_TRUST = postgres_message(b"R", bytes(4))

# -- MySQL


def mysql_response(number: int = 1, capabilities: int = 0x8A205) -> bytes:
    """A HandshakeResponse41 of ours."""
    body = struct.pack("<IIB23x", capabilities, 1 << 24, 45) + b"netkit\0\0mysql_native_password\0"
    return mysql_packet(body, number)


def mysql_error(number: int, code: int, text: bytes) -> bytes:
    """An error packet."""
    return mysql_packet(b"\xff" + struct.pack("<H", code) + text, number)


MYSQL_DENIED = b"#28000Access denied for user 'netkit'@'localhost' (using password: NO)"

# -- MongoDB


def bson(*elements: bytes) -> bytes:
    """A BSON document of ``elements``."""
    body = b"".join(elements) + b"\0"
    return struct.pack("<i", 4 + len(body)) + body


def bson_bool(name: bytes, value: bool) -> bytes:
    """A boolean element."""
    return b"\x08" + name + b"\0" + bytes([value])


def bson_text(name: bytes, value: bytes) -> bytes:
    """A string element."""
    return b"\x02" + name + b"\0" + struct.pack("<i", len(value) + 1) + value + b"\0"


BSON_OK, BSON_NOT_OK = (b"\x01ok\0" + struct.pack("<d", value) for value in (1.0, 0.0))
# One element of each type. Servers send many of them in answer to hello: topologyVersion, localTime and others.
BSON_OTHERS = (
    b"\x03topologyVersion\0" + bson(b"\x07processId\0" + bytes(12), b"\x12counter\0" + bytes(8)),
    b"\x04hosts\0" + bson(bson_text(b"0", b"a:27017"), bson_text(b"1", b"b:27017")),
    b"\x05b\0" + struct.pack("<iB", 3, 0) + b"abc",
    b"\x06u\0",
    b"\x07o\0" + bytes(12),
    b"\x09localTime\0" + bytes(8),
    b"\x0an\0",
    b"\x0br\0^a\0i\0",
    b"\x0cp\0" + struct.pack("<i", 2) + b"x\0" + bytes(12),
    b"\x0dj\0" + struct.pack("<i", 2) + b"y\0",
    b"\x0es\0" + struct.pack("<i", 2) + b"z\0",
    b"\x0fw\0" + struct.pack("<i", 15) + struct.pack("<i", 2) + b"q\0" + bson(),
    b"\x10maxBsonObjectSize\0" + struct.pack("<i", 16 << 20),
    b"\x11operationTime\0" + bytes(8),
    b"\x12l\0" + bytes(8),
    b"\x13d\0" + bytes(16),
    b"\xffmin\0",
    b"\x7fmax\0",
)


def mongodb_message(number: int, answered: int, document: bytes, operation: int = 2013) -> bytes:
    """An OP_MSG with one document."""
    return struct.pack("<iiii", 21 + len(document), number, answered, operation) + bytes(5) + document


def mongodb_request(number: int, command: bytes) -> bytes:
    """A command of ours."""
    one = b"\x10" + command + b"\0" + struct.pack("<i", 1)
    return mongodb_message(number, 0, bson(one, bson_text(b"$db", b"admin")))


# -- Kafka


def kafka_message(body: bytes) -> bytes:
    """A message with its length before it."""
    return struct.pack("!i", len(body)) + body


def kafka_request(key: int, version: int, body: bytes = b"") -> bytes:
    """A request of ours."""
    return kafka_message(struct.pack("!hhih", key, version, key, 6) + b"netkit" + body)


def kafka_versions(*ranges: tuple[int, int, int], error: int = 0) -> bytes:
    """An answer to ApiVersions. ``ranges`` are the key of a request, and its oldest and newest version."""
    each = b"".join(struct.pack("!hhh", *values) for values in ranges)
    return kafka_message(struct.pack("!ihi", 18, error, len(ranges)) + each)


def kafka_metadata(version: int, brokers: int = 1, controller: int = 0) -> bytes:
    """An answer to Metadata without topics."""
    named = b"".join(struct.pack("!ih", number, 1) + b"a" + struct.pack("!ih", 9092, -1) for number in range(brokers))
    begin, cluster = (struct.pack("!i", 0), struct.pack("!h", 1) + b"c") if version > 3 else (b"", b"")
    return kafka_message(
        struct.pack("!i", 3) + begin + struct.pack("!i", brokers) + named + cluster + struct.pack("!ii", controller, 0)
    )


KAFKA_HANDSHAKE = kafka_request(17, 1, struct.pack("!h", 5) + b"PLAIN")
KAFKA_VERSIONS = kafka_versions((3, 0, 12), (17, 0, 1), (18, 0, 3))


def kafka_handshake(error: int) -> bytes:
    """An answer to SaslHandshake."""
    return kafka_message(struct.pack("!ihi", 17, error, 0))


# -- AMQP 0-9-1


def amqp_method(kind: int, method: int, arguments: bytes = b"") -> bytes:
    """A frame with a method on channel 0."""
    return struct.pack("!BHIHH", 1, 0, 4 + len(arguments), kind, method) + arguments + b"\xce"


AMQP_START = amqp_method(
    10, 10, b"\0\x09" + bytes(4) + struct.pack("!I", 5) + b"PLAIN" + struct.pack("!I", 5) + b"en_US"
)

# -- LDAP

LDAP_SEARCH = bytes.fromhex("302a 020101 6325 0400 0a0100 0a0100 020100 020100 010100 870b") + b"objectClass"
LDAP_SEARCH += bytes.fromhex("3005 0403") + b"1.1"
LDAP_UNBIND = bytes.fromhex("3005 020102 4200")
LDAP_ENTRY = bytes.fromhex("3009 020101 6404 0400 3000")


def ldap_done(code: int, text: bytes = b"", id: int = 1, operation: int = 0x65) -> bytes:
    """A SearchResultDone, as slapd writes it."""
    return ldap_response(code, text, id, operation)


# -- gRPC

SERVING = b"\x08\x01"


def grpc_answer(
    status: int | str | None = 0, message: bytes | None = SERVING, text: str = "", http: str = "200"
) -> bytes:
    """All that a server sends to answer a health check: settings, headers, a message if there is one, and trailers."""
    server = H2Connection(H2Configuration(client_side=False))
    client = H2Connection(H2Configuration())
    client.initiate_connection()
    client.send_headers(1, [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "a")], True)
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    headers = [(":status", http), ("content-type", "application/grpc")]
    told = [("grpc-status", str(status)), *([("grpc-message", text)] if text else [])] if status is not None else []
    if message is None:
        server.send_headers(1, headers + told, end_stream=True)
    else:
        server.send_headers(1, headers)
        server.send_data(1, struct.pack("!BI", 0, len(message)) + message, end_stream=status is None)
        if told:
            server.send_headers(1, told, end_stream=True)
    return server.data_to_send()


def grpc_heard(said: bytes) -> tuple[dict[str, str], bytes]:
    """The headers and the body of a client's request."""
    server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    server.initiate_connection()
    events = server.receive_data(said)
    [headers] = [event.headers for event in events if isinstance(event, RequestReceived)]
    assert any(isinstance(event, StreamEnded) for event in events)
    return {str(name): str(value) for name, value in headers}, b"".join(getattr(each, "data", b"") for each in events)


# -- all

# What a server that is ready sends, up to the byte that shows it, and a pattern of all that it receives.
BINARY = {
    "postgres": (POSTGRES_SCRAM, re.escape(POSTGRES_REQUEST)),
    "mysql": (mysql_greeting() + mysql_error(2, 1045, MYSQL_DENIED), re.escape(mysql_response())),
    "mongodb": (
        mongodb_message(7, 1, bson(bson_bool(b"isWritablePrimary", True), *BSON_OTHERS, BSON_OK)),
        re.escape(mongodb_request(1, b"hello")),
    ),
    "kafka": (
        KAFKA_VERSIONS + kafka_handshake(34) + kafka_metadata(4),
        re.escape(kafka_request(18, 0) + KAFKA_HANDSHAKE + kafka_request(3, 4, bytes(5))),
    ),
    "amqp": (AMQP_START, re.escape(b"AMQP\0\0\x09\x01")),
    "ldap": (LDAP_ENTRY + ldap_done(0), re.escape(LDAP_SEARCH + LDAP_UNBIND)),
    "grpc": (grpc_answer(), rb"(?s)PRI \* HTTP/2.*\0\0\x08\x07\0" + re.escape(bytes(4)) + b".{8}"),
}
