"""Datagrams over loopback as fast as they can be sent, beside iperf3, socat and a bare loop of sendto."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.benchmarks.bulk import await_listener, free_port
from tests.benchmarks.measure import NETKIT, available, show, start

SIZES = (64, 1_400)
SECONDS = 2
ROUNDS = 3
BYTES = {64: 8 << 20, 1_400: 128 << 20}  # for socat, which cannot be told how long

SENDER = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
target, data, sent = ("127.0.0.1", int(sys.argv[1])), bytes(int(sys.argv[2])), 0
end = time.perf_counter() + float(sys.argv[3])
while time.perf_counter() < end:
    for _ in range(100):
        sock.sendto(data, target)
    sent += 100
print(sent)
"""
RECEIVER = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
sock.bind(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
data, got = bytearray(65536), 0
sock.recv_into(data)
sock.settimeout(0.5)
try:
    while True:
        got += 1
        sock.recv_into(data)
except TimeoutError:
    print(got)
"""


class Rate(NamedTuple):
    """Datagrams sent and delivered, in so many seconds."""

    sent: int
    delivered: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Delivered datagrams per second."""
        return self.delivered / self.seconds


def netkit(size: int) -> Rate:
    """``udp-send --size`` to ``udp-serve --output none``."""
    server = start(
        [*NETKIT, "udp-serve", "127.0.0.1:0", "--output", "none", "--stats", "--print-port", "-q"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    argv = [*NETKIT, "udp-send", f"127.0.0.1:{port}", "--size", str(size), "--stats", "-q", "--timeout", str(SECONDS)]
    with open("/dev/zero", "rb") as zeros:
        sender = subprocess.run(argv, stdin=zeros, stderr=subprocess.PIPE)
    server.terminate()
    told, heard = json.loads(sender.stderr), json.loads(server.communicate()[1].splitlines()[-1])
    return Rate(told["datagrams_sent"], heard["datagrams_received"], told["duration_ms"] / 1000)


def iperf3(size: int) -> Rate:
    """``iperf3 -u -b 0``, as it counts itself."""
    port = free_port()
    server = start(["iperf3", "-s", "-1", "-p", port], stdout=subprocess.DEVNULL)
    await_listener(port)
    argv = ["iperf3", "-u", "-b", "0", "-l", str(size), "-t", str(SECONDS), "-c", "127.0.0.1", "-p", port, "-J"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    server.wait()
    total = json.loads(done.stdout)["end"]["sum"]
    return Rate(total["packets"], total["packets"] - total["lost_packets"], total["seconds"])


def socat(size: int) -> Rate:
    """socat on both sides, each with a buffer of its own datagram."""
    port = free_port()
    receiver = start(["socat", "-u", "-b", "65536", f"UDP-RECV:{port},bind=127.0.0.1", "-"], stdout=subprocess.PIPE)
    while f":{int(port):04X} " not in open("/proc/net/udp", encoding="ascii").read():  # noqa: SIM115
        os.sched_yield()
    counter = start(["wc", "-c"], stdin=receiver.stdout, stdout=subprocess.PIPE)
    zeros = start(["head", "-c", str(BYTES[size]), "/dev/zero"], stdout=subprocess.PIPE)
    since = time.perf_counter()
    subprocess.run(
        ["socat", "-u", "-b", str(size), "-", f"UDP-SENDTO:127.0.0.1:{port}"], stdin=zeros.stdout, check=True
    )
    seconds = time.perf_counter() - since
    zeros.wait()
    receiver.terminate()
    receiver.wait()
    return Rate(BYTES[size] // size, int(counter.communicate()[0]) // size, seconds)


def sendto(size: int) -> Rate:
    """A loop around ``socket.sendto`` in Python, and one around ``recv_into``."""
    receiver = start([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE)
    assert receiver.stdout is not None
    port = receiver.stdout.readline().decode().strip()
    argv = [sys.executable, "-c", SENDER, port, str(size), str(SECONDS)]
    sent = int(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
    return Rate(sent, int(receiver.communicate()[0]), SECONDS)


def main() -> None:
    """Measure and print."""
    tools: dict[str, Callable[[int], Rate]] = {"netkit": netkit, "iperf3": iperf3, "socat": socat, "sendto": sendto}
    names = [*available(["netkit", "iperf3", "socat"]), "sendto"]
    for size in SIZES:
        rates: dict[str, list[Rate]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            for name in names:
                rates[name].append(tools[name](size))
        medians = {name: statistics.median(rate.per_second for rate in found) for name, found in rates.items()}
        rows = []
        for name, found in rates.items():
            lost = 1 - sum(rate.delivered for rate in found) / sum(rate.sent for rate in found)
            speed = medians[name]
            ratio = f"{medians['netkit'] / speed:.1f}"
            rows.append((name, f"{speed:,.0f}", f"{speed * size / 1e6:,.0f}", f"{lost:.1%}", ratio))
        heads = ("", "delivered/s", "MB/s", "lost", "netkit is faster by")
        show(f"Datagrams of {size} bytes, medians of {ROUNDS}, interleaved", heads, rows)
