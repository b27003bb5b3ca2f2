"""``python -m tests.fuzz [SECONDS] [TARGET...]`` fuzzes each target (default: all) for SECONDS (default: 60).

If atheris is installed, coverage of netkit and its libraries guides the choice of bytes, otherwise it is random.
Exits 1 and prints the bytes if a target fails, takes more than a second, or more than ``_MAX_MEMORY``.
"""

import importlib.util
import io
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

_MAX_MEMORY = 400  # MiB of the process, of which the libraries and their instrumentation take about 150
_MAX_SECONDS = 1.0  # CPU time for one input without atheris; libFuzzer counts whole seconds, so it gets two
_GUIDED = importlib.util.find_spec("atheris") is not None


def main(arguments: list[str]) -> int:
    """Run the targets one after another, each in its own process."""
    seconds = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 60
    if _GUIDED:
        import atheris

        libraries = ["netkit", "h11", "dns", "idna"]
        with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=libraries):  # it prints each module
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS
    if unknown := set(arguments) - TARGETS.keys():
        sys.exit(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    failed = 0
    for name in arguments or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            child = os.fork()
            if not child:
                try:
                    _alone(TARGETS[name].run, TARGETS[name].seeds, seconds, Path(folder))
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            _, status = os.waitpid(child, 0)
            failed += status != 0
            _report(name, status, Path(folder))
    return int(failed > 0)


def _alone(run: Callable[[bytes], object], seeds: tuple[bytes, ...], seconds: int, folder: Path) -> None:
    """Fuzz one target in this process, and exit, with 0 if nothing was found."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if not _GUIDED:
        os._exit(_by_chance(run, seeds, seconds, folder))
    import atheris

    def keeping(data: bytes) -> None:
        try:
            run(data)
        except BaseException:
            (folder / "found-by-coverage").write_bytes(data)
            raise

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    limits = ["-timeout=2", f"-rss_limit_mb={_MAX_MEMORY}", "-max_len=2048", f"-max_total_time={seconds}"]
    options = [f"-artifact_prefix={folder}/found-", "-print_final_stats=1", *limits]
    atheris.Setup([sys.argv[0], str(corpus), *options], keeping)
    atheris.Fuzz()  # does not return


def _by_chance(run: Callable[[bytes], object], seeds: tuple[bytes, ...], seconds: int, folder: Path) -> int:
    from tests.fuzz.mutations import mutated

    def too_long(*_: object) -> None:
        raise TimeoutError(f"took more than {_MAX_SECONDS} s")

    signal.signal(signal.SIGPROF, too_long)
    chance = random.Random()
    corpus = list(seeds)
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        data = mutated(corpus, chance)
        signal.setitimer(signal.ITIMER_PROF, _MAX_SECONDS)
        try:
            run(data)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < _MAX_MEMORY * 1024, "too much memory"
        except BaseException:
            signal.setitimer(signal.ITIMER_PROF, 0)
            (folder / "found-by-chance").write_bytes(data)
            traceback.print_exc()
            return 1
        signal.setitimer(signal.ITIMER_PROF, 0)
        number += 1
        if chance.random() < 0.001 and len(data) < 2048:
            corpus.append(data)
    os.write(1, b"stat::number_of_executed_units: %d\n" % number)
    return 0


def _report(name: str, status: int, folder: Path) -> None:
    log = (folder / "log").read_text(errors="backslashreplace")
    count = re.search(r"stat::number_of_executed_units: *(\d+)", log)
    print(f"{name:16} {count[1] if count else '?':>9} inputs  {'FAILED' if status else 'nothing found'}", flush=True)
    if not status:
        return
    for found in folder.glob("found-*"):
        print(f"  {found.read_bytes()!r}")
    trace = re.findall(r"Traceback.*?\n(?=\S*Error|\S*Exception|=|$).*", log, re.DOTALL)
    print("\n".join(f"  {line}" for line in (trace[-1] if trace else log).splitlines()[-25:]), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
