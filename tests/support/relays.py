"""What tests of ``netkit relay`` share: targets and clients over TCP, TLS and unix sockets, and what it said."""

import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trustme

from tests.support.peers import peer, read_all
from tests.support.processes import PATIENCE

Behaviour = Callable[[Any], Any]


class Certificates(NamedTuple):
    """Files in PEM: an authority, and a certificate of localhost and 127.0.0.1 with its key."""

    ca: str
    cert: str
    key: str

    def server(self) -> ssl.SSLContext:
        """Return the context of a plain server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context

    def client(self) -> ssl.SSLContext:
        """Return the context of a plain client."""
        return ssl.create_default_context(cafile=self.ca)

    def wrapped(self, sock: socket.socket) -> ssl.SSLSocket:
        """Return a client of TLS, which takes an end without close_notify for the failure it is."""
        return self.client().wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and a certificate by it."""
    found = Certificates(*(str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem")))
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(found.ca)
    issued.cert_chain_pems[0].write_to_path(found.cert)
    issued.private_key_pem.write_to_path(found.key)
    return found


class Target(NamedTuple):
    """Where a target is, and what each call of its behaviour returned or raised."""

    address: str
    results: "queue.SimpleQueue[Any]"

    def result(self) -> Any:
        """Wait for the next behaviour to end and return what it returned."""
        return self.results.get(timeout=PATIENCE)


@contextlib.contextmanager
def target(kind: str, behaviour: Behaviour, certificates: Certificates, folder: Path) -> Iterator[Target]:
    """Serve clients with ``behaviour`` over ``tcp`` or ``tls``; over ``unix`` the first one alone."""
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
    context = certificates.server()

    def secured(sock: socket.socket) -> Any:
        with context.wrap_socket(sock, server_side=True) as wrapped:
            return behaviour(wrapped)

    with peer(secured if kind == "tls" else behaviour) as server:
        yield Target(("tls:" if kind == "tls" else "") + server.address, server.results)


def converse(sock: socket.socket, data: bytes) -> bytes:
    """Send ``data`` and our end, while all that comes is read and returned."""
    sock.settimeout(PATIENCE)
    sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
    sender.start()
    answer = read_all(sock)
    sender.join()
    return answer


def until_reset(sock: socket.socket) -> bytes:
    """Return what comes before a reset, over TLS before a cut without close_notify; an end instead is an error."""
    sock.settimeout(PATIENCE)
    got = b""
    try:
        while chunk := sock.recv(65536):
            got += chunk
    except (ConnectionResetError, ssl.SSLEOFError):
        return got
    raise AssertionError(f"a clean end after {got[:80]!r}")
