"""Targets and clients for tests of ``netkit relay``, over TCP, TLS and unix sockets."""

import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.certificates import Pki
from tests.support.data import OTHER
from tests.support.peers import peer, read_all
from tests.support.processes import PATIENCE

Behaviour = Callable[[Any], Any]


class Target(NamedTuple):
    """The address of a target, and what each call of its behaviour returned or raised."""

    address: str
    results: "queue.SimpleQueue[Any]"

    def result(self) -> Any:
        """Wait until the next behaviour ends, and return its result."""
        return self.results.get(timeout=PATIENCE)


@contextlib.contextmanager
def target(kind: str, behaviour: Behaviour, pki: Pki, folder: Path) -> Iterator[Target]:
    """Serve clients with ``behaviour`` over ``tcp`` or ``tls``; over ``unix`` only the first one."""
    if kind == "unix":
        path, results = str(folder / "target"), queue.SimpleQueue[Any]()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()

            def serve() -> None:
                with listener.accept()[0] as sock:
                    results.put(behaviour(sock))

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield Target(f"unix:{path}", results)
            thread.join(PATIENCE)
        return
    context = pki.server()

    def secured(sock: socket.socket) -> Any:
        with context.wrap_socket(sock, server_side=True) as wrapped:
            return behaviour(wrapped)

    with peer(secured if kind == "tls" else behaviour) as server:
        yield Target(("tls:" if kind == "tls" else "") + server.address, server.results)


def secured_by(pki: Pki, sock: socket.socket) -> ssl.SSLSocket:
    """A TLS client that raises an error for an end without close_notify."""
    return pki.client_context().wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)


def answering(sock: socket.socket) -> bytes:
    """Read to the end, answer with OTHER, and return what was read."""
    data = read_all(sock)
    sock.sendall(OTHER)
    if hasattr(sock, "unwrap"):
        sock.unwrap()
    return data
