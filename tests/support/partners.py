"""Partners of tests, such as nc, socat, nginx and sshd: their command lines, and running them.

For bulk data their stdin and stdout are files, so that no test has to feed one process while it reads from another.
"""

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.certificates import Pki
from tests.support.data import check_same
from tests.support.forkserver import NETKIT
from tests.support.peers import free_port
from tests.support.processes import PATIENCE, Finished, Running, running, tool

# The beginning of an nginx configuration, for str.format. There is one process, so that killing it leaves nothing
# behind and it keeps our user. All its files are in its working directory. The http block is still open.
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
    access_log off;
"""


NGINX_CONF = (
    NGINX
    + """
    server {{
        error_log {errors};
        listen 127.0.0.1:{port};
        listen unix:{prefix}/nginx.sock;
        proxy_read_timeout 10s;
        location / {{ {location} }}
    }}
}}
"""
)

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/client.pub
StrictModes no
UsePAM no
PasswordAuthentication no
"""


def tcp_client(name: str, port: int) -> list[str]:
    """Return the command line of a client that half-closes at the end of its input."""
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
        "ncat": lambda: [tool("ncat"), "-lnv", "127.0.0.1", str(free_port()), *command],  # prints no chosen port
        "socat": lambda: [tool("socat"), "-dd", "-t", "10", "TCP-LISTEN:0,bind=127.0.0.1", *(command or ["STDIO"])],
    }[name]()
    with running(argv=argv, stdin=stdin, stdout=stdout) as server:
        port = server.line(r"(?i)listening on .*\b(\d+)$")[1]
        yield server, f"127.0.0.1:{port}"


@contextlib.contextmanager
def bound(argv: list[str], port: int) -> Iterator[Running]:
    """Run a foreign UDP server, and yield it once it has bound the port."""
    with running(argv=argv) as server:
        await_listener(f"udp:{port}", server)
        yield server


@contextlib.contextmanager
def dnsmasq(*options: str) -> Iterator[int]:
    """Run a name server that knows only what the options say, and yield its port once it serves."""
    port = free_port()
    argv = [tool("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
    argv += ["--pid-file=", "--user=", f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces"]
    with running(argv=[*argv, *options]) as server:
        await_listener(port, server)  # opened after the socket for datagrams
        yield port


def await_listener(
    where: int | str, server: Running | subprocess.Popen[bytes] | None = None, pid: int | str = "self"
) -> None:
    """Wait until a process has bound ``where``, without connecting to it; fail if the ``server`` has ended.

    It is a port of TCP, or ``tcp:[IPV4:]PORT``, ``udp:[IPV4:]PORT`` or ``unix:PATH``, in the network of the process
    ``pid``.
    """
    process = server.process if isinstance(server, Running) else server
    kind, _, name = (f"tcp:{where}" if isinstance(where, int) else where).partition(":")
    state = {"tcp": "0A", "udp": "07"}.get(kind)
    # A unix socket has its name before it listens; one for datagrams, of type 2, never does.
    listening = rf" (00010000 \d+|\d+ 0002) \d+ +\d+ @?{re.escape(name)}$"
    if state:
        host, _, port = name.rpartition(":")
        own = socket.inet_aton(host)[::-1].hex().upper() if host else ""
        listening = rf"{own}:{int(port):04X} [0-9A-F:]+ {state} "
    pattern = re.compile(listening, re.MULTILINE)
    tables = [Path(f"/proc/{pid}/net/{kind}{version}") for version in ("", "6")]
    deadline = time.monotonic() + PATIENCE
    while not any(pattern.search(table.read_text(errors="replace")) for table in tables if table.exists()):
        assert process is None or process.poll() is None, f"the server of {where} has ended"
        assert time.monotonic() < deadline, f"nothing serves at {where}"
        os.sched_yield()


@contextlib.contextmanager
def nginx(prefix: Path, location: str, errors: str = "stderr") -> Iterator[str]:
    """Run nginx with its files in ``prefix``. Yield its address before it listens, for ``connect --wait``."""
    port = free_port()
    conf = prefix / "nginx.conf"
    conf.write_text(NGINX_CONF.format(port=port, prefix=prefix, location=location, errors=errors))
    with running(argv=[tool("nginx"), "-e", "stderr", "-p", str(prefix), "-c", str(conf)]) as server:
        yield f"127.0.0.1:{port}"
        server.signal(signal.SIGTERM)
        assert server.finish() == (0, b"", "")


@contextlib.contextmanager
def s_server(pki: Pki, *options: str, **popen: Any) -> Iterator[tuple[Running, int]]:
    """Run openssl's server."""
    port = free_port()
    pair = ("-cert", pki.good.cert, "-key", pki.good.key)
    argv = [tool("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", *pair, *options]
    with running(argv=argv, **popen) as server:
        yield server, port


@contextlib.contextmanager
def sshd(folder: Path, more: str = "") -> Iterator[tuple[Running, int]]:
    """Run sshd, which accepts the key ``client`` in a folder. ``more`` is added to its configuration."""
    for name in ("host", "client"):
        keygen = [tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        assert subprocess.run(keygen, timeout=PATIENCE).returncode == 0
    port = free_port()
    (folder / "sshd_config").write_text(SSHD.format(port=port, folder=folder) + more, encoding="utf-8")
    argv = [tool("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")]
    if os.geteuid() == 0:  # as root it needs a folder, which only its start as a service makes
        script = 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"'
        argv = [tool("unshare"), "-m", "sh", "-c", script, "sh", *argv]
    with running(argv=argv) as server:
        server.line(r"Server listening on 127\.0\.0\.1 port")
        yield server, port


def ssh(folder: Path, port: int, *options: str) -> list[str]:
    """Return the command line of a client of ``sshd``, without prompts, up to the host; ``options`` are those of -o."""
    quiet = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    words = [f"-o{each}" for each in ("IdentitiesOnly=yes", *quiet, *options)]
    return [tool("ssh"), "-F", "none", *words, "-i", str(folder / "client"), "-l", login(), "-p", str(port)]


def login() -> str:
    """The user that an sshd run by us lets in. The test is skipped if there is none."""
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:
        pytest.skip("sshd lets nobody in who has no name")
    if Path(user.pw_shell).name in ("nologin", "false"):
        pytest.skip(f"sshd does not let {user.pw_name} in, whose shell is {user.pw_shell}")
    return user.pw_name


@contextlib.contextmanager
def file_of(data: bytes = b"") -> Iterator[IO[bytes]]:
    """Open a nameless file that holds ``data``, at its start."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file


def content(file: IO[bytes]) -> bytes:
    """Return all that a process has written to a file."""
    file.seek(0)
    return file.read()


def run(argv: Sequence[str], data: bytes = b"") -> Finished:
    """Run a process to its end, with a file of ``data`` as its stdin."""
    with file_of(data) as given:
        done = subprocess.run(argv, stdin=given, capture_output=True, timeout=PATIENCE)
    return Finished(done.returncode, done.stdout, done.stderr.decode())


def check_page(response: bytes, body: bytes) -> None:
    """Assert that an HTTP response has the status 200 and this body."""
    head, _, rest = response.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
    check_same(rest, body)
