"""Namespaces for tests: networks, mounts and process ids."""

import contextlib
import functools
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.processes import tool

# A script for ``separate``: loopback, with a firewall that drops and rejects.
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
    """The words that run a command as root in new mount and ``network`` namespaces, after lines of shell.

    The test is skipped if that is not allowed, or if ip or nft is missing that the lines run.
    """
    unshare = [tool("unshare"), "-rnm" if network else "-rm"]
    for word in ("ip", "nft"):
        if any(word in line.split() for line in script):
            tool(word)
    if not _may(*unshare):
        pytest.skip("namespaces are not allowed here")
    return [*unshare, "sh", "-ec", "\n".join(["PATH=$PATH:/usr/sbin:/sbin", *script, 'exec "$@"']), "sh"]


def as_process_1() -> list[str]:
    """The words that run a command as process 1 of a new namespace. The test is skipped if that is not allowed."""
    unshare = [tool("unshare"), "-rpf", "--mount-proc"]
    if not _may(*unshare):
        pytest.skip("namespaces are not allowed here")
    return unshare


@functools.cache
def _may(*unshare: str) -> bool:
    return subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0


class Network:
    """The network namespace of the process ``pid``; ``inside`` are the words that run a command in it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.inside = ["nsenter", f"--target={pid}", "--user", "--net", "--preserve-credentials"]

    def do(self, script: str) -> str:
        """Run lines of shell in it, and return their output."""
        lines = "PATH=$PATH:/usr/sbin:/sbin\n" + script
        return subprocess.run([*self.inside, "sh", "-ec", lines], check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def network(*script: str, beside: Network | None = None) -> Iterator[Network]:
    """A new network namespace, set up by lines of shell. It shares its user namespace with ``beside``."""
    tool("nsenter")
    words = separate("ip link set lo up", *script)
    if beside is not None:
        words = [*beside.inside, words[0], "-n", *words[2:]]
    with subprocess.Popen(
        [*words, "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline(), "the network could not be set up"
        yield Network(holder.pid)
        holder.stdin.close()


NEAR, FAR = "10.9.0.1", "10.9.0.2"


@contextlib.contextmanager
def wire() -> Iterator[tuple[Network, Network]]:
    """Two networks joined by a veth pair; both interfaces are named ``wire``, with the addresses NEAR and FAR."""
    with network() as near, network(beside=near) as far:
        near.do(f"ip link add wire type veth peer name wire netns {far.pid}")
        for end, address in ((near, NEAR), (far, FAR)):
            end.do(f"ip address add {address}/24 dev wire; ip link set wire up")
        yield near, far
