"""Ports, files and programs in C that the benchmarks share."""

import contextlib
import functools
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import IO

from tests.benchmarks.measure import compiled

_PATIENCE = 30.0  # s until a server listens


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory()  # removed when Python ends


@functools.cache
def program(name: str) -> str | None:
    """Return the path of ``minimal`` or ``load``, compiled once, or None without gcc."""
    path = compiled(name, Path(_folder().name))
    return None if path is None else str(path)


def free_port() -> str:
    """Return a port that was free just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def await_listener(port: str, server: "Popen[bytes]", protocol: str = "tcp") -> None:
    """Wait until a server has the port, without connecting, which a one-shot server would take for its client."""
    wanted, state = f":{int(port):04X}", {"tcp": "0A", "udp": "07"}[protocol]
    latest = time.monotonic() + _PATIENCE
    while time.monotonic() < latest:
        for table in (f"/proc/net/{protocol}", f"/proc/net/{protocol}6"):
            with contextlib.suppress(FileNotFoundError), open(table, encoding="ascii") as rows:
                for row in rows:
                    fields = row.split()
                    if fields[1].endswith(wanted) and fields[3] == state:
                        return
        if server.poll() is not None:
            raise RuntimeError(f"{server.args!r} ended with {server.returncode}")
        os.sched_yield()
    raise TimeoutError(f"nobody listens on port {port}")


@contextlib.contextmanager
def zeros(size: int) -> Iterator[IO[bytes]]:
    """Yield a file of ``size`` zeros, which is cached in memory."""
    with tempfile.TemporaryFile() as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
        file.flush()
        yield file


def fitting(size: int) -> int:
    """Return ``size``, or a quarter of the available memory if that is less, so that a file stays cached."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        found = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min(size, found // 4 >> 20 << 20)


def in_words(size: int) -> str:
    """Return a number of bytes as text for titles."""
    return f"{size / (1 << 30):g} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"
