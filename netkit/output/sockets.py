"""Lists of sockets as columns, as JSON or, on a terminal, as a table. Foreign text is printable ASCII."""

import os
from collections.abc import Sequence

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import sleep
from netkit.core.sockdiag import LISTEN
from netkit.output.columns import aligned
from netkit.output.console import STDOUT, View, draws, hint
from netkit.output.escape import painted
from netkit.output.jsonl import record
from netkit.output.socket_rows import HEADS, RIGHT, STATE, cells, unix_name
from netkit.output.stdout import stdout_writer
from netkit.services.sockets import Owned, Wanted, any_of, is_listening, listing


def check(wanted: Wanted) -> None:
    """Raise Failure: NOTHING if no socket matches, READ."""
    if not any_of(wanted):
        raise _nothing()


async def write(wanted: Wanted, view: View, *, json: bool) -> None:
    """Write the sockets to stdout. Raises Failure: NOTHING if there is none, READ, WRITE."""
    async with stdout_writer() as stdout:
        found = listing(wanted)
        if not found:
            raise _nothing()
        if json or not draws(STDOUT):
            stdout.write(_text(found, view, json=json))
        else:
            from netkit.output.terminal.sockets import socket_tables

            await stdout.write_each(socket_tables(found, coloured=view.coloured(STDOUT)))
    if wanted.port is not None and not json and any(_is_hidden(owned) for owned in found):
        hint("only root sees the processes of other users")


def _is_hidden(owned: Owned) -> bool:
    """Whether the processes that hold the socket are hidden from us."""
    return bool(owned.socket.inode) and not owned.processes and owned.socket.uid != os.geteuid() != 0


def _nothing() -> Failure:
    return Failure(Exit.NOTHING, "find a socket", "none matches")


async def watch(wanted: Wanted, every: float, view: View, *, json: bool) -> None:
    """Write the sockets to stdout, or draw them on its terminal, now and every ``every`` seconds, until cancelled."""
    if not json and draws(STDOUT):
        from netkit.output.terminal.sockets import watch_sockets

        await watch_sockets(lambda: listing(wanted), every, coloured=view.coloured(STDOUT))
        return
    gap = ""
    async with stdout_writer() as stdout:
        while True:
            stdout.write(gap + _text(listing(wanted), view, json=json))
            gap = "" if json else "\n"
            await stdout.flush()
            await sleep(every)


def _text(found: Sequence[Owned], view: View, *, json: bool) -> str:
    if json:
        return "".join(_json(owned) for owned in found)
    return _columns(found, coloured=view.color == "always")


def _columns(found: Sequence[Owned], *, coloured: bool) -> str:
    """A line of heads and one for each socket, separated by spaces. Spaces in cells are escaped."""
    rows = [HEADS, *([cell.replace(" ", "\\x20") for cell in cells(owned)] for owned in found)]
    padded = aligned(rows, RIGHT)
    if coloured:
        for owned, row in zip(found, padded[1:], strict=True):
            if is_listening(owned.socket):
                row[STATE] = row[STATE].replace(owned.socket.state, painted(owned.socket.state, "green"))
    return "".join("  ".join(row) + "\n" for row in padded)


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
