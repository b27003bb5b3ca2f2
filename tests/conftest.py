"""What every test can rely on: how it is run, its level, and certificates."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support import levels
from tests.support.certificates import Pki

# In the background of a shell SIGINT is ignored, and under nohup SIGHUP. What is ignored stays so: our processes must
# not inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The tests start netkit hundreds of times; without its compiled modules each start would compile them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The certificates, made once."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark each test with its level."""
    for item in items:
        item.add_marker(levels.level_of(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Function) -> Iterator[None]:
    """Hold each test to its level."""
    levels.enforce(next(mark.name for mark in item.iter_markers() if mark.name in levels.LEVELS))
    try:
        return (yield)
    finally:
        levels.enforce(levels.LEVELS[-1])
