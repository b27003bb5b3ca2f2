"""``python -m tests.behaviour`` shows how netkit, nc, ncat and socat report the same faults.

In each case a small peer does what networks and servers do. stdout gets a table in Markdown, with the exit code of each
tool, and how many of the expected bytes it received. Tools run with no more options than the case needs.
"""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import trustme

from tests.benchmarks.measure import NETKIT
from tests.support.peers import free_port, reset

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


def serve(listener: socket.socket, peer: Peer, context: ssl.SSLContext | None) -> None:
    """Serve the first client."""
    client = listener.accept()[0]
    with contextlib.suppress(OSError):
        if context is not None:
            client = context.wrap_socket(client, server_side=True)
        peer(client)
    client.close()


def observed(case: Case, argv: Sequence[str], port: int, context: ssl.SSLContext | None) -> str:
    """Run one tool against the peer of a case, and return what happened, in words."""
    with contextlib.ExitStack() as stack:
        question = stack.enter_context(tempfile.TemporaryFile())
        question.write(bytes(case.sent))
        question.seek(0)
        if case.peer is not None:
            listener = stack.enter_context(socket.create_server((HERE, port)))
            serving = threading.Thread(target=serve, args=(listener, case.peer, context), daemon=True)
            serving.start()
            stack.callback(serving.join, _PATIENCE)
        try:
            done = subprocess.run(argv, stdin=question, capture_output=True, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            return "hangs"
    said = "" if done.stderr.strip() else ", and says nothing"
    came = f", {len(done.stdout)} of {case.answer} bytes" if case.answer else ""
    return f"exit {done.returncode}{came}{said if done.returncode or not came else ''}"


def main() -> None:
    """Run all cases, and print the table."""
    tools = ("netkit", "nc", "ncat", "socat")
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        cafile = str(Path(folder) / "ca.pem")
        authority.cert_pem.write_to_path(cafile)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost", HERE).configure_cert(context)
        print("| | " + " | ".join(tools) + " |\n" + "|---" * (len(tools) + 1) + "|")
        for case in CASES:
            port = free_port()
            typed = commands(port, case, cafile)
            cells = [
                observed(case, typed[tool], port, context if case.secured else None)
                if tool in typed and shutil.which(typed[tool][0])
                else "-"
                for tool in tools
            ]
            print(f"| {case.words} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
