"""Networks and file systems of a test's own."""

import functools
import shutil
import subprocess

import pytest

from tests.support.partners import tool
from tests.support.processes import PATIENCE

LOOPBACK = "ip link set lo up"


# A network of its own in which a firewall drops, refuses and rejects; then netkit.
FIREWALL = """
ip link set lo up
nft -f - <<'END'
table inet firewall {
  chain input {
    type filter hook input priority 0;
    tcp dport 1000-1999 drop
    udp dport 1000-1999 drop
    tcp dport 2001 reject with icmpx type admin-prohibited
    tcp dport 2002 reject with tcp reset
  }
}
END
"""


_UNSHARE = ("unshare", "--map-root-user", "--net", "--mount")


def _have_namespaces() -> bool:
    if not shutil.which("unshare"):
        return False
    return not subprocess.run([*_UNSHARE, "ip", "link"], capture_output=True, timeout=PATIENCE).returncode


needs_namespaces = pytest.mark.skipif(not _have_namespaces(), reason="this system lets us make no network namespace")


def namespace(*setup: str) -> tuple[str, ...]:
    """Return a wrapper that runs netkit in a network of its own, after these lines of shell."""
    return (*_UNSHARE, "sh", "-ec", "\n".join([*setup, 'exec "$@"']), "sh")


@functools.cache
def _may_separate() -> bool:
    return subprocess.run(["unshare", "-rnm", "true"], capture_output=True).returncode == 0


def separate(script: str) -> list[str]:
    """Return what runs a command in a network and a view of files of its own, after ``script``; skip without them."""
    tool("unshare")
    if not _may_separate():
        pytest.skip("namespaces are not allowed here")
    path = f"PATH=$PATH:/usr/sbin:/sbin\n{script}\n"
    return ["unshare", "-rnm", "sh", "-ec", path + 'exec "$@"', "sh"]
