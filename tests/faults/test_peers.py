"""Peers and networks that misbehave: data received is kept, lost data is counted, and netkit reports and ends."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import PATIENCE, Finished, cpu_seconds, exchange, free_port, netkit, peer, read_all, reset, running
from tests.support.data import PATTERN, digest
from tests.support.namespaces import separate
from tests.support.peers import (
    connect,
    drip,
    full_backlog,
    outlast,
    push,
    receive,
    resent,
    say_some,
    server_socket,
    wait_for_input,
)
from tests.support.processes import descriptors, feed, lost, peak_memory, sound, stopped, strace, tool

BIG = 20_000_000


# -- the peer


def converse(
    way: str,
    behaviour: Callable[[socket.socket], Any],
    *options: str,
    input: bytes | None = b"",
    window: int | None = None,
) -> tuple[Finished, Any]:
    """Run netkit against ``behaviour``; return how netkit finished, and what ``behaviour`` returned or raised.

    ``way`` is connect, unix (connect to an abstract socket) or listen. ``input`` None leaves stdin open and idle.
    ``window`` is the size of the peer's receive buffer.
    """
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(2))
        if way == "listen":
            process = stack.enter_context(running("listen", "127.0.0.1:0", *options))
            sock = connect(process.port, window=window)
        else:
            address, listener = server_socket(way)
            with listener:
                if window is not None:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
                process = stack.enter_context(running("connect", address, *options))
                listener.settimeout(PATIENCE)
                sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        played = pool.submit(_play, behaviour, sock)
        if input is not None:
            pool.submit(feed, process, input)
        out = process.read_all()
        code = process.wait()
        return Finished(code, out, process.finish().err), played.result()


def _play(behaviour: Callable[[socket.socket], Any], sock: socket.socket) -> Any:
    try:
        with sock:
            return behaviour(sock)
    except OSError as error:
        return error


# -- resets and early ends


@pytest.mark.fault("reset at once")
@pytest.mark.parametrize("way", ["connect", "listen"])
def test_reset_at_once(way: str) -> None:
    """A reset right after the handshake is a failure, for the client and for the server."""
    done, _ = converse(way, reset, input=b"hi")
    assert "connection reset by peer" in sound(done, 55, 56).err
    assert done.out == b""


@pytest.mark.fault("reset at once")
@pytest.mark.parametrize("call", ["getsockopt", "getsockname", "getpeername", "recvfrom"])
def test_reset_before_our_next_call(call: str) -> None:
    """A reset at any moment between the handshake and the first byte is 56, never a refused connection."""
    delay = f"inject={call}:delay_enter=100000:when=1"  # microseconds
    wrapper = strace(f"trace={call}", delay)
    with peer(reset) as server:
        done = sound(netkit("connect", server.address, wrapper=wrapper), 56)
    assert f"cannot receive from {server.address}: connection reset by peer" in done.err


@pytest.mark.fault("data, then a reset")
@pytest.mark.parametrize("way", ["connect", "listen"])
def test_data_then_reset(way: str) -> None:
    """Data received before a reset is written, and the exit code is 56."""

    def send_and_reset(sock: socket.socket) -> None:
        sock.sendall(PATTERN)
        reset(sock)

    done, _ = converse(way, send_and_reset, input=None)
    assert re.search(r"cannot receive from 127\.0\.0\.1:\d+: connection reset by peer \(after \d+ bytes\)", done.err)
    assert sound(done, 56).out
    assert PATTERN.startswith(done.out)


@pytest.mark.fault("peer stops reading")
@pytest.mark.parametrize("way", ["connect", "listen"])
def test_peer_stops_reading_and_leaves(way: str) -> None:
    """If a peer reads 1,000 bytes of 20 MB and closes, the message counts the bytes not acknowledged: 55."""
    done, _ = converse(way, lambda sock: len(sock.recv(1000)), input=bytes(BIG), window=4096)
    some, of = lost(sound(done, 55))
    assert 0 < some <= of <= BIG
    assert re.search(r": cannot send to 127\.0\.0\.1:\d+: connection reset by peer \(", done.err)


@pytest.mark.fault("close with our input unread")
@pytest.mark.parametrize("way", ["connect", "unix", "listen"])
def test_whole_reply_before_a_close_with_our_input_unread(way: str) -> None:
    """If a peer replies and closes with our input unread, the whole reply is written, but the exit code is 55 or 56."""

    def answer_and_close(sock: socket.socket) -> None:
        wait_for_input(sock)
        sock.sendall(PATTERN[:50_000])

    done, _ = converse(way, answer_and_close, input=bytes(100_000), window=4096)
    sound(done, 55, 56)
    assert digest(done.out) == digest(PATTERN[:50_000])


@pytest.mark.fault("close with our input unread")
def test_reply_that_comes_together_with_the_reset_of_our_sending() -> None:
    """If reply and reset are seen at the same time, the reply is written, and then the lost bytes are reported."""
    address, listener = server_socket("connect")
    with listener, open("/dev/zero", "rb") as zeros, running("connect", address, stdin=zeros) as process:
        listener.settimeout(PATIENCE)
        client, _ = listener.accept()
        wait_for_input(client)
        with stopped(process), client:
            client.sendall(PATTERN[:50_000])
        assert digest(process.read_all()) == digest(PATTERN[:50_000])
        process.wait()
        some, of = lost(sound(process.finish(), 55))
        assert 0 < some <= of


@pytest.mark.fault("both write before they read")
@pytest.mark.parametrize("way", ["connect", "listen"])
def test_both_sides_write_20_mb_before_they_read(way: str) -> None:
    """If both sides write before they read there is no deadlock: netkit reads while its writing is blocked."""
    ours, theirs = os.urandom(BIG), os.urandom(BIG)

    def write_first(sock: socket.socket) -> str:
        sock.sendall(theirs)
        sock.shutdown(socket.SHUT_WR)
        return digest(read_all(sock))

    done, found = converse(way, write_first, input=ours)
    assert digest(sound(done, 0).out) == digest(theirs)
    assert found == digest(ours)


# -- silent and slow peers


@pytest.mark.fault("peer never reads")
def test_peer_that_never_reads_stops_our_reading() -> None:
    """A peer that does not read blocks our stdin, without use of memory or CPU, until --idle-timeout ends it: 28."""
    with peer(say_some) as server, running("connect", server.address, "--idle-timeout", "2s", real=True) as process:
        assert process.out.read(4) == b"some"
        before = peak_memory(process.pid)
        pushed = push(process.stdin.fileno(), process)
        spent = cpu_seconds(process.pid)
        assert peak_memory(process.pid) - before < 8 << 20
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert cpu_seconds(process.pid) - spent <= 0.1  # a busy loop would use 0.3
        done = process.finish()
    assert "nothing moved for 2 s (--idle-timeout)" in sound(done, 28).err
    assert pushed > 65536


@pytest.mark.fault("silent peer")
@pytest.mark.parametrize("way", ["connect", "unix", "listen"])
def test_silent_peer_runs_into_the_idle_timeout(way: str) -> None:
    """Data received before --idle-timeout is written, and a TCP peer sees a reset rather than an end."""

    def fall_silent(sock: socket.socket) -> bytes:
        sock.sendall(b"some")
        return sock.recv(1)

    done, seen = converse(way, fall_silent, "--idle-timeout", "1s", input=None)
    assert "nothing moved for 1 s (--idle-timeout)" in sound(done, 28).err
    assert done.out == b"some"
    assert seen == b"" if way == "unix" else isinstance(seen, ConnectionResetError)


@pytest.mark.fault("one byte a second")
def test_dripping_peer_runs_into_the_whole_timeout_alone() -> None:
    """A byte now and then prevents --idle-timeout, but not --timeout."""
    clocks = ("--idle-timeout", "1s", "--timeout", "1500ms")
    done, _ = converse("connect", lambda sock: drip(sock, PATTERN, 0.01), *clocks, input=None)
    assert "time ran out after 1.5 s (--timeout)" in sound(done, 28).err
    assert done.out
    assert PATTERN.startswith(done.out)


@pytest.mark.fault("one byte a packet")
def test_one_byte_segments() -> None:
    """5,000 segments of one byte each arrive intact, and take little CPU."""

    def send_single(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(5000):
            sock.send(PATTERN[place : place + 1])

    with peer(send_single) as server, running("connect", server.address, "--grace", "0", real=True) as process:
        out = process.read_all()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert cpu_seconds(process.pid) < 1
        done = process.finish()
    sound(done, 0)
    assert digest(out) == digest(PATTERN[:5000])


@pytest.mark.fault("urgent data")
@pytest.mark.parametrize("way", ["echo", "upper", "relay", "program"])
def test_urgent_data_passes_servers(way: str) -> None:
    """Urgent data passes through a server, a relay or a program both ways, in its place in the stream."""
    with running("echo", "127.0.0.1:0") as target:
        commands = {
            "echo": ("echo", "127.0.0.1:0"),
            "upper": ("upper", "127.0.0.1:0"),
            "relay": ("relay", "127.0.0.1:0", f"127.0.0.1:{target.port}"),
            "program": ("listen", "127.0.0.1:0", "-k", "--exec", "cat"),
        }
        with running(*commands[way]) as server, connect(server.port) as sock:
            sock.sendall(b"AB")
            sock.send(b"X", socket.MSG_OOB)
            sock.sendall(b"CD")
            sock.send(b"Y", socket.MSG_OOB)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"ABXCDY"


# -- many clients


@pytest.mark.fault("clients that come and reset")
def test_clients_that_connect_and_reset_leave_nothing_behind() -> None:
    """After 1,000 clients that connect and reset, a server still answers and has no more descriptors than before."""
    with running("echo", "127.0.0.1:0") as server:
        port = server.port
        before = descriptors(server.pid)
        for _ in range(1000):
            client = socket.create_connection(("127.0.0.1", port))
            assert not resent(client)
            reset(client)
        for _ in range(100):  # each exchange gives the server time to close the reset connections
            assert exchange(port, b"still here") == b"still here"
            if descriptors(server.pid) <= before:
                break
        assert descriptors(server.pid) == before
        server.signal(signal.SIGTERM)
        sound(server.finish(), -signal.SIGTERM)


@pytest.mark.fault("many clients at once")
def test_200_clients_at_once() -> None:
    """200 clients can connect while the server is stopped, without a dropped SYN, and all are served."""
    with running("echo", "127.0.0.1:0", "--max-clients", "200") as server, contextlib.ExitStack() as stack:
        port = server.port
        with stopped(server):
            clients = [stack.enter_context(connect(port)) for _ in range(200)]
            assert not any(map(resent, clients))
        for number, client in enumerate(clients):
            client.sendall(b"%3d" % number)
        for number, client in enumerate(clients):
            assert receive(client, 3) == b"%3d" % number
            client.close()
        sound(server.finish(), 0)


@pytest.mark.fault("idle client")
def test_idle_client_holds_up_nobody() -> None:
    """A second client is served while the first is silent, and then the first is, too."""
    with running("upper", "127.0.0.1:0", "--max-clients", "2") as server:
        port = server.port
        with connect(port) as idle:
            assert exchange(port, b"SECOND") == b"SECOND"
            idle.sendall(b"FIRST")
            assert receive(idle, 5) == b"FIRST"
        sound(server.finish(), 0)


# -- connecting


@pytest.mark.fault("connection refused")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_refused_names_host_port_and_reason(host: str) -> None:
    """A refused connection is 7; the message has the host, the port and the reason."""
    port = free_port()
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert f"cannot connect to {target}: connection refused (" in sound(netkit("connect", target), 7).err


@pytest.mark.fault("full backlog")
@pytest.mark.parametrize("clock", ["--connect-timeout", "--timeout", "--wait"])
def test_full_backlog_is_28(clock: str) -> None:
    """If a full backlog drops our SYN, netkit gives up after the given timeout."""
    with full_backlog() as port:
        done = sound(netkit("connect", f"127.0.0.1:{port}", clock, "100ms"), 28)
    why = f"netkit connect: cannot connect to 127.0.0.1:{port}: no answer within 100 ms (127.0.0.1)\n"
    assert done.err == why if clock == "--connect-timeout" else "100 ms" in done.err


# -- connections that break


@pytest.mark.fault("connection destroyed")
def test_connection_that_the_system_destroyed_is_56() -> None:
    """A connection destroyed by ``ss -K`` is 56, and data received before is written."""

    with peer(outlast) as probe, socket.create_connection(("127.0.0.1", probe.port)) as ours:
        destroy_connections_to(probe.port)
        if not select.select([ours], [], [], 0)[0]:
            pytest.skip("this system lets nobody destroy connections with ss -K")
    with peer(say_some) as server, running("connect", server.address) as process:
        assert process.out.read(4) == b"some"
        destroy_connections_to(server.port)
        process.wait()
        done = sound(process.finish(), 56)
    assert f"cannot receive from {server.address}: software caused connection abort (after 4 bytes)" in done.err


def destroy_connections_to(port: int) -> None:
    """Abort every connection to a port of 127.0.0.1."""
    command = [tool("ss"), "--kill", "--tcp", "--numeric", "dst", "127.0.0.1", "dport", "=", str(port)]
    subprocess.run(command, capture_output=True, timeout=PATIENCE)


@pytest.mark.fault("errors of send")
def test_every_error_of_send_is_55() -> None:
    """Any error of send(2) ends netkit with 55, the reason, and a count of lost bytes; the peer sees a reset."""
    reasons = {
        "ENOBUFS": "no buffer space available",
        "EPIPE": "connection reset by peer",
        "ECONNRESET": "connection reset by peer",
        "ETIMEDOUT": "connection timed out",
        "EHOSTUNREACH": "no route to host",
        "EIO": "input/output error",
    }
    with peer(read_all) as server, contextlib.ExitStack() as stack:
        clients = {}
        for name in reasons:
            inject = f"inject=sendto:error={name}:when=9"
            wrapper = strace("trace=sendto", inject)
            zeros = stack.enter_context(open("/dev/zero", "rb"))  # an input that never ends
            clients[name] = stack.enter_context(running("connect", server.address, wrapper=wrapper, stdin=zeros))
        for name, reason in reasons.items():
            clients[name].wait()
            done = sound(clients[name].finish(), 55)
            assert f"cannot send to {server.address}: {reason} (" in done.err, name
            some, of = lost(done)
            assert 0 < some <= of
            assert isinstance(server.result(), ConnectionResetError), name


# -- incomplete networks, each in a network namespace of its own


@pytest.mark.fault("no network")
@pytest.mark.parametrize(
    "args, code, reason",
    [
        (["connect", "127.0.0.1:9"], 7, "127.0.0.1:9: network is unreachable"),
        (["connect", "[::1]:9"], 7, "[::1]:9: cannot assign requested address"),
        (["connect", "localhost:9", "-4"], 7, "localhost:9: network is unreachable"),
        (["connect", "unix:@netkit-none"], 7, "unix:@netkit-none: connection refused"),
        (["listen", "-6", "9000"], 45, "[::1]:9000: cannot assign requested address"),
    ],
)
def test_no_network_at_all(args: list[str], code: int, reason: str) -> None:
    """Without any interface that is up, a client fails with 7 and a server with 45, with the reason."""
    assert reason in sound(netkit(*args, wrapper=separate()), code).err


@pytest.mark.fault("no network")
def test_every_interface_needs_none() -> None:
    """A server for all addresses starts without an interface, to serve interfaces that come up later."""
    done = netkit("echo", ":9000", "--for", "50ms", wrapper=separate())
    assert "listening on 0.0.0.0:9000\n" in sound(done, 0).err


NO_IPV6 = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"


@pytest.mark.fault("no IPv6")
@pytest.mark.parametrize("address, ready", [("0", "127.0.0.1"), (":0", "0.0.0.0")])
def test_without_ipv6_servers_take_ipv4_alone(address: str, ready: str) -> None:
    """Without IPv6, PORT and :PORT listen on IPv4 only, and the ready line shows it."""
    command = ["sh", "-c", '"$0" -m netkit connect "$NETKIT_ADDRESS" --send hello', sys.executable]
    done = sound(netkit("echo", address, "--", *command, wrapper=separate("ip link set lo up", NO_IPV6)), 0)
    assert done.out == b"hello"
    assert f"netkit echo: listening on {ready}:" in done.err


@pytest.mark.fault("no IPv6")
def test_without_ipv6_an_ipv6_address_is_7() -> None:
    """Connecting to an IPv6 address while IPv6 is disabled is 7."""
    done = sound(netkit("connect", "[::1]:9", wrapper=separate("ip link set lo up", NO_IPV6)), 7)
    assert "cannot connect to [::1]:9: cannot assign requested address" in done.err


@pytest.mark.fault("addresses of many hosts")
@pytest.mark.parametrize("host", ["255.255.255.255", "224.0.0.1", "0.0.0.0", "::", "ff02::1%lo"])
def test_addresses_that_no_stream_can_reach(host: str) -> None:
    """Connecting to a broadcast, multicast or wildcard address is 7 or 2, with a message that names it."""
    done = sound(netkit("connect", host, "9", "-w", "2s", wrapper=separate("ip link set lo up")), 2, 7)
    assert host in done.err


# -- listening


@pytest.mark.fault("address that cannot be bound")
def test_privileged_port_is_45() -> None:
    """Listening on a privileged port without the privilege is 45, with a message that names the address."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 2:
        pytest.skip("this system takes no port for privileged")
    drop = "-net_bind_service"
    wrapper = () if os.geteuid() else ("setpriv", "--inh-caps", drop, "--bounding-set", drop)
    done = sound(netkit("listen", "127.0.0.1:1", wrapper=wrapper), 45)
    assert "cannot listen on 127.0.0.1:1: permission denied" in done.err


@pytest.mark.fault("port that the system chose")
def test_chosen_port_is_told_once_and_before_any_client() -> None:
    """The ready line has the port that the system chose, is printed once, and clients can connect from then on."""
    with running("listen", "127.0.0.1:0") as server:
        port = server.port
        with stopped(server):
            socket.create_connection(("127.0.0.1", port)).close()
        server.signal(signal.SIGTERM)
        done = server.finish()
    assert port
    assert done.err.count("listening on") == 1


@pytest.mark.ipv6
@pytest.mark.fault("both families")
def test_ipv6_wildcard_is_ipv6_alone() -> None:
    """A server on [::] does not accept IPv4."""
    with running("echo", "[::]:0", "--once") as server:
        port = server.port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert exchange(port, b"six", host="::1") == b"six"
        sound(server.finish(), 0)
