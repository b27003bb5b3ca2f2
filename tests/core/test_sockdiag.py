"""The kernel's tables of sockets: how they are read, and what happens to truncated, invalid or repeated rows."""

import socket
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core import sockdiag
from netkit.core.sockdiag import Socket, once, parse_inet, parse_proc, parse_unix, sockets
from tests.support.properties import examples

LITTLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 4242 1 00000000d0299326 100
   1: 0100007F:1F90 0200007F:D431 01 00000010:00000020 01:00000014 00000000     0        0 4243 2 0000000000000000 20 4
  12: 0100007F:1F90 0300007F:D431 06 00000000:00000000 03:00000F9F 00000000     0        0 0 3 0000000000000000
"""
SIX = (
    "   0: 0000000000000000FFFF00000100007F:0050 00000000000000000000000001000000:0051 01 "
    "00000000:00000000 00:00000000 00000000     0        0 7 1 0000000000000000 100 0 0 10 0\n"
)
READ = [
    Socket("tcp", "ipv4", "listen", "127.0.0.1", 8080, None, None, 3, None, 1000, 4242),
    Socket("tcp", "ipv4", "established", "127.0.0.1", 8080, "127.0.0.2", 54321, 32, 16, 0, 4243),
    Socket("tcp", "ipv4", "time-wait", "127.0.0.1", 8080, "127.0.0.3", 54321, 0, 0, None, 0),
]


def swapped(listing: str) -> str:
    """Return the listing as a machine of the other byte order shows it."""
    for word in ("0100007F", "0200007F", "0300007F", "FFFF0000", "01000000"):
        listing = listing.replace(word, bytes.fromhex(word)[::-1].hex().upper())
    return listing


def test_proc_on_either_byte_order() -> None:
    """Addresses are read in the machine's byte order; queues, states, users and inodes are numbers."""
    assert list(parse_proc(LITTLE, "tcp", "ipv4", "little")) == READ
    assert list(parse_proc(swapped(LITTLE), "tcp", "ipv4", "big")) == READ
    for text, order in ((SIX, "little"), (swapped(SIX), "big")):
        [six] = parse_proc(text, "tcp", "ipv6", order)
        assert (six.local, six.local_port, six.peer, six.peer_port) == ("::ffff:127.0.0.1", 80, "::1", 81)


@given(st.data())
def test_a_torn_listing_has_no_torn_socket(data: st.DataObject) -> None:
    """Wherever a listing is cut, only complete sockets are read."""
    begin = data.draw(st.integers(0, len(LITTLE)))
    end = data.draw(st.integers(begin, len(LITTLE)))
    assert set(parse_proc(LITTLE[begin:end], "tcp", "ipv4", "little")) <= set(READ)


@examples(50)
@given(st.text() | st.text("0123456789ABCDEF: \n"), st.sampled_from(["ipv4", "ipv6"]))
def test_garbage_is_no_socket(text: str, family: str) -> None:
    """Lines that are no socket are ignored, and the others are read."""
    assert list(parse_proc(text, "tcp", family)) == []
    if family == "ipv4":
        assert list(parse_proc(f"{text}\n{LITTLE}", "tcp", family, "little")) == READ


def inet(state: int = 1, inode: int = 5, *, local: str = "10.0.0.1", peer: str = "10.0.0.2", index: int = 0) -> bytes:
    """Return an ``inet_diag_msg``."""
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    ends = [socket.inet_pton(family, host).ljust(16, b"\0") for host in (local, peer)]
    head = struct.pack("=BBBB", family, state, 0, 0) + struct.pack("!HH", 80, 0 if peer == "0.0.0.0" else 9)
    return head + b"".join(ends) + struct.pack("=I8xIIIII", index, 0, 1, 2, 1000, inode)


def test_inet_answers() -> None:
    """Addresses and ports are in network order, the rest in the machine's; a closed connection has no user."""
    made = parse_inet("tcp", inet())
    assert made == Socket("tcp", "ipv4", "established", "10.0.0.1", 80, "10.0.0.2", 9, 1, 2, 1000, 5)
    assert parse_inet("tcp", inet(6, 0)).uid is None
    assert parse_inet("tcp", inet(10, peer="0.0.0.0")).peer is None
    assert parse_inet("udp", inet(7, peer="0.0.0.0")).state == "unconnected"
    assert parse_inet("tcp", inet(99)).state == "99"
    assert parse_inet("udp", inet(7, index=socket.if_nametoindex("lo"))).local == "10.0.0.1%lo"
    linked = parse_inet("tcp", inet(local="fe80::1", peer="fe80::2", index=socket.if_nametoindex("lo")))
    assert (linked.local, linked.peer) == ("fe80::1%lo", "fe80::2%lo")
    bound = parse_inet("tcp", inet(local="::1", peer="2001:db8::2", index=socket.if_nametoindex("lo")))
    assert (bound.local, bound.peer) == ("::1%lo", "2001:db8::2")


def test_unix_answers() -> None:
    """Names may contain any bytes; attributes that are missing are None."""
    head = struct.pack("=BBBxI8x", socket.AF_UNIX, socket.SOCK_STREAM, 10, 9)
    name = b"a\n\xff\0"
    padded = struct.pack("=HH", 4 + len(name), 0) + name
    queues = struct.pack("=HHII", 12, 4, 3, 128)
    told = parse_unix(head + padded + queues)
    assert (told.local, told.receive_queue, told.send_queue, told.inode) == ("a\n\\xff", 3, 128, 9)
    bare = parse_unix(head)
    assert (bare.local, bare.receive_queue, bare.uid, bare.peer_inode, bare.kind) == (None, None, None, None, "stream")
    hidden = struct.pack("=HH", 6, 0) + b"\0a"
    assert parse_unix(head + hidden).local == "\0a"


def test_each_socket_once() -> None:
    """A socket that is listed twice is returned once, as listed last; different sockets that look alike are kept."""
    listening, connected, waiting = READ
    ended = connected._replace(state="time-wait", inode=0, uid=None)
    other = listening._replace(inode=4244)  # another socket that shares the port
    assert once([listening, connected, ended, waiting, listening, waiting, other]) == [listening, ended, waiting, other]


def test_elsewhere_than_on_linux(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system other than Linux ``sockets`` fails with one line and exit code 26."""
    from netkit.cli.app import run

    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert run(["sockets"]) == 26
    reason = "only Linux tells of them as netkit asks, by sock_diag and /proc/net"
    assert capfd.readouterr() == ("", f"netkit sockets: cannot list sockets: {reason}\n")


def test_what_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel refuses the request, the failure says that unix sockets cannot be listed and why."""
    monkeypatch.setattr(sockdiag, "_SOCK_DIAG_BY_FAMILY", 99)
    with pytest.raises(OSError, match=r"cannot list unix sockets: .* \(the kernel's unix_diag\)"):
        sockets(["unix"])
