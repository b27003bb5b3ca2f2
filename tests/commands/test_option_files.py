"""Files of options, such as certificates: they may be pipes or FIFOs, and their size is limited."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import netkit, peer, running
from tests.support.certificates import Pki
from tests.support.processes import HERE, ends, feed, settle, sound
from tests.support.proxies import scripted
from tests.support.secured import Secured, serving

Words = Callable[[Pki, str], tuple[str, ...]]
"""The words of a command that reads the file at a path."""

DIAL = ("connect", "tls:127.0.0.1:1")
READERS: dict[str, Words] = {
    "--cafile": lambda pki, path: (*DIAL, "--cafile", path),
    "--cert": lambda pki, path: (*DIAL, "--cert", path, "--key", pki.client.key),
    "--key": lambda pki, path: ("echo", f"tls:{HERE}", "--cert", pki.good.cert, "--key", path),
    "--key-password-file": lambda pki, path: (
        *("relay", f"tls:{HERE}", "127.0.0.1:1", "--cert", pki.good.cert, "--key", pki.encrypted()),
        *("--key-password-file", path),
    ),
    "--proxy-user-file": lambda pki, path: (
        *("relay", HERE, "127.0.0.1:1", "--proxy", "socks5h://127.0.0.1:1"),
        *("--proxy-user-file", path),
    ),
}
every_reader = pytest.mark.parametrize("option", READERS)


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    """The path of a FIFO without a writer."""
    os.mkfifo(tmp_path / "fifo")
    return str(tmp_path / "fifo")


@every_reader
def test_a_fifo_that_nobody_writes_ends_by_the_clock(pki: Pki, fifo: str, option: str) -> None:
    """--timeout ends the wait for a writer with 28, before anything connects or binds."""
    done = sound(netkit(*READERS[option](pki, fifo), "--timeout", "50ms"), 28)
    assert done.err.endswith("cannot finish: time ran out after 50 ms (--timeout)\n")


@every_reader
def test_a_fifo_that_nobody_writes_ends_by_a_signal(pki: Pki, fifo: str, option: str) -> None:
    """SIGTERM ends the wait for a writer."""
    with running(*READERS[option](pki, fifo)) as process:
        settle(process)
        ends(process, signal.SIGTERM)


@every_reader
@pytest.mark.parametrize("kind", ["sparse file", "device without an end"])
def test_a_file_without_bound(pki: Pki, tmp_path: Path, option: str, kind: str) -> None:
    """A file of more than 16 MiB is exit code 26, and is not read to its end."""
    path = "/dev/zero"
    if kind == "sparse file":
        path = str(tmp_path / "large")
        Path(path).touch()
        os.truncate(path, 1 << 40)
    done = sound(netkit(*READERS[option](pki, path)), 26)
    assert done.err.endswith(f": cannot read {path}: it is larger than 16 MiB\n")


def test_users_of_a_proxy_are_not_without_bound(tmp_path: Path) -> None:
    """--auth-file of proxy, which may be no pipe, is limited too."""
    (tmp_path / "users").touch(0o600)
    os.truncate(tmp_path / "users", 1 << 40)
    done = sound(netkit("proxy", HERE, "--auth-file", str(tmp_path / "users")), 26)
    assert done.err.endswith(": it is larger than 16 MiB\n")


@pytest.fixture
def pipe() -> Iterator[Callable[[bytes], str]]:
    """A function that makes a pipe with this content, as ``<(command)`` in a shell does."""
    made: list[tuple[int, threading.Thread]] = []

    def make(data: bytes) -> str:
        reading, writing = os.pipe()
        os.set_inheritable(reading, True)

        def write() -> None:
            with open(writing, "wb", buffering=0) as file:
                for start in range(0, len(data), 100):
                    file.write(data[start : start + 100])

        made.append((reading, threading.Thread(target=write)))
        made[-1][1].start()
        return f"/dev/fd/{reading}"

    yield make
    for reading, thread in made:
        thread.join()
        os.close(reading)


def test_certificates_and_keys_may_come_through_pipes(pki: Pki, pipe: Callable[[bytes], str]) -> None:
    """--cafile may be a pipe, and one pipe may have both certificate and key."""
    both = pipe(Path(pki.client.cert).read_bytes() + Path(pki.client.key).read_bytes())
    trusted = pipe(Path(pki.ca).read_bytes())

    def answer(client: Secured) -> object:
        client.send(client.read_all())
        client.end()
        return client.tls.getpeercert()

    with peer(serving(pki.server(asks=True), answer)) as server:
        words = ("connect", f"tls:{server.address}", "--cafile", trusted, "--cert", both, "--shutdown-after", "0")
        fds = [int(path.rpartition("/")[2]) for path in (both, trusted)]
        assert sound(netkit(*words, input=b"hello", pass_fds=fds), 0).out == b"hello"
        assert server.result()


def test_a_password_may_come_through_a_fifo(fifo: str) -> None:
    """User and password of a proxy may come from a FIFO."""
    steps = ((b"\5\2\0\2", b"\5\2"), (b"\1\5alice\6secret", b"\1\0"))
    request = (b"\5\1\0\1\x7f\0\0\1\0\1", b"\5\0\0\1\x7f\0\0\1\0\x50")
    with peer(scripted((*steps, request))) as proxy:
        words = ("connect", "127.0.0.1:1", "--proxy", f"socks5h://{proxy.address}", "--proxy-user-file", fifo)
        with running(*words) as client:
            Path(fifo).write_text("alice:secret\n")
            feed(client, b"hello")
            assert sound(client.finish(), 0).out == b"HELLO"
        assert proxy.result()
