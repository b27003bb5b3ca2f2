"""Telnet: commands and their answers, and that data passes unchanged."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure
from netkit.core.events import ignore
from netkit.core.kernel import Group
from netkit.core.layer import Setting, through
from netkit.core.socket_stream import SocketStream
from netkit.core.tls import client, server
from netkit.core.tls_context import Security
from netkit.protocols.telnet import Telnet, Terminal, speaking
from tests import contract, memory
from tests.clock import on_kernel
from tests.contract import (
    Check,
    MakePair,
    check_stream,
    read_all,
    read_exactly,
    send_without_end,
    until_held_back,
    wait_for,
)
from tests.support.certificates import Pki
from tests.support.peers import tcp_sockets
from tests.support.streams import streams_of

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
ECHO, SGA, TIMING, TTYPE, NAWS, LINEMODE = 1, 3, 6, 24, 31, 34
NOP, MARK, GO_AHEAD = 241, 242, 249
VERBS = (DONT, DO, WONT, WILL)


def says(*numbers: int) -> bytes:
    """Return commands, each a verb and an option after an IAC."""
    return b"".join(bytes((IAC, *numbers[i : i + 2])) for i in range(0, len(numbers), 2))


def sub(*numbers: int) -> bytes:
    """Return a subnegotiation."""
    return bytes((IAC, SB, *numbers, IAC, SE))


def terminal(columns: int = 80, rows: int = 24, type: bytes = b"xterm") -> Telnet:
    """Return our end with a terminal."""
    return Telnet(Terminal(type, lambda: (columns, rows)))


# -- the negotiation


@pytest.mark.parametrize(
    ("came", "answered"),
    [
        (says(DO, SGA), says(WILL, SGA)),
        (says(WILL, SGA), says(DO, SGA)),
        (says(WILL, SGA, DO, SGA), says(DO, SGA, WILL, SGA)),
        (says(WILL, SGA, WILL, SGA), says(DO, SGA)),
        (says(DO, SGA, DONT, SGA, DONT, SGA), says(WILL, SGA, WONT, SGA)),
        (says(DO, SGA, DONT, SGA, DO, SGA), says(WILL, SGA, WONT, SGA, WILL, SGA)),
        (says(DONT, SGA, WONT, SGA, DONT, ECHO, WONT, 200), b""),
        (says(WILL, ECHO), says(DONT, ECHO)),
        (says(DO, ECHO, DO, ECHO), says(WONT, ECHO, WONT, ECHO)),
        (says(DO, TIMING), says(WONT, TIMING)),
        (says(DO, LINEMODE, WILL, 0, DO, 0, DO, 255), says(WONT, LINEMODE, DONT, 0, WONT, 0, WONT, 255)),
        (says(DO, TTYPE, DO, NAWS) + sub(TTYPE, 1), says(WONT, TTYPE, WONT, NAWS)),
        (bytes((IAC, NOP, IAC, MARK, IAC, GO_AHEAD, IAC, SE, IAC, 0, IAC, 200)), b""),
        (sub(LINEMODE, 3, IAC, IAC, 0) + sub(), b""),
    ],
)
def test_without_a_terminal(came: bytes, answered: bytes) -> None:
    """All options but SGA are refused, and a confirmation gets no answer (RFC 1143)."""
    for chunks in ([came], [bytes([byte]) for byte in came]):
        telnet = Telnet()
        assert b"".join(map(telnet.receive, [b"<", *chunks, b">"])) == b"<>"
        assert telnet.answers() == answered
        assert telnet.answers() == b""


def test_the_terminal_is_told_to_who_asks() -> None:
    """Type and size of the terminal are sent after the peer asked for them, with IAC doubled."""
    telnet = terminal(255, 24)
    telnet.receive(sub(TTYPE, 1))
    assert telnet.answers() == b"", "it was not agreed to"
    telnet.receive(says(DO, TTYPE, DO, NAWS, DO, SGA, WILL, NAWS))
    size = bytes((IAC, SB, NAWS, 0, 255, 255, 0, 24, IAC, SE))
    assert telnet.answers() == says(WILL, TTYPE, WILL, NAWS) + size + says(WILL, SGA, DONT, NAWS)
    for _ in range(2):
        telnet.receive(sub(TTYPE, 1))
        assert telnet.answers() == sub(TTYPE, 0, *b"xterm")
    telnet.receive(sub(TTYPE, 2) + sub(TTYPE) + sub(NAWS, 1))
    assert telnet.answers() == b""


def test_another_size_is_told_before_what_is_typed_next() -> None:
    """A new size is sent once, and only if the peer asked for sizes."""
    size: tuple[int, int] | None = (80, 24)
    telnet = Telnet(Terminal(b"xterm", lambda: size))
    telnet.tell_size()
    assert telnet.answers() == b""
    telnet.receive(says(DO, NAWS))
    assert telnet.answers() == says(WILL, NAWS) + sub(NAWS, 0, 80, 0, 24)
    for each in ((80, 24), (100, 30), (100, 30), None):
        size = each
        telnet.tell_size()
    assert telnet.answers() == sub(NAWS, 0, 100, 0, 30)
    telnet.receive(says(DONT, NAWS))
    size = (1, 1)
    telnet.tell_size()
    assert telnet.answers() == says(WONT, NAWS)


class Offering:
    """An end that also offers options, once each, and takes the answers for answers."""

    def __init__(self, telnet: Telnet, offers: set[tuple[int, int]]) -> None:
        self.telnet = telnet
        self.waiting = set(offers)  # offers without an answer: WILL or DO, and the option
        self.first = b"".join(says(*each) for each in offers)

    def receive(self, data: bytes) -> bytes:
        """Take commands, and return the answers."""
        for at in range(0, len(data), 3):
            _, verb, option = data[at : at + 3]
            mine = (WILL if verb in (DO, DONT) else DO, option)
            if mine not in self.waiting:
                assert self.telnet.receive(data[at : at + 3]) == b""
                continue
            self.waiting.remove(mine)
            if verb in (WILL, DO):
                self.telnet._enabled.add((verb == DO, option))
        return self.telnet.answers()


OFFERS = st.sets(st.tuples(st.sampled_from([WILL, DO]), st.sampled_from([ECHO, SGA, TTYPE, LINEMODE])))


@given(OFFERS, OFFERS, st.booleans(), st.booleans())
def test_no_loop_is_possible(one: set[Any], other: set[Any], ours: bool, theirs: bool) -> None:
    """Two ends that offer options at the same time agree on them and stop."""
    a, b = Offering(terminal() if ours else Telnet(), one), Offering(terminal() if theirs else Telnet(), other)
    to_a, to_b = b.first, a.first
    for _ in range(3):
        to_a, to_b = b.receive(to_b), a.receive(to_a)
    assert to_a == to_b == b""
    assert not a.waiting and not b.waiting
    assert {(not by_a, option) for by_a, option in a.telnet._enabled} == b.telnet._enabled


@given(st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 255))))
def test_no_command_has_more_than_one_answer(commands: list[tuple[int, int]]) -> None:
    """A command gets at most one answer, and a repeated one gets none, unless it is refused again."""
    telnet = Telnet()
    for verb, option in commands:
        telnet.receive(says(verb, option))
        answer = telnet.answers()
        assert len(answer) in (0, 3)
        telnet.receive(says(verb, option))
        refused = answer[1:2] in (bytes([WONT]), bytes([DONT])) and verb in (WILL, DO)
        assert telnet.answers() == (answer if refused else b"")


# -- the data


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"one\ntwo\r\n", b"one\ntwo\r\n"),
        (b"\xff\xff\xf0", b"\xff\xff\xff\xff\xf0"),
        (b"a\rb", b"a\r\0b"),
        (b"\r\r\n\r", b"\r\0\r\n\r\0"),
        (b"\r\0", b"\r\0\0"),
        (b"\r\xff\n", b"\r\0\xff\xff\n"),
    ],
)
def test_data_on_the_wire(data: bytes, wire: bytes) -> None:
    """IAC is doubled and NUL follows a bare CR, however the data is split; only that NUL may be sent later."""
    for chunks in ([data], [bytes([byte]) for byte in data]):
        telnet = Telnet()
        sent = b""
        for chunk in chunks:
            sent += telnet.send(chunk)
            assert Telnet().receive(sent) == data[: len(Telnet().receive(sent))]
        assert len(Telnet().receive(sent)) == len(data)
        assert sent + telnet.send(b"") == wire


@given(
    st.lists(st.binary(max_size=12) | st.sampled_from([b"\r", b"\n", b"\0", b"\xff", b"\r\0", b"\xff\xff"])),
    st.lists(st.sampled_from([says(DO, SGA), says(DONT, ECHO), bytes((IAC, NOP)), sub(TTYPE, 1, 255, 255, 9)])),
    st.lists(st.integers(1, 7)),
)
def test_data_passes_whole(chunks: list[bytes], commands: list[bytes], cuts: list[int]) -> None:
    """Any data arrives unchanged, however it is split on both sides, and with commands in between."""
    sender, receiver = Telnet(), Telnet()
    wire = b""
    for number, chunk in enumerate(chunks):
        if chunk:
            wire += sender.send(chunk)
        if number < len(commands):
            sender.receive(says(DO, TIMING))
            wire += sender.answers() + commands[number]
    wire += sender.send(b"")
    came = b""
    for size in cuts:
        came += receiver.receive(wire[:size])
        wire = wire[size:]
    assert came + receiver.receive(wire) == b"".join(chunks)


def test_a_broken_subnegotiation_ends_with_the_next_command() -> None:
    """Data after a broken subnegotiation and the next command is received."""
    telnet = Telnet()
    assert telnet.receive(bytes((IAC, SB, TTYPE, 1)) + says(DO, SGA) + b"data") == b"data"
    assert telnet.answers() == says(WILL, SGA)


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_a_subnegotiation_without_end(size: int) -> None:
    """A subnegotiation without an end is refused before it uses much memory."""
    telnet = Telnet()
    assert telnet.receive(b"data" + bytes((IAC, SB))) == b"data"
    assert telnet.receive(b"x" * 1022) == b"" and not telnet.is_endless
    while not telnet.is_endless:
        assert telnet.receive(b"x" * size) == b""
    assert len(telnet._rest) < 2 * max(size, 1024)


# -- the stream

PLAIN = speaking(True, Setting(Endpoint(), serves=True))


def over(sockets: Any, under: tuple[Any, Any] = ((), ())) -> MakePair:
    """Return a function that makes pairs of streams with telnet on both ends, over other layers."""

    @asynccontextmanager
    async def make_pair() -> AsyncIterator[tuple[Any, Any]]:
        async with streams_of(sockets()) as (one, other), Group() as group:
            making = group.start_soon(through(one, [*under[0], PLAIN], group))
            far = await through(other, [*under[1], PLAIN], group)
            await making.finished.wait()
            yield making.result, far
            group.cancel()

    return make_pair


@contract.every_check(contract.TCP)
def test_contract_over_tcp(check: Check) -> None:
    """A connection with telnet keeps the contract over TCP."""
    check_stream(over(tcp_sockets), check)


@contract.every_check(contract.UNIX)
def test_contract_over_unix_sockets(check: Check) -> None:
    """It keeps the contract over a unix socket."""
    check_stream(over(socket.socketpair), check)


@contract.every_check(contract.EVERY + contract.CONNECTED)
def test_contract_over_tls(check: Check, pki: Pki) -> None:
    """It keeps the contract over TLS."""
    cert, key, _ = pki.good
    layers = ([client(Security(pki.ca), "localhost", ignore)], [server(Security(cert=cert, key=key), ignore)])
    check_stream(over(tcp_sockets, layers), check)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Any, memory.MemoryStream, Group]]:
    """A stream that speaks telnet, the peer's end of it, and a group for tasks."""
    near, far = memory.pair()
    async with Group() as group:
        yield await through(near, [PLAIN], group), far, group  # type: ignore[arg-type]
        group.cancel()


@on_kernel
async def test_payload_counts_and_negotiation_does_not() -> None:
    """Commands are answered while nothing is sent, and are not in the counts."""
    async with pair() as (stream, peer, _):
        await peer.send(says(DO, SGA, DO, ECHO) + b"Login: " + says(WILL, SGA))
        assert await stream.recv() == b"Login: "
        assert await read_exactly(peer, 9) == says(WILL, SGA, WONT, ECHO, DO, SGA)
        await stream.send(b"\xff\r")
        await stream.send_eof()
        assert await read_all(peer) == b"\xff\xff\r\0"
        assert (stream.counts.received, stream.counts.sent, stream.unacknowledged()) == (7, 2, 0)
        await peer.send(says(DO, TTYPE) + b"bye")
        await peer.send_eof()
        assert await read_all(stream) == b"bye", "after our end nothing is answered"


@on_kernel
async def test_a_sender_that_is_held_back_does_not_keep_us_from_reading() -> None:
    """Data is received while our send waits for the peer, and the answers are sent with it."""
    async with pair() as (stream, peer, group):
        size = 3 * memory.CAPACITY
        sending = group.start_soon(stream.send(bytes(size)))
        await until_held_back(stream._stream)
        for _ in range(3):
            await peer.send(says(DO, SGA) + b"x")
            assert await stream.recv() == b"x"
        assert not sending.finished.is_set()
        assert (await read_exactly(peer, size + 3))[-3:] == says(WILL, SGA)
        await wait_for(sending)


@on_kernel
async def test_a_peer_that_asks_and_never_reads_is_held_back() -> None:
    """A peer that sends commands and does not read is not read from without limit."""
    async with pair() as (stream, peer, group):

        async def ask() -> None:
            while True:
                await peer.send(says(DO, ECHO) * 1000)

        group.start_soon(stream.send(bytes(3 * memory.CAPACITY)))  # a send that is blocked leaves answers to it
        group.start_soon(stream.recv())
        group.start_soon(ask())
        await until_held_back(peer)
        assert stream._telnet.pending < 1 << 20


@on_kernel
async def test_what_came_before_the_peer_left_is_had() -> None:
    """Data is received although commands before it can no longer be answered."""
    async with pair() as (stream, peer, _):
        await peer.send(says(DO, ECHO) + b"last words")
        peer.close()
        assert await stream.recv() == b"last words"


@on_kernel
async def test_a_subnegotiation_without_end_is_the_peers_failure() -> None:
    """The failure is PROTOCOL, and the message names the peer."""
    async with pair() as (stream, peer, group):
        await peer.send(bytes((IAC, SB)))
        group.start_soon(send_without_end(peer))
        with pytest.raises(Failure) as caught:
            while True:
                await stream.recv()
    assert caught.value.exit is Exit.PROTOCOL
    assert str(caught.value) == "cannot receive from memory a: a telnet subnegotiation has not ended after 1024 bytes"


@on_kernel
async def test_it_is_no_socket_any_more() -> None:
    """The stream is no ``SocketStream``, so that its data is not spliced."""
    async with streams_of(tcp_sockets()) as (a, _), Group() as group:
        assert not isinstance(await through(a, [PLAIN], group), SocketStream)
