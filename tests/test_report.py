"""What is told about a run, as data: every event has its sentence and its fields, and totals add up."""

import json
import re
from typing import Any, NamedTuple, get_type_hints

import pytest

from netkit.core import events
from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure
from netkit.core.flow import Transfer
from netkit.output import events as events_module
from netkit.output import jsonl, units
from netkit.output import totals as totals_module
from netkit.output.jsonl import record
from netkit.output.rate import ProgressLine, RateMeter

PEER = Endpoint("192.0.2.7", 5432)
LOCAL = Endpoint("192.0.2.1", 40000)
SIX = Endpoint("2001:db8::7", 443)
UNIX = Endpoint(path="/run/app.sock")


class Told(NamedTuple):
    """An event, from which -v on it has a sentence, that sentence, and its name and fields for JSON."""

    event: Any
    verbose: int | None
    sentence: str
    name: str
    fields: dict[str, Any]


WHAT = ("address", "port")


def ends(**ends: tuple[str, int]) -> dict[str, Any]:
    """Return the fields for IPv4 ends over TCP."""
    named = {f"{who}_{what}": part for who, end in ends.items() for what, part in zip(WHAT, end, strict=True)}
    return {**named, "family": "ipv4", "protocol": "tcp"}


P, L = ("192.0.2.7", 5432), ("192.0.2.1", 40000)

EVERY = [
    Told(
        events.Resolved("db", ("192.0.2.7", "2001:db8::7"), 0.0123),
        1,
        "resolved db to 192.0.2.7, 2001:db8::7 in 12 ms",
        "resolved",
        {"host": "db", "addresses": ["192.0.2.7", "2001:db8::7"], "time_ms": 12.3},
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
        events.Secured("TLSv1.3", "TLS_AES_256_GCM_SHA384", "h2", ("db", "db.local"), "Jan  1", "Jan  2"),
        1,
        "secured by TLSv1.3 with TLS_AES_256_GCM_SHA384, ALPN h2, certificate of db, db.local, Jan  1 to Jan  2",
        "secured",
        {
            "protocol": "TLSv1.3",
            "cipher": "TLS_AES_256_GCM_SHA384",
            "alpn": "h2",
            "names": ["db", "db.local"],
            "not_before": "Jan  1",
            "not_after": "Jan  2",
        },
    ),
    Told(events.Listening(LOCAL), 0, "listening on 192.0.2.1:40000", "listening", ends(local=L)),
    Told(
        events.Retrying("connection refused", 1.0),
        2,
        "connection refused; again in 1 s",
        "retrying",
        {"reason": "connection refused", "time_ms": 1000.0},
    ),
    Told(events.Accepted(PEER), 1, "connection from 192.0.2.7:5432", "accepted", ends(peer=P)),
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
        events.InputLeft(0.5),
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
        events.Dropped(7, True),
        0,
        "the kernel dropped at least 7 datagrams: they came faster than they were read",
        "dropped",
        {"datagrams_dropped_min": 7},
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
    Told(events.Unanswered(), None, "", "unanswered", {}),  # a person gets it as a hint
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
QUIETER_IN_JSON = {"trying", "missed", "retrying"}  # one per address or try: for those who ask for more


def event_types() -> set[type]:
    """Return all that the core can report."""
    return {kind for kind in vars(events).values() if isinstance(kind, type) and kind.__module__ == events.__name__}


def test_every_event_is_in_the_table() -> None:
    """A new event needs a sentence and fields before this passes."""
    assert event_types() == {type(told.event) for told in EVERY}
    assert all(get_type_hints(kind) is not None and issubclass(kind, tuple) for kind in event_types())


@every
def test_sentence(told: Told) -> None:
    """Each event is one sentence from its level on, and nothing below it."""
    for verbose in range(4):
        wanted = told.sentence if told.verbose is not None and verbose >= told.verbose else None
        assert events_module.sentence(told.event, verbose) == wanted


@every
def test_fields(told: Told) -> None:
    """Each event has its name and fields in JSON; what comes once per address or try has to be asked for."""
    for verbose in range(4):
        found = events_module.fields(told.event, verbose)
        if told.name in QUIETER_IN_JSON and verbose < 2:
            assert found is None
        else:
            assert found is not None
            assert found[0] == told.name
            # By way of the line, as who reads it sees them: tuples are arrays there, and what is None is not there.
            read = json.loads(record(found[0], "connect", **found[1]))
            assert {name: read[name] for name in read if name not in ("command", "event", "time")} == told.fields


def test_end_without_a_reason() -> None:
    """Where both sides ended as they should there is nothing to add, and no empty field."""
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
    """Addresses come without brackets, with their family; a unix socket has neither port nor family."""
    assert events_module.fields(events.Accepted(end), 0) == ("accepted", wanted)


def test_connection_over_a_unix_socket_has_no_own_end_to_tell() -> None:
    """Our end of one has no name, so the sentence leaves it out."""
    connected = events.Connected("unix:/run/app.sock", UNIX, Endpoint(path=""), 0.002)
    assert events_module.sentence(connected, 1) == "connected to unix:/run/app.sock after 2 ms"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1024.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (2048 << 40, "2048.0 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    """Bytes are counted one by one to 1023, then in powers of 1024, and there is a largest unit."""
    assert units.size(count) == text


@pytest.mark.parametrize("code", [code for code in Exit if code > Exit.USAGE and code < Exit.SIGNAL])
def test_failure(code: Exit) -> None:
    """A failure tells its reason, its code, and by ``kind`` what the code means; the message is the sentence."""
    failure = Failure(code, "do it", OSError(104, "ignored"), detail="after 4 bytes")
    assert jsonl.failed(failure) == {
        "reason": "connection reset by peer",
        "exit_code": int(code),
        "error": {
            "kind": code.name.lower(),
            "message": "cannot do it: connection reset by peer (after 4 bytes)",
            "errno": 104,
        },
    }
    assert jsonl.failed(Failure(code, "do it", "it ended before"))["error"]["errno"] is None


def closed(received: int, sent: int, acknowledged: int) -> events.Closed:
    """Return the end of a connection."""
    return events.Closed("c", PEER, received, sent, acknowledged, 0.1, "")


def test_totals_of_a_server() -> None:
    """Connections and bytes are those of all that ended, and who is told otherwise still hears of every event."""
    heard: list[Any] = []
    totals = totals_module.Totals()
    observe = totals.watching(heard.append)
    told = [events.Accepted(PEER), closed(1, 20, 300), closed(4000, 50000, 600000), events.Denied(PEER, "no")]
    for event in told:
        observe(event)
    assert heard == told
    found = totals.fields(Exit.TIMEOUT)
    assert found.pop("duration_ms") >= 0
    assert found == {
        "connections": 2,
        "bytes_received": 4001,
        "bytes_sent": 50020,
        "bytes_acknowledged": 600300,
        "exit_code": 28,
    }


def test_totals_of_a_client_name_its_peer() -> None:
    """Which address answered is there, also while nothing has ended yet."""
    totals = totals_module.Totals()
    totals.watching(events.ignore)(events.Connected("db:5432", PEER, LOCAL, 0.1))
    found = totals.fields(Exit.OK)
    assert found["target"] == "db:5432"
    assert {name: found[name] for name in ends(peer=P, local=L)} == ends(peer=P, local=L)
    assert (found["connections"], found["bytes_sent"]) == (0, 0)


def test_totals_of_datagrams() -> None:
    """They have no connections and nothing that is acknowledged; a server of both protocols has all."""
    for listening, more in (([], set()), ([events.Listening(LOCAL)], {"connections", "bytes_acknowledged"})):
        totals = totals_module.Totals()
        observe = totals.watching(events.ignore)
        carried = [events.Dropped(3, True), events.Dropped(5, True), events.Carried(2, 20, 1, 10, 0.1)]
        for event in (*listening, events.Listening(LOCAL, "udp"), *carried):
            observe(event)
        found = totals.fields(Exit.OK)
        counted = {"datagrams_received": 2, "datagrams_sent": 1, "datagrams_dropped_min": 5}
        counted |= {"bytes_received": 20, "bytes_sent": 10, "exit_code": 0}
        assert {name: found[name] for name in counted} == counted
        assert set(found) == {*counted, "duration_ms", *more}


def test_drops_that_are_counted_one_by_one() -> None:
    """Where nothing comes joined the number is no lower bound."""
    assert (events_module.sentence(events.Dropped(7, False), 0) or "").startswith("the kernel dropped 7 datagrams")


def test_udp_beside_tcp() -> None:
    """Both on one port are told apart, for a person where there are both, for JSON always."""
    both, alone = events.Listening(LOCAL, "udp", beside=True), events.Listening(LOCAL, "udp")
    assert events_module.sentence(both, 0) == "listening on 192.0.2.1:40000/udp"
    assert events_module.sentence(alone, 0) == "listening on 192.0.2.1:40000"
    for event in (both, alone):
        assert (events_module.fields(event, 0) or ("", {}))[1]["protocol"] == "udp"


def test_times_are_milliseconds_to_the_microsecond() -> None:
    """Units are in the key, and no number has a tail of digits that mean nothing."""
    found = events_module.fields(events.Resolved("h", (), 1 / 3), 0)
    assert found is not None
    assert re.fullmatch(r"333\.333", json.dumps(found[1]["time_ms"]))


# -- how fast

MIB = 1 << 20


@pytest.mark.parametrize(
    ("transfer", "at", "said"),
    [
        (Transfer("sent", 430 * MIB, 1024 * MIB), 0.5, (430 / 1024, "430 MiB/1.0 GiB", "860 MiB/s", "0:00")),
        (Transfer("sent", 430 * MIB), 3.9, (None, "430 MiB", "110 MiB/s", "0:03")),
        (Transfer("sent", 0), 0.0, (None, "0 B", "0 B/s", "0:00")),
        (Transfer("sent", 0, 5), 0.0, (0.0, "0 B/5 B", "0 B/s", "-:--")),
        (Transfer("sent", 0, 0), 1.0, (1.0, "0 B/0 B", "0 B/s", "0:00")),
        (Transfer("sent", 7, 5), 1.0, (1.0, "7 B/5 B", "7 B/s", "0:00")),
        (Transfer("received", 60, 100, 50), 1.0, (0.6, "60 B/100 B", "10 B/s", "0:04")),
        (Transfer("received", 1, 3601 + 3600), 1.0, (1 / 7201, "1 B/7.0 KiB", "1 B/s", "2:00:00")),
        (Transfer("received", 1, 1 << 50), 1.0, (2**-50, "1 B/1024 TiB", "1 B/s", "-:--")),
        (Transfer("received", 1023 * MIB), 36_000, (None, "1023 MiB", "29 KiB/s", "10:00:00")),
    ],
)
def test_how_far_a_transfer_is(transfer: Transfer, at: float, said: tuple[float | None, str, str, str]) -> None:
    """Share, bytes, rate and time, whatever is known, all there or too much; what was there before is not fast."""
    assert RateMeter(0.0).sample(transfer, at) == ProgressLine(*said)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    """A transfer that stalls has no rate and no time left soon, and one that goes on has its new rate."""
    pace = RateMeter(100.0)
    told = [
        pace.sample(Transfer("sent", min(tick, 50) * MIB, 100 * MIB), 100 + tick / 10) for tick in (*range(51), 65, 80)
    ]
    assert {each.rate for each in told[1:51]} == {"10 MiB/s"}
    assert [each.clock for each in told[1:51:10]] == ["0:09", "0:08", "0:07", "0:06", "0:05"]
    assert told[51].rate == "5.0 MiB/s"
    assert (told[52].rate, told[52].clock) == ("0 B/s", "-:--")
    again = [pace.sample(Transfer("sent", (50 + tick) * MIB, 100 * MIB), 108 + tick) for tick in range(1, 9)]
    assert again[-1].rate == "1.0 MiB/s"


def test_a_transfer_that_begins_again_is_not_fast_backwards() -> None:
    """Fewer bytes than before are no rate below zero."""
    pace = RateMeter(0.0)
    pace.sample(Transfer("received", 1000), 1.0)
    pace.sample(Transfer("received", 1000), 4.0)
    assert pace.sample(Transfer("received", 10, 20), 4.1).rate == "0 B/s"
