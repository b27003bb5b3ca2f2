"""How sockets are listed: columns, JSON or, on a terminal, a table. Foreign text is printable ASCII."""

from collections.abc import Callable, Sequence

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group, checkpoint, sleep
from netkit.core.sockdiag import LISTEN
from netkit.core.stdio import FileStream
from netkit.output.console import View, draws
from netkit.output.jsonl import record
from netkit.output.socket_rows import HEADS, RIGHT, STATE, cells, unix_name
from netkit.output.stdout import Put, answering
from netkit.services.sockets import Owned, Wanted, any_of, is_listening, listing

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
            from netkit.output.terminal.sockets import socket_tables

            for piece in socket_tables(found, coloured=view.coloured(_STDOUT)):
                put(piece)
                await checkpoint()

    await answering(work)


def _nothing() -> Failure:
    return Failure(Exit.NOTHING, "find a socket", "none matches")


async def watch(wanted: Wanted, every: float, view: View, *, json: bool) -> None:
    """Write the sockets to stdout, or draw them on its terminal, now and then every so many seconds, without end."""
    if json or not draws(_STDOUT):
        await _repeat(lambda first: ("" if first or json else "\n") + _text(listing(wanted), view, json=json), every)
    else:
        from netkit.output.terminal.sockets import watch_sockets

        await watch_sockets(lambda: listing(wanted), every, coloured=view.coloured(_STDOUT))


async def _repeat(text: Callable[[bool], str], every: float) -> None:
    """Write what ``text(first)`` returns, again and again; raise Failure WRITE, also when nobody reads any more."""
    stdout = FileStream(_NONE, _STDOUT)
    first = True
    try:
        async with Group() as group:
            group.start_soon(stdout.reader_left())
            while True:
                await stdout.send(text(first).encode())
                first = False
                await sleep(every)
    finally:
        stdout.close()


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
        "local_address": one.local if one.local is None or not unix else f"unix:{unix_name(one.local)}",
        "local_port": one.local_port,
        "peer_address": one.peer if one.peer is None or not unix else f"unix:{unix_name(one.peer)}",
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
