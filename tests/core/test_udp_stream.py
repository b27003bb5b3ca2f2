"""Datagrams as connections: what a server keeps of them until it is read."""

import errno
import socket
from pathlib import Path

import pytest

from netkit.core import kernel
from netkit.core.address import Endpoint
from netkit.core.events import ignore
from netkit.core.kernel import Group
from netkit.core.udp import LARGEST_UNIX
from netkit.core.udp_server import bind
from netkit.core.udp_stream import DatagramListener


def test_the_largest_datagram_of_a_unix_socket_is_kept(tmp_path: Path) -> None:
    """If nothing else waits, a datagram is kept although it alone reaches the limit of what may wait."""

    async def main() -> None:
        listener = DatagramListener(await bind(Endpoint(path=f"{tmp_path}/s")), ignore)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST_UNIX)
            try:
                client.sendto(bytes(LARGEST_UNIX), f"{tmp_path}/s")
            except OSError as error:
                listener.close()
                assert error.errno == errno.EMSGSIZE
                pytest.skip("net.core.wmem_max allows no datagram of 1 MiB")
        async with Group() as group:
            group.start_soon(listener.run())
            await listener.ready(listener.sockets[0])
            stream = await listener.accept(listener.sockets[0], ignore)
            assert stream is not None
            listener.close()
            assert len(await stream.recv()) == LARGEST_UNIX
            stream.close()

    kernel.run(main())
