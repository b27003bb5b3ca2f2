"""``netkit listen --keep``: many clients share stdin and stdout, and none disturbs another."""

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

from tests.support import PATIENCE, Finished, died_by, exchange, netkit, read_all, reset, running
from tests.support.data import MIB
from tests.support.peers import connect, label, receive, wait_for_refusal
from tests.support.processes import HERE, feed, peak_memory, settle
from tests.support.terminals import held

# -- stdin goes to all clients


def test_stdin_waits_for_the_first_client_goes_to_all_and_ends_for_all() -> None:
    """stdin is read once a client is connected, and all clients get its data and its end; they can still send."""
    source, sink = os.pipe()
    with (
        os.fdopen(source, "rb", buffering=0) as stdin,
        os.fdopen(sink, "wb", buffering=0) as keyboard,
        running("listen", HERE, "-k", "-v", stdin=stdin) as server,
    ):
        keyboard.write(b"early ")
        port = server.port
        settle(server)
        assert held(source) == 6
        with connect(port) as one:
            assert receive(one, 6) == b"early "
            with connect(port) as two:
                for _ in range(2):
                    server.line("connection from")
                keyboard.write(b"for all")
                keyboard.close()
                for client in (one, two):
                    assert read_all(client) == b"for all"
                for client in (one, two):
                    client.sendall(b"!")
                    client.shutdown(socket.SHUT_WR)
                assert server.read(2) == b"!!"


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


# -- stdout of all clients


def test_labels_tell_clients_apart_whatever_the_pieces() -> None:
    """With --label lines are not mixed, each has its client's label, and an unfinished last line gets a newline."""
    with running("listen", HERE, "-k", "--label") as server:
        port = server.port
        with connect(port) as one, connect(port) as two, connect(port) as three:
            for client, text in ((one, b"al"), (two, b"be"), (three, b"\x00\xff\x1b[31m\n")):
                client.sendall(text)
            assert server.out.readline() == label(three) + b"\x00\xff\x1b[31m\n"
            one.sendall(b"pha\r\n\nx")
            assert [server.out.readline(), server.out.readline()] == [label(one) + b"alpha\r\n", label(one) + b"\n"]
            for client, text in ((two, b"ta\n"), (one, b"y"), (two, b"no newline")):
                client.sendall(text)
            assert server.out.readline() == label(two) + b"beta\n"
            server.stdin.close()
            for client, rest in ((two, b"no newline\n"), (one, b"xy\n")):
                client.shutdown(socket.SHUT_WR)
                assert server.out.readline() == label(client) + rest


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


def test_a_line_is_whole_although_its_client_is_cut_while_stdout_is_full() -> None:
    """What the last client had begun to write is written to its end before netkit exits, however late that is."""
    line = b"x" * 65_535 + b"\n"  # with its label it is more than a pipe holds
    options = ("--keep", "--once", "--label", "--idle-timeout", "1s", "-v")
    with running("listen", HERE, *options) as server, connect(server.port) as client:
        head = label(client)
        client.sendall(line)
        server.line("closed after")
        assert server.read_all() == head + line
        assert server.wait() == 0


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
    with running("listen", HERE, "--max-clients", "4", "--idle-timeout", "1s", "-v") as server:
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
