"""``python -m tests.behaviour`` shows how netkit, nc, ncat and socat report the same faults.

In each case a small peer does what networks and servers do. stdout gets a table in Markdown, with the exit code of each
tool, and how many of the expected bytes it received. Tools run with no more options than the case needs.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.measure import NETKIT
from tests.support.certificates import Pki
from tests.support.peers import free_port, peer, reset

HERE = "127.0.0.1"
_PATIENCE = 15.0  # s after which a tool counts as hanging
_SIZE = 4 << 20  # bytes of an upload: more than a socket buffers

Peer = Callable[[socket.socket], None]
"""Serves one client."""


class Case(NamedTuple):
    """What happens, the peer that does it, if any, the bytes sent and expected in return, and whether TLS is used."""

    words: str
    peer: Peer | None
    sent: int = 0
    answer: int = 0
    secured: bool = False


def _read(client: socket.socket, most: int = 1 << 62) -> None:
    while most > 0 and (data := client.recv(65536)):
        most -= len(data)


def _dies_in_upload(client: socket.socket) -> None:
    _read(client, _SIZE // 4)
    reset(client)


def _answers_late(client: socket.socket) -> None:
    _read(client)
    subprocess.run(["sleep", "2"], check=True)  # it works on the answer
    client.sendall(bytes(1000))


def _ends_without_reading(client: socket.socket) -> None:
    _read(client, 1000)


def _cuts_tls(client: socket.socket) -> None:
    client.recv(65536)
    client.sendall(bytes(1000))
    os.close(client.detach())  # without close_notify


CASES = (
    Case("nobody listens there", None, sent=10),
    Case("the server dies in the middle of an upload", _dies_in_upload, sent=_SIZE),
    Case("the server closes before it has read all of the upload", _ends_without_reading, sent=_SIZE),
    Case("the answer comes two seconds after the question", _answers_late, sent=10, answer=1000),
    Case("a TLS stream is cut, as an attacker could", _cuts_tls, sent=10, answer=1000, secured=True),
)


def commands(port: int, case: Case, cafile: str) -> dict[str, list[str]]:
    """Return the command line of each tool."""
    if case.secured:
        return {
            "netkit": [*NETKIT, "connect", f"tls:localhost:{port}", "-4", "--cafile", cafile],
            "ncat": ["ncat", "--ssl-verify", "--ssl-trustfile", cafile, "localhost", str(port)],
            "socat": ["socat", "-", f"OPENSSL:localhost:{port},cafile={cafile}"],
        }
    return {
        "netkit": [*NETKIT, "connect", HERE, str(port)],
        "nc": ["nc", "-N", HERE, str(port)],
        "ncat": ["ncat", HERE, str(port)],
        "socat": ["socat", "-", f"TCP:{HERE}:{port}"],
    }


def observed(case: Case, tool: str, pki: Pki) -> str:
    """Run one tool in a case, and return what happened, in words."""
    with contextlib.ExitStack() as stack:
        question = stack.enter_context(tempfile.TemporaryFile())
        question.write(bytes(case.sent))
        question.seek(0)
        port = stack.enter_context(peer(_behaviour(case, pki))).port if case.peer else free_port()
        argv = commands(port, case, pki.ca).get(tool)
        if argv is None or not shutil.which(argv[0]):
            return "-"
        try:
            done = subprocess.run(argv, stdin=question, capture_output=True, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            return "hangs"
    said = "" if done.stderr.strip() else ", and says nothing"
    came = f", {len(done.stdout)} of {case.answer} bytes" if case.answer else ""
    return f"exit {done.returncode}{came}{said if done.returncode or not came else ''}"


def _behaviour(case: Case, pki: Pki) -> Peer:
    """The peer of a case, over TLS if that is used."""
    assert case.peer is not None
    if not case.secured:
        return case.peer
    context, behave = pki.server(), case.peer

    def serve(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True) as secured:
            behave(secured)

    return serve


def main() -> None:
    """Run all cases, and print the table."""
    tools = ("netkit", "nc", "ncat", "socat")
    with tempfile.TemporaryDirectory() as folder:
        pki = Pki(Path(folder))
        print("| | " + " | ".join(tools) + " |\n" + "|---" * (len(tools) + 1) + "|")
        for case in CASES:
            print(f"| {case.words} | {' | '.join(observed(case, tool, pki) for tool in tools)} |", flush=True)


if __name__ == "__main__":
    main()
