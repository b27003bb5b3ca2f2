"""Running netkit and other programs, to their end or beside the test, and facts about processes from /proc.

A server is ready when it says so: ``Running.port`` waits for the line that netkit prints after listen(2).
"""

import contextlib
import functools
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.forkserver import NETKIT, Process

PATIENCE = 20.0  # s after which a test is considered to hang


def tool(name: str) -> str:
    """The path of a program. The test is skipped if it is not installed."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    found = (shutil.which(each, path=path) for each in (("nc.openbsd", "nc") if name == "nc" else (name,)))
    return next(filter(None, found), None) or pytest.skip(f"{name} is not installed")


def strace(*expressions: str, log: Path | str = os.devnull) -> list[str]:
    """The words that run netkit under strace with these ``-e`` expressions. Skips the test if that is impossible."""
    if not _may_trace(tool("strace")):
        pytest.skip("strace is not allowed here")
    return ["strace", "-f", "-qq", "-o", str(log), *(word for each in expressions for word in ("-e", each))]


@functools.cache
def _may_trace(path: str) -> bool:
    return subprocess.run([path, "-qq", "-o", os.devnull, "true"], stderr=subprocess.DEVNULL).returncode == 0


def resolver() -> None:
    """Skip a test that needs the answer that a name is not found, if no resolver answers."""
    try:
        socket.getaddrinfo("nosuch.invalid", None)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            pytest.skip("no resolver answers here")


HERE = "127.0.0.1:0"  # a server's address, with a port chosen by the system


class Finished(NamedTuple):
    """The result of a process: exit code (negative after a signal), stdout, stderr as text."""

    code: int
    out: bytes
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr other than where it listens."""
        return [line for line in self.err.splitlines() if ": listening on " not in line]


def netkit(
    *args: str,
    input: bytes | None = b"",
    timeout: float = PATIENCE,
    wrapper: Sequence[str] = (),
    real: bool = False,
    **popen: Any,
) -> Finished:
    """Run netkit to its end. ``wrapper`` is put in front, such as ``("prlimit", "--nofile=20")``.

    It is forked by the fork server, which is fast; ``real`` starts a new interpreter, as does a wrapper. The test is
    skipped if the wrapper is not installed.
    """
    if wrapper:
        tool(wrapper[0])
        # With a limit on file sizes CPython 3.11 writes truncated .pyc files, which later runs could not import.
        popen["env"] = {**popen.get("env", os.environ), "PYTHONDONTWRITEBYTECODE": "1"}
    if "stdin" in popen:
        input = None
    elif input is not None:
        popen["stdin"] = subprocess.PIPE
    popen.setdefault("stdout", subprocess.PIPE)
    popen.setdefault("stderr", subprocess.PIPE)
    with Process([*wrapper, *NETKIT, *args], real=real, **popen) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return Finished(process.returncode, out or b"", (err or b"").decode())


def pipeline(text: str, *args: str, input: bytes = b"") -> Finished:
    """Run a line of shell in which ``netkit`` is ours and $1, $2, ... are ``args``; its exit code is the last one."""
    line = f'netkit() {{ "$python" -m netkit "$@"; }}; {text}'
    environment = {**os.environ, "python": NETKIT[0]}
    done = subprocess.run(
        ["sh", "-c", line, "sh", *args], input=input, capture_output=True, env=environment, timeout=PATIENCE
    )
    return Finished(done.returncode, done.stdout, done.stderr.decode())


class Running:
    """A running process. ``stdin`` and ``out`` are pipes; ``line`` reads stderr, ``said`` has the lines it read."""

    def __init__(self, argv: Sequence[str], **popen: Any) -> None:
        for name in ("stdin", "stdout", "stderr"):
            popen.setdefault(name, subprocess.PIPE)
        self.process = Process(argv, **popen)
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None
        if self.process.stderr is not None:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdin(self) -> Any:
        return self.process.stdin

    @property
    def out(self) -> Any:
        return self.process.stdout

    def _read(self) -> None:
        for line in self.process.stderr:  # type: ignore[union-attr]
            self._lines.put(line.decode(errors="replace"))
        self._lines.put(None)

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line on stderr that matches ``pattern`` somewhere, and return the match."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if line is None:
                raise AssertionError(f"stderr ended without {pattern!r}: {self.said}")
            self.said.append(line)
            if found := re.search(pattern, line):
                return found

    def forget(self) -> None:
        """Skip the lines that stderr has had so far."""
        while not self._lines.empty():
            self._lines.get()

    @property
    def port(self) -> int:
        """The port: waits until netkit says where it listens."""
        return int(self.line(r"listening on (?:\S*):(\d+)$")[1])

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def read(self, count: int) -> bytes:
        """Read ``count`` bytes of stdout, or fewer at its end."""
        data = b""
        while len(data) < count and (more := self.out.read(count - len(data))):
            data += more
        return data

    def read_all(self) -> bytes:
        """Read stdout to its end."""
        return self.process.stdout.read()  # type: ignore[union-attr,no-any-return]

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end and return the exit code, negative after a signal."""
        return self.process.wait(timeout)

    def terminate(self) -> Finished:
        """Send SIGTERM, and then do as ``finish``."""
        self.process.terminate()
        return self.finish()

    def finish(self, timeout: float = PATIENCE) -> Finished:
        """Close stdin, read stdout and stderr to their ends, and wait for the exit."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        out = self.process.stdout.read() if self.process.stdout is not None else b""
        code = self.process.wait(timeout)
        if self._reader is not None:
            self._reader.join(timeout)
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.said.append(line)
        return Finished(code, out, "".join(self.said))


@contextlib.contextmanager
def running(
    *args: str, wrapper: Sequence[str] = (), argv: Sequence[str] | None = None, real: bool = False, **popen: Any
) -> Iterator[Running]:
    """Run netkit, or ``argv``, beside the test, and kill it at the end. ``wrapper`` and ``real`` are as above."""
    real = real or argv is not None
    for foreign in (wrapper, argv):
        if foreign:
            tool(foreign[0])
    process = Running(list(argv) if argv else [*wrapper, *NETKIT, *args], real=real, **popen)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.process.wait()
        for pipe in (process.process.stdin, process.process.stdout):
            if pipe is not None:
                pipe.close()
        if process._reader is not None:
            process._reader.join(PATIENCE)
            process.process.stderr.close()  # type: ignore[union-attr]


def feed(process: Running, data: bytes) -> None:
    """Write ``data`` to the process and close its stdin. A process that no longer reads is no error."""
    with contextlib.suppress(BrokenPipeError), process.stdin:
        rest = memoryview(data)
        while rest:
            rest = rest[process.stdin.write(rest) :]


@contextlib.contextmanager
def stopped(process: Running) -> Iterator[None]:
    """Stop the process during the block, so that only the system acknowledges data."""
    process.signal(signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        yield
    finally:
        process.signal(signal.SIGCONT)


def settle(process: Running) -> None:
    """Wait until netkit has installed its signal handlers, has handled earlier events, and sleeps."""
    caught = 0
    while not caught >> (signal.SIGTERM - 1) & 1:
        caught = int(_status(process, "SigCgt"), 16)
        os.sched_yield()
    # A system call that wakes a process makes it runnable before the call returns.
    while _status(process, "State") != "S":
        os.sched_yield()


def _status(process: Running, name: str) -> str:
    """The first word of a line of /proc/PID/status. Fails if the process has ended."""
    lines = Path(f"/proc/{process.pid}/status").read_text()
    assert "\nState:\tZ" not in lines, f"{process.process.args} has ended"
    return lines.partition(f"\n{name}:")[2].split(None, 1)[0]


def died_by(code: int) -> signal.Signals | None:
    """Return the signal that a process died by, if any."""
    return signal.Signals(-code) if code < 0 else None


def ends(process: Running, number: signal.Signals) -> Finished:
    """Send the signal and check that the process dies by it, without a message."""
    process.signal(number)
    assert died_by(process.wait()) is number
    return sound(process.finish(), -number)


def sound(done: Finished, *codes: int) -> Finished:
    """Check that a run ended with one of ``codes`` (negative: by that signal), and what is true of all runs.

    A failure prints one line and other ends none, except for a server's ready lines. Each line is printable, short and
    begins with the program's name. There is no traceback, and never exit code 1.
    """
    assert done.code in codes, (done.code, done.err)
    assert done.code != 1
    *lines, rest = done.err.split("\n")
    assert rest == ""
    for line in lines:
        assert re.fullmatch(r"netkit[ -~]{0,393}", line), line
    for word in ("Traceback", "Exception ignored", "ResourceWarning", "Aborted!"):
        assert word not in done.err
    assert len(done.complaints) == (1 if done.code > 0 else 0), done.err
    return done


def lost(done: Finished) -> tuple[int, int]:
    """Return from the message how many bytes were not acknowledged, and of how many."""
    found = re.search(r"\((\d+) of (\d+) bytes not acknowledged\)$", done.err.strip())
    assert found, done.err
    return int(found[1]), int(found[2])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> int:
    """Return the largest resident size of a process so far, in bytes."""
    return _size(pid, "VmHWM")


def memory(pid: int) -> int:
    """Return the resident size of a process, in bytes."""
    return _size(pid, "VmRSS")


def _size(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def children(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
