"""The end of a conversation, for each kind of sender and receiver: no byte is lost, and nothing hangs."""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support import Running, running
from tests.support.certificates import Pki
from tests.support.data import DATA, OTHER, check_same
from tests.support.partners import content, file_of, tcp_server
from tests.support.processes import settle, tool
from tests.support.terminals import terminal

HERE = "127.0.0.1"
TYPED = b"one line\nanother\n"
LEFT = r"^netkit connect: the peer ended; input is still open and is left after \d+ bytes$"
UNIX_SERVERS = {
    "nc": lambda path: [tool("nc"), "-lNU", path],
    "ncat": lambda path: [tool("ncat"), "-lU", path],
    "socat": lambda path: [tool("socat"), "-t", "10", f"UNIX-LISTEN:{path}", "-"],
}


@contextlib.contextmanager
def listening(how: str, way: str, stdout: IO[bytes], folder: Path, pki: Pki) -> Iterator[tuple[Running, list[str]]]:
    """Run ``netkit listen`` with a terminal, /dev/null or data as stdin, or another tool; yield connect's arguments."""
    path = str(folder / "socket")
    with contextlib.ExitStack() as stack:
        if how in ("terminal", "/dev/null", "data"):
            stdin: Any = subprocess.DEVNULL
            if how == "terminal":
                stdin = stack.enter_context(terminal())[1]
            elif how == "data":
                stdin = stack.enter_context(file_of(OTHER))
            where = {"tcp": f"{HERE}:0", "tls": f"tls:{HERE}:0", "unix": f"unix:{path}"}[way]
            options = pki.good.options() if way == "tls" else ()
            server = stack.enter_context(running("listen", where, *options, stdin=stdin, stdout=stdout))
            if way == "unix":
                server.line("listening on unix:")
                yield server, [where]
            elif way == "tcp":
                yield server, [f"{HERE}:{server.port}"]
            else:
                # Nothing comes from /dev/null, after which our end is sent.
                yield server, [f"tls:{HERE}:{server.port}", "--cafile", pki.ca, "--shutdown-after", "200ms"]
            return
        nothing = stack.enter_context(file_of())
        if way == "tcp":
            server, address = stack.enter_context(tcp_server(how, stdin=nothing, stdout=stdout))
            yield server, [address]
        else:
            server = stack.enter_context(running(argv=UNIX_SERVERS[how](path), stdin=nothing, stdout=stdout))
            yield server, [f"unix:{path}", "--wait", "10s"]


def sent_so_far(stdout: IO[bytes], size: int, client: Running) -> None:
    """Wait until the receiver has written ``size`` bytes, or the client has ended."""
    while os.fstat(stdout.fileno()).st_size < size and client.process.poll() is None:
        os.sched_yield()


SENDERS = ("file", "pauses", "left open", "terminal", "/dev/null")
ROWS = [
    *((how, "tcp") for how in ("terminal", "/dev/null", "data", "nc", "ncat", "socat")),
    *((how, "unix") for how in ("terminal", "/dev/null", "data", "nc", "ncat", "socat")),
    *((how, "tls") for how in ("/dev/null", "data")),
]


@pytest.mark.parametrize(("receiver", "way"), ROWS, ids=["-".join(row).replace("/dev/", "") for row in ROWS])
@pytest.mark.parametrize("sender", SENDERS, ids=str.split)
def test_ends(sender: str, receiver: str, way: str, tmp_path: Path, pki: Pki) -> None:
    """All data arrives at both sides, and both exit with 0.

    If the peer sent data and ended, connect ends once its pipe is idle, and says so; if it sent none, connect stays.
    """
    speaks = receiver == "data"
    with contextlib.ExitStack() as stack:
        stdout, out = stack.enter_context(file_of()), stack.enter_context(file_of())
        server, words = stack.enter_context(listening(receiver, way, stdout, tmp_path, pki))
        stdin: Any = subprocess.PIPE
        wanted = DATA
        if sender == "file":
            stdin = stack.enter_context(file_of(DATA))
        elif sender == "/dev/null":
            stdin, wanted = subprocess.DEVNULL, b""
        elif sender in ("pauses", "left open"):  # a pipe that holds the first part: an idle one may be left before
            reading, writing = os.pipe()
            stdin = stack.enter_context(open(reading, "rb"))
            pipe = stack.enter_context(open(writing, "wb"))
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 17)
            pipe.write(DATA[:100_000])
            pipe.flush()
        elif sender == "terminal":
            keyboard, stdin = stack.enter_context(terminal())
            os.write(keyboard, TYPED + b"\x04")
            wanted = TYPED
        if sender == "left open" and not speaks:
            words += ["--grace", "0"]  # which leaves at once if it applies
        client = stack.enter_context(running("connect", *words, stdin=stdin, stdout=out))
        if sender in ("pauses", "left open"):
            stdin.close()
            sent_so_far(stdout, 100_000, client)
            if speaks:  # the peer has spoken and ended, and the pipe is idle
                client.line(LEFT)
                wanted = DATA[:100_000]
            else:
                pipe.write(DATA[100_000:])
                pipe.flush()
                if sender == "left open":
                    sent_so_far(stdout, len(DATA), client)
                    settle(client)  # it is still there
                pipe.close()
        assert client.wait() == 0
        assert server.wait() == 0
        check_same(content(stdout), wanted)
        check_same(content(out), OTHER if speaks else b"")
        assert [line for line in client.finish().err.splitlines() if "still open" not in line] == []
