"""The totals of a run, for --stats."""

from typing import Any

import pytest

from netkit.core import events
from netkit.core.errors import Exit
from netkit.output import totals as totals_module
from tests.support.ends import LOCAL, PEER, L, P, ends


def closed(received: int, sent: int, acknowledged: int, reason: str = "", first: str = "") -> events.Closed:
    """Return the event of the end of a connection."""
    return events.Closed("c", PEER, received, sent, acknowledged, 0.1, reason, first)


def test_totals_of_a_server() -> None:
    """Totals count the connections that ended and their bytes, and pass every event on to the observer."""
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
    """Totals of a client have the addresses of both ends, even before the connection ends."""
    totals = totals_module.Totals()
    totals.watching(events.ignore)(events.Connected("db:5432", PEER, LOCAL, 0.1))
    found = totals.fields(Exit.OK)
    assert found["target"] == "db:5432"
    assert {name: found[name] for name in ends(peer=P, local=L)} == ends(peer=P, local=L)
    assert (found["connections"], found["bytes_sent"]) == (0, 0)


@pytest.mark.parametrize(
    ("ends", "told"),
    [(["peer"], "peer"), (["local"], "local"), ([""], None), (["peer", "peer"], None)],
)
def test_totals_say_who_ended_the_only_connection_first(ends: list[str], told: str | None) -> None:
    """It is known by itself, whatever the words of the reason are."""
    totals = totals_module.Totals()
    observe = totals.watching(events.ignore)
    for first in ends:
        observe(closed(0, 0, 0, "peer ended first" if first == "local" else "it is over", first))
    assert totals.fields(Exit.OK).get("ended_first") == told


def test_totals_of_datagrams() -> None:
    """Totals of datagrams have no connections and acknowledged bytes, except of a server with TCP, too."""
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
