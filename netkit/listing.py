"""How sockets are listed: columns, JSON or, on a terminal, a table. Foreign text is printable ASCII."""

from collections.abc import Callable, Sequence

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group, sleep, turn
from netkit.core.record import record
from netkit.core.sockdiag import LISTEN, Socket
from netkit.core.stream import FileStream
from netkit.options import View
from netkit.services.answers import Put, answering
from netkit.services.sockets import Owned, Wanted, any_of, is_listening, listing
from netkit.shell import draws, printable

HEADS = ("PROTO", "RECV", "SEND", "LOCAL", "PEER", "STATE", "USER", "PROCESS")
RIGHT = ("RECV", "SEND")
STATE = HEADS.index("STATE")
_KINDS = {"stream": "u_str", "dgram": "u_dgr", "seqpacket": "u_seq"}  # as ss has them
_LISTENING = "\x1b[32m"  # SGR: ECMA-48
_PLAIN = "\x1b[m"
_NONE, _STDOUT = -1, 1


def check(wanted: Wanted) -> None:
    """Raise Failure: NOTHING if there is no such socket, READ."""
    if not any_of(wanted):
        raise _nothing()


async def tell(wanted: Wanted, view: View, *, json: bool) -> None:
    """Write the sockets to stdout; raise Failure: NOTHING if there is none, READ, WRITE."""

    async def work(put: Put) -> None:
        found = listing(wanted)
        if not found:
            raise _nothing()
        if json or not draws(_STDOUT):
            put(_text(found, view, json=json))
        else:
            from netkit.view import socket_tables

            for piece in socket_tables(found, coloured=view.coloured(_STDOUT)):
                put(piece)
                await turn()

    await answering(work)


def _nothing() -> Failure:
    return Failure(Exit.NOTHING, "find a socket", "none matches")


async def watch(wanted: Wanted, every: float, view: View, *, json: bool) -> None:
    """Write the sockets to stdout, or draw them on its terminal, now and then every so many seconds, without end."""
    if json or not draws(_STDOUT):
        await _repeat(lambda first: ("" if first or json else "\n") + _text(listing(wanted), view, json=json), every)
    else:
        from netkit.view import watch_sockets

        await watch_sockets(lambda: listing(wanted), every, coloured=view.coloured(_STDOUT))


async def _repeat(text: Callable[[bool], str], every: float) -> None:
    """Write what ``text(first)`` returns, again and again; raise Failure WRITE, also when nobody reads any more."""
    stdout = FileStream(_NONE, _STDOUT)
    first = True
    try:
        async with Group() as group:
            group.start(stdout.reader_left())
            while True:
                await stdout.send(text(first).encode())
                first = False
                await sleep(every)
    finally:
        stdout.close()


def cells(owned: Owned) -> tuple[str, ...]:
    """Return the texts of the columns, none of them empty."""
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
        return _unix_name(address)
    return "-" if address is None else str(Endpoint(address, port or 0))


def _unix_name(address: str) -> str:
    return "@" + address[1:] if address.startswith("\0") else address


def _holders(owned: Owned) -> str:
    if not owned.processes:
        return "-"
    first, *others = owned.processes
    return f"{first.pid}{f'+{len(others)}' if others else ''}/{first.name}"


def _text(found: Sequence[Owned], view: View, *, json: bool) -> str:
    if json:
        return "".join(_json(owned) for owned in found)
    return _columns(found, coloured=view.color == "always")


def _columns(found: Sequence[Owned], *, coloured: bool) -> str:
    """Return a line with the names of the columns and one for each socket, cells without spaces between spaces."""
    rows = [HEADS, *(tuple(cell.replace(" ", "\\x20") for cell in cells(owned)) for owned in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for number, row in enumerate(rows):
        padded = [
            cell.rjust(width) if head in RIGHT else cell.ljust(width)
            for cell, width, head in zip(row, widths, HEADS, strict=True)
        ]
        padded[-1] = row[-1]
        if coloured and number and is_listening(found[number - 1].socket):
            padded[STATE] = f"{_LISTENING}{row[STATE]}{_PLAIN}{padded[STATE][len(row[STATE]) :]}"
        lines.append("  ".join(padded) + "\n")
    return "".join(lines)


def _json(owned: Owned) -> str:
    one = owned.socket
    first = owned.processes[0] if owned.processes else None
    unix = one.protocol == "unix"
    queues = (
        ("accept_queue", "accept_queue_max") if one.state == LISTEN else ("receive_queue_bytes", "send_queue_bytes")
    )
    fields = {
        "protocol": one.protocol,
        "family": one.family,
        "type": one.kind,
        "local_address": one.local if one.local is None or not unix else f"unix:{_unix_name(one.local)}",
        "local_port": one.local_port,
        "peer_address": one.peer if one.peer is None or not unix else f"unix:{_unix_name(one.peer)}",
        "peer_port": one.peer_port,
        "state": one.state,
        queues[0]: one.receive_queue,
        queues[1]: one.send_queue,
        "user": owned.user,
        "uid": one.uid,
        "pid": first and first.pid,
        "process": first and first.name,
        "processes": [process._asdict() for process in owned.processes] or None,
        "inode": one.inode or None,
        "peer_inode": one.peer_inode or None,
    }
    return record("socket", "sockets", **fields) + "\n"
