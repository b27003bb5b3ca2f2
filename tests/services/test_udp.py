"""How input is split into datagrams, how long they may be, how they are relayed, and which are not answered."""

import socket
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.address import Endpoint
from netkit.core.dial import Dialling
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.events import ignore
from netkit.core.kernel import Group, readable, sleep
from netkit.core.lookup import Address
from netkit.core.sync import Event
from netkit.core.udp import LARGEST, MARK, Burst, Peer, at_once, cut
from netkit.services.udp import framing as framing_module
from netkit.services.udp import relay
from netkit.services.udp.framing import Framing, InPieces, batched, in_hex, in_lines, whole
from netkit.services.udp.relay import Associations
from netkit.services.udp.serve import refusal
from tests.support.datagrams import Room, in_room
from tests.support.properties import examples

PROPERTY = examples(60)
CHUNKS = st.lists(st.binary(max_size=60), max_size=8).map(lambda chunks: [chunk for chunk in chunks if chunk])
SOME_LINES = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=20)


def cut_up(framing: Framing, chunks: list[bytes]) -> list[bytes]:
    """Return the datagrams that the chunks of input become."""
    return [data for chunk in [*chunks, b""] for batch in framing(chunk) for data in cut(*batch)]


def chunked(text: bytes, sizes: list[int]) -> list[bytes]:
    """Split text into chunks of these sizes, and the rest."""
    chunks = []
    for size in sizes:
        chunks.append(text[:size])
        text = text[size:]
    return [chunk for chunk in [*chunks, text] if chunk]


# -- input


@pytest.mark.parametrize("chunks", [[], [b"a"], [b"a\n", b"", b"b"], [b"x" * LARGEST]])
def test_whole(chunks: list[bytes]) -> None:
    """The whole input is one datagram; without input it is empty."""
    chunks = [chunk for chunk in chunks if chunk]
    assert cut_up(whole(LARGEST), chunks) == [b"".join(chunks)]


def test_whole_is_refused_as_soon_as_it_is_too_long() -> None:
    """Input that is too long is refused at once, and not kept in memory."""
    frame = whole(LARGEST)
    assert list(frame(b"x" * LARGEST)) == []
    with pytest.raises(Failure, match="longer than 65507 bytes") as caught:
        list(frame(b"x"))
    assert caught.value.exit is Exit.USAGE


@PROPERTY
@given(CHUNKS, st.integers(1, 50))
def test_pieces(chunks: list[bytes], size: int) -> None:
    """Pieces have the given size, except the last one, and are not empty."""
    text = b"".join(chunks)
    assert cut_up(InPieces(size), chunks) == ([] if not text else list(cut(text, size)))


@pytest.mark.parametrize("size", [1, 64, 1_400, 40_000, LARGEST])
def test_a_read_of_bulk_is_so_many_full_calls(size: int) -> None:
    """A read of bulk input is a multiple of what one call sends, so that each call is full."""
    frame = InPieces(size)
    assert frame.read_size % at_once(size) == 0
    for _ in range(3):
        [(data, _)] = frame(bytes(frame.read_size))
        assert len(data) == frame.read_size


@PROPERTY
@given(SOME_LINES, st.lists(st.integers(1, 30), max_size=8), st.booleans())
def test_lines(lines: list[bytes], sizes: list[int], ended: bool) -> None:
    """Each line, even an empty one, is a datagram without its LF or CR LF; the last one may lack its line end."""
    text = b"".join(line + b"\n" for line in lines)
    if not ended and lines and lines[-1]:
        text = text[:-1]
    assert cut_up(in_lines(), chunked(text, sizes)) == [line.removesuffix(b"\r") for line in lines]


@PROPERTY
@given(SOME_LINES, st.lists(st.integers(1, 30), max_size=8))
def test_hex(lines: list[bytes], sizes: list[int]) -> None:
    """Each line of hex digits is a datagram."""
    text = b"".join(line.hex(" ").encode() + b"\n" for line in lines)
    assert cut_up(in_hex(), chunked(text, sizes)) == lines


def test_hex_as_people_write_it() -> None:
    """Capitals, spaces, CR LF and a last line without an end are accepted."""
    assert cut_up(in_hex(), [b"DE ad\r\n\n be ef \n00"]) == [b"\xde\xad", b"", b"\xbe\xef", b"\0"]


@pytest.mark.parametrize("bad", [b"abc", b"zz", b"a b", b"0x41", b"\xff\xff", b"\xef\xbc\x91\xef\xbc\x92"])
def test_hex_that_is_none(bad: bytes) -> None:
    """A bad line fails with READ and its number; the lines before it are sent."""
    passed: list[bytes] = []
    with pytest.raises(Failure) as caught:
        for batch in in_hex()(b"41\n42\n" + bad + b"\n43\n"):
            passed += cut(*batch)
    assert passed == [b"A", b"B"]
    assert caught.value.exit is Exit.READ
    assert caught.value.action == "read line 3 of stdin" and "is not pairs of hex digits" in str(caught.value)


@pytest.mark.parametrize("framing", [in_lines, in_hex])
@pytest.mark.parametrize("ended", [True, False])
def test_a_line_that_is_too_long(framing: Any, ended: bool) -> None:
    """A line that is too long fails with TOO_BIG and its number, even without an end; the lines before it are sent."""
    digit = b"0" if framing is in_hex else b"x"
    length = 2 * LARGEST + 2 if framing is in_hex else LARGEST + 1
    text = digit * length + b"\n" if ended else digit * (4 * LARGEST + 1)
    passed: list[bytes] = []
    with pytest.raises(Failure) as caught:
        for batch in framing()(b"00\n" + text):
            passed += cut(*batch)
    assert len(passed) == 1
    assert caught.value.exit is Exit.TOO_BIG and caught.value.action == "send line 2 of stdin"


@PROPERTY
@given(st.lists(st.sampled_from([b"", b"a", b"b", b"cc", b"dd"]), max_size=30))
def test_batches_change_nothing(data: list[bytes]) -> None:
    """Neighbours of the same size are joined into batches, which split into the same datagrams."""
    joined = list(batched(data))
    assert [piece for batch in joined for piece in cut(*batch)] == data
    for (_, size), (_, after) in pairwise(joined):
        assert size != after or b"" in data


def test_texts_that_are_too_long() -> None:
    """A TEXT that is too long is refused with its number."""
    framing_module.check_texts([b"", b"x" * LARGEST], LARGEST)
    with pytest.raises(Invalid, match="TEXT 2 has 65508 bytes"):
        framing_module.check_texts([b"", b"x" * (LARGEST + 1)], LARGEST)


# -- relaying


@in_room
async def test_what_finds_the_queue_of_a_failed_look_up_full(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an association ends while a datagram waits for room in its queue, the next association sends the datagram."""
    sink = room.plain()
    failed = Event()

    async def candidates(*_: Any) -> list[Address]:
        if failed.is_set():
            return [Address(socket.AF_INET, sink.getsockname())]
        await failed.wait()
        raise Failure(Exit.RESOLVE, "resolve target", "name not found")

    monkeypatch.setattr(relay, "candidates", candidates)
    ours = (await room.bind()).sockets[0]
    peer = Peer(("127.0.0.1", 9))
    associations = Associations(Endpoint("target", 9), Dialling(), limit=9, idle_timeout=60.0, observe=ignore)
    async with Group() as group:
        group.start_soon(associations.run())
        await sleep(0)
        await associations.receive(ours, [Burst(bytes(1 << 16), 1 << 16, peer)] * 15)
        await sleep(0)
        failed.set()
        await associations.receive(ours, [Burst(b"x" * LARGEST, LARGEST, peer)])
        await readable(sink.fileno())
        assert sink.recv(1 << 17) == b"x" * LARGEST
        group.cancel()


# -- answers


@pytest.mark.fault("datagram from ourselves")
@pytest.mark.parametrize(
    ("host", "port", "traffic_class", "why"),
    [
        ("192.0.2.1", 40000, 0, ""),
        ("192.0.2.1", 40000, MARK, "answer itself"),
        ("192.0.2.1", 40000, MARK | 3, "answer itself"),  # whatever the ECN bits
        ("192.0.2.1", 40000, MARK << 1, ""),
        *(("192.0.2.1", port, 0, f"port {port} would answer") for port in (7, 13, 17, 19, 37)),
        ("192.0.2.1", 0, 0, "port 0"),
        ("224.0.0.1", 40000, 0, "no single host"),
        ("255.255.255.255", 40000, 0, "no single host"),
        ("ff02::1%lo", 40000, 0, "no single host"),
        ("127.0.0.1", 9007, 0, "from here"),
        ("127.0.0.2", 9007, 0, ""),
        ("192.0.2.1", 9007, 0, ""),
    ],
)
def test_what_is_not_answered(host: str, port: int, traffic_class: int, why: str) -> None:
    """Answers, and datagrams from ports such as echo's, multicast addresses or the server itself, are not answered."""
    burst = Burst(b"x", 1, Peer((host, port)), traffic_class)
    found = refusal(burst, "127.0.0.1", 9007)
    assert bool(found) == bool(why) and why in found


@pytest.mark.ipv6
@pytest.mark.loopback
def test_every_address_of_a_wildcard_is_its_own() -> None:
    """A server on all interfaces ignores its own port at any address of this machine, but not at others."""
    for host, why in (("127.0.0.2", "it claims to come from here"), ("192.0.2.1", "")):
        assert refusal(Burst(b"x", 1, Peer((host, 9007))), "0.0.0.0", 9007) == why
    assert refusal(Burst(b"x", 1, Peer(("::1", 9007, 0, 0))), "::", 9007) == "it claims to come from here"
