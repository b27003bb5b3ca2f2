"""How datagrams are shown: as raw bytes, lines, hex or JSON."""

from netkit.core.udp import Burst, Datagram, cut
from netkit.services.udp.formatter import Formatter

_FORMS: dict[str, Formatter] = {
    "none": lambda sock, burst: b"",
    "raw": lambda sock, burst: burst.data,
    "lines": lambda sock, burst: b"".join(_ended(data) for data in cut(burst.data, burst.size)),
    "hex": lambda sock, burst: b"".join(data.hex().encode() + b"\n" for data in cut(burst.data, burst.size)),
}


def _ended(data: bytes) -> bytes:
    """The datagram, with a newline added if it lacks one."""
    return data if data.endswith(b"\n") else data + b"\n"


def shown(output: str, command: str) -> Formatter:
    """The formatter for ``output``: none, raw, lines, hex, or json, which are events of ``command``."""
    if output == "json":
        return _as_json(command)
    return _FORMS[output]


def _as_json(command: str) -> Formatter:
    """Each datagram as an event of ``command``, with its source and destination."""
    from netkit.output.jsonl import ends_of, octets, record

    def show(sock: Datagram, burst: Burst) -> bytes:
        ends = ends_of("udp", peer=burst.peer.endpoint, local=sock.reached_by(burst.peer))
        datagrams = cut(burst.data, burst.size)
        lines = [record("datagram", command, **ends, bytes_received=len(data), **octets(data)) for data in datagrams]
        return ("\n".join(lines) + "\n").encode()

    return show
