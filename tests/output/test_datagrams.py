"""The formats in which datagrams are printed."""

import json

from netkit.core.address import Endpoint
from netkit.core.udp import Burst, Peer
from netkit.output import datagrams

BURST = Burst(b"ab\ncd", 3, Peer(("192.0.2.1", 5)))


class Sock:
    """The part of a socket that the formats use."""

    def reached_by(self, peer: Peer) -> Endpoint:
        return Endpoint("::2" if peer.local else "198.51.100.1", 9)


def show(output: str, burst: Burst = BURST) -> bytes:
    """Return a burst in a format."""
    return datagrams.shown(output, "udp-serve")(Sock(), burst)  # type: ignore[arg-type]


def test_how_datagrams_are_shown() -> None:
    """``raw`` prints the bytes, ``lines`` adds missing line ends, ``hex`` prints one line each, ``none`` nothing."""
    assert show("raw") == b"ab\ncd"
    assert show("lines") == b"ab\ncd\n"
    assert show("hex") == b"61620a\n6364\n"
    assert show("none") == b""
    empty = BURST._replace(data=b"")
    assert [show(output, empty) for output in ("raw", "lines", "hex")] == [b"", b"\n", b"\n"]


def test_json_has_both_ends() -> None:
    """``json`` prints an object for each datagram, with both addresses, the data, and also the text if it is UTF-8."""
    first, second = map(json.loads, show("json").splitlines())
    assert first.pop("time") and second.pop("time")
    assert first == {
        "command": "udp-serve",
        "event": "datagram",
        "peer_address": "192.0.2.1",
        "peer_port": 5,
        "local_address": "198.51.100.1",
        "local_port": 9,
        "family": "ipv4",
        "protocol": "udp",
        "bytes_received": 3,
        "data": "YWIK",
        "text": "ab\n",
    }
    assert second["data"] == "Y2Q="
    asked = BURST._replace(peer=Peer(("::1", 5, 0, 0), b"\0" * 15 + b"\2"), data=b"\xff")
    found = json.loads(show("json", asked))
    assert (found["peer_address"], found["local_address"], found["data"]) == ("::1", "::2", "/w==")
    assert "text" not in found
