"""An echo server under 1, 50, 1,000 and 10,000 connections, 64-byte messages, beside ``socat …,fork PIPE``."""

import resource
import signal
import socket
import subprocess
import time

from tests.benchmarks.bulk import await_listener, free_port
from tests.benchmarks.measure import NETKIT, available, show, start

MESSAGES = 20_000
MESSAGE = b"x" * 64
CONNECTIONS = {"netkit": (1, 50, 1_000, 10_000), "socat": (1, 50, 1_000)}  # socat forks: 10,000 processes are too many


def rate(port: int, connections: int) -> float:
    """Return messages per second, every client sending one and waiting for all answers, round by round."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    try:
        for client in clients:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rounds = max(MESSAGES // connections, 2)
        since = time.perf_counter()
        for _ in range(rounds):
            for client in clients:
                client.sendall(MESSAGE)
            for client in clients:
                got = 0
                while got < len(MESSAGE):
                    got += len(client.recv(len(MESSAGE) - got))
        return rounds * connections / (time.perf_counter() - since)
    finally:
        for client in clients:
            client.close()


def main() -> None:
    """Measure and print."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = []
    for tool in available(CONNECTIONS):
        port = free_port()
        argv = {
            "netkit": [*NETKIT, "echo", "-q", f"127.0.0.1:{port}", "--max-conns", "20000"],
            "socat": ["socat", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=1024", "PIPE"],
        }[tool]
        server = start(argv, stdout=subprocess.DEVNULL, start_new_session=True)
        await_listener(port)
        try:
            for connections in CONNECTIONS[tool]:
                if connections + 100 < hard:
                    rows.append((tool, str(connections), f"{rate(int(port), connections):,.0f}"))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    show("Echo of 64-byte messages", ("", "connections", "messages/s"), rows)
