"""The service of ``netkit proxy``: its handshake timeout, its events and its users."""

import os
import re
from pathlib import Path

import pytest

from netkit.core.dial import Dialling
from netkit.core.errors import Exit, Failure
from netkit.core.events import Closed, Cut, Requested, ignore
from netkit.core.targets import Targets
from netkit.services.proxy import proxying, read_users
from tests.support.servers import Client, Server, serving

PROXY = proxying(Dialling(), Targets(), changes=list, observe=ignore)


@pytest.mark.parametrize("said", [b"", b"\4", b"\5\1\0", b"\5\1\0\5\1\0\3\xff", b"CONNECT db:5432 HTTP/1.1\r\nHost:"])
def test_a_client_that_stalls_has_ten_seconds(said: bytes) -> None:
    """A client that stalls in its request is reset after 10 s with the reason; others are served meanwhile."""

    async def script(server: Server) -> None:
        with Client(server.listener) as client, Client(server.listener) as other:
            client.socket.sendall(said)
            assert (await other.exchange(b"HELP\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
            assert await client.was_reset()
        server.stop.set()

    server = serving(script, PROXY)
    reasons = [closed.reason for closed in server.seen(Closed)]
    assert reasons[0].startswith("the request is malformed")
    assert re.fullmatch(r"cannot serve \S+: it asked for no target within 10 s", reasons[1])
    assert server.ended_at is not None and 10 <= server.ended_at < 12


def test_events() -> None:
    """A request is reported, and the refusal of its target only to the client and as the reason at the end."""
    told: list[object] = []
    handler = proxying(Dialling(), Targets(), changes=list, observe=told.append)

    async def script(server: Server) -> None:
        with Client(server.listener) as client:
            assert (await client.exchange(b"\4\1\0\1\x7f\0\0\1\0"))[:2] == b"\0\x5b"
        server.stop.set()

    server = serving(script, handler)
    [asked] = told
    assert isinstance(asked, Requested) and (asked.target, asked.scheme) == ("127.0.0.1:1", "socks4")
    assert server.seen(Cut) == [] and "connection refused" in server.seen(Closed)[0].reason


# -- users


def written(folder: Path, content: bytes, mode: int = 0o600) -> str:
    """Write a file of users, and return its path."""
    path = folder / "users"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_users(tmp_path: Path) -> None:
    """Each line is a user and a password, which may contain anything but a line end."""
    admits = read_users(written(tmp_path, b"me:secret\n\r\nyou: a:b \xff\r\nnobody:"))
    for user, password in ((b"me", b"secret"), (b"you", b" a:b \xff"), (b"nobody", b"")):
        assert admits(user, password)
    for user, password in (
        *((b"me", b""), (b"me", b"secret "), (b"ME", b"secret"), (b"you", b"secret"), (b"", b"")),
        *((b"you: a", b"b \xff"), (b"me:secret", b""), (b"me", b"secret\n")),
    ):
        assert not admits(user, password)


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"me:secret\n", 0o640, r"others may use it \(its mode has 040 for group and others\)"),
        (b"me:secret\n", 0o604, r"others may use it \(its mode has 004 for group and others\)"),
        (b"me:secret\n", 0o620, "others may use it"),
        (b"me:secret\nyou\n", 0o600, "line 2 is not USER:PASSWORD"),
        (b":secret\n", 0o600, "line 1 is not USER:PASSWORD"),
        (b"\n\n", 0o600, "there is no USER:PASSWORD in it"),
        (b"", 0o600, "there is no USER:PASSWORD in it"),
    ],
)
def test_files_that_are_refused(content: bytes, mode: int, reason: str, tmp_path: Path) -> None:
    """A bad file is refused before any client is served, and the message shows nothing of its content."""
    path = written(tmp_path, content, mode)
    with pytest.raises(Failure, match=rf"^cannot read users from {path}: {reason}") as found:
        read_users(path)
    assert found.value.exit is Exit.READ and "secret" not in str(found.value)


@pytest.mark.parametrize("path", ["/nosuch/file", "/", "/dev/null"])
def test_what_is_no_file_of_users(path: str) -> None:
    """A missing file, a directory and a device are refused."""
    with pytest.raises(Failure) as found:
        read_users(path)
    assert found.value.exit is Exit.READ


def test_a_fifo_holds_nobody_up(tmp_path: Path) -> None:
    """A FIFO is refused without waiting for a writer."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(Failure, match="it is not a regular file"):
        read_users(str(tmp_path / "fifo"))
