"""A large file from nginx over HTTP, to a file and to /dev/null, with TLS, and chunked, compared with curl and wget."""

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.benchmarks.data import fitting, in_words
from tests.benchmarks.measure import NETKIT, Figures, Scale, Work, available, compare, cost_of, start
from tests.support.certificates import Pair, Pki
from tests.support.partners import NGINX, await_listener
from tests.support.peers import free_port

CONF = (
    NGINX
    + """
    sendfile on;
    proxy_buffering off;
    server {{
        listen 127.0.0.1:{plain};
        location / {{ root .; }}
        location = /chunks {{ proxy_pass http://127.0.0.1:{unsized}; }}
    }}
    server {{
        listen 127.0.0.1:{secure} ssl;
        ssl_certificate {pair.cert};
        ssl_certificate_key {pair.key};
        location / {{ root .; }}
    }}
}}
"""
)

Argv = Callable[[str, str, str | None], list[str]]
"""What to run for a URL, an authority's file, and a file to write or None."""

TOOLS: dict[str, Argv] = {
    "netkit": lambda url, ca, path: [*NETKIT, "fetch", url, "--cafile", ca, *(["--force", "-o", path] if path else [])],
    "curl": lambda url, ca, path: ["curl", "-sS", url, "--cacert", ca, *(["-o", path] if path else [])],
    "wget": lambda url, ca, path: ["wget", "-q", url, f"--ca-certificate={ca}", "-O", path or "-"],
}


@contextmanager
def without_length(path: Path) -> Iterator[str]:
    """Serve a file without Content-Length, which nginx passes on in chunks; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, path.open("rb") as file:
                    client.recv(65536)
                    client.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                    client.sendfile(file)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield str(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def nginx(program: str, folder: Path, pair: Pair, unsized: str) -> Iterator[tuple[str, str]]:
    """Serve the folder, and yield the URLs for HTTP and HTTPS."""
    plain, secure = free_port(), free_port()
    (folder / "conf").write_text(CONF.format(plain=plain, secure=secure, pair=pair, unsized=unsized))
    server = start([program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "conf")])
    try:
        await_listener(secure, server)
        yield f"http://localhost:{plain}", f"https://localhost:{secure}"
    finally:
        server.terminate()
        server.wait()


def cost_of_new(path: str | None, argv: list[str]) -> Figures:
    """Run a command that writes a file, and remove an old one first, so that this is not measured."""
    if path is not None:
        Path(path).unlink(missing_ok=True)
    return cost_of(argv)


def measure(scale: Scale) -> Iterator[Work]:
    """Measure each way of transfer."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return
    size = fitting(scale.secured)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx may run as another user
        with (folder / "large").open("wb") as file:
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
        pki, path = Pki(folder), str(folder / "copy")
        with without_length(folder / "large") as unsized, nginx(program, folder, pki.good, unsized) as (plain, secure):
            for way, url, into in (
                ("http to a file", f"{plain}/large", path),
                ("http to /dev/null", f"{plain}/large", None),
                ("https to /dev/null", f"{secure}/large", None),
                ("http in chunks to /dev/null", f"{plain}/chunks", None),
            ):
                runs = {tool: partial(cost_of_new, into, TOOLS[tool](url, pki.ca, into)) for tool in available(TOOLS)}
                yield compare(f"{in_words(size)}, {way}", scale.rounds, runs)
