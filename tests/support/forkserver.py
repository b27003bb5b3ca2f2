"""Starts netkit in milliseconds: a server that has already imported it forks a process for each run.

Most of a short run of ``python -m netkit`` is the start of the interpreter and its imports. A server, one for each
process of pytest, does both once and then forks. The forked process is a child of pytest, not of the server, so pytest
waits for it, signals it and gets its exit code as usual. It starts as an executed process would: with the arguments,
environment, working directory, limit and descriptors that it was given, no others, and Python's signal handlers.

Four things differ. The hash seed is the server's. Memory is shared with the server until it is written to. cmdline and
environ in /proc are the server's. And what a test changes in pytest's own process, such as the umask or ignored
signals, is not inherited. If that matters, ask for a ``real`` process. You also get one if Popen gets an argument that
the server does not support, if a variable differs that is only read at the start, and if the system cannot fork so.
"""

import atexit
import ctypes
import fcntl
import gc
import importlib
import inspect
import os
import pickle
import pkgutil
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

NETKIT = (sys.executable, "-m", "netkit")

_SIZE = struct.Struct("!I")
_PID = struct.Struct("!i")
_MOST_DESCRIPTORS = 64  # passed to a run
# Variables that the interpreter, its loader and the C library read once, at the start.
_READ_ONCE = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "OPENSSL_")
# The defaults of Popen, which are all that the server supports.
_DEFAULTS = {
    "executable": None,
    "preexec_fn": None,
    "close_fds": True,
    "shell": False,
    "restore_signals": True,
    "gid": None,
    "gids": None,
    "uid": None,
    "start_new_session": False,
    "process_group": -1,
}
# Modules that functions of netkit, or of its libraries, import when they are needed.
_LATE = ("difflib", "encodings.idna", "json", "shlex", "ssl", "traceback", "h11", "idna")


# -- in pytest


class Process(subprocess.Popen[bytes]):
    """A Popen with unbuffered pipes. netkit is forked by the server, unless ``real``."""

    def __init__(self, argv: Sequence[str], *, real: bool = False, **popen: Any) -> None:
        self._real = real
        super().__init__(argv, bufsize=0, **popen)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Unlike Popen, this does not poll if there is a timeout."""
        if timeout is None or self.returncode is not None or not hasattr(os, "pidfd_open"):
            return super().wait(timeout)
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:  # another thread has waited for it
            return super().wait()
        try:
            ended = select.poll()
            ended.register(fd, select.POLLIN)
            if not ended.poll(max(timeout, 0) * 1000):
                raise subprocess.TimeoutExpired(self.args, timeout)
        finally:
            os.close(fd)
        return super().wait()

    def _execute_child(self, *args: Any) -> None:
        start = super()._execute_child  # type: ignore[misc]
        how = inspect.signature(start).bind(*args).arguments
        pid = None if self._real else _server.start(how)
        if pid is None:
            start(*args)
            return
        self.pid = pid
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(how[end] for end in ends))  # type: ignore[attr-defined]


class _Server:
    """The fork server of this process, which is started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one request at a time: answers come in order
        self._socket: socket.socket | None = None
        self._fixed: dict[str, str] = {}

    def start(self, how: Mapping[str, Any]) -> int | None:
        """Start what Popen was asked to start and return its process id, or None if it needs a real process."""
        argv = tuple(how["args"])
        environment = os.environ if how["env"] is None else how["env"]
        if sys.platform != "linux" or argv[: len(NETKIT)] != NETKIT:
            return None
        if any(how[name] != value for name, value in _DEFAULTS.items()):
            return None
        with self._lock:
            if self._socket is None:
                self._socket = self._begin()
            if _read_once(environment) != self._fixed:
                return None
            request = (
                argv[len(NETKIT) :],
                {os.fsencode(name): os.fsencode(value) for name, value in environment.items()},
                how["umask"],
                resource.getrlimit(resource.RLIMIT_NOFILE),
                tuple(how["pass_fds"]),
            )
            ends = [how[end] if how[end] != -1 else fd for fd, end in enumerate(("p2cread", "c2pwrite", "errwrite"))]
            try:
                folder = os.open(how["cwd"] or ".", os.O_PATH | os.O_DIRECTORY)
                try:
                    _send(self._socket, request, [folder, *ends, *how["pass_fds"]])
                finally:
                    os.close(folder)
                answer = self._socket.recv(_PID.size)
            except OSError:  # Popen will report what is wrong
                return None
            except BaseException:  # an unread answer would be taken for that of the next request
                self._socket.close()
                self._socket = None
                raise
            pid: int = _PID.unpack(answer)[0] if answer else 0
            return pid if pid > 0 else None

    def _begin(self) -> socket.socket:
        self._fixed = _read_once(os.environ)
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-P", __file__, str(theirs.fileno())]
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )

        def end() -> None:
            ours.close()  # which ends the server, as our death does
            process.wait()

        atexit.register(end)
        return ours


def _read_once(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_ONCE)}


_server = _Server()


def _send(to: socket.socket, request: Any, fds: Sequence[int]) -> None:
    data = pickle.dumps(request)
    socket.send_fds(to, [_SIZE.pack(len(data))], fds)
    to.sendall(data)


# -- in the server


def _serve(requests: socket.socket) -> None:
    """Fork for each request, until the socket of requests is closed."""
    main = _load()
    clone = _Clone()
    while True:
        size, fds, _, _ = socket.recv_fds(requests, _SIZE.size, _MOST_DESCRIPTORS)
        if not size:
            return
        request = pickle.loads(requests.recv(_SIZE.unpack(size)[0], socket.MSG_WAITALL))
        pid = clone()
        if not pid:
            _run(main, fds, *request)
        for fd in fds:
            os.close(fd)
        requests.sendall(_PID.pack(pid))


def _load() -> Any:
    """Import all of netkit and what it uses; return its main function."""
    import netkit

    for module in pkgutil.walk_packages(netkit.__path__, "netkit."):
        importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # otherwise the first collection of each run would write to, and so copy, all of this memory
    return importlib.import_module("netkit.__main__").main


class _Clone:
    """fork(2), but the child's parent is our parent, which can wait for it as for its other children."""

    _CLONE3 = 435  # on every architecture
    _GET_TID_ADDRESS = 40
    _PARENT, _CHILD_CLEARTID, _CHILD_SETTID = 0x8000, 0x200000, 0x1000000

    def __init__(self) -> None:
        self._libc = ctypes.PyDLL(None)  # keeps the GIL, as os.fork() does
        # The C library stores the thread's id in its own memory, and expects fork to store the child's there.
        place = ctypes.c_void_p()
        if self._libc.prctl(self._GET_TID_ADDRESS, ctypes.byref(place)) or not place.value:
            raise OSError("the system does not tell where the C library keeps the id of the thread")
        if ctypes.c_int.from_address(place.value).value != os.getpid():
            raise OSError("the C library keeps the id of the thread elsewhere")
        flags = self._PARENT | self._CHILD_CLEARTID | self._CHILD_SETTID
        self._arguments = (ctypes.c_uint64 * 8)(flags, 0, place.value)  # the rest of clone_args is 0

    def __call__(self) -> int:
        """Return the child's process id, 0 in the child, or -1 if that failed."""
        ctypes.pythonapi.PyOS_BeforeFork()
        pid: int = self._libc.syscall(self._CLONE3, self._arguments, ctypes.sizeof(self._arguments))
        if pid:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
        else:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        return pid


def _run(
    main: Any,
    fds: Sequence[int],
    args: Sequence[str],
    environment: Mapping[bytes, bytes],
    umask: int,
    limit: tuple[int, int],
    passed: Sequence[int],
) -> NoReturn:
    """Run as ``python -m netkit`` would, and exit."""
    code = 1
    try:
        os.fchdir(fds[0])
        _take(fds[1:], (0, 1, 2, *passed))
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        os.environb.clear()
        os.environb.update(environment)
        time.tzset()
        if umask >= 0:
            os.umask(umask)
        sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
        sys.argv = [sys.modules["netkit.__main__"].__file__ or "", *args]
        code = main()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)  # the shutdown of the interpreter takes longer than all of this


def _take(fds: Sequence[int], places: Sequence[int]) -> None:
    """Move each descriptor to its number in ``places``, and close all others."""
    above = max(*fds, *places) + 1
    for fd, place in zip([fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in fds], places, strict=True):
        os.dup2(fd, place)
    kept = sorted(places)
    for place, following in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(place + 1, following)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as the_requests:
        _serve(the_requests)
