"""``netkit echo``, and a program of ``netkit listen``, with other clients."""

from pathlib import Path

import pytest

from tests.support import running
from tests.support.data import DATA, check_same
from tests.support.partners import run, tcp_client, unix_client
from tests.support.processes import HERE


@pytest.mark.parametrize("way", ["tcp", "unix"])
@pytest.mark.parametrize("client", ["nc", "ncat", "socat"])
@pytest.mark.parametrize("words", [["echo", "--once"], ["listen", "--exec", "cat"]], ids=" ".join)
def test_every_byte_comes_back(words: list[str], client: str, way: str, tmp_path: Path) -> None:
    """A client that sends 300,000 bytes and half-closes gets all of them back, and the server exits with 0."""
    path = f"{tmp_path}/socket"
    with running(*words[:1], HERE if way == "tcp" else f"unix:{path}", *words[1:]) as server:
        address = server.line("listening on (.*)$")[1]
        argv = unix_client(client, path) if way == "unix" else tcp_client(client, int(address.rpartition(":")[2]))
        done = run(argv, DATA)
        check_same(done.out, DATA)
        assert (done.code, done.err) == (0, "")
        assert server.finish() == (0, b"", f"netkit {words[0]}: listening on {address}\n")
