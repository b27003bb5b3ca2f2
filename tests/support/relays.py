"""Targets and clients for tests of ``netkit relay``, over TCP, TLS and unix sockets."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.certificates import Pki
from tests.support.data import OTHER
from tests.support.peers import Peer, peer, read_all

Behaviour = Callable[[Any], Any]


@contextlib.contextmanager
def target(kind: str, behaviour: Behaviour, pki: Pki, folder: Path) -> Iterator[Peer]:
    """Serve clients with ``behaviour`` over ``tcp``, ``tls`` or ``unix``; the address has that in front."""
    context = pki.server()

    def secured(sock: socket.socket) -> Any:
        with context.wrap_socket(sock, server_side=True) as wrapped:
            return behaviour(wrapped)

    host = f"{folder}/target" if kind == "unix" else "127.0.0.1"
    with peer(secured if kind == "tls" else behaviour, host) as server:
        if kind != "tcp":
            server.address = f"{kind}:{server.address}"
        yield server


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
