"""``netkit listen --reply`` and ``--reply-file``: every client gets the same bytes, and stdout the requests."""

import contextlib
import os
import random
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.support import Finished, died_by, exchange, netkit, read_all, reset, running
from tests.support.peers import connect, label, receive
from tests.support.processes import HERE
from tests.support.terminals import held

NOT_REGULAR = "it is not a regular file"
REPLY = random.Random(1).randbytes(1 << 20)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Return a file of 1 MiB."""
    path = tmp_path / "page"
    path.write_bytes(REPLY)
    return path


# -- the whole reply for every client


def test_50_clients_that_send_before_they_read_get_every_byte(page: Path, tmp_path: Path) -> None:
    """50 clients that send 64 KiB before they read all get the whole file, and their requests are all written."""
    requests = tmp_path / "requests"
    rows = 64
    with contextlib.ExitStack() as stack:
        stdout = stack.enter_context(requests.open("wb"))
        options = ("--reply-file", str(page), "--label", "--max-clients", "50")
        server = stack.enter_context(running("listen", HERE, *options, stdout=stdout))
        port = server.port
        clients = [stack.enter_context(connect(port)) for _ in range(50)]
        labels = [label(client) for client in clients]
        for number, client in enumerate(clients):
            client.sendall(b"".join(b"%03d %02d".ljust(1028, b".") % (number, row) + b"\n" for row in range(rows)))
        for client in clients:
            assert read_all(client) == REPLY  # a reset would raise an exception
            client.shutdown(socket.SHUT_WR)
        assert server.finish().complaints == []
        assert server.wait() == 0
    lines: dict[bytes, list[bytes]] = {}
    for line in requests.read_bytes().splitlines():
        head, _, text = line.partition(b"\t")
        lines.setdefault(head + b"\t", []).append(text.rstrip(b"."))
    assert lines == {head: [b"%03d %02d" % (n, row) for row in range(rows)] for n, head in enumerate(labels)}


def test_text_is_sent_as_it_is_meant_and_stdin_is_left_alone() -> None:
    """Escapes are decoded, our end follows the reply at once, and stdin is not read."""
    source, sink = os.pipe()
    with (
        os.fdopen(source, "rb", buffering=0) as stdin,
        os.fdopen(sink, "wb", buffering=0) as keyboard,
        running("listen", HERE, "--reply", r"a\r\n\0\xff\\", "--max-clients", "2", stdin=stdin) as server,
    ):
        keyboard.write(b"mine")
        port = server.port
        for request in (b"request ", b""):
            assert exchange(port, request) == b"a\r\n\0\xff\\"
        assert server.finish()[:2] == (0, b"request ")
        assert held(source) == 4


@pytest.mark.parametrize("apart", [False, True])
def test_a_client_in_command_gets_the_reply_too(apart: bool, tmp_path: Path) -> None:
    """COMMAND's own clients get the reply too, and stdout the requests, beside COMMAND's output or without it."""
    ask = """
import os, socket
client = socket.create_connection((os.environ["NETKIT_HOST"], int(os.environ["NETKIT_PORT"])))
client.sendall(b"request\\n")
client.shutdown(socket.SHUT_WR)
os.write(1, f"{client.recv(9)} {client.recv(9)}\\n".encode())  # at once, as stdout is shared
"""
    path = tmp_path / "output"
    command = [sys.executable, "-c", ask]
    if apart:
        command = ["sh", "-c", '"$@" > "$0"', str(path), *command]
    done = netkit("listen", HERE, "-q", "--reply", "pong", "--", *command)
    assert sorted(done.out.splitlines()) == ([] if apart else [b"b'pong' b''"]) + [b"request"]
    assert (done.code, done.err) == (0, "")
    assert not apart or path.read_bytes() == b"b'pong' b''\n"


@pytest.mark.parametrize("option", ["--reply", "--reply-file"])
def test_an_empty_reply_is_an_end(option: str, tmp_path: Path) -> None:
    """An empty reply is only our end, and the request is still received."""
    path = tmp_path / "empty"
    path.touch()
    with running("listen", HERE, option, "" if option == "--reply" else str(path), "--max-clients", "1") as server:
        with connect(server.port) as client:
            assert client.recv(1) == b""
            client.sendall(b"request")
        assert server.finish()[:2] == (0, b"request")


def test_over_a_unix_socket(page: Path, tmp_path: Path) -> None:
    """Over a unix socket a client that sends first gets the whole reply too."""
    path = str(tmp_path / "s")
    with running("listen", f"unix:{path}", "--reply-file", str(page), "--max-clients", "1") as server:
        server.line("listening")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(bytes(65_536))
            assert read_all(client) == REPLY
        assert server.finish()[:2] == (0, bytes(65_536))


# -- failures


def test_without_descriptors_the_next_clients_wait(page: Path) -> None:
    """When no descriptors are left, accepted clients still get the reply, and the next ones wait."""
    with running("listen", HERE, "--reply-file", str(page), wrapper=("prlimit", "--nofile=20")) as server:
        port = server.port
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(port)) for _ in range(15)]
            for client in clients:
                assert read_all(client) == REPLY
                client.close()


def test_clients_that_leave_or_reset_are_no_matter(page: Path) -> None:
    """A client that resets or leaves early does not affect the others or the exit code."""
    with running("listen", HERE, "--reply-file", str(page), "--max-clients", "3") as server:
        port = server.port
        with connect(port, window=4096) as rude:
            assert receive(rude, 1) == REPLY[:1]
            reset(rude)
        connect(port).close()
        assert exchange(port, b"") == REPLY
        done = server.finish()
    assert done.code == 0
    assert done.complaints == []


def test_a_file_that_is_gone_is_still_sent(page: Path) -> None:
    """--reply-file is opened at the start, so the file may be removed later."""
    with running("listen", HERE, "--reply-file", str(page)) as server:
        port = server.port
        assert exchange(port, b"") == REPLY
        page.unlink()
        assert exchange(port, b"") == REPLY
        server.signal(signal.SIGTERM)
        done = server.finish()
    assert died_by(done.code) is signal.SIGTERM
    assert done.complaints == []


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("missing", "no such file or directory"),
        ("directory", NOT_REGULAR),
        ("fifo", NOT_REGULAR),
        ("unreadable", "permission denied"),
    ],
)
def test_a_file_that_cannot_be_sent_is_26(kind: str, reason: str, tmp_path: Path) -> None:
    """A file that cannot be sent is exit code 26 before anything listens."""
    path = tmp_path / kind
    make = {"directory": os.mkdir, "fifo": os.mkfifo, "unreadable": lambda path: path.touch(mode=0)}
    if kind in make:
        make[kind](path)
    obeying = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")  # then root has to obey file modes
    as_others = obeying if kind == "unreadable" and os.geteuid() == 0 else ()
    done = netkit("listen", HERE, "--reply-file", str(path), wrapper=as_others)
    assert done == Finished(26, b"", f"netkit listen: cannot read {path}: {reason}\n")


def test_no_file_hides_behind_an_at(tmp_path: Path) -> None:
    """--reply @FILE is a mistake if the file exists, and names --reply-file; other text after @ is sent."""
    (tmp_path / "page").touch()
    done = netkit("listen", HERE, "--reply", "@page", cwd=tmp_path)
    said = "netkit listen: --reply: --reply sends the text itself: --reply-file page sends what is in page\n"
    assert done == Finished(2, b"", said)
    with running("listen", HERE, "--reply", "@nobody", "--once", cwd=tmp_path) as server:
        assert exchange(server.port, b"") == b"@nobody"


def test_a_stdout_that_fails_ends_the_server() -> None:
    """If stdout fails, the server exits with 23, or dies by SIGPIPE if the reader left."""
    with open("/dev/full", "wb") as full, running("listen", HERE, "--reply", "x", stdout=full) as server:
        with connect(server.port) as client:
            client.sendall(b"request")
            with contextlib.suppress(ConnectionResetError):
                read_all(client)
        done = server.finish()
    assert done.code == 23
    assert done.complaints == ["netkit listen: cannot write to stdout: no space left on device"]
    with running("listen", HERE, "--reply", "x") as server:
        assert server.port
        server.out.close()
        assert died_by(server.wait()) is signal.SIGPIPE
