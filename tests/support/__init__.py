"""Helpers for tests: netkit as a process, peers in threads, and waiting without sleeps.

The most used names are here; the others are in the modules.
"""

from tests.support.forkserver import NETKIT
from tests.support.peers import Peer, exchange, free_port, jam, peer, read_all, reset
from tests.support.processes import PATIENCE, Finished, Running, cpu_seconds, died_by, netkit, running

__all__ = [
    "NETKIT",
    "PATIENCE",
    "Finished",
    "Peer",
    "Running",
    "cpu_seconds",
    "died_by",
    "exchange",
    "free_port",
    "jam",
    "netkit",
    "peer",
    "read_all",
    "reset",
    "running",
]
