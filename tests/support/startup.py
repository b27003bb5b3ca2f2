"""The modules that a fresh interpreter loads to run netkit."""

import functools
import subprocess
import sys

HEAVY = {"rich", "asyncio", "ssl", "logging", "json", "importlib.metadata", "subprocess", "concurrent.futures"}


# Runs netkit with sys.argv and then prints the loaded modules to stderr.
DRIVER = """
import sys
from netkit.__main__ import main
code = main()
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""


def loaded(*args: str, stdin: bytes = b"") -> tuple[int, bytes, set[str]]:
    """Run netkit in a fresh interpreter; return exit code, stdout and the modules it loaded."""
    done = subprocess.run([sys.executable, "-c", DRIVER, *args], input=stdin, capture_output=True, timeout=20)
    return done.returncode, done.stdout, set(done.stderr.decode().splitlines()[-1].split())


@functools.cache
def of_click() -> set[str]:
    """The modules that an interpreter has loaded after ``import click``."""
    argv = [sys.executable, "-c", "import sys, click; print(*sys.modules)"]
    return set(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout.split())
