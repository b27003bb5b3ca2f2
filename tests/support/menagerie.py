"""A program that has sockets of every kind open, and a name with an escape sequence, for tests of ``sockets``.

It reads a JSON list of commands from stdin, runs them one after the other while its sockets are open, and writes a JSON
object: ``pids`` of itself and of a child that shares its sockets, how many it ``opened``, and the ``outputs``.

With the argument ``churn`` there is no child. Threads open and close sockets until the empty command of the list, and
the sockets open at that time are kept.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from typing import Any

NAME = b"evil\x1b[31m\nname"
FORGED = b"0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/root.sock"
_PR_SET_NAME = 15  # prctl(2)
_SIOCOUTQ, _FIN_WAIT_1 = 0x5411, 4  # linux/sockios.h, linux/tcp.h
_THREADS, _EACH = 2, 500


def opened(folder: str) -> list[socket.socket]:
    """Return sockets of every protocol, family and type, in many states; unix sockets are in ``folder``."""
    made: list[socket.socket] = []

    def add(kind: int, address: Any, *, listens: bool = False, family: int = socket.AF_INET) -> socket.socket:
        sock = socket.socket(family, kind)
        made.append(sock)
        sock.bind(address)
        if listens:
            sock.listen(7)
        return sock

    def join(server: socket.socket, family: int, address: Any = None) -> socket.socket:
        client = socket.socket(family, server.type)
        made.append(client)
        client.connect(address or server.getsockname())
        return client

    four = add(socket.SOCK_STREAM, ("127.0.0.1", 0), listens=True)
    full = join(four, socket.AF_INET)
    server, _ = four.accept()
    made.append(server)
    full.send(b"hello")
    half = join(four, socket.AF_INET)
    half.shutdown(socket.SHUT_WR)
    made.append(four.accept()[0])
    waiting = join(four, socket.AF_INET)
    waiting.send(b"not accepted")
    six = add(socket.SOCK_STREAM, ("::", 0), listens=True, family=socket.AF_INET6)
    port = six.getsockname()[1]
    join(six, socket.AF_INET, ("127.0.0.1", port))
    made.append(six.accept()[0])
    join(six, socket.AF_INET6, ("::1", port))
    made.append(six.accept()[0])
    udp = add(socket.SOCK_DGRAM, ("127.0.0.1", 0))
    join(udp, socket.AF_INET)
    add(socket.SOCK_DGRAM, ("::1", 0), family=socket.AF_INET6)
    stream = add(socket.SOCK_STREAM, f"{folder}/a b", listens=True, family=socket.AF_UNIX)
    join(stream, socket.AF_UNIX)
    made.append(stream.accept()[0])
    add(socket.SOCK_DGRAM, b"\0abstract\0\x1b[31m", family=socket.AF_UNIX)
    add(socket.SOCK_SEQPACKET, b"\0packets", listens=True, family=socket.AF_UNIX)
    os.chdir(folder)
    add(socket.SOCK_STREAM, b"x\n" + FORGED.replace(b"/", b":"), family=socket.AF_UNIX)
    made += socket.socketpair()
    for client in (full, half, waiting):
        _settle(client)
    return made


def _settle(sock: socket.socket) -> None:
    """Wait until the peer's kernel has acknowledged everything, also our FIN: an ACK may be delayed by 40 ms."""
    while (
        fcntl.ioctl(sock, _SIOCOUTQ, bytes(4)) != bytes(4)
        or sock.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 1)[0] == _FIN_WAIT_1
    ):
        os.sched_yield()


def churn(stop: threading.Event) -> list[socket.socket]:
    """Open and close sockets until ``stop`` is set, and return those that are open then."""
    last: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        while True:
            for number in range(_EACH // 5):
                client = socket.create_connection(server.getsockname())
                served, _ = server.accept()
                if number % 25:  # closed by RST, so that no TIME_WAIT is left
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                other.bind(("127.0.0.1", 0))
                last += [client, served, other, *socket.socketpair()]
            if stop.is_set():
                return last
            while last:
                last.pop(0).close()


def main() -> None:
    """Run the program; see the top of this file."""
    folder, *how = sys.argv[1:]
    commands = json.load(sys.stdin)
    ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME, 0, 0, 0)
    made = opened(folder)
    kept: list[socket.socket] = []
    stop = threading.Event()
    threads = [threading.Thread(target=lambda: kept.extend(churn(stop))) for _ in range(_THREADS if how else 0)]
    for thread in threads:
        thread.start()
    alive, end = os.pipe()
    child = 0
    if not how:
        child = os.fork()
        if not child:
            os.close(end)
            os.read(alive, 1)
            os._exit(0)
    outputs = []
    for command in commands:
        if not command:
            stop.set()
            for thread in threads:
                thread.join()
            continue
        done = subprocess.run(command, capture_output=True, close_fds=True)
        outputs.append([done.returncode, done.stdout.decode(), done.stderr.decode()])
    os.close(end)
    if child:
        os.waitpid(child, 0)
    print(json.dumps({"pids": [os.getpid(), child], "opened": len(made) + len(kept), "outputs": outputs}))
    for sock in made + kept:
        sock.close()


if __name__ == "__main__":
    main()
