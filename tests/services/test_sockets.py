"""Which sockets are listed, in which states, and with which processes."""

import os
import socket
import subprocess

import pytest

from netkit.core.errors import Invalid
from netkit.core.sockdiag import Socket
from netkit.services.sockets import Process, Wanted, is_listening, listing, parse_state

LISTENER = Socket("tcp", "ipv4", "listen", "0.0.0.0", 80, None, None, 0, 128, 0, 1)
CONNECTED = Socket("tcp", "ipv4", "established", "127.0.0.1", 5000, "127.0.0.2", 80, 0, 0, 0, 2)
DATAGRAMS = Socket("udp", "ipv4", "unconnected", "0.0.0.0", 53, None, None, 0, 0, 0, 3)
HALF_MADE = Socket("unix", "unix", "unconnected", "/run/x", None, None, None, 0, 0, 0, 4, "stream")
RECEIVER = Socket("unix", "unix", "unconnected", "/run/log", None, None, None, 0, 0, 0, 5, "dgram")
BOUND = RECEIVER._replace(kind="seqpacket", inode=7)
NAMELESS = Socket("unix", "unix", "unconnected", None, None, None, None, 0, 0, 0, 6, "dgram")
ALL = (LISTENER, CONNECTED, DATAGRAMS, HALF_MADE, RECEIVER, BOUND, NAMELESS)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Wanted(), ALL),
        (Wanted(listening=True), (LISTENER, DATAGRAMS, RECEIVER)),
        (Wanted(port=80), (LISTENER, CONNECTED)),
        (Wanted(port=80, state="established"), (CONNECTED,)),
        (Wanted(family="ipv4"), (LISTENER, CONNECTED, DATAGRAMS)),
        (Wanted(family="ipv6"), ()),
        (Wanted(state="unconnected"), (DATAGRAMS, HALF_MADE, RECEIVER, BOUND, NAMELESS)),
    ],
)
def test_what_is_meant(wanted: Wanted, taken: tuple[Socket, ...]) -> None:
    """All conditions must hold; a port may be that of either end, and listening means to wait for any peer."""
    assert tuple(filter(wanted.takes, ALL)) == taken
    assert tuple(filter(is_listening, ALL)) == (LISTENER, DATAGRAMS, RECEIVER)


def test_only_tables_that_may_have_some_are_read() -> None:
    """A unix socket has no port and no IP address, and only TCP has time-wait."""
    assert Wanted(port=80).asked() == Wanted(family="ipv6").asked() == ["tcp", "udp"]
    assert Wanted(state="time-wait").asked() == ["tcp"]
    assert Wanted(state="listen").asked() == ["tcp", "unix"]


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("ESTAB", "established"),
        ("CONNECTED", "established"),
        ("TIME_WAIT", "time-wait"),
        ("time-wait", "time-wait"),
        ("FIN_WAIT1", "fin-wait-1"),
        ("FIN-WAIT-2", "fin-wait-2"),
        ("SYN_RECV", "syn-received"),
        ("LISTENING", "listen"),
        ("UNCONN", "unconnected"),
    ],
)
def test_states_as_others_name_them(text: str, state: str) -> None:
    """Names of ss, netstat and RFC 9293 are accepted, in upper or lower case."""
    assert parse_state(text, ("tcp", "udp")) == state


@pytest.mark.parametrize(
    ("text", "protocols", "message"),
    [
        ("lissen", ("tcp",), "'lissen' is no state, did you mean 'listen'?"),
        ("", ("udp",), "'' is no state: established, unconnected"),
        ("syn-sent", ("unix",), "--state syn-sent does not apply: unix sockets are listen, established, unconnected"),
        ("listen", ("udp",), "--state listen does not apply: udp sockets are established, unconnected"),
    ],
)
def test_no_state(text: str, protocols: tuple[str, ...], message: str) -> None:
    """A state that does not exist, or not for these protocols, is refused with those that do."""
    with pytest.raises(Invalid) as caught:
        parse_state(text, protocols)
    assert message in str(caught.value)


def test_own_sockets_are_found_with_their_process_and_user() -> None:
    """A socket of our process is listed once, with its user and the process."""
    with open("/proc/self/comm") as file:
        name = file.read()[:-1]
    with socket.create_server(("127.0.0.1", 0)) as server:
        [found] = listing(Wanted(listening=True, port=server.getsockname()[1], pid=os.getpid()))
        assert found.socket.inode == os.fstat(server.fileno()).st_ino
        assert found.socket.uid == os.getuid()
        assert found.processes == (Process(os.getpid(), name),)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
            assert listing(Wanted(port=server.getsockname()[1], pid=other.pid)) == []
