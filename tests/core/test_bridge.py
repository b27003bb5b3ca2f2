"""A bridge between two peers passes all bytes and both ends on, and returns which side broke."""

import os
import socket
from typing import Any

import pytest

from netkit.core import kernel
from netkit.core.errors import Exit, Failure
from netkit.core.events import ignore
from netkit.core.kernel import Group
from netkit.core.relay import Break, bridge
from netkit.core.socket_stream import SocketStream
from tests.clock import in_real_time, on_kernel
from tests.contract import read_all, send_all
from tests.memory import pair
from tests.support import reset
from tests.support.data import check_same
from tests.support.peers import tcp_sockets
from tests.support.streams import Steps

BULK = 8 << 20


@on_kernel
async def test_each_way_ends_by_itself() -> None:
    """The client's end is passed on, and the target's answer still arrives."""
    client, ours = pair()
    target, theirs = pair()
    async with Group() as group:
        joined = group.start_soon(bridge(ours, theirs, observe=ignore))
        await client.send(b"question")
        await client.send_eof()
        assert await read_all(target) == b"question"
        await target.send(b"answer")
        assert await client.recv() == b"answer"
        assert not joined.finished.is_set()
        await target.send_eof()
        assert await client.recv() == b""
        await joined.finished.wait()
    assert joined.result is None


@pytest.mark.parametrize("side", ["client", "target"])
@on_kernel
async def test_who_broke_it_is_told(side: str) -> None:
    """The result names the stream that was reset, and data received before still reaches the client."""
    client, ours = pair()
    target, theirs = pair()
    async with Group() as group:
        joined = group.start_soon(bridge(ours, theirs, observe=ignore))
        await target.send(b"so far")
        assert await client.recv() == b"so far"
        (client if side == "client" else target).abort()
        await joined.finished.wait()
    broken: Break = joined.result
    assert broken.stream is (ours if side == "client" else theirs)
    assert isinstance(broken.failure, Failure)
    assert broken.failure.exit in (Exit.RECV, Exit.SEND)


@in_real_time
async def test_what_a_target_said_before_it_left_reaches_the_client() -> None:
    """If the target answers, then resets while the client still sends, the client gets the answer."""
    client, ours = socket.socketpair()
    near, far = tcp_sockets()
    stream, other = SocketStream(ours, "client"), SocketStream(near, "target")
    far.sendall(b"no more")
    client.sendall(b"x" * 10_000)
    async with Group() as group:
        joined = group.start_soon(bridge(stream, other, observe=ignore))
        await kernel.to_thread(far.recv, 10)
        reset(far)
        await joined.finished.wait()
    assert joined.result.stream is other
    stream.close()
    other.abort()
    with client:
        assert client.recv(100) == b"no more"


@pytest.mark.parametrize("connected", [tcp_sockets, socket.socketpair])
@in_real_time
async def test_bulk_stays_in_the_kernel(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bulk data in both directions arrives whole, and all but its beginning is spliced."""
    steps = Steps(monkeypatch)
    (client, ours), (theirs, target) = connected(), connected()
    ends = [SocketStream(client, "a"), SocketStream(target, "b")]
    middle = [SocketStream(ours, "client"), SocketStream(theirs, "target")]
    data = [os.urandom(BULK) for _ in ends]
    async with Group() as group:
        for end, bulk in zip(ends, data, strict=True):
            group.start_soon(send_all(end, bulk))
        received = [group.start_soon(read_all(end)) for end in ends]
        assert await bridge(*middle, observe=ignore) is None
    for came, bulk in zip(received, reversed(data), strict=True):
        check_same(came.result, bulk)
    for stream in (*ends, *middle):
        stream.close()
    assert steps.moved > 2 * BULK
