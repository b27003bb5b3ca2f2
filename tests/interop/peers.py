"""Other people's tools: where they are, how they dial and listen, and bulk data for both directions.

Their stdin and stdout are files wherever bulk is moved, so no test has to feed one process while it drains another.
"""

import contextlib
import functools
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import pytest

from tests.support import NETKIT, PATIENCE, Finished, Running, free_port, running

DATA = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)  # unlike DATA, so that one direction is never taken for the other

# How a configuration of nginx begins, for str.format: one process, so that nothing is left behind if it is killed and
# it keeps our user, and all that it writes in the folder it runs in. The block of http is still open.
NGINX = """
daemon off;
master_process off;
error_log stderr;
pid nginx.pid;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"""


def tool(name: str) -> str:
    """Return where a tool is; skip the test that needs it if it is not installed."""
    names = ("nc.openbsd", "nc") if name == "nc" else (name, f"/usr/sbin/{name}")
    path = next(filter(None, map(shutil.which, names)), None)
    return path or pytest.skip(f"{name} is not installed")


@functools.cache
def _may_separate() -> bool:
    return subprocess.run(["unshare", "-rnm", "true"], capture_output=True).returncode == 0


def separate(script: str) -> list[str]:
    """Return what runs a command in a network and a view of files of its own, after ``script``; skip without them."""
    tool("unshare")
    if not _may_separate():
        pytest.skip("namespaces are not allowed here")
    path = f"PATH=$PATH:/usr/sbin:/sbin\n{script}\n"
    return ["unshare", "-rnm", "sh", "-ec", path + 'exec "$@"', "sh"]


def tcp_client(name: str, port: int) -> list[str]:
    """Return the command line of a client that sends its input's end as a half-close."""
    return {
        "netkit": lambda: [*NETKIT, "connect", f"127.0.0.1:{port}"],
        "nc": lambda: [tool("nc"), "-N", "127.0.0.1", str(port)],
        "ncat": lambda: [tool("ncat"), "127.0.0.1", str(port)],
        "socat": lambda: [tool("socat"), "-t", "10", "-", f"TCP:127.0.0.1:{port}"],
    }[name]()


def unix_client(name: str, path: str) -> list[str]:
    """Return the same for a unix socket."""
    return {
        "netkit": lambda: [*NETKIT, "connect", f"unix:{path}"],
        "nc": lambda: [tool("nc"), "-NU", path],
        "ncat": lambda: [tool("ncat"), "-U", path],
        "socat": lambda: [tool("socat"), "-t", "10", "-", f"UNIX-CONNECT:{path}"],
    }[name]()


@contextlib.contextmanager
def tcp_server(name: str, *command: str, stdin: IO[bytes], stdout: IO[bytes]) -> Iterator[tuple[Running, str]]:
    """Run a foreign one-shot server, and yield it with its address once it listens."""
    argv = {
        "nc": lambda: [tool("nc"), "-lnvN", "127.0.0.1", "0"],
        "ncat": lambda: [tool("ncat"), "-lnv", "127.0.0.1", str(free_port()), *command],  # does not tell a chosen port
        "socat": lambda: [tool("socat"), "-dd", "-t", "10", "TCP-LISTEN:0,bind=127.0.0.1", *(command or ["STDIO"])],
    }[name]()
    with running(argv=argv, stdin=stdin, stdout=stdout) as server:
        port = server.line(r"(?i)listening on .*\b(\d+)$")[1]
        yield server, f"127.0.0.1:{port}"


@contextlib.contextmanager
def file_of(data: bytes = b"") -> Iterator[IO[bytes]]:
    """Open a nameless file that holds ``data``, at its start."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file


def content(file: IO[bytes]) -> bytes:
    """Return all that a process wrote to a file that it was given."""
    file.seek(0)
    return file.read()


def run(argv: Sequence[str], data: bytes = b"") -> Finished:
    """Run a process to its end, with a file of ``data`` as its stdin."""
    with file_of(data) as given:
        done = subprocess.run(argv, stdin=given, capture_output=True, timeout=PATIENCE)
    return Finished(done.returncode, done.stdout, done.stderr.decode())


def check_same(got: bytes, wanted: bytes) -> None:
    """Assert that bulk data is what it should be, without printing it."""
    if got != wanted:
        first = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
        where = "one is the beginning of the other" if first is None else f"first difference at byte {first}"
        raise AssertionError(f"got {len(got)} bytes, wanted {len(wanted)}: {where}")
