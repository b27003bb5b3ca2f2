"""The proxy service: dials the target that each client asks for by SOCKS or HTTP CONNECT, and joins the two."""

import os
import stat
from collections.abc import Callable, Sequence

from netkit.core.address import family_of
from netkit.core.connection import HANDSHAKE, Ended, Handler, serve_connection
from netkit.core.dial import Dialling, dial
from netkit.core.errors import Exit, Failure, doing
from netkit.core.events import Observer, Requested, ignore
from netkit.core.files import check_size
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
from netkit.core.layer import unread
from netkit.core.pump import Change
from netkit.core.relay import LAST_WORDS, within
from netkit.core.stream import Connection
from netkit.core.targets import NotAllowed, Targets, is_outside
from netkit.core.units import duration
from netkit.protocols.dialogue import Refused, converse
from netkit.protocols.proxy_server import Admits, Handshake, Request, cause_of
from netkit.services.relay import joining

_MAX_DEPTH = 8  # nested requests of a client for this proxy itself


def read_users(path: str) -> Admits:
    """Read a file with lines of USER:PASSWORD; empty lines are skipped. Passwords are compared in constant time.

    Raises Failure READ, also if group or others have permissions for the file, or if it has no user.
    """
    action = f"read users from {path}"
    with doing(Exit.READ, action):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise Failure(Exit.READ, action, "it is not a regular file")
            if mode := stat.S_IMODE(status.st_mode) & 0o077:
                detail = f"its mode has {mode:03o} for group and others"
                raise Failure(Exit.READ, action, "others may use it", detail=detail, hint=f"chmod 600 {path}")
            check_size(path, status.st_size)
            lines = [line.rstrip(b"\r\n") for line in file]
    for number, line in enumerate(lines, 1):
        if line and line.find(b":") < 1:
            raise Failure(Exit.READ, action, f"line {number} is not USER:PASSWORD")
    if not any(lines):
        raise Failure(Exit.READ, action, "there is no USER:PASSWORD in it")
    digests = [_digest(line) for line in lines if line]

    def admits(user: bytes, password: bytes) -> bool:
        from hmac import compare_digest

        given = _digest(user + b":" + password)
        return b":" not in user and any([compare_digest(given, digest) for digest in digests])

    return admits


def _digest(secret: bytes) -> bytes:
    from hashlib import sha256

    return sha256(secret).digest()


def proxying(
    how: Dialling,
    targets: Targets,
    admits: Admits | None = None,
    *,
    changes: Callable[[], Sequence[Callable[[], Change]]],
    keepalive: float | None = None,
    idle_timeout: float | None = None,
    record: Callable[[Connection], Connection] | None = None,
    observe: Observer,
) -> Handler:
    """A handler that dials the target that a client asks for, if ``targets`` allow it, and joins the two.

    A client may ask for this proxy itself, nested up to ``_MAX_DEPTH`` times. If a request fails, the client gets the
    reply of its protocol for that. A client is reset if it speaks another protocol, makes no request within
    ``HANDSHAKE`` seconds, or if its target resets. ``record`` wraps the client's connection after the request.
    """
    join = joining(changes=changes, idle_timeout=idle_timeout, observe=observe)
    depths: dict[tuple[str | None, int], int] = {}  # by our own address, of connections that may lead to ourselves

    async def reached(request: Request, client: Connection, group: Group) -> Connection:
        target = request.target
        if depths.get((client.peer.host, client.peer.port), 0) == _MAX_DEPTH:
            raise NotAllowed(target, f"it is asked for through this proxy itself {_MAX_DEPTH} times over")
        if how.numeric and family_of(target.host or "") is None:
            raise NotAllowed(target, "names are not looked up", "--numeric")
        targets.check_name(target)
        choose = targets.choosing(target, outside=is_outside(client.peer, client.local))
        return await dial(target, how._replace(choose=choose), group=group)

    async def handle(client: Connection) -> Ended | None:
        try:
            request, rest = await _requested(client, admits)
        except Refused as refused:
            return await _turn_away(client, refused.reply, str(refused))
        observe(Requested(client.peer, str(request.target), request.scheme))

        async def join_with(stream: Connection) -> None:
            if keepalive is not None:
                stream.keep_alive(keepalive)
            await client.send(request.granted(stream.local))
            near = unread(client, rest)
            near.counts.restart()
            await join(record(near) if record else near, stream)

        async with Group() as group:
            try:
                stream = await reached(request, client, group)
            except Failure as failure:
                reply = request.refused(cause_of(failure), f"cannot {failure.action}: {failure.reason}")
                return await _turn_away(client, reply, str(failure))
            place = stream.local.host, stream.local.port
            depths[place] = depths.get((client.peer.host, client.peer.port), 0) + 1
            try:
                await serve_connection(stream, join_with, ignore, group=group)
            finally:
                depths.pop(place, None)  # connections to different targets may share a local port
        return None

    return handle


async def _requested(client: Connection, admits: Admits | None) -> tuple[Request, bytes]:
    """Receive a client's request, and what follows it. Raises Refused, and Failure TIMEOUT after ``HANDSHAKE``."""
    handshake = Handshake(admits)
    try:
        with deadline(now() + HANDSHAKE):
            return await converse(client, handshake), handshake.unread
    except DeadlineExceeded:
        reason = f"it asked for no target within {duration(HANDSHAKE)}"
        raise Failure(Exit.TIMEOUT, f"serve {client.name}", reason) from None
    finally:
        client.counts.restart()


async def _turn_away(client: Connection, reply: bytes, reason: str) -> Ended:
    """Send a client its last reply and our end, and read what it still sends: unread data would cause a reset."""

    async def see_off() -> None:
        await client.send(reply)
        await client.send_eof()
        while await client.recv():
            pass

    if not reply:
        raise Failure(Exit.PROTOCOL, f"serve {client.name}", reason)
    await within(LAST_WORDS, see_off())
    client.counts.restart()
    return Ended(reason)
