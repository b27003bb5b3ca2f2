"""``netkit echo`` and ``netkit upper`` with other clients, and with netkit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Finished, running
from tests.support.data import DATA, check_same
from tests.support.partners import run, tcp_client, unix_client

CLIENTS = ("netkit", "nc", "ncat", "socat")

clients = pytest.mark.parametrize("client", CLIENTS)
services = pytest.mark.parametrize(("service", "change"), [("echo", bytes), ("upper", bytes.upper)])


def check_answer(result: Finished, wanted: bytes) -> None:
    """Assert that a client got the whole answer and printed no error."""
    check_same(result.out, wanted)
    assert (result.code, result.err) == (0, "")


@clients
@services
def test_every_byte_comes_back_over_tcp(service: str, change: Callable[[bytes], bytes], client: str) -> None:
    """A client that sends 300,000 bytes and half-closes gets all of them back, and the server exits with 0."""
    with running(service, "127.0.0.1:0", "--once") as server:
        port = server.port
        check_answer(run(tcp_client(client, port), DATA), change(DATA))
        assert server.finish() == (0, b"", f"netkit {service}: listening on 127.0.0.1:{port}\n")


@clients
@services
def test_every_byte_comes_back_over_a_unix_socket(
    service: str, change: Callable[[bytes], bytes], client: str, tmp_path: Path
) -> None:
    """A client on a Unix socket gets all of its data back, too."""
    path = str(tmp_path / "socket")
    with running(service, f"unix:{path}", "--once") as server:
        server.line("listening on unix:")
        check_answer(run(unix_client(client, path), DATA), change(DATA))
        assert server.finish() == (0, b"", f"netkit {service}: listening on unix:{path}\n")
