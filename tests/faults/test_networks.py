"""Networks that fail, lose, reorder or delay packets; each test has network namespaces of its own."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import Running, netkit, running
from tests.support.data import DATA, check_same
from tests.support.namespaces import FAR, Network, network, separate, wire
from tests.support.processes import HERE, feed, lost, peak_memory, sound

BAD_FAR = "10.9.1.2"  # behind the bad wire
RULES = "nft add table ip t; nft add chain ip t i '{ type filter hook input priority 0; }'"


@pytest.mark.fault("routes that lead nowhere")
@pytest.mark.parametrize(
    ("route", "reason"),
    [("unreachable", "no route to host"), ("prohibit", "permission denied"), ("blackhole", "invalid argument")],
)
def test_routes_that_lead_nowhere(route: str, reason: str) -> None:
    """If a route refuses a destination, connecting fails at once with 7 and the system's reason."""
    wrapper = separate("ip link set lo up", f"ip route add {route} 192.0.2.1")
    done = sound(netkit("connect", "192.0.2.1:9", wrapper=wrapper), 7)
    assert done.err.startswith(f"netkit connect: cannot connect to 192.0.2.1:9: {reason} (192.0.2.1, ")


@pytest.mark.fault("routes that lead nowhere")
@pytest.mark.parametrize(
    ("icmp", "reason"),
    [
        ("host-unreachable", "no route to host"),
        ("admin-prohibited", "no route to host"),
        ("port-unreachable", "refused"),
    ],
)
def test_routers_that_refuse(icmp: str, reason: str) -> None:
    """If a router rejects packets, connecting fails at once with 7 and its reason."""
    rule = f"nft add rule ip t i tcp dport 9 reject with icmp type {icmp}"
    wrapper = separate("ip link set lo up", RULES, rule)
    done = sound(netkit("connect", "127.0.0.1:9", wrapper=wrapper), 7)
    assert re.search(rf"cannot connect to 127.0.0.1:9: (connection )?{reason} \(127.0.0.1, ", done.err)


# -- networks that fail during a connection


def begin(client: Running) -> None:
    """Let the client of an echo server send something and receive it."""
    client.stdin.write(b"some")
    client.stdin.flush()
    assert client.out.read(4) == b"some"


@pytest.mark.fault("silence in the middle")
def test_a_silent_network_is_28() -> None:
    """If packets are dropped from some time on, --idle-timeout ends the client with 28."""
    with network(RULES) as net, running("echo", HERE, wrapper=net.inside) as server:
        port = server.port
        words = ("connect", f"127.0.0.1:{port}", "--idle-timeout", "1s")
        with running(*words, wrapper=net.inside) as client:
            begin(client)
            net.do(f"nft add rule ip t i tcp sport {port} drop")
            client.wait()
            done = sound(client.finish(), 28)
    assert "nothing moved for 1 s (--idle-timeout)" in done.err


@pytest.mark.fault("system gives up")
def test_a_system_that_gives_up_is_55() -> None:
    """If the kernel gives up retransmission, netkit fails with 55 and the count of lost bytes."""
    sysctl = "echo 1 > /proc/sys/net/ipv4/tcp_retries2"
    with network(RULES, sysctl) as net, running("echo", HERE, wrapper=net.inside) as server:
        port = server.port
        with running("connect", f"127.0.0.1:{port}", wrapper=net.inside) as client:
            begin(client)
            net.do(f"nft add rule ip t i tcp dport {port} drop")
            feed(client, b"more")
            client.wait()
            done = sound(client.finish(), 55)
    assert "connection timed out" in done.err
    assert lost(done) == (4, 8)


@pytest.mark.fault("interface goes down")
@pytest.mark.parametrize("back", [True, False])
def test_an_interface_that_goes_down(back: bool) -> None:
    """Data sent while an interface is down arrives once it is up; if it stays down, --idle-timeout ends netkit."""
    with wire() as (near, far), running("echo", f"{FAR}:0", wrapper=far.inside) as server:
        words = ("connect", f"{FAR}:{server.port}", *(() if back else ("--idle-timeout", "1s")))
        with running(*words, wrapper=near.inside) as client:
            begin(client)
            far.do("ip link set wire down")
            feed(client, DATA[:50_000])
            if back:
                far.do("ip link set wire up")
                check_same(client.read_all(), DATA[:50_000])
            assert client.wait() == (0 if back else 28)


# -- networks that lose, reorder and delay


@pytest.mark.fault("loss")
def test_one_packet_in_ten_is_lost() -> None:
    """With one packet in ten lost, the data comes back intact (retransmission after 5 ms instead of 200 ms)."""
    soon = "ip link set lo mtu 1500; ip route replace local 127.0.0.0/8 dev lo table local rto_min 5ms"
    lossy = "nft add rule ip t i tcp dport != 0 numgen random mod 100 '<' 10 counter drop"
    with network(RULES, soon, lossy) as net, running("echo", HERE, wrapper=net.inside) as server:
        done = netkit("connect", f"127.0.0.1:{server.port}", wrapper=net.inside, input=DATA * 10)
        assert " packets 0 " not in net.do("nft list chain ip t i")
    check_same(sound(done, 0).out, DATA * 10)


@pytest.mark.fault("small packets")
@pytest.mark.parametrize("mtu", [576, 1280])
def test_small_packets(mtu: int) -> None:
    """With a small MTU streams come back intact, and so do large datagrams."""
    with network(f"ip link set lo mtu {mtu}") as net, running("echo", HERE, "--both", wrapper=net.inside) as server:
        port = server.port
        done = netkit("connect", f"127.0.0.1:{port}", wrapper=net.inside, input=DATA)
        check_same(sound(done, 0).out, DATA)
        words = ("udp-send", f"127.0.0.1:{port}", "--replies", "1", "--wait", "5s")
        check_same(sound(netkit(*words, wrapper=net.inside, input=DATA[:60_000]), 0).out, DATA[:60_000])


@pytest.mark.fault("slow link")
def test_a_slow_network() -> None:
    """On a slow network netkit buffers little, and the data arrives intact."""
    with (
        ThreadPoolExecutor(1) as pool,  # ends after the server, whose output it reads
        wire() as (near, far),
        running("listen", f"{FAR}:0", wrapper=far.inside, stdin=subprocess.DEVNULL) as server,
    ):
        near.do("tc qdisc add dev wire root tbf rate 64mbit burst 32k latency 400ms")
        with running("connect", f"{FAR}:{server.port}", "--send-only", wrapper=near.inside) as client:
            client.stdin.write(DATA)
            before = peak_memory(client.pid)
            received = pool.submit(server.read_all)
            for _ in range(9):
                client.stdin.write(DATA)
            assert peak_memory(client.pid) - before < 4 << 20
            client.stdin.close()
            check_same(received.result(), DATA * 10)
            assert client.wait() == 0


@contextlib.contextmanager
def bad_wire() -> Iterator[tuple[Network, Network, Callable[[], dict[str, int]]]]:
    """Yield two networks with a bad wire between them, and a function that ends it and returns what it did."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be used here")
    with network() as near, network(beside=near) as far:
        words = [*near.inside, sys.executable, "-m", "tests.support.bad_wire", str(far.pid)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as carrier:
            assert carrier.stdout is not None
            assert carrier.stdout.readline() == b"ready\n"
            yield near, far, lambda: dict(json.loads(carrier.communicate()[0]))


@pytest.mark.fault("late, doubled, reordered, corrupted")
def test_a_bad_wire() -> None:
    """If packets are delayed, doubled, reordered, corrupted or lost, streams are intact and datagrams are counted.

    Doubled datagrams are received twice, and lost ones are not.
    """
    count = 1000
    with bad_wire() as (near, far, ended):
        with running("echo", f"{BAD_FAR}:0", "--max-clients", "1", wrapper=far.inside) as server:
            done = netkit("connect", f"{BAD_FAR}:{server.port}", wrapper=near.inside, input=DATA)
        check_same(sound(done, 0).out, DATA)
        words = ("udp-serve", f"{BAD_FAR}:0", "--output", "lines", "--stats", "--idle-timeout", "500ms")
        with running(*words, "--accept-timeout", "20s", wrapper=far.inside) as server:
            lines = b"".join(b"%d\n" % number for number in range(count))
            words = ("udp-send", f"{BAD_FAR}:{server.port}", "--lines", "--rate", "200K", "--stats")
            sent = netkit(*words, wrapper=near.inside, input=lines)
            received = server.finish()
        assert json.loads(sent.err)["datagrams_sent"] == count
        came = received.out.splitlines()
        told = json.loads(next(line for line in received.err.splitlines() if line.startswith("{")))
        assert told["datagrams_received"] == len(came)
        assert len(set(came)) < count  # some were lost
        assert len(set(came)) < len(came)  # some came twice
        assert came != sorted(came, key=int)  # some came out of order
        assert all(ended().values())
