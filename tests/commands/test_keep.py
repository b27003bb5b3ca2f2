"""``netkit listen --keep``: many clients share stdin and stdout, and none disturbs another."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support import PATIENCE, Finished, Running, died_by, exchange, jam, netkit, read_all, reset, running
from tests.support.data import MIB
from tests.support.peers import connect, is_reset, is_silent, label, receive, wait_for_refusal
from tests.support.processes import HERE, feed, peak_memory, settle, stopped
from tests.support.terminals import held

# -- helpers


def out_lines(server: Running, count: int) -> list[bytes]:
    """Return the next ``count`` lines of a server's stdout."""
    data = b""
    while data.count(b"\n") < count and (chunk := server.out.read(MIB)):
        data += chunk
    return data.splitlines(keepends=True)


# -- stdin goes to all clients


def test_a_client_that_ends_leaves_stdin_to_the_others() -> None:
    """A client that leaves is no reason to report unread stdin."""
    with running("listen", HERE, "-k", "-v") as server:
        with connect(server.port) as client:
            server.stdin.write(b"hello")
            server.stdin.flush()
            assert receive(client, 5) == b"hello"
            client.sendall(b"bye")
        server.line("closed after")
        assert not any("the peer ended" in line for line in server.said)


def test_stdin_waits_for_the_first_client_goes_to_all_and_ends_for_all() -> None:
    """stdin is read once a client is connected, and all clients get its data and its end; they can still send."""
    source, sink = os.pipe()
    with (
        os.fdopen(source, "rb", buffering=0) as stdin,
        os.fdopen(sink, "wb", buffering=0) as keyboard,
        running("listen", HERE, "-k", "-v", "--deny", "127.0.0.9", stdin=stdin) as server,
    ):
        keyboard.write(b"early ")
        port = server.port
        assert is_reset(port, source="127.0.0.9")
        server.line("denied")  # so it runs, and could have read stdin
        assert held(source) == 6
        with connect(port) as one:
            assert receive(one, 6) == b"early "
            with connect(port) as two:
                for _ in range(2):
                    server.line("connection from")
                keyboard.write(b"for all")
                for client in (one, two):
                    assert receive(client, 7) == b"for all"
                keyboard.close()
                with connect(port) as three:
                    for client in (one, two, three):
                        assert client.recv(1) == b""
                    for client in (one, two, three):
                        client.sendall(b"!")
                        client.shutdown(socket.SHUT_WR)
                    assert b"".join(server.out.read(1) for _ in range(3)) == b"!!!"


def test_what_comes_while_nobody_is_there_waits_for_the_next() -> None:
    """Each client in turn gets the next data of stdin, and after its end later clients see the end at once."""
    with running("listen", HERE, "-k", "-v", "--grace", "50ms") as server:
        port = server.port
        for number in range(4):
            word = b"%d" % number
            if number:
                server.stdin.write(word)
            with connect(port) as client:
                if not number:
                    server.stdin.write(word)
                client.sendall(b"!")
                assert receive(client, 1) == word
            server.line("closed after")
        server.stdin.write(b"last")
        server.stdin.close()
        for wanted in (b"last", b"", b""):
            with connect(port) as client:
                assert read_all(client) == wanted
            server.line("closed after")


def test_a_client_that_never_reads_is_reset_with_one_line_and_costs_the_others_nothing() -> None:
    """A client that does not read is reset once it is 1 MiB behind; the others get all data, and memory stays flat."""
    piece = os.urandom(MIB // 2)
    with running("listen", HERE, "-k", "--max-clients", "3", real=True) as server:
        port = server.port
        with connect(port, window=4096) as stuck, connect(port) as one, connect(port) as two:
            address = label(stuck).decode().strip()
            for client in (stuck, one, two):  # wait until all three are served
                client.sendall(b"!")
                assert server.out.read(1) == b"!"
            before = peak_memory(server.pid)
            for _ in range(32):
                writer = threading.Thread(target=server.stdin.write, args=(piece,))
                writer.start()
                for client in (one, two):
                    assert receive(client, len(piece)) == piece
                writer.join()
            assert peak_memory(server.pid) - before < 16 * MIB
            with pytest.raises(ConnectionResetError):
                read_all(stuck)
            server.stdin.close()
            for client in (one, two):
                assert client.recv(1) == b""
                client.shutdown(socket.SHUT_WR)
        done = server.finish()
    assert done.code == 0
    assert done.complaints == [f"netkit listen: connection from {address} reset: it is 1 MiB behind"]


def test_a_slow_client_alone_is_never_reset() -> None:
    """The only client may be slow: stdin waits for it, memory stays flat, and all bytes arrive."""
    data = os.urandom(12 * MIB)
    with running("listen", HERE, "-k", "--max-clients", "1", real=True) as server, connect(server.port) as client:
        before = peak_memory(server.pid)
        writer = threading.Thread(target=lambda: (server.stdin.write(data), server.stdin.close()))
        writer.start()
        jam(client)
        assert writer.is_alive()
        assert receive(client, len(data)) == data
        assert client.recv(1) == b""
        writer.join()
        assert peak_memory(server.pid) - before < 16 * MIB
        client.shutdown(socket.SHUT_WR)
        assert server.finish().complaints == []
        assert server.wait() == 0


def test_500_idle_clients_and_the_next_is_served() -> None:
    """After 500 idle clients the next is served, and all get the data of stdin."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("too few descriptors")
    with contextlib.ExitStack() as stack:
        if soft < 2048:
            resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        server = stack.enter_context(running("listen", HERE, "--max-clients", "501"))
        port = server.port
        idle = [stack.enter_context(connect(port)) for _ in range(500)]
        with connect(port) as next_one:
            next_one.sendall(b"here")
            assert server.out.read(4) == b"here"
            server.stdin.write(b"all")
            server.stdin.close()
            for client in (next_one, *idle):
                assert read_all(client) == b"all"
                client.shutdown(socket.SHUT_WR)
        assert server.finish()[:2] == (0, b"")


# -- stdout of all clients


def test_labels_tell_clients_apart_whatever_the_pieces() -> None:
    """With --label lines are not mixed, each has its client's label, and an unfinished last line gets a newline."""
    with running("listen", HERE, "-k", "--label") as server:
        port = server.port
        with connect(port) as one, connect(port) as two, connect(port) as three:
            for client, text in ((one, b"al"), (two, b"be"), (one, b"pha\r\n\nx"), (three, b"\x00\xff\x1b[31m\n")):
                client.sendall(text)
            assert set(out_lines(server, 3)) == {
                label(one) + b"alpha\r\n",
                label(one) + b"\n",
                label(three) + b"\x00\xff\x1b[31m\n",
            }
            for client, text in ((two, b"ta\n"), (one, b"y"), (two, b"no newline")):
                client.sendall(text)
            assert out_lines(server, 1) == [label(two) + b"beta\n"]
            server.stdin.close()
            two.shutdown(socket.SHUT_WR)
            assert out_lines(server, 1) == [label(two) + b"no newline\n"]
            one.shutdown(socket.SHUT_WR)
            assert out_lines(server, 1) == [label(one) + b"xy\n"]


def test_long_lines_come_in_labelled_pieces_that_nobody_gets_between() -> None:
    """A line over 64 KiB is cut into pieces with a label each, and no other client's line comes between them."""
    size, most = 200_000, 65_536
    with running("listen", HERE, "--label", "--max-clients", "4", stdin=subprocess.DEVNULL) as server:
        port = server.port
        with contextlib.ExitStack() as stack:
            clients = {bytes([65 + n]): stack.enter_context(connect(port)) for n in range(4)}
            labels = {letter: label(client) for letter, client in clients.items()}
            for letter, client in clients.items():
                client.sendall(letter * size + b"\n" + letter.lower())
                client.shutdown(socket.SHUT_WR)
            lines = server.read_all().splitlines()
        assert server.wait() == 0
        for letter, head in labels.items():
            pieces = [line.removeprefix(head) for line in lines if line.startswith(head)]
            assert [(piece[:1], len(piece)) for piece in pieces] == [
                *[(letter, most)] * (size // most),
                (letter, size % most),
                (letter.lower(), 1),
            ]
            assert all(len(set(piece)) == 1 for piece in pieces)
        assert len(lines) == 4 * 5


def test_each_labelled_line_is_one_write(tmp_path: Path) -> None:
    """Each labelled line is a single write, so that other writers to the same pipe or file cannot split it."""
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "--seccomp-bpf", "-qqq", "-e", "trace=write,pwritev2", "-s", "200", "-o", str(trace))
    with running("listen", HERE, "-k", "--label", "--max-clients", "1", wrapper=strace) as server:
        with connect(server.port) as client:
            head = label(client).decode().replace("\t", "\\t")
            server.stdin.close()
            client.sendall(b"a\nb\n\nc")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
        assert server.wait() == 0
    written = re.findall(r'^\d+ +(?:write\(1, |pwritev2\(1, \[\{iov_base=)"((?:[^"\\]|\\.)*)"', trace.read_text(), re.M)
    assert written == [f"{head}a\\n", f"{head}b\\n", f"{head}\\n", f"{head}c\\n"]


def test_chunks_of_clients_follow_each_other_on_a_full_stdout() -> None:
    """Data that arrived in one chunk is written together, even if the pipe has room for only a part of it."""
    size = 16_000
    with running("listen", HERE, "--max-clients", "8", stdin=subprocess.DEVNULL) as server:
        port = server.port
        with contextlib.ExitStack() as stack:
            with stopped(server):
                for number in range(8):  # twice what the pipe holds
                    client = stack.enter_context(connect(port))
                    client.sendall(b"%d" % number * size)
                    client.shutdown(socket.SHUT_WR)
            out = server.read_all()
        assert server.wait() == 0
    runs = [(found[1], len(found[0])) for found in re.finditer(rb"(.)\1*", out)]
    assert sorted(runs) == [(b"%d" % number, size) for number in range(8)]


def test_a_client_that_is_cut_leaves_no_torn_line() -> None:
    """A client that is reset while stdout is full may lose lines, but leaves no unfinished one."""
    piece = bytes(MIB // 2)
    with running("listen", HERE, "-k", "--label", "-v") as server:
        port = server.port
        with connect(port, window=4096) as one, connect(port) as two:
            for _ in (one, two):  # stdin only goes to clients that are served
                server.line("connection from")
            one.sendall((b"a" * 50_000 + b"\n") * 2)  # more than a pipe holds
            for _ in range(24):
                server.stdin.write(piece)
                assert receive(two, len(piece)) == piece
            server.line("reset: it is 1 MiB behind")
            two.sendall(b"b\n")
            out = b""
            while not out.endswith(b"\tb\n"):
                out += server.out.read(MIB)
    assert [line.count(b"\t") for line in out.splitlines()] in ([1, 1], [1, 1, 1])


def test_what_a_client_said_before_it_was_reset_is_kept() -> None:
    """The unfinished last line of a client that resets is written too."""
    with running("listen", HERE, "-k", "--label", "-v") as server:
        with connect(server.port) as client:
            head = label(client)
            client.sendall(b"whole\nin")
            assert server.out.read(100) == head + b"whole\n"
            client.sendall(b"complete")
            reset(client)
        server.line("closed after")
        server.signal(signal.SIGTERM)
        assert server.read_all() == head + b"incomplete\n"


# -- how the server ends


def test_a_stdout_that_takes_no_more_ends_the_server() -> None:
    """If stdout fails, the server exits with 23 and one line, and all clients are reset."""
    with open("/dev/full", "wb") as full, running("listen", HERE, "-k", "--label", stdout=full) as server:
        port = server.port
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(port)) for _ in range(5)]
            clients[3].sendall(b"one line\n")
            for client in clients:
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
        done = server.finish()
    assert done.code == 23
    assert done.complaints == ["netkit listen: cannot write to stdout: no space left on device"]


def test_a_reader_of_stdout_that_leaves_ends_the_server() -> None:
    """If the reader of stdout leaves, the server dies silently by SIGPIPE, even if no client sends."""
    with running("listen", HERE, "-k") as server:
        port = server.port
        with connect(port) as one, connect(port) as two:
            for client in (one, two):
                client.sendall(b"!")
                assert server.out.read(1) == b"!"
            server.out.close()
            for client in (one, two):
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
        assert died_by(server.wait()) is signal.SIGPIPE
        server.process.stdout = None
        assert server.finish().complaints == []


def test_a_stdin_that_fails_ends_the_server() -> None:
    """If stdin cannot be read, the server exits with 26 and one line, once the first client is connected."""
    with open(os.devnull, "wb") as unreadable, running("listen", HERE, "-k", stdin=unreadable) as server:
        with pytest.raises(ConnectionResetError), connect(server.port) as client:
            client.recv(1)
        done = server.finish()
    assert done.code == 26
    assert done.complaints == ["netkit listen: cannot read stdin: bad file descriptor"]


@pytest.mark.parametrize("stdin", ["< /dev/null", "<&-"])
def test_an_empty_stdin_still_receives(stdin: str) -> None:
    """With an empty or closed stdin the server still receives everything that clients send."""
    wrapper = ("sh", "-c", f'exec "$@" {stdin}', "sh")
    with running("listen", HERE, "--max-clients", "2", wrapper=wrapper) as server:
        port = server.port
        for word in (b"one", b"two"):
            with connect(port) as client:
                client.sendall(word)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
        assert server.finish()[:2] == (0, b"onetwo")


def test_what_one_client_does_is_no_matter_to_the_others_nor_to_the_exit_code() -> None:
    """A client that leaves, resets or is idle for too long affects neither the others nor the exit code."""
    with running("listen", HERE, "--max-clients", "4", "--idle-timeout", "150ms", "-v") as server:
        port = server.port
        connect(port).close()
        with connect(port) as rude, connect(port) as idle:
            rude.sendall(b"!")
            assert server.out.read(1) == b"!"
            reset(rude)
            with pytest.raises(ConnectionResetError):
                idle.recv(1)
        for _ in range(3):  # data for stdin before that might go to one of them
            server.line("closed after")
        server.stdin.write(b"bye")
        server.stdin.close()
        assert exchange(port, b"good") == b"bye"
        done = server.finish()
    assert done[:2] == (0, b"good")
    assert all(re.search("connection from|closed after", line) for line in done.complaints)


def test_a_signal_lets_clients_end() -> None:
    """After SIGTERM new clients are refused, and connected ones can finish without a reset."""
    with running("listen", HERE, "-k", "--grace", "0", "--label") as server:
        port = server.port
        with connect(port) as client:
            client.sendall(b"first\n")
            assert server.out.read(100) == label(client) + b"first\n"
            server.signal(signal.SIGTERM)
            wait_for_refusal(port)
            client.sendall(b"last")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
            assert server.read_all() == label(client) + b"last\n"
        assert died_by(server.wait()) is signal.SIGTERM


def test_max_clients_above_one_implies_keep() -> None:
    """--max-clients 2 serves two clients, refuses the third, and exits with 0 once both have left."""
    with running("listen", HERE, "--max-clients", "2", "--grace", "0") as server:
        port = server.port
        with connect(port) as one, connect(port) as two:
            for client in (two, one):
                client.sendall(b"!")
                assert server.out.read(1) == b"!"
            with pytest.raises(ConnectionRefusedError):
                connect(port)
        assert server.wait() == 0


# -- how each client ends


def test_hold_keeps_a_client_that_ended_until_stdin_does() -> None:
    """With --hold a client that has ended its direction still gets the data of stdin."""
    with running("listen", HERE, "-k", "--hold") as server, connect(server.port) as client:
        client.shutdown(socket.SHUT_WR)
        settle(server)
        assert is_silent(client)
        server.stdin.write(b"late")
        server.stdin.close()
        assert read_all(client) == b"late"


def test_grace_is_how_long_a_client_that_ended_may_wait_for_input() -> None:
    """With --grace 0 a client that has ended is disconnected at once, without a reset."""
    with running("listen", HERE, "-k", "--grace", "0", "-v") as server, connect(server.port) as client:
        client.sendall(b"request")
        client.shutdown(socket.SHUT_WR)
        assert server.out.read(7) == b"request"
        assert read_all(client) == b""
        server.line("closed after .*: 7 B received, 0 B sent, peer ended first$")


def test_no_shutdown_keeps_the_end_of_stdin_to_itself() -> None:
    """With --no-shutdown the end of stdin is not sent to clients before they end themselves."""
    with running("listen", HERE, "--max-clients", "2", "--no-shutdown") as server:
        port = server.port
        with connect(port) as one:
            server.stdin.write(b"data")
            server.stdin.close()
            assert receive(one, 4) == b"data"
            with connect(port) as two:
                for client in (one, two):
                    settle(server)
                    assert is_silent(client)
                    client.shutdown(socket.SHUT_WR)
                    assert read_all(client) == b""
        assert server.wait() == 0


# -- line ends


@pytest.mark.parametrize(
    "options",
    [["--once"], ["--max-clients", "2"], ["--reply", r"one\ntwo\r\n"], ["--exec", r"printf 'one\ntwo\r\n'"]],
    ids=["one", "keep", "reply", "exec"],
)
def test_crlf_is_for_each_client(options: list[str]) -> None:
    """-C sends lone LF as CR LF to every client, and keeps CR LF."""
    with running("listen", HERE, "-C", "-v", *options) as server, contextlib.ExitStack() as stack:
        port = server.port
        clients = [stack.enter_context(connect(port)) for _ in range(2 if "--max-clients" in options else 1)]
        for _ in clients:
            server.line("connection from")
        feed(server, b"one\ntwo\r\n")
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"one\r\ntwo\r\n"


# -- COMMAND, and unix sockets

TALK = """
import os, socket, sys
for line in sys.stdin:
    with socket.create_connection((os.environ["NETKIT_HOST"], os.environ["NETKIT_PORT"])) as sock:
        sock.sendall(line.encode())
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
sys.exit(5)
"""


def test_command_has_stdin_and_its_clients_only_send() -> None:
    """COMMAND reads stdin, the data of its clients goes to stdout, and its exit code is returned."""
    done = netkit("listen", HERE, "-q", "-k", "--", sys.executable, "-c", TALK, input=b"one\ntwo\nthree\n")
    assert done == Finished(5, b"one\ntwo\nthree\n", "")


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_unix_sockets_are_kept_too(kind: str, tmp_path: Path) -> None:
    """On a unix socket clients share stdin and stdout too, and their label is the socket's address."""
    path = str(tmp_path / "s")
    name = f"@netkit-test-{os.getpid()}"
    address, target = (f"unix:{path}", path) if kind == "path" else (f"unix:{name}", "\0" + name[1:])
    with running("listen", address, "--label", "--max-clients", "2") as server, contextlib.ExitStack() as stack:
        server.line("listening on unix:")
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        for client in clients:
            client.settimeout(PATIENCE)
            client.connect(target)
        for client in reversed(clients):
            client.sendall(b"line\n")
            assert server.out.read(500) == f"{address}\tline\n".encode()
        server.stdin.write(b"for all")
        server.stdin.close()
        for client in clients:
            assert read_all(client) == b"for all"
            client.shutdown(socket.SHUT_WR)
        assert server.finish()[:2] == (0, b"")
