"""Measures tools in interleaved rounds, and returns medians.

A tool that is not installed is left out, and so is one that fails or hangs, with a message on stderr.
"""

import contextlib
import functools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_SCRIPT = Path(sys.executable).with_name("netkit")  # as users run it
NETKIT = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "netkit"]
C = "C"  # the program of minimal.c
_HANGS = 180  # s until a run of a tool counts as hanging

Figures = dict[str, float]
"""What was measured of one tool, by name and unit: "wall s", "CPU s", "messages/s"."""


class Scale(NamedTuple):
    """The amount of work: bytes of bulk data, messages, records and rounds."""

    bulk: int
    secured: int
    messages: int
    records: int
    rounds: int
    starts: int


FULL = Scale(bulk=4 << 30, secured=1 << 30, messages=200_000, records=1_000_000, rounds=3, starts=21)
QUICK = Scale(bulk=64 << 20, secured=32 << 20, messages=5_000, records=50_000, rounds=1, starts=3)


class Work(NamedTuple):
    """A benchmark, with the medians of each tool. The first figure is compared: less is better.

    With ``more`` it is a rate, and more is better.
    """

    title: str
    tools: dict[str, Figures]
    more: bool = False


_running: list["subprocess.Popen[bytes]"] = []


@functools.cache
def program(name: str) -> str | None:
    """Return the path of ``minimal`` or ``load``, compiled once, or None without gcc."""
    if shutil.which("gcc") is None:
        return None
    path = Path(_folder().name) / name
    subprocess.run(["gcc", "-O2", "-o", str(path), str(Path(__file__).with_name(f"{name}.c"))], check=True)
    return str(path)


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory()  # removed when Python ends


def available(tools: Iterable[str]) -> list[str]:
    """Return the tools that are installed, or can be compiled."""
    return [tool for tool in tools if tool == "netkit" or (program("minimal") if tool == C else shutil.which(tool))]


def start(argv: Sequence[str], **popen: object) -> "subprocess.Popen[bytes]":
    """Start a process, by default with stderr to /dev/null."""
    popen.setdefault("stderr", subprocess.DEVNULL)
    process: subprocess.Popen[bytes] = subprocess.Popen(argv, **popen)  # type: ignore[call-overload]
    _running.append(process)
    return process


class Cost(NamedTuple):
    """Seconds of elapsed time, and of CPU in user and system mode, of a process and its children."""

    wall: float
    cpu: float

    @property
    def figures(self) -> Figures:
        return {"wall s": self.wall, "CPU s": self.cpu}


def timed(process: "subprocess.Popen[bytes]", since: float, codes: Sequence[int] = (0,)) -> Cost:
    """Wait for a process that was started at ``since``, and return its cost; its exit code must be in ``codes``."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return Cost(time.perf_counter() - since, usage.ru_utime + usage.ru_stime)


def cost_of(argv: Sequence[str], codes: Sequence[int] = (0,), **popen: object) -> Figures:
    """Run a command to its end, and return its cost."""
    since = time.perf_counter()
    popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **popen}
    return timed(start(argv, **popen), since, codes).figures


def compare(title: str, rounds: int, runs: Mapping[str, Callable[[], Figures]], *, more: bool = False) -> Work:
    """Run every tool in turn, ``rounds`` times, and return the medians."""
    seen: dict[str, list[Figures]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name in list(seen):
            try:
                with _bounded():
                    seen[name].append(runs[name]())
            except (AssertionError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                print(f"{title}: {name} is left out: {error}", file=sys.stderr)
                del seen[name]
    tools = {
        name: {key: statistics.median(each[key] for each in found) for key in found[0]} for name, found in seen.items()
    }
    return Work(title, tools, more)


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Raise TimeoutError if the block takes too long; kill the processes that it started and that still run."""

    def give_up(*signal: object) -> None:
        raise TimeoutError(f"nothing after {_HANGS} s")

    others = len(_running)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        while len(_running) > others:
            process = _running.pop()
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
