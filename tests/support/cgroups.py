"""Control groups that limit the memory or the number of processes of a command."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def limited(controller: str, most: int) -> Iterator[list[str]]:
    """Yield the words to put before a command, so that it and its children have at most ``most`` bytes or processes.

    ``controller`` is ``memory`` or ``pids``. The test is skipped if such a group cannot be made.
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
        while (group / "cgroup.procs").read_text():  # processes that have just ended are in it for another moment
            os.sched_yield()
        group.rmdir()
