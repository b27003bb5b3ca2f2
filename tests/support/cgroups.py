"""Control groups: how much memory, or how many processes, what runs in one may have."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def limited(controller: str, most: int) -> Iterator[list[str]]:
    """Give what runs a command with at most so many bytes (``memory``) or processes (``pids``), all that it starts too.

    The test is skipped where the system lets nobody make such a group.
    """
    unified = (_ROOT / "cgroup.controllers").exists()
    group = (_ROOT if unified else _ROOT / controller) / f"netkit-test-{os.getpid()}"
    limit = "memory.limit_in_bytes" if controller == "memory" and not unified else f"{controller}.max"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"control groups may not be made here: {error.strerror}")
    try:
        try:
            (group / limit).write_text(str(most))
        except OSError:
            pytest.skip(f"control groups limit no {controller} here")
        yield ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(group)]
    finally:
        while (group / "cgroup.procs").read_text():  # who has just ended is in it for another moment
            os.sched_yield()
        group.rmdir()
