"""1 GiB of nginx: to a file, to /dev/null and to a pipe; over TLS; in chunks. Beside curl and wget."""

import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from tests.benchmarks.bulk import SIZE, await_listener, free_port
from tests.benchmarks.measure import NETKIT, Cost, available, medians, show, start, timed
from tests.support.partners import NGINX

ROUNDS = 3
CONF = (
    NGINX
    + """
    access_log off;
    sendfile on;
    proxy_buffering off;
    server {{
        listen 127.0.0.1:{plain};
        location / {{ root .; }}
        location = /chunks {{ proxy_pass http://127.0.0.1:{unsized}; }}
    }}
    server {{
        listen 127.0.0.1:{secure} ssl;
        ssl_certificate cert.pem;
        ssl_certificate_key key.pem;
        location / {{ root .; }}
    }}
}}
"""
)

Argv = Callable[[str, str, str | None], list[str]]
"""Returns what to run for a URL, an authority's file, and a file to write or None."""

TOOLS: dict[str, Argv] = {
    "netkit": lambda url, ca, path: [*NETKIT, "fetch", url, "--cafile", ca, *(["--force", "-o", path] if path else [])],
    "curl": lambda url, ca, path: ["curl", "-sS", url, "--cacert", ca, *(["-o", path] if path else [])],
    "wget": lambda url, ca, path: ["wget", "-q", url, f"--ca-certificate={ca}", "-O", path or "-"],
}


@contextmanager
def without_length(path: Path) -> Iterator[str]:
    """Serve a file that ends with the connection, which nginx passes on in chunks; yield the port."""
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
def nginx(folder: Path, unsized: str) -> Iterator[tuple[str, str]]:
    """Serve the folder; yield the URLs in plain text and over TLS."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    plain, secure = free_port(), free_port()
    (folder / "conf").write_text(CONF.format(plain=plain, secure=secure, unsized=unsized))
    server = start(["nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "conf")])
    try:
        await_listener(secure)
        yield f"http://localhost:{plain}", f"https://localhost:{secure}"
    finally:
        server.terminate()
        server.wait()


def get(argv: list[str], piped: bool) -> dict[str, Cost]:
    """Fetch once; return what it cost."""
    drain = start(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) if piped else None
    since = time.perf_counter()
    tool = start(argv, stdout=drain.stdin if drain else subprocess.DEVNULL)
    cost = timed(tool, since)
    if drain and drain.stdin:
        drain.stdin.close()
        drain.wait()
    return {"": cost}


def compare(title: str, url: str, ca: str, path: str | None = None, piped: bool = False) -> None:
    """Let each tool fetch in turn, and print the table."""

    def run(tool: str) -> Callable[[], dict[str, Cost]]:
        return lambda: get(TOOLS[tool](url, ca, path), piped)

    results = {
        tool: costs[""] for tool, costs in medians(ROUNDS, {tool: run(tool) for tool in available(TOOLS)}).items()
    }
    best = results["netkit"].wall
    rows = [(tool, f"{cost.wall:.2f}", f"{cost.wall / best:.2f}", f"{cost.cpu:.2f}") for tool, cost in results.items()]
    heads = ("", "wall s", "ratio to netkit", "CPU s")
    show(f"1 GiB {title}, medians of {ROUNDS}, interleaved", heads, rows)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx may give up our user
        with (folder / "large").open("wb") as file:
            for _ in range(SIZE >> 20):
                file.write(bytes(1 << 20))
        ca, path = str(folder / "ca.pem"), str(folder / "copy")
        with without_length(folder / "large") as unsized, nginx(folder, unsized) as (plain, secure):
            compare("http -> file", f"{plain}/large", ca, path)
            compare("http -> /dev/null", f"{plain}/large", ca)
            compare("http -> pipe", f"{plain}/large", ca, piped=True)
            compare("https -> file", f"{secure}/large", ca, path)
            compare("https -> /dev/null", f"{secure}/large", ca)
            compare("http in chunks -> /dev/null", f"{plain}/chunks", ca)
