"""Datagrams over loopback, sent as fast as possible, compared with iperf3 and socat."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.benchmarks.data import fitting, zeros
from tests.benchmarks.measure import NETKIT, Figures, Scale, Work, available, compare, start
from tests.support.partners import await_listener
from tests.support.peers import free_port

SIZES = (64, 1_400)
SECONDS = 2  # for which iperf3 sends
SHARE = {64: 16, 1_400: 4}  # netkit sends this fraction of the bulk data, which takes about a second
SOCAT_BYTES = {64: 8 << 20, 1_400: 128 << 20}


def _figures(sent: int, arrived: int, seconds: float, size: int) -> Figures:
    return {
        "datagrams/s": arrived / seconds,
        "MB/s": arrived * size / seconds / 1e6,
        "lost %": 100 * (1 - arrived / sent) if sent else 0,
    }


def netkit(size: int, scale: Scale) -> Figures:
    """Measure ``udp-send --size`` of a file to ``udp-serve --output none``."""
    server = start(
        [*NETKIT, "udp-serve", "127.0.0.1:0", "--output", "none", "--stats", "--print-port", "-q"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    argv = [*NETKIT, "udp-send", f"127.0.0.1:{port}", "--size", str(size), "--stats", "-q"]
    with zeros(fitting(scale.bulk) // SHARE[size]) as data:
        data.seek(0)
        since = time.perf_counter()
        sender = subprocess.run(argv, stdin=data, stderr=subprocess.PIPE, check=True)
        seconds = time.perf_counter() - since
    server.terminate()
    told, heard = json.loads(sender.stderr), json.loads(server.communicate()[1].splitlines()[-1])
    return _figures(told["datagrams_sent"], heard["datagrams_received"], seconds, size)


def iperf3(size: int, scale: Scale) -> Figures:
    """Return the results of ``iperf3 -u -b 0``."""
    port = str(free_port())
    server = start(["iperf3", "-s", "-1", "-p", port], stdout=subprocess.DEVNULL)
    await_listener(f"tcp:{port}", server)
    argv = ["iperf3", "-u", "-b", "0", "-l", str(size), "-t", str(SECONDS), "-c", "127.0.0.1", "-p", port, "-J"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    server.wait()
    total = json.loads(done.stdout)["end"]["sum"]
    return _figures(total["packets"], total["packets"] - total["lost_packets"], total["seconds"], size)


def socat(size: int, scale: Scale) -> Figures:
    """Measure socat on both sides."""
    port, number = free_port(), SOCAT_BYTES[size] // size
    receiver = start(["socat", "-u", "-b", "65536", f"UDP-RECV:{port},bind=127.0.0.1", "-"], stdout=subprocess.PIPE)
    await_listener(f"udp:{port}", receiver)
    counter = start(["wc", "-c"], stdin=receiver.stdout, stdout=subprocess.PIPE)
    feed = start(["head", "-c", str(number * size), "/dev/zero"], stdout=subprocess.PIPE)
    since = time.perf_counter()
    subprocess.run(["socat", "-u", "-b", str(size), "-", f"UDP-SENDTO:127.0.0.1:{port}"], stdin=feed.stdout, check=True)
    seconds = time.perf_counter() - since
    receiver.terminate()
    receiver.wait()
    return _figures(number, int(counter.communicate()[0]) // size, seconds, size)


def measure(scale: Scale) -> Iterator[Work]:
    """Measure small datagrams, and ones of about the MTU of Ethernet."""
    tools: dict[str, Callable[[int, Scale], Figures]] = {"netkit": netkit, "iperf3": iperf3, "socat": socat}
    for size in SIZES:
        runs = {tool: partial(tools[tool], size, scale) for tool in available(tools)}
        yield compare(f"datagrams of {size:,} bytes", scale.rounds, runs, more=True)
