"""How datagrams are shown: as raw bytes, lines, hex or JSON."""

import socket

from netkit.core.udp import Burst, Datagram, Peer, cut
from netkit.services.udp.framing import Show


def shown(output: str, command: str) -> Show:
    """Return how datagrams are shown: not at all, as raw bytes, lines, hex or json, as events of ``command``."""
    shows: dict[str, Show] = {"none": not_shown, "raw": shown_raw, "lines": shown_as_lines, "hex": shown_in_hex}
    return shows[output] if output in shows else shown_in_json(command)


def not_shown(sock: Datagram, burst: Burst) -> bytes:
    """Return nothing."""
    return b""


def shown_raw(sock: Datagram, burst: Burst) -> bytes:
    """Return the bytes alone."""
    return burst.data


def shown_as_lines(sock: Datagram, burst: Burst) -> bytes:
    """Return each datagram as a line, or as the lines that it is."""
    return b"".join(data if data.endswith(b"\n") else data + b"\n" for data in cut(burst.data, burst.size))


def shown_in_hex(sock: Datagram, burst: Burst) -> bytes:
    """Return each datagram as a line of hex digits."""
    return b"".join(data.hex().encode() + b"\n" for data in cut(burst.data, burst.size))


def shown_in_json(command: str) -> Show:
    """Return each datagram as an event of ``command``, with where it came from and where it went to."""
    from netkit.output.jsonl import octets, record

    def show(sock: Datagram, burst: Burst) -> bytes:
        ends = {
            "peer_address": burst.peer.endpoint.host,
            "peer_port": burst.peer.endpoint.port,
            "local_address": _asked(sock, burst.peer),
            "local_port": sock.local.port,
            "protocol": "udp",
        }
        lines = [
            record("datagram", command, **ends, bytes_received=len(data), **octets(data))
            for data in cut(burst.data, burst.size)
        ]
        return ("\n".join(lines) + "\n").encode()

    return show


def _asked(sock: Datagram, peer: Peer) -> str | None:
    if not peer.local:
        return sock.local.host
    return socket.inet_ntop(socket.AF_INET if len(peer.local) == 4 else socket.AF_INET6, peer.local)
