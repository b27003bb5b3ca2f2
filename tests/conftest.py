"""Settings, hooks and fixtures for all tests: signals, environment, levels, IPv6 and certificates."""

import functools
import gc
import os
import signal
import socket

import hypothesis
import pytest

from tests.support import levels
from tests.support.certificates import Pki

# In the background of a shell SIGINT is ignored, and under nohup SIGHUP. The processes of tests would inherit that, so
# handle both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The proxies of this machine must not be used by tests.
for _name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.upper(), None)

# The tests start netkit hundreds of times. With this variable set, each start would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Property tests have no time limit, as other load on the machine would make them fail. No examples are kept.
for _profile, _examples in (("netkit", 100), ("quick", 10)):
    hypothesis.settings.register_profile(
        _profile,
        deadline=None,
        database=None,
        max_examples=_examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("netkit")


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The certificates, made once per session."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark each test with its level."""
    for item in items:
        item.add_marker(levels.level_of(item))


def pytest_collection_finish() -> None:
    """Exclude the thousands of test objects from garbage collection: they live to the end."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Function) -> None:
    """Enforce the level of each test, and skip tests of IPv6 where there is none."""
    if _is_of_ipv6(item) and not _has_ipv6():
        pytest.skip("IPv6 is switched off here")
    levels.enforce(levels.level_of(item))


def _is_of_ipv6(item: pytest.Function) -> bool:
    """Whether a test is marked ``ipv6``, or has the parameter ``::1``."""
    rows = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return item.get_closest_marker("ipv6") is not None or "::1" in [row for row in rows if isinstance(row, str)]


@functools.cache
def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def pytest_runtest_logfinish() -> None:
    """Lift the restrictions of the level after each test."""
    levels.enforce(levels.LEVELS[-1])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Twice as many workers as processors: they mostly wait for processes and timers."""
    return 2 * (os.cpu_count() or 1)
