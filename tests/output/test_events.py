"""Events as messages and as JSON: each has its sentence and its fields."""

import hashlib
import json
import re
import time
from typing import Any, NamedTuple, get_type_hints

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from netkit.core import events
from netkit.core.address import Endpoint
from netkit.output import console
from netkit.output import events as events_module
from netkit.output.console import Verbosity
from netkit.output.jsonl import record
from tests.support.certificates import BEGIN, der_of
from tests.support.ends import LOCAL, PEER, L, P, ends

SIX = Endpoint("2001:db8::7", 443)
UNIX = Endpoint(path="/run/app.sock")
CERTIFICATE = der_of(
    x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "db")]),
    x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example CA")]),
    x509.SubjectAlternativeName([x509.DNSName("db"), x509.DNSName("db.local")]),
)
FINGERPRINT = f"sha256:{hashlib.sha256(CERTIFICATE).hexdigest()}"
WHOSE = f"certificate of db, db.local, by Example CA, ends 2053-01-02 (9530 days), {FINGERPRINT}"
OF_CERTIFICATE = {
    "subject": "CN=db",
    "issuer": "CN=Example CA",
    "names": ["db", "db.local"],
    "serial": "A5",
    "not_before": "2026-11-29T11:30:07Z",
    "not_after": "2053-01-02T03:04:05Z",
    "days_left": 9530,
    "fingerprint": FINGERPRINT,
}


@pytest.fixture(autouse=True)
def on_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock to the time when the certificate begins."""
    monkeypatch.setattr(time, "time", BEGIN.timestamp)


class Told(NamedTuple):
    """An event, the number of -v from which its sentence is printed, and its name and fields in JSON."""

    event: Any
    verbose: int | None
    sentence: str
    name: str
    fields: dict[str, Any]


EVERY = [
    Told(
        events.Resolved("db", ("192.0.2.7", "2001:db8::7"), 0.0123),
        1,
        "resolved db to 192.0.2.7, 2001:db8::7 in 12 ms",
        "resolved",
        {"host": "db", "addresses": ["192.0.2.7", "2001:db8::7"], "time_ms": 12.3},
    ),
    Told(
        events.Replied("db", "MX", "192.0.2.7:53", "udp", 0.0123),
        1,
        "192.0.2.7:53 answered for db MX over udp in 12 ms",
        "replied",
        {"host": "db", "type": "MX", "server": "192.0.2.7:53", "protocol": "udp", "time_ms": 12.3},
    ),
    Told(
        events.AskedAgain("db", "192.0.2.7:53 answers SERVFAIL", "192.0.2.8:53", "udp"),
        2,
        "192.0.2.7:53 answers SERVFAIL; asking 192.0.2.8:53 over udp",
        "asked_again",
        {"host": "db", "reason": "192.0.2.7:53 answers SERVFAIL", "server": "192.0.2.8:53", "protocol": "udp"},
    ),
    Told(events.Trying("192.0.2.7"), 2, "trying 192.0.2.7", "trying", {"address": "192.0.2.7"}),
    Told(
        events.Missed("192.0.2.7", "connection refused", 0.0004),
        2,
        "no connection to 192.0.2.7: connection refused, after 0.4 ms",
        "missed",
        {"address": "192.0.2.7", "reason": "connection refused", "time_ms": 0.4},
    ),
    Told(
        events.Connected("db:5432", PEER, LOCAL, 0.25),
        1,
        "connected to 192.0.2.7:5432 from 192.0.2.1:40000 after 250 ms",
        "connected",
        {"target": "db:5432", **ends(peer=P, local=L), "time_ms": 250.0},
    ),
    Told(
        events.Tunnelled("socks5h://p:1080", "db:5432", 0.25),
        1,
        "proxy socks5h://p:1080 connected to db:5432 after 250 ms",
        "tunnelled",
        {"proxy": "socks5h://p:1080", "target": "db:5432", "time_ms": 250.0},
    ),
    Told(
        events.Forwarded("http://p:8080", "http://h/"),
        1,
        "asking proxy http://p:8080 for http://h/",
        "forwarded",
        {"proxy": "http://p:8080", "target": "http://h/"},
    ),
    Told(
        events.Secured("TLSv1.3", "TLS_AES_256_GCM_SHA384", "h2", (CERTIFICATE, b"another")),
        1,
        f"secured by TLSv1.3 with TLS_AES_256_GCM_SHA384, ALPN h2, {WHOSE}",
        "secured",
        {"protocol": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "alpn": "h2", **OF_CERTIFICATE},
    ),
    Told(events.Distrusted((CERTIFICATE,)), 1, f"not acceptable: {WHOSE}", "distrusted", OF_CERTIFICATE),
    Told(
        events.SelfSigned((CERTIFICATE,)),
        0,
        f"self-signed certificate of db; clients can take it by --fingerprint {FINGERPRINT}",
        "self_signed",
        OF_CERTIFICATE,
    ),
    Told(events.Listening(LOCAL), 0, "listening on 192.0.2.1:40000", "listening", ends(local=L)),
    Told(
        events.Retrying("connection refused", 1.0),
        2,
        "connection refused; again in 1 s",
        "retrying",
        {"reason": "connection refused", "time_ms": 1000.0},
    ),
    Told(
        events.Waiting(4, 30.0),
        0,
        "waiting for 4 targets, at most 30 s",
        "waiting",
        {"targets": 4, "duration_ms": 30000.0},
    ),
    Told(
        events.Changed("mq:5672", "closed", False, "connection refused", 3, 0.5),
        0,
        "mq:5672 is closed: connection refused",
        "changed",
        {
            "target": "mq:5672",
            "state": "closed",
            "ready": False,
            "reason": "connection refused",
            "tries": 3,
            "time_ms": 500.0,
        },
    ),
    Told(
        events.Checked("3 of 5 open in 2.1 s (2 closed)", 5, {"open": 3, "closed": 2}, 1, 1, 2.1),
        0,
        "3 of 5 open in 2.1 s (2 closed)",
        "checked",
        {"ports": 5, "states": {"open": 3, "closed": 2}, "targets": 1, "targets_ready": 1, "duration_ms": 2100.0},
    ),
    Told(events.Accepted(PEER), 1, "connection from 192.0.2.7:5432", "accepted", ends(peer=P)),
    Told(
        events.Proxied("127.0.0.1:4711", PEER),
        1,
        "connection from 127.0.0.1:4711 is relayed for 192.0.2.7:5432",
        "proxied",
        {"proxy": "127.0.0.1:4711", **ends(peer=P)},
    ),
    Told(
        events.Requested(PEER, "db:5432", "socks5"),
        1,
        "192.0.2.7:5432 asks for db:5432 by socks5",
        "requested",
        {**ends(peer=P), "target": "db:5432", "scheme": "socks5"},
    ),
    Told(
        events.Denied(PEER, "not allowed"),
        1,
        "connection from 192.0.2.7:5432 denied: not allowed",
        "denied",
        {**ends(peer=P), "reason": "not allowed"},
    ),
    Told(
        events.Cut(PEER, "it is 1 MiB behind"),
        0,
        "connection from 192.0.2.7:5432 reset: it is 1 MiB behind",
        "cut",
        {**ends(peer=P), "reason": "it is 1 MiB behind"},
    ),
    Told(
        events.Paused("accept another client", "too many open files"),
        0,
        "cannot accept another client for now: too many open files",
        "paused",
        {"reason": "cannot accept another client: too many open files"},
    ),
    Told(
        events.InputLeft(12),
        0,
        "the peer ended; input is still open and is left after 12 bytes",
        "input_left",
        {"bytes_sent": 12},
    ),
    Told(
        events.Reconnecting("the peer ended"),
        0,
        "the peer ended; connecting again",
        "reconnecting",
        {"reason": "the peer ended"},
    ),
    Told(
        events.EndSent(10.0),
        0,
        "nothing came for 10 s, so the end of input was sent; --send-only (relay: --shutdown-after 0) sends it at once",
        "end_sent",
        {"duration_ms": 10000.0},
    ),
    Told(
        events.InputUnread(0.5),
        1,
        "the peer ended; input was idle for 500 ms and is left unread",
        "input_left",
        {"duration_ms": 500.0},
    ),
    Told(
        events.Opened("db:53", PEER, LOCAL),
        1,
        "sending to 192.0.2.7:5432 from 192.0.2.1:40000",
        "opened",
        {"target": "db:53", **ends(peer=P, local=L), "protocol": "udp"},
    ),
    Told(
        events.ProgramLeft("cat", 123, "operation not permitted"),
        0,
        "cannot end cat: operation not permitted (process 123)",
        "program_left",
        {"program": "cat", "pid": 123, "reason": "operation not permitted"},
    ),
    Told(
        events.Dropped(7, True),
        0,
        "the kernel dropped at least 7 datagrams: they came faster than they were read",
        "dropped",
        {"datagrams_dropped_min": 7},
    ),
    Told(
        events.Associated(PEER, "db:53", LOCAL),
        1,
        "relaying 192.0.2.7:5432 to db:53 from 192.0.2.1:40000",
        "associated",
        {**ends(peer=P), "protocol": "udp", "target": "db:53"},
    ),
    Told(
        events.Released(PEER, 1, 2, 60.0, "connection refused"),
        1,
        "192.0.2.7:5432 released after 60 s: 1 datagram received, 2 sent, connection refused",
        "released",
        {
            **ends(peer=P),
            "protocol": "udp",
            "duration_ms": 60000.0,
            "datagrams_received": 1,
            "datagrams_sent": 2,
            "reason": "connection refused",
        },
    ),
    Told(
        events.Ignored(PEER, "not allowed"),
        1,
        "datagram from 192.0.2.7:5432 ignored: not allowed",
        "ignored",
        {**ends(peer=P), "protocol": "udp", "reason": "not allowed"},
    ),
    Told(
        events.Carried(2, 2048, 1, 3, 1.2),
        1,
        "closed after 1.2 s: 2 datagrams (2.0 KiB) received, 1 datagram (3 B) sent",
        "closed",
        {
            "duration_ms": 1200.0,
            "protocol": "udp",
            "datagrams_received": 2,
            "bytes_received": 2048,
            "datagrams_sent": 1,
            "bytes_sent": 3,
        },
    ),
    Told(
        events.Answered("http://h/x", 200, "OK", 1536, "text/plain"),
        1,
        "answered 200 OK: 1.5 KiB, text/plain",
        "answered",
        {"target": "http://h/x", "status": 200, "reason": "OK", "size_bytes": 1536, "content_type": "text/plain"},
    ),
    Told(
        events.Redirected("http://h/x", 302, "http://h/y"),
        1,
        "redirected by 302 to http://h/y",
        "redirected",
        {"target": "http://h/x", "status": 302, "location": "http://h/y"},
    ),
    Told(
        events.Timed("http://h/x", 0.012, 0.031, 0.058, 0.204, 1.2),
        1,
        "name 12 ms, connect 31 ms, tls 58 ms, first byte 204 ms, body 1.2 s",
        "timed",
        {"target": "http://h/x", "name_ms": 12.0, "connect_ms": 31.0, "tls_ms": 58.0, "first_byte_ms": 204.0}
        | {"body_ms": 1200.0},
    ),
    Told(events.Unanswered(), None, "", "unanswered", {}),  # printed as a hint
    Told(events.WantsTls("write tls:"), None, "", "wants_tls", {"reason": "write tls:"}),
    Told(
        events.Closed("192.0.2.7:5432", PEER, 3, 2048, 2000, 1.2, "peer ended first"),
        1,
        "192.0.2.7:5432 closed after 1.2 s: 3 B received, 2.0 KiB sent, peer ended first",
        "closed",
        {
            **ends(peer=P),
            "duration_ms": 1200.0,
            "bytes_sent": 2048,
            "bytes_acknowledged": 2000,
            "bytes_received": 3,
            "reason": "peer ended first",
        },
    ),
]

every = pytest.mark.parametrize("told", EVERY, ids=[told.name for told in EVERY])
QUIETER_IN_JSON = {"trying", "missed", "retrying", "replied", "asked_again"}  # only with -vv


def event_types() -> set[type]:
    """Return the types of all events of the core."""
    found = {kind for kind in vars(events).values() if isinstance(kind, type) and kind.__module__ == events.__name__}
    return found - {events.CoreEvent}


def test_every_event_is_in_the_table() -> None:
    """Each event has a row in the table and an example here."""
    assert event_types() == {type(told.event) for told in EVERY} == set(events_module.TABLE)
    assert all(get_type_hints(kind) is not None and issubclass(kind, events.CoreEvent) for kind in event_types())


@every
def test_event_is_a_value(told: Told) -> None:
    """Events of one type with the same fields are equal, and their repr can be evaluated."""
    kind, values = type(told.event), told.event.values()
    assert kind(**values) == kind(*values.values()) == told.event != object()
    assert eval(repr(told.event), {**vars(events), "Endpoint": Endpoint}) == told.event
    for name in values:
        assert kind(**{**values, name: "another"}) != told.event


@every
def test_sentence(told: Told) -> None:
    """Each event is printed as one sentence from its level on, and not below."""
    for verbose in range(4):
        wanted = told.sentence if told.verbose is not None and verbose >= told.verbose else None
        assert events_module.sentence(told.event, verbose) == wanted


@every
def test_fields(told: Told) -> None:
    """Each event has its name and its fields in JSON; events of each address or attempt need -vv."""
    for verbose in range(4):
        found = events_module.fields(told.event, verbose)
        if told.name in QUIETER_IN_JSON and verbose < 2:
            assert found is None
        else:
            assert found is not None
            assert found[0] == told.name
            # From the printed line, in which tuples are arrays and fields that are None are left out.
            read = json.loads(record(found[0], "connect", **found[1]))
            assert {name: read[name] for name in read if name not in ("command", "event", "time")} == told.fields


def test_a_handshake_without_certificates() -> None:
    """Without certificates of the peer, the event has no fields about them."""
    secured = events.Secured("TLSv1.3", "TLS_AES_256_GCM_SHA384", None, ())
    assert events_module.sentence(secured, 1) == "secured by TLSv1.3 with TLS_AES_256_GCM_SHA384"
    assert events_module.fields(secured, 0) == (
        "secured",
        {"protocol": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "alpn": None},
    )


def test_end_without_a_reason() -> None:
    """A connection that ended normally has no reason, neither in the sentence nor as a field."""
    closed = events.Closed("c", PEER, 0, 0, 0, 0.001, "")
    assert events_module.sentence(closed, 1) == "c closed after 1 ms: 0 B received, 0 B sent"
    found = events_module.fields(closed, 0)
    assert found is not None
    assert "reason" not in json.loads(record(found[0], "connect", **found[1]))


@pytest.mark.parametrize(
    ("end", "wanted"),
    [
        (PEER, {"peer_address": "192.0.2.7", "peer_port": 5432, "family": "ipv4", "protocol": "tcp"}),
        (SIX, {"peer_address": "2001:db8::7", "peer_port": 443, "family": "ipv6", "protocol": "tcp"}),
        (UNIX, {"peer_address": "unix:/run/app.sock", "peer_port": None, "protocol": "unix"}),
        (Endpoint(path="\0name"), {"peer_address": "unix:@name", "peer_port": None, "protocol": "unix"}),
    ],
)
def test_kinds_of_ends(end: Endpoint, wanted: dict[str, Any]) -> None:
    """Addresses in JSON have no brackets, and a family; a Unix socket has neither port nor family."""
    assert events_module.fields(events.Accepted(end), 0) == ("accepted", wanted)


def test_connection_over_a_unix_socket_has_no_own_end_to_tell() -> None:
    """The sentence leaves out our end of a Unix socket, which has no name."""
    connected = events.Connected("unix:/run/app.sock", UNIX, Endpoint(path=""), 0.002)
    assert events_module.sentence(connected, 1) == "connected to unix:/run/app.sock after 2 ms"


def test_drops_that_are_counted_one_by_one() -> None:
    """Without joined datagrams the number of dropped ones is exact, not a lower bound."""
    assert (events_module.sentence(events.Dropped(7, False), 0) or "").startswith("the kernel dropped 7 datagrams")


def test_udp_beside_tcp() -> None:
    """The sentence names UDP if the server also has TCP on the port, JSON always."""
    both, alone = events.Listening(LOCAL, "udp", beside=True), events.Listening(LOCAL, "udp")
    assert events_module.sentence(both, 0) == "listening on 192.0.2.1:40000/udp"
    assert events_module.sentence(alone, 0) == "listening on 192.0.2.1:40000"
    for event in (both, alone):
        assert (events_module.fields(event, 0) or ("", {}))[1]["protocol"] == "udp"


def test_times_are_milliseconds_to_the_microsecond() -> None:
    """Times in JSON are in milliseconds, rounded to microseconds."""
    found = events_module.fields(events.Resolved("h", (), 1 / 3), 0)
    assert found is not None
    assert re.fullmatch(r"333\.333", json.dumps(found[1]["time_ms"]))


def test_why_a_connection_was_cut_is_said_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason of a reset is not repeated at the end of the connection, but is for the peer's next connection."""
    monkeypatch.setattr(console, "program", "netkit relay")
    observe = events_module.observer(Verbosity(1))
    closed = events.Closed("c", PEER, 0, 0, 0, 0.001, "refused")
    for event in (events.Cut(PEER, "refused"), closed, closed):
        observe(event)
    end = "c closed after 1 ms: 0 B received, 0 B sent"
    lines = [f"connection from {PEER} reset: refused", end, f"{end}, refused"]
    assert capfd.readouterr().err.splitlines() == [f"netkit relay: {line}" for line in lines]
