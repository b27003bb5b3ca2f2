"""The entry point of the program. Nothing before the import of click may be slow, fail or print a traceback."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder, put there by ``-m``: a socket.py in it would be imported

import _signal  # type: ignore[import-not-found]  # in C: ``signal`` builds enums, and Ctrl-C may come meanwhile
import os

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


# A garbage collection every 700 objects takes 2 ms of a start, and half the time of a burst of clients. There is little
# to collect: the objects of a client leave no cycles (tests/services/test_circles.py).
_COLLECT_AFTER = 50_000  # objects


def main() -> int:
    """Run netkit and return its exit code."""
    import gc

    gc.set_threshold(_COLLECT_AFTER)
    code = _run()
    if sys.flags.inspect:  # -i and PYTHONINSPECT would show an exit as a traceback
        os._exit(code)
    return code


def _run() -> int:
    _fill_standard_descriptors()
    if sys.argv[1:2] == ["--version"]:
        from netkit import __version__

        return _print_version(f"netkit {__version__}\n".encode())
    if os.getpid() == 1:
        from netkit.core.init import supervise

        supervise()
    from netkit.cli.app import run

    return run(sys.argv[1:])


def script() -> None:
    """Run netkit as a program, and end the process.

    By then all output is written and temporary files are removed. So the interpreter's own shutdown is skipped, which
    takes 5 to 8 ms once click is loaded. With NETKIT_ATEXIT it is not skipped, for coverage and profilers.
    """
    code = main()
    if os.environ.get("NETKIT_ATEXIT"):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()  # netkit does not use it, but a library may
        except OSError:
            pass
    os._exit(code)


def _fill_standard_descriptors() -> None:
    """Open /dev/null for each of 0, 1 and 2 that is closed; otherwise the first socket would get its number.

    A closed stdin then is empty. All are opened for reading, so a write to a closed stdout is an error.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest number free, which is fd


def _print_version(line: bytes) -> int:
    try:
        os.write(1, line)
    except OSError as error:
        from netkit.cli.run import conclude
        from netkit.core.errors import Exit, Failure

        return conclude(Failure(Exit.WRITE, "write to stdout", error))
    return 0


if __name__ == "__main__":
    script()
