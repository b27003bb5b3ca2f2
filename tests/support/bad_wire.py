"""A link between two network namespaces that randomly delays, loses, duplicates, reorders and corrupts packets.

Run ``python -m tests.support.bad_wire PID`` in one namespace; PID is a process in the other. It makes an interface
``bad`` in each, prints "ready", and forwards packets until its stdin ends. Then it prints its counts as JSON.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

_TUNSETIFF, _TUN, _NO_HEADER = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_DELAY = 0.004, 0.002  # s, plus or minus
_LOST = _DOUBLED = 0.03
_EARLY = 0.10  # have no delay, so they overtake others
_CORRUPTED = 0.01
_ADDRESSES = "10.9.1.1", "10.9.1.2"


def _interface(address: str) -> int:
    """Make the interface in this process's namespace; return the descriptor to read and write its packets."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", b"bad", _TUN | _NO_HEADER))
    environment = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}
    for words in (f"address add {address}/24 dev bad", "link set bad up"):
        subprocess.run(["ip", *words.split()], check=True, env=environment)
    return fd


def _enter(pid: str) -> None:
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(fd)


def main(pid: str) -> None:
    """Forward packets until stdin ends."""
    near = _interface(_ADDRESSES[0])
    _enter(pid)
    far = _interface(_ADDRESSES[1])
    print("ready", flush=True)
    chance = random.Random(1)
    done = dict.fromkeys(("carried", "lost", "doubled", "early", "corrupted"), 0)
    waiting: list[tuple[float, int, int, bytes]] = []

    def happens(name: str, part: float) -> bool:
        yes = chance.random() < part
        done[name] += yes
        return yes

    while True:
        pause = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        ready, _, _ = select.select([near, far, sys.stdin], [], [], pause)
        if sys.stdin in ready:
            break
        for source in ready:
            packet = os.read(source, 65536)
            if happens("lost", _LOST):
                continue
            if happens("corrupted", _CORRUPTED):
                place = chance.randrange(len(packet))
                packet = packet[:place] + bytes([packet[place] ^ 1]) + packet[place + 1 :]
            delay, spread = _DELAY
            wait = 0.0 if happens("early", _EARLY) else delay + chance.uniform(-spread, spread)
            for _ in range(2 if happens("doubled", _DOUBLED) else 1):
                done["carried"] += 1
                entry = time.monotonic() + wait, done["carried"], far if source == near else near, packet
                heapq.heappush(waiting, entry)
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, sink, packet = heapq.heappop(waiting)
            os.write(sink, packet)
    print(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1])
