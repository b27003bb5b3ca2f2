"""The last acknowledgement of a connection closes the socket if both sides have ended, and is no reset."""

import socket
from collections.abc import Callable

from netkit.core.socket_stream import SocketStream
from tests.clock import run
from tests.support import read_all

CLOSE = 7  # net/tcp_states.h


class Interleaved(SocketStream):
    """A stream that calls ``then`` right after ``unacknowledged``."""

    then: Callable[[], None] | None = None

    def unacknowledged(self) -> int:
        count = super().unacknowledged()
        then, self.then = self.then, None
        if then is not None:
            then()
        return count


def test_the_last_acknowledgement_amid_a_check_is_no_reset() -> None:
    """If the peer, which ended first, acknowledges our last bytes during ``raise_if_reset``, that is no reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listener.getsockname())
        ours, _ = listener.accept()
        peer.shutdown(socket.SHUT_WR)

        def take_all() -> None:
            read_all(peer)
            while ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != CLOSE:
                pass

        async def main() -> None:
            stream = Interleaved(ours, "peer")
            try:
                assert await stream.recv() == b""
                stream.counts.add_sent(ours.send(bytes(1_000_000)))  # more than the peer can buffer
                await stream.send_eof()
                assert stream.unacknowledged()
                stream.then = take_all
                stream.raise_if_reset()
            finally:
                stream.close()

        run(main())
