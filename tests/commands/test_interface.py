"""``--interface``: connections and datagrams leave by the given interface, whatever the routes say."""

import errno
import json
import os
import shlex
from pathlib import Path

import pytest

from tests.support import NETKIT, netkit, peer, read_all, running
from tests.support.namespaces import separate
from tests.support.peers import is_reset
from tests.support.processes import HERE, sound, strace

# Another network that is reachable by two interfaces. The route prefers the left one.
TWO_WAYS = """
mount -t tmpfs none /run
ip netns add far
for way in 'left 10.1.0' 'right 10.2.0'; do
    set -- $way "$@"
    ip link add $1 type veth peer name far-$1 netns far
    ip address add $2.1/24 dev $1
    ip link set $1 up
    ip -n far address add $2.2/24 dev far-$1
    ip -n far link set far-$1 up
    shift 2
done
ip -n far link set lo up
ip -n far address add 10.9.0.9/32 dev lo
ip route add 10.9.0.9 via 10.1.0.2 dev left metric 1
ip route add 10.9.0.9 via 10.2.0.2 dev right metric 2
"""


def beyond(*words: str) -> str:
    """Return a shell line that starts netkit in the other network and waits until it listens."""
    run = shlex.join(["nsenter", "--net=/run/netns/far", *NETKIT, *words, "--port-file", "/run/port"])
    return f"{run} & until test -s /run/port; do :; done"


WAYS = [((), "10.1.0.1"), (("--interface", "left"), "10.1.0.1"), (("--interface", "right"), "10.2.0.1")]


@pytest.mark.parametrize(("options", "host"), WAYS)
def test_a_connection_leaves_by_it(options: tuple[str, ...], host: str) -> None:
    """The server sees the address of the interface that a connection uses."""
    server = beyond("echo", "10.9.0.9:7", "--greet", "{host}", "--once", "--accept-timeout", "20s")
    done = netkit("connect", "10.9.0.9:7", *options, input=b"", wrapper=separate(TWO_WAYS, server))
    assert (done.code, done.out.decode()) == (0, host)


@pytest.mark.parametrize(("options", "host"), WAYS)
def test_a_datagram_leaves_by_it(options: tuple[str, ...], host: str, tmp_path: Path) -> None:
    """The server sees the address of the interface that a datagram uses."""
    words = ("--count", "1", "--output", "json", "--idle-timeout", "20s", "--reply", "got it")
    server = beyond("udp-serve", "10.9.0.9:7", *words).replace(" & ", f" >{tmp_path}/got & ")
    words = ("--replies", "1", "--wait", "20s")
    done = netkit("udp-send", "10.9.0.9:7", *options, *words, "hi", wrapper=separate(TWO_WAYS, server))
    assert (done.code, done.out.rstrip()) == (0, b"got it"), done
    assert json.loads((tmp_path / "got").read_text())["peer_address"] == host


def test_what_cannot_be_reached_by_it() -> None:
    """An address that is not reachable by the interface is not tried by another one."""
    wrapper = separate("ip link set lo up", TWO_WAYS)
    sound(netkit("connect", "10.1.0.2:7", "--interface", "lo", "-w", "200ms", wrapper=wrapper), 28)
    sound(netkit("connect", "10.1.0.2:7", "--interface", "left", "-w", "10s", wrapper=wrapper), 7)


@pytest.mark.parametrize("words", ["connect 127.0.0.1:1", "udp-send 127.0.0.1:1 x", "fetch http://127.0.0.1:1/"])
def test_an_interface_that_is_not_there(words: str) -> None:
    """A missing interface is exit code 45, as an address that is not ours."""
    done = sound(netkit(*words.split(), "--interface", "nosuch0"), 45)
    assert done.err == f"netkit {words.split()[0]}: cannot use interface nosuch0: no such device\n"


def test_a_relay_through_one_that_is_not_there() -> None:
    """A relay with a missing interface resets its clients and says why."""
    with running("relay", HERE, "127.0.0.1:1", "--interface", "nosuch0") as relay:
        assert is_reset(relay.port)
        relay.line("reset: cannot use interface nosuch0: no such device$")


def test_without_permission() -> None:
    """Without permission (before Linux 5.7) it is exit code 45, with the reason."""
    denied = strace("inject=setsockopt:error=EPERM:when=1")
    done = netkit("udp-send", "127.0.0.1:1", "x", "--interface", "lo", wrapper=denied)
    assert done.err.endswith(f"cannot use interface lo: {os.strerror(errno.EPERM).lower()}\n")
    assert done.code == 45


def test_to_this_machine() -> None:
    """--interface lo works."""
    with peer(read_all) as server:
        assert netkit("connect", server.address, "--interface", "lo", input=b"hi") == (0, b"", "")
        assert server.result() == b"hi"
