"""The end of a conversation, for each kind of sender and receiver: no byte is lost, and nothing hangs."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support import PATIENCE, Running, peer, running
from tests.support.certificates import Pki
from tests.support.data import DATA, OTHER, check_same
from tests.support.partners import content, file_of, tcp_server
from tests.support.processes import settle, tool
from tests.support.secured import Secured, serving
from tests.support.terminals import terminal

HERE = "127.0.0.1"
TYPED = b"one line\nanother\n"
LATE = "netkit connect: nothing came for 10 s, so the end of input was sent; --send-only sends it at once"
Judge = Callable[[], None]  # waits for the end of a conversation, and checks its results
LEFT = r"^netkit connect: the peer ended; input is still open and is left after \d+ bytes$"


@contextlib.contextmanager
def listening(how: str, way: str, stdout: IO[bytes], folder: Path, pki: Pki) -> Iterator[tuple[Running, list[str]]]:
    """Run ``netkit listen`` with a terminal, /dev/null or data as stdin, or another tool; yield connect's arguments."""
    path = str(folder / "socket")
    with contextlib.ExitStack() as stack:
        stdin: Any = subprocess.DEVNULL
        if how == "terminal":
            stdin = stack.enter_context(terminal())[1]
        elif how == "data":
            stdin = stack.enter_context(file_of(OTHER))
        if how in ("terminal", "/dev/null", "data"):
            where = {"tcp": f"{HERE}:0", "tls": f"tls:{HERE}:0", "unix": f"unix:{path}"}[way]
            options = pki.good.options() if way == "tls" else ()
            server = stack.enter_context(running("listen", where, *options, stdin=stdin, stdout=stdout))
            if way == "unix":
                server.line("listening on unix:")
                yield server, [f"unix:{path}"]
            else:
                yield server, [f"{'tls:' if way == 'tls' else ''}{HERE}:{server.port}", *trust(way, pki)]
            return
        nothing = stack.enter_context(file_of())
        if way == "tcp":
            server, where = stack.enter_context(tcp_server(how, stdin=nothing, stdout=stdout))
            yield server, [where]
        else:
            words = {"nc": ["-lNU", path], "ncat": ["-lU", path], "socat": ["-t", "10", f"UNIX-LISTEN:{path}", "-"]}[
                how
            ]
            server = stack.enter_context(running(argv=[tool(how), *words], stdin=nothing, stdout=stdout))
            yield server, [f"unix:{path}", "--wait", "10s"]


def trust(way: str, pki: Pki) -> list[str]:
    """Return the options with which connect trusts the server's certificate."""
    return ["--cafile", pki.ca] if way == "tls" else []


def sent_so_far(stdout: IO[bytes], size: int, client: Running) -> None:
    """Wait until the receiver has written ``size`` bytes, or the client has ended."""
    while os.fstat(stdout.fileno()).st_size < size and client.process.poll() is None:
        os.sched_yield()


@contextlib.contextmanager
def conversation(sender: str, receiver: str, way: str, folder: Path, pki: Pki) -> Iterator[Judge]:
    """Start a client that sends from one of SENDERS to a receiver, and yield the judge of its end."""
    speaks = receiver == "data"
    with contextlib.ExitStack() as stack:
        stdout, out = stack.enter_context(file_of()), stack.enter_context(file_of())
        server, words = stack.enter_context(listening(receiver, way, stdout, folder, pki))
        stdin: Any = subprocess.PIPE
        keyboard = None
        if sender == "file":
            stdin = stack.enter_context(file_of(DATA))
        elif sender == "/dev/null":
            stdin = subprocess.DEVNULL
        elif sender == "terminal":
            keyboard, stdin = stack.enter_context(terminal())
        client = stack.enter_context(running("connect", *words, stdin=stdin, stdout=out))
        wanted = {"file": DATA, "terminal": TYPED, "/dev/null": b""}.get(sender, DATA)
        left = False
        if keyboard is not None:
            os.write(keyboard, TYPED + b"\x04")
        elif sender == "pauses" or sender == "left open":
            client.stdin.write(DATA[:100_000])
            sent_so_far(stdout, 100_000, client)
            if speaks:
                left = True  # the peer has spoken and ended, and the pipe is idle
                client.line(LEFT)
                wanted = DATA[:100_000]
            else:
                client.stdin.write(DATA[100_000:])
                if sender == "pauses":
                    client.stdin.close()
                else:
                    sent_so_far(stdout, len(DATA), client)
                    assert client.process.poll() is None, "it went though its peer only receives"
                    client.stdin.close()

        def judge() -> None:
            assert client.wait(PATIENCE) == 0
            assert server.wait(PATIENCE) == 0
            check_same(content(stdout), wanted)
            check_same(content(out), OTHER if speaks else b"")
            # Both sides have a timeout of 10 s, and that of a server with an empty stdin may be first.
            late = [LATE] if way == "tls" and not speaks and not left else []
            told = [line for line in client.finish().err.splitlines() if "still open" not in line]
            assert told == late or (receiver == "/dev/null" and not told)

        yield judge


SENDERS = ("file", "pauses", "left open", "terminal", "/dev/null")
ROWS = [
    *((how, "tcp") for how in ("terminal", "/dev/null", "data", "nc", "ncat", "socat")),
    *((how, "unix") for how in ("terminal", "/dev/null", "data", "nc", "ncat", "socat")),
    ("data", "tls"),
]


@pytest.mark.parametrize(("receiver", "way"), ROWS, ids=["-".join(row).replace("/dev/", "") for row in ROWS])
@pytest.mark.parametrize("sender", SENDERS, ids=str.split)
def test_ends(sender: str, receiver: str, way: str, tmp_path: Path, pki: Pki) -> None:
    """All data arrives at both sides, and both exit with 0.

    If the peer sent data and ended, connect ends once its pipe is idle, and says so; if it sent none, connect stays.
    """
    with conversation(sender, receiver, way, tmp_path, pki) as judge:
        judge()


@contextlib.contextmanager
def receiving(sender: str, pki: Pki) -> Iterator[Judge]:
    """Do the same as ``conversation`` with a TLS server in Python that only receives."""

    def receive(client: Secured) -> bytes:
        data = client.read_all()
        client.end()
        return data

    with peer(serving(pki.server(), receive)) as server, contextlib.ExitStack() as stack:
        stdin: Any = stack.enter_context(file_of(DATA)) if sender == "file" else subprocess.PIPE
        client = stack.enter_context(running("connect", f"tls:{server.address}", "--cafile", pki.ca, stdin=stdin))
        if sender == "pauses":
            client.stdin.write(DATA[:100_000])
            settle(client)
            client.stdin.write(DATA[100_000:])
            client.stdin.close()

        def judge() -> None:
            assert client.wait() == 0
            check_same(server.result(), DATA)
            assert client.finish().err.splitlines() == [LATE]

        yield judge


UNANSWERED = [*(f"{sender} to netkit" for sender in SENDERS), "file to openssl", "pauses to openssl"]


@pytest.fixture(scope="module")
def unanswered(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[dict[str, Judge]]:
    """Run the conversations that end 10 s after their last byte at the same time, to wait only once."""
    with contextlib.ExitStack() as stack:
        judges = {}
        for row in UNANSWERED:
            sender, _, receiver = row.partition(" to ")
            if receiver == "openssl":
                begun = receiving(sender, pki)
            else:
                begun = conversation(sender, "/dev/null", "tls", tmp_path_factory.mktemp("ends"), pki)
            judges[row] = stack.enter_context(begun)
        yield judges


@pytest.mark.parametrize("row", UNANSWERED)
def test_ends_without_an_answer(row: str, unanswered: dict[str, Judge]) -> None:
    """A TLS server that only receives gets every byte, and our end after it was silent for 10 s."""
    unanswered[row]()
