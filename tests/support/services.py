"""A network in which ``db``, ``cache`` and ``app`` are services, as the documents call them."""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.forkserver import NETKIT
from tests.support.namespaces import network
from tests.support.processes import tool

_HOSTS = "127.0.0.1 localhost db cache app\n"
# PostgreSQL's AuthenticationOk and ReadyForQuery, as the manual's "Message Formats" has them.
_POSTGRES = r"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"
_BODY = r'{{"status": "up"}\n'
_HEALTH = rf"HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{_BODY}"


@contextlib.contextmanager
def services(folder: Path) -> Iterator[list[str]]:
    """What runs a command in that network, in ``folder``, with netkit on its PATH."""
    (folder / "hosts").write_text(_HOSTS)
    (folder / "bin").mkdir()
    script = folder / "bin" / "netkit"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(NETKIT)} "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join((str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
    servers = (
        [tool("redis-server"), "--port", "6379", "--save", "", "--dir", str(folder)],
        [*NETKIT, "listen", "5432", "--reply", _POSTGRES],
        [*NETKIT, "listen", "8080", "--reply", _HEALTH],
    )
    with (
        network(f"mount --bind {shlex.quote(str(folder / 'hosts'))} /etc/hosts") as net,
        contextlib.ExitStack() as stack,
    ):
        nsenter, *options = net.inside
        inside = [nsenter, "--mount", f"--wd={folder}", *options, "env", f"PATH={path}"]
        for argv in servers:
            server = stack.enter_context(subprocess.Popen([*inside, *argv], stdout=subprocess.DEVNULL))
            stack.callback(server.terminate)
        yield inside
