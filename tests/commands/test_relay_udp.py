"""``netkit relay --udp`` from the command line: whole datagrams both ways, and a socket for each client."""

import contextlib
import json
import os
import random
import re
import resource
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Running, died_by, free_port, netkit, running
from tests.support.partners import dnsmasq
from tests.support.peers import address, udp
from tests.support.processes import HERE, memory, tool

LARGEST = 65507


@contextlib.contextmanager
def relayed(*options: str, listen: str = HERE, **popen: Any) -> Iterator[tuple[Running, socket.socket]]:
    """Run a relay to a plain UDP socket."""
    with udp() as there, running("relay", "--udp", listen, address(there), *options, **popen) as server:
        yield server, there


@contextlib.contextmanager
def asking(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A socket that is connected to a relay."""
    with udp(host) as sock:
        sock.connect((host, port))
        yield sock


# -- datagrams


def test_each_client_has_its_own_answers() -> None:
    """Each client has its own socket towards the target, and gets the replies to its own datagrams."""
    with relayed() as (server, there), contextlib.ExitStack() as stack:
        port = server.port
        clients = [stack.enter_context(asking(port)) for _ in range(2)]
        seen: dict[int, set[Any]] = {0: set(), 1: set()}
        for turn in range(3):
            for number, each in enumerate(clients):
                each.send(f"{number} {turn}".encode())
            asked = [there.recvfrom(100) for _ in clients]
            for data, peer in reversed(asked):
                seen[int(data[:1])].add(peer)
                there.sendto(data + b"!", peer)
                there.sendto(data + b"?", peer)
            for number, each in enumerate(clients):
                assert [each.recv(100) for _ in "!?"] == [f"{number} {turn}{end}".encode() for end in "!?"]
        assert len(seen[0]) == len(seen[1]) == 1 and seen[0] != seen[1]
        assert server.terminate().complaints == []


@pytest.mark.ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_next_address_of_a_target_takes_what_the_first_refused(host: str) -> None:
    """``:PORT`` has two addresses and the target may listen on one of them: each client reaches it."""
    with (
        running("echo", "--udp", f"{host}:0") as target,
        running("relay", "--udp", HERE, f":{target.port}") as relay,
    ):
        port = relay.port
        for word in (b"one", b"two"):
            with asking(port) as sock:
                for _ in range(2):
                    sock.send(word)
                    assert sock.recv(99) == word
        assert relay.terminate().complaints == []


@pytest.mark.parametrize("size", [0, 1, 1472, LARGEST])
def test_datagrams_stay_whole(size: int) -> None:
    """Datagrams of every size arrive whole in both directions, also empty ones."""
    data = random.Random(size).randbytes(size)
    with relayed() as (server, there), asking(server.port) as here:
        here.send(data)
        got, peer = there.recvfrom(1 << 17)
        assert got == data
        there.sendto(data[::-1], peer)
        assert here.recv(1 << 17) == data[::-1]


def test_bulk_is_neither_cut_nor_merged() -> None:
    """Many datagrams at once, of equal or random sizes, arrive in order and unchanged."""
    numbers = random.Random(3)
    sizes = [100] * 300 + [numbers.randrange(1500) for _ in range(100)]
    data = [numbers.randbytes(size) for size in sizes]
    text = b"".join(each.hex().encode() + b"\n" for each in data)
    with relayed() as (server, there), asking(server.port) as here:
        assert netkit("udp-send", "--hex", f"127.0.0.1:{here.getpeername()[1]}", input=text).code == 0
        assert [there.recv(2000) for _ in data] == data
        here.send(b"all of it")
        _, peer = there.recvfrom(100)
        for each in data:
            there.sendto(each, peer)
        assert [here.recv(2000) for _ in data] == data


def test_bulk_moves_by_segments(tmp_path: Path) -> None:
    """Datagrams that arrive joined are sent joined: 2,000 of them need fewer than 200 calls of sendmsg(2)."""
    calls = tmp_path / "calls"
    wrapper = (tool("strace"), "-qq", "-o", str(calls), "-e", "trace=sendmsg")
    with relayed("--until", "last", wrapper=wrapper) as (server, _):
        port = server.port
        assert netkit("udp-send", "--size", "100", f"127.0.0.1:{port}", input=bytes(200_000)).code == 0
        assert netkit("udp-send", f"127.0.0.1:{port}", "last").code == 0
        assert server.wait() == 0
    moved = [int(count) for count in re.findall(r"\)\s+= (\d+)$", calls.read_text(), re.MULTILINE)]
    assert sum(moved) == 200_004 and len(moved) < 200


@pytest.mark.ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1"])
def test_answers_leave_from_the_address_that_was_asked(host: str) -> None:
    """A relay on all interfaces replies from the address that the client sent to."""
    with relayed(listen=":0") as (server, there), asking(server.port, host) as here:
        here.send(b"question")
        _, peer = there.recvfrom(100)
        there.sendto(b"answer", peer)
        assert here.recv(100) == b"answer"


def test_only_the_target_answers() -> None:
    """Datagrams from other addresses to an association's socket are not passed on."""
    with relayed() as (server, there), asking(server.port) as here:
        here.send(b"question")
        _, peer = there.recvfrom(100)
        with udp() as stranger, contextlib.suppress(ConnectionRefusedError):
            stranger.connect(peer)
            stranger.send(b"forged")
            stranger.recv(1)  # refused, as the socket is connected to the target
        there.sendto(b"answer", peer)
        assert here.recv(100) == b"answer"


# -- how associations end


def test_idle_associations_end() -> None:
    """--idle-timeout closes a client's socket, and its next datagram opens a new one; the relay goes on."""
    with relayed("--idle-timeout", "1s") as (server, there), asking(server.port) as here:
        here.send(b"one")
        _, first = there.recvfrom(100)
        while taken(first):
            os.sched_yield()
        here.send(b"two")
        data, second = there.recvfrom(100)
        there.sendto(b"answer", second)
        assert (data, here.recv(100)) == (b"two", b"answer")
        assert server.process.poll() is None
        assert server.terminate().complaints == []


def taken(peer: tuple[str, int]) -> bool:
    """Whether a UDP port of this machine is in use, by the kernel's table."""
    return f":{peer[1]:04X} " in Path("/proc/net/udp").read_text(encoding="ascii")


def test_a_target_that_is_not_there() -> None:
    """If the target refuses, one line says so; once it listens, the client is served."""
    port = free_port()
    with running("relay", "--udp", HERE, f"127.0.0.1:{port}") as server, asking(server.port) as here:
        here.send(b"lost")
        own = here.getsockname()[1]
        server.line(rf"cannot send to 127.0.0.1:{port} for now: connection refused \(127.0.0.1, for 127.0.0.1:{own}\)$")
        with udp(port=port) as there:
            here.send(b"heard")
            assert there.recv(100) == b"heard"
        assert server.terminate().complaints[1:] == []


def test_a_name_that_is_not_found() -> None:
    """If the target's name cannot be resolved, the relay says so and goes on."""
    with running("relay", "--udp", HERE, "no.such.name.invalid:53") as server, asking(server.port) as here:
        here.send(b"lost")
        server.line(r"cannot resolve no\.such\.name\.invalid for now: .* \(for 127\.0\.0\.1:\d+\)$")
        assert server.process.poll() is None


def test_eleven_hundred_clients() -> None:
    """1,024 clients are served. Datagrams of further ones are dropped, and one event says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wrapper = ("prlimit", "--nofile=4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with contextlib.ExitStack() as stack:
            server, there = stack.enter_context(relayed("--json", "--idle-timeout", "1h", wrapper=wrapper))
            server.line("listening")
            port = json.loads(server.said[-1])["local_port"]
            clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(1100)]
            peers = set()
            for number, each in enumerate(clients):
                each.sendto(str(number).encode(), ("127.0.0.1", port))
                if number < 1024:
                    data, peer = there.recvfrom(100)
                    assert data == str(number).encode()
                    there.sendto(b"!", peer)
                    assert each.recv(1) == b"!"
                    peers.add(peer)
            assert len(peers) == 1024
            for _ in range(76):
                server.line('"ignored"')
                assert json.loads(server.said[-1])["reason"] == "there are too many others"
            clients[0].sendto(b"again", ("127.0.0.1", port))
            assert there.recv(100) == b"again"
            assert sum('"paused"' in line for line in server.said) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_senders_that_are_never_answered_make_room() -> None:
    """When there is no room, clients without replies are dropped first, so forged senders do not displace real ones."""
    with relayed("--max-conns", "20") as (server, there), contextlib.ExitStack() as stack:
        port = server.port
        for number in range(200):
            for word in (b"forged", b"real"):
                sender = stack.enter_context(asking(port))
                sender.send(word)
                data, peer = there.recvfrom(100)
                assert data == word
                if word == b"real" and number < 10:
                    there.sendto(b"yes", peer)
                    assert sender.recv(3) == b"yes"
                    if not number:
                        first, first_peer = sender, peer
        first.send(b"still here")
        assert there.recvfrom(100) == (b"still here", first_peer)


def test_marks_are_kept_both_ways() -> None:
    """The TOS byte is passed on both ways, so that netkit recognizes replies behind a relay too."""
    with relayed() as (server, there), asking(server.port) as sender:
        there.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 4)
        sender.send(b"marked")
        data, told, _, peer = there.recvmsg(100, 100)
        assert (data, [value for *_, value in told]) == (b"marked", [b"\4"])
        there.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 8)
        there.sendto(b"answer", peer)
        data, told, _, _ = sender.recvmsg(100, 100)
        assert (data, [value for *_, value in told]) == (b"answer", [b"\x08"])


def test_as_many_at_one_time() -> None:
    """--max-conns limits the clients, and one that has ended makes room."""
    with relayed("--max-conns", "1", "-v") as (server, there), contextlib.ExitStack() as stack:
        port = server.port
        first, second = [stack.enter_context(asking(port)) for _ in range(2)]
        first.send(b"first")
        _, peer = there.recvfrom(100)
        there.sendto(b"answer", peer)
        assert first.recv(100) == b"answer"
        second.send(b"second")
        server.line(rf"datagram from {address(second)} ignored: there are too many others$")
        own = there.getsockname()[1]
        there.close()
        first.send(b"lost")
        server.line("connection refused")
        with udp(port=own) as again:
            second.send(b"third")
            assert again.recv(100) == b"third"


@pytest.mark.parametrize(
    ("here", "there"),
    [("127.0.0.1", "127.0.0.1"), ("", "localhost"), ("", ""), ("127.0.0.1", "")],
    ids=["literal", "name", "any", "second"],
)
def test_never_relays_to_itself(here: str, there: str) -> None:
    """A datagram that comes back to the relay itself is dropped, with a message, so that no loop arises.

    So it is if only the second address of the target is the relay, and the first refuses.
    """
    port = free_port()
    listen = f"{here}:{port}"
    with running("relay", "--udp", listen, f"{there}:{port}", "-v") as server:
        server.line("listening")
        assert netkit("udp-send", f"127.0.0.1:{port}", "x", "y", "z").code == 0
        server.line("that is this relay itself$")
        server.signal(signal.SIGTERM)
        received = server.line(r"closed after .*: (\d+) datagrams? \(.* received, (\d+) datagram")
        assert int(received[1]) <= 6 and received[2] == "0"
        assert died_by(server.wait()) is signal.SIGTERM


def test_a_client_without_an_address_gets_no_answer(tmp_path: Path) -> None:
    """An answer for a unix socket that is not bound is dropped, and that is told."""
    listen = str(tmp_path / "socket")
    with udp() as there, running("relay", "--udp", f"unix:{listen}", address(there), "-v") as server:
        server.line("listening")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
            nameless.sendto(b"?", listen)
        _, peer = there.recvfrom(9)
        there.sendto(b"!", peer)
        server.line("ignored: the receiver has no address$")


# -- options


def test_the_totals() -> None:
    """--stats counts datagrams received from clients and sent to them; --until ends the relay with 0."""
    with relayed("--stats", "--until", "^bye$") as (server, there), asking(server.port) as here:
        here.send(b"question")
        _, peer = there.recvfrom(100)
        there.sendto(b"an answer", peer)
        assert here.recv(100) == b"an answer"
        here.send(b"bye")
        assert there.recv(100) == b"bye"
        assert server.wait() == 0
        (line,) = server.terminate().complaints
    told = json.loads(line)
    assert (told["command"], told["event"]) == ("relay", "stats")
    assert (told["datagrams_received"], told["bytes_received"]) == (2, 11)
    assert (told["datagrams_sent"], told["bytes_sent"]) == (1, 9)
    assert "connections" not in told


def test_what_has_come_is_passed_on_at_the_end() -> None:
    """A signal ends the relay after it has passed on all datagrams that had arrived, even if it must look up where."""
    with (
        udp() as there,
        running("relay", "--udp", HERE, f"localhost:{there.getsockname()[1]}", "-4") as server,
        asking(server.port) as here,
    ):
        server.signal(signal.SIGSTOP)
        for number in range(20):
            here.send(str(number).encode())
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGCONT)
        assert died_by(server.wait()) is signal.SIGTERM
        assert [there.recv(100) for _ in range(20)] == [str(number).encode() for number in range(20)]


# -- other tools


@pytest.mark.ipv6
def test_a_name_server_behind_it() -> None:
    """dnsmasq answers a query through the relay."""
    name = b"\4host\6netkit\4test\0"
    query = struct.pack("!6H", 0x1234, 0x0100, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1)
    with (
        dnsmasq("--address=/netkit.test/192.0.2.7") as port,
        running("relay", "--udp", HERE, f"127.0.0.1:{port}") as server,
    ):
        there = f"127.0.0.1:{server.port}"
        asked = netkit(
            "udp-send", "--hex", "--replies", "1", "--wait", "20s", there, input=query.hex().encode() + b"\n"
        )
    assert (asked.code, asked.err) == (0, "")
    assert asked.out[:2] == b"\x12\x34" and asked.out.endswith(bytes([192, 0, 2, 7]))


def test_their_clients() -> None:
    """nc and socat are served at the same time, each with its own replies."""
    with (
        running("udp-serve", HERE, "--output", "none", "--reply-with", "upper") as there,
        running("relay", "--udp", HERE, f"127.0.0.1:{there.port}") as server,
    ):
        port = server.port
        with (
            running(argv=[tool("nc"), "-u", "127.0.0.1", str(port)]) as one,
            running(argv=[tool("socat"), "-", f"UDP:127.0.0.1:{port}"]) as other,
        ):
            for word in (b"first", b"second"):
                for name, each in ((b" of nc\n", one), (b" of socat\n", other)):
                    each.stdin.write(word + name)
                for name, each in ((b" of nc\n", one), (b" of socat\n", other)):
                    assert each.out.read(len(word + name)) == (word + name).upper()
        assert server.terminate().complaints == []


def test_silent_clients_cost_no_memory() -> None:
    """The relay does not keep buffers for clients that are silent."""
    with relayed(real=True) as (server, there), contextlib.ExitStack() as stack:
        port = server.port
        before = 0
        for _ in range(100):
            each = stack.enter_context(asking(port))
            each.send(bytes(60_000))
            there.sendto(*there.recvfrom(65536))
            assert len(each.recv(65536)) == 60_000
            before = before or memory(server.pid)
        assert memory(server.pid) - before < 4 << 20
