"""``--telnet``: telnet commands are answered and removed from the data."""

import os
import socket

from tests.support import NETKIT, Finished, netkit, peer, read_all, running
from tests.support.certificates import Pki
from tests.support.forkserver import Process
from tests.support.peers import receive
from tests.support.processes import HERE, PATIENCE, sound
from tests.support.secured import Secured
from tests.support.terminals import resize, terminal

DO_SGA, WILL_SGA = b"\xff\xfd\x03", b"\xff\xfb\x03"
DO_ECHO, WONT_ECHO = b"\xff\xfd\x01", b"\xff\xfc\x01"
DO_TYPE, WILL_TYPE, SEND_TYPE = b"\xff\xfd\x18", b"\xff\xfb\x18", b"\xff\xfa\x18\x01\xff\xf0"
DO_SIZE, WILL_SIZE = b"\xff\xfd\x1f", b"\xff\xfb\x1f"


def asking(sock: socket.socket) -> bytes:
    """Send data with option requests in it, and return all data received."""
    sock.sendall(b"name? " + DO_SGA + b"100 % \xff\xff\r\0" + DO_ECHO[:2])
    answer = receive(sock, 3)
    sock.sendall(DO_ECHO[2:] + b"\n")
    return answer + receive(sock, 3) + read_all(sock)


def test_connect_answers_and_shows_the_data() -> None:
    """Options are answered, data is exact in both directions, and only data is counted."""
    with peer(asking) as server, running("connect", server.address, "--telnet", "-v") as client:
        assert client.out.read(14) == b"name? 100 % \xff\r"
        assert client.out.read(1) == b"\n"
        client.stdin.write(b"\xff\r")
        client.stdin.close()
        assert server.result() == WILL_SGA + WONT_ECHO + b"\xff\xff\r\0"
        assert client.wait() == 0
        assert ": 15 B received, 2 B sent" in client.finish().err


def test_over_tls(pki: Pki) -> None:
    """Telnet works over TLS."""

    def serve(sock: socket.socket) -> bytes:
        secured = Secured(sock, pki.server()).do_handshake()
        secured.send(b"name? " + DO_SGA)
        return secured.read_exactly(3) + secured.read_exactly(7)

    with peer(serve) as server:
        words = ("--telnet", "--cafile", pki.ca, "--shutdown-after", "0")
        with running("connect", f"tls:{server.address}", *words) as client:
            assert client.out.read(6) == b"name? "
            client.stdin.write(b"root \xff")
            client.stdin.flush()
            assert server.result() == WILL_SGA + b"root \xff\xff"


def test_listen_offers_nothing_and_answers() -> None:
    """listen answers options but offers none, so clients without telnet are not disturbed."""
    with running("listen", HERE, "--telnet", "--keep") as server:
        port = server.port
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"one\n" + DO_SGA + DO_TYPE + b"two\n")
            assert receive(client, 6) == WILL_SGA + b"\xff\xfc\x18"
            assert server.out.read(8) == b"one\ntwo\n"
            server.stdin.write(b"\xff\n")
            server.stdin.flush()
            assert receive(client, 3) == b"\xff\xff\n"
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"plain\n")
            assert server.out.read(6) == b"plain\n"
            server.stdin.close()
            assert read_all(client) == b""


def test_two_of_ours() -> None:
    """All byte values pass from connect to listen."""
    data = bytes(range(256)) * 2 + b"\r\r\n\r\0\xff\r"
    with running("listen", HERE, "--telnet") as server:
        assert netkit("connect", f"127.0.0.1:{server.port}", "--telnet", input=data) == Finished(0, b"", "")
        assert server.finish().out == data


def test_on_a_terminal_its_type_and_size_are_told() -> None:
    """The terminal's type and size are sent, and the size again before the first data after it changes."""

    def serve(sock: socket.socket) -> bytes:
        sock.sendall(DO_TYPE + DO_SIZE + SEND_TYPE + b"> ")
        told = receive(sock, 3 + 3 + 9 + 11)
        sock.sendall(b"size? ")
        told += receive(sock, 10 + 6)
        sock.sendall(b"bye\r\n")
        return told

    with peer(serve) as server, terminal() as (ours, theirs):
        environment = {**os.environ, "TERM": "vt220"}
        argv = [*NETKIT, "connect", server.address, "--telnet"]
        process = Process(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        shown = b""
        while b"size? " not in shown:
            shown += os.read(ours, 1000)
        resize(theirs, 255, 50)
        os.write(ours, b"hello\n")
        told = WILL_TYPE + WILL_SIZE + b"\xff\xfa\x1f\0\x64\0\x1e\xff\xf0" + b"\xff\xfa\x18\0vt220\xff\xf0"
        assert server.result() == told + b"\xff\xfa\x1f\0\xff\xff\0\x32\xff\xf0" + b"hello\n"
        assert process.wait(PATIENCE) == 0


def test_a_flood_within_a_command() -> None:
    """An endless subnegotiation is exit code 8 with one line."""

    def pour(sock: socket.socket) -> None:
        while True:
            sock.sendall(b"text\xff\xfa" + bytes(1_000_000))

    with peer(pour) as server:
        done = sound(netkit("connect", server.address, "--telnet", input=None), 8)
    assert done.out == b"text"
    assert done.complaints[0].endswith(": a telnet subnegotiation has not ended after 1024 bytes")
