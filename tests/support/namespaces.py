"""Networks and file systems of a test's own."""

import functools
import subprocess

import pytest

from tests.support.processes import tool

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


def separate(*script: str, network: bool = True) -> list[str]:
    """What runs a command in a view of files, and a ``network``, of its own, as its root, after lines of shell.

    The test is skipped where that is not allowed, or what the lines run is not installed.
    """
    unshare = [tool("unshare"), "-rnm" if network else "-rm"]
    for word in ("ip", "nft"):
        if any(word in line.split() for line in script):
            tool(word)
    if not _may(*unshare):
        pytest.skip("namespaces are not allowed here")
    return [*unshare, "sh", "-ec", "\n".join(["PATH=$PATH:/usr/sbin:/sbin", *script, 'exec "$@"']), "sh"]


def as_process_1() -> list[str]:
    """What runs a command as process 1 of a namespace of its own. The test is skipped where that is not allowed."""
    unshare = [tool("unshare"), "-rpf", "--mount-proc"]
    if not _may(*unshare):
        pytest.skip("namespaces are not allowed here")
    return unshare


@functools.cache
def _may(*unshare: str) -> bool:
    return subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
