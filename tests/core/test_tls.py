"""TLS is a stream like any other: the contract, over a real handshake, with OpenSSL on the other side as well."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from netkit.core import tls
from netkit.core.errors import Exit, Failure
from netkit.core.events import ignore
from netkit.core.kernel import Group
from netkit.core.stream import SocketStream, Stream
from netkit.core.tls import Security
from tests import contract
from tests.contract import Check, check_stream
from tests.core.test_stream import tcp_sockets


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what makes two ends of a secured TCP connection."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "pair.pem"))
    client = tls.client(Security(cafile=str(folder / "ca.pem")), "localhost", ignore)
    server = tls.server(Security(cert=str(folder / "pair.pem"), key=str(folder / "pair.pem")), ignore)

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Stream, Stream]]:
        ours, theirs = tcp_sockets()
        made: dict[str, Stream] = {}

        async def shake(name: str, sock: socket.socket, secure: Any) -> None:
            made[name] = await secure(SocketStream(sock, name))

        async with Group() as group:
            group.start(shake("a", ours, client))
            group.start(shake("b", theirs, server))
        try:
            yield made["a"], made["b"]
        finally:
            made["a"].close()
            made["b"].close()

    return make


CHECKS = contract.EVERY + contract.OWNING + contract.RESETTING


@pytest.mark.parametrize(
    "check", [c for c in CHECKS if c is not contract.closing_ends_the_connection], ids=lambda c: c.__name__
)
def test_contract(pair_of: Any, check: Check) -> None:
    """Order, ends, back-pressure and resets are those of every stream."""
    check_stream(pair_of, check)


def test_closing_without_an_end_is_a_cut(pair_of: Any) -> None:
    """A stream that is closed before its end was sent gives the peer all it had sent, and then PARTIAL."""

    async def check(make_pair: Any) -> None:
        async with make_pair() as (a, b):
            await a.send(b"last words")
            a.close()
            assert await b.recv() == b"last words"
            with pytest.raises(Failure) as caught:
                await b.recv()
            assert caught.value.exit is Exit.PARTIAL

    check_stream(pair_of, check)
