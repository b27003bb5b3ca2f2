"""``python -m tests.support.starttls_hosts CERT KEY`` serves SMTP and LDAP with STARTTLS, until it is killed."""

import contextlib
import functools
import signal
import socket
import ssl
import sys

from tests.support.peers import peer
from tests.support.starttls import Dialogue, dialogue, speak

PORTS = {25: "smtp", 587: "smtp", 389: "ldap"}


def serve(client: socket.socket, turns: Dialogue, context: ssl.SSLContext) -> None:
    """Be the server of a dialogue, and then echo over TLS."""
    speak(client, turns)
    with context.wrap_socket(client, server_side=True) as secured:
        while data := secured.recv(65536):
            secured.sendall(data)
        secured.unwrap()


def main(cert: str, key: str) -> None:
    """Serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with contextlib.ExitStack() as stack:
        for port, protocol in PORTS.items():
            turns = dialogue(protocol, "[10.9.0.1]")
            stack.enter_context(peer(functools.partial(serve, turns=turns, context=context), "10.0.0.9", port))
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
