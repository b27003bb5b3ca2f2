"""The cells of a listing of sockets. Foreign text is printable ASCII."""

from netkit.core.address import Endpoint
from netkit.core.sockdiag import Socket
from netkit.output.escape import printable
from netkit.services.sockets import Owned

HEADS = ("PROTO", "RECV", "SEND", "LOCAL", "PEER", "STATE", "USER", "PROCESS")
RIGHT = ("RECV", "SEND")
STATE = HEADS.index("STATE")
_KINDS = {"stream": "u_str", "dgram": "u_dgr", "seqpacket": "u_seq"}  # as ss names them


def cells(owned: Owned) -> tuple[str, ...]:
    """The text of each column, never empty."""
    one = owned.socket
    queues = ("-" if number is None else str(number) for number in (one.receive_queue, one.send_queue))
    texts = (
        one.protocol if one.kind is None else _KINDS.get(one.kind, one.protocol),
        *queues,
        _end(one, one.local, one.local_port, one.inode),
        _end(one, one.peer, one.peer_port, one.peer_inode),
        one.state,
        owned.user or "-",
        _holders(owned),
    )
    return tuple(map(printable, texts))


def _end(one: Socket, address: str | None, port: int | None, inode: int | None) -> str:
    if one.protocol == "unix":
        if address is None:
            return f"inode:{inode}" if inode else "-"
        return unix_name(address)
    return "-" if address is None else str(Endpoint(address, port or 0))


def unix_name(address: str) -> str:
    """The name of a unix socket; @NAME if it is abstract."""
    return "@" + address[1:] if address.startswith("\0") else address


def _holders(owned: Owned) -> str:
    if not owned.processes:
        return "-"
    first, *others = owned.processes
    return f"{first.pid}{f'+{len(others)}' if others else ''}/{first.name}"
